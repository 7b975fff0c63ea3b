//! Idle connections, and the handles by which running ones can be aborted.

use crate::connect::Connector;
use crate::connection::Connection;
use crate::error::OriginError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::{Duration, Instant};

/// Servers close idle connections after some seconds; older ones are not worth a try.
const IDLE_MAX: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<(Connection, Instant)>>,
    running: Mutex<HashMap<u64, TcpStream>>,
    next: AtomicU64,
    stopped: AtomicBool,
}

/// A connection out of the pool. Dropped, it closes; put back with [`Pool::put`], it can be used again.
pub(crate) struct Lease<'a> {
    connection: Option<Connection>,
    pool: &'a Pool,
    id: u64,
}

impl Lease<'_> {
    pub(crate) fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().unwrap_or_else(|| unreachable!("a lease holds its connection until it is put back"))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pool.running.lock().remove(&self.id);
    }
}

impl Pool {
    /// An idle connection that still lives, if there is one.
    pub(crate) fn take(&self) -> Option<Lease<'_>> {
        loop {
            let (mut connection, since) = self.idle.lock().pop()?;
            if since.elapsed() < IDLE_MAX && connection.still_open() {
                connection.reused = true;
                if let Ok(lease) = self.lease(connection) {
                    return Some(lease);
                }
            }
        }
    }

    pub(crate) fn connect(&self, connector: &Connector, timeout: Duration) -> Result<Lease<'_>, OriginError> {
        let connection = connector.connect(timeout)?;
        self.lease(connection)
    }

    fn lease(&self, connection: Connection) -> Result<Lease<'_>, OriginError> {
        let id = self.next.fetch_add(1, Relaxed);
        let handle = connection.handle().map_err(|e| OriginError::broken(&e))?;
        self.running.lock().insert(id, handle);
        if self.stopped.load(Acquire) {
            self.running.lock().remove(&id);
            return Err(OriginError::Cancelled);
        }
        Ok(Lease { connection: Some(connection), pool: self, id })
    }

    /// Takes a connection back for the next request, if it can carry one.
    pub(crate) fn put(&self, mut lease: Lease<'_>) {
        if let Some(connection) = lease.connection.take().filter(|c| c.clean() && !self.stopped()) {
            self.idle.lock().push((connection, Instant::now()));
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }

    /// Aborts everything that runs and refuses what comes.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Release);
        for socket in self.running.lock().values() {
            // A socket that is closed already needs no abort.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.idle.lock().clear();
    }
}
