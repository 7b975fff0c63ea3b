"""The control plane's API, asked whatever its own description allows, and much that it does not."""
