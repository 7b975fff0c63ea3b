"""The machine's one process: engine, cache and mounts behind a Unix socket; and the keeper beside it."""
