"""Connection checks that a node of a region runs, for endpoints that only the region reaches."""
