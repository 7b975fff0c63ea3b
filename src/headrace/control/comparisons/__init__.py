"""Comparisons: what a refresh would bring, found by a node that lists the origin and publishes nothing."""
