"""Fuzzing: whatever comes from outside, written by a program that looks for trouble. `python -m fuzz --help`; docs/fuzzing.md."""
