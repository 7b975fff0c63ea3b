//! The door of engine/fuzz: an origin whose connections have been answered before anything is asked.
//!
//! Every new connection gets the next answer of a script, whole, and then the end of the stream. When the script is over the origin
//! fails for good, so a request ends without anybody waiting for the time to pass.

use crate::config::OriginConfig;
use crate::connection::{Connection, Stream};
use crate::error::OriginError;
use crate::origin::Origin;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// The most bytes of one answer: a socket takes them at once.
pub const ANSWER_MAX: usize = 64 * 1024;

pub(crate) struct Script {
    answers: Mutex<VecDeque<Vec<u8>>>,
    /// The other ends, which hold what was asked.
    peers: Mutex<Vec<UnixStream>>,
}

impl Script {
    pub(crate) fn connect(&self) -> Result<Connection, OriginError> {
        let over = OriginError::BadSetting { setting: "script", detail: "it is over".to_owned() };
        let answer = self.answers.lock().pop_front().ok_or(over)?;
        self.answered(&answer).map_err(|e| OriginError::broken(&e))
    }

    fn answered(&self, answer: &[u8]) -> io::Result<Connection> {
        let (ours, mut peer) = UnixStream::pair()?;
        peer.write_all(&answer[..answer.len().min(ANSWER_MAX)])?;
        peer.shutdown(Shutdown::Write)?;
        peer.set_nonblocking(true)?;
        self.peers.lock().push(peer);
        Ok(Connection::new(Stream::Plain(TcpStream::from(OwnedFd::from(ours)))))
    }
}

impl Origin {
    /// An origin that is answered by a script.
    ///
    /// # Errors
    /// As [`Origin::new`].
    pub fn scripted(config: OriginConfig, answers: impl IntoIterator<Item = Vec<u8>>) -> Result<Arc<Self>, OriginError> {
        let origin = Self::new(config, None)?;
        let script = Script { answers: Mutex::new(answers.into_iter().collect()), peers: Mutex::default() };
        assert!(origin.connector.script.set(script).is_ok(), "a new origin has no script");
        Ok(origin)
    }

    /// What was asked over each connection so far.
    pub fn asked(&self) -> Vec<Vec<u8>> {
        let Some(script) = self.connector.script.get() else { return Vec::new() };
        script.peers.lock().iter_mut().map(drain).collect()
    }
}

fn drain(peer: &mut UnixStream) -> Vec<u8> {
    let mut asked = Vec::new();
    match peer.read_to_end(&mut asked) {
        // The client may still hold its end: what it has written is all there is.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::ConnectionReset => {
            panic!("reading what was asked: {error}")
        }
        _ => asked,
    }
}
