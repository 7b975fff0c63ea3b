//! Sparse cache files, presence, digests, adoption, eviction.
