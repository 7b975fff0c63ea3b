"""Volumes: registered origins, each a directory of a bucket under a name, with credentials."""
