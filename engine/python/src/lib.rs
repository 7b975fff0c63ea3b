//! The Python boundary: translation only.
