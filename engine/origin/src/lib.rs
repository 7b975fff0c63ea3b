//! S3 client: list, head, pinned ranged GET, retry, hedging.
