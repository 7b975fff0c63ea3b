"""The trials; their names are those of the command line."""
