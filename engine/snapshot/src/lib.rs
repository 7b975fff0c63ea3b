//! Immutable lists of a volume's files: build, diff, open, lookup, readdir.
