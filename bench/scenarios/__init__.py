"""One scenario a file: `TITLE`, and `run(place)` that gives its figures."""
