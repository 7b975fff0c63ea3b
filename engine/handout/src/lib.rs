//! The hand-out door: other processes read through the node over a Unix socket.
//!
//! A complete file leaves as a descriptor of its cache file, and from then on is as fast as the local disk; of an
//! incomplete file only bytes leave, streamed as they arrive, because a hole must never escape.
//!
//! Frames, both ways: u32 length of what follows, u8 kind, body; integers little-endian. A request is answered in order.
//!
//! | request | body | answer |
//! |---|---|---|
//! | HELLO | u32 protocol version | u32 the server's version |
//! | OPEN | three strings (u32 length, UTF-8): origin, snapshot file, path | u32 handle, u64 size |
//! | READ | u32 handle, u64 offset, u32 length | the bytes (fewer at the end of the file) |
//! | DESCRIPTOR | u32 handle | u8 1 with a descriptor attached, or u8 0 while the file is incomplete |
//! | CLOSE | u32 handle | nothing |
//!
//! An ERROR answer carries i32 errno and two strings: code and message. Only the node's own user and root may connect.

mod client;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod server;

pub use client::{Client, RemoteFile};
pub use frame::HandoutError;
pub use server::{Resolver, Server};

/// The protocol's version; a server refuses another one.
pub const PROTOCOL: u32 = 1;
