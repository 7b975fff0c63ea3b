"""Warm-ups (预热): chosen data of a version is pulled to chosen nodes ahead of use, whether or not these hold the acceleration."""
