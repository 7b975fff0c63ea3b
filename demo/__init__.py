"""`make demo`: two real models in a real S3 server, mounted and loaded as a user would."""
