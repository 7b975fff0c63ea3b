//! The door of engine/fuzz: one connection, served on the thread that calls.

use crate::server::{Resolver, Server};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Serves `stream` until its end.
pub fn serve(stream: UnixStream, resolver: Arc<dyn Resolver>) {
    Server::serve_one(stream, resolver);
}
