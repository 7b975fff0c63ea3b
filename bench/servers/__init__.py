"""Servers beside SeaweedFS, which is in `headrace.testing`."""
