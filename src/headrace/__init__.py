"""Models in S3-compatible object storage load as if they were on the local disk."""
