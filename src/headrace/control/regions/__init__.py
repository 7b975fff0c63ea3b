"""Regions: places where tasks run and nodes are."""
