"""Accelerations: a volume in a region, and the state it has."""
