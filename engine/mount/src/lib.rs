//! The FUSE door: a read-only file system over a snapshot.
//!
//! Reads of incomplete files are answered by the node, later, when their bytes are at hand; complete files are
//! read by the kernel from the cache file itself (passthrough). A file moves from one to the other by its name: while it
//! is incomplete its name is looked up anew at every open, and once it is complete the look-up gives another node id
//! (see `node_id`). So no notification is needed for it, and none can block.
//!
//! Threads that read `/dev/fuse` never wait: what may touch a disk goes to a small pool, what waits for the network is
//! answered by the engine. A killed node leaves the mount intact: the keeper holds the device and the ledger, a
//! successor resumes with both, and the kernel sends again what was not answered (an old kernel can't: see `outstanding`).

mod backing;
mod device;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod kernel;
mod ledger;
mod mount;
mod mounting;
mod negotiate;
mod node_id;
mod nodes;
mod open;
mod outstanding;
mod pool;
mod read;
mod serve;
mod siblings;
mod signals;
mod tree;
mod wire;

pub use kernel::{KernelFeature, KernelMask};
pub use mount::{Mount, MountConfig, MountCounters};
pub use mounting::MountError;
