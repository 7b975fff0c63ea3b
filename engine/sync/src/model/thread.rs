//! `std::thread` in the model.

use std::io;

pub use shuttle::thread::{JoinHandle, Scope, ScopedJoinHandle, current, scope, sleep, spawn, yield_now};

/// As `std::thread::Builder`, whose threads may be scoped too.
#[derive(Debug, Default)]
pub struct Builder(shuttle::thread::Builder);

impl Builder {
    /// A thread without a name.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Names it.
    pub fn name(self, name: String) -> Builder {
        Builder(self.0.name(name))
    }

    /// Gives it a stack of so many bytes.
    pub fn stack_size(self, bytes: usize) -> Builder {
        Builder(self.0.stack_size(bytes))
    }

    /// Starts it.
    ///
    /// # Errors
    /// Never, in the model.
    pub fn spawn<F, T>(self, work: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.0.spawn(work)
    }

    /// Starts it in a scope.
    ///
    /// # Errors
    /// Never, in the model.
    pub fn spawn_scoped<'scope, F, T>(self, scope: &'scope Scope<'scope, '_>, work: F) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        Ok(scope.spawn(work))
    }
}
