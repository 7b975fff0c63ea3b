//! Which waiting reads a signal ends.
//!
//! The kernel sends INTERRUPT once for a request, for any signal, and from then on waits for the answer whatever else comes:
//! not even SIGKILL ends that wait. A read of a local file is ended by no signal that its program handles, and programs
//! rely on it: profilers and language runtimes send their threads signals all the time. So a read is ended, with EINTR, only
//! when its thread has a signal pending that it dies of, or SIGINT: who types Ctrl-C wants an end, also of a program that handles it
//! (every Python program does). Because that signal may come after the INTERRUPT, the node looks again and again for as long as
//! such a read waits.
//!
//! Which signals are pending `/proc/TID/status` tells. Of a thread that the node can't see there (another pid namespace, a
//! hidden `/proc`) nothing is known; it is let go at any signal, because a program that can't be killed would be worse.
//!
//! Looking is for a thread of its own: those that read the device have better things to do.

use crate::mount::Mount;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// From one look to the next. Whoever is killed is let go within this.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// With thousands of such readers a look takes long: then it is followed by so many times the time it took.
const REST: u32 = 10;

/// Why a read is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The kernel asked, by the INTERRUPT of this id.
    Asked(u64),
    /// The last node may have been asked, and the kernel does not ask again.
    TakenOver,
}

#[derive(Default)]
struct State {
    watched: HashMap<u64, Watch>,
    closed: bool,
}

/// The reads to look after, by the id of their request.
#[derive(Default)]
pub(crate) struct Signals {
    state: Mutex<State>,
    changed: Condvar,
}

impl Signals {
    pub(crate) fn watch(&self, unique: u64, why: Watch) {
        let mut state = self.state.lock();
        state.watched.insert(unique, why);
        drop(state);
        self.changed.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// What is watched, as soon as anything is; `None` once the mount has ended.
    fn next(&self) -> Option<Vec<(u64, Watch)>> {
        let mut state = self.state.lock();
        while state.watched.is_empty() && !state.closed {
            self.changed.wait(&mut state);
        }
        (!state.closed).then(|| state.watched.iter().map(|(unique, why)| (*unique, *why)).collect())
    }

    fn forget(&self, gone: &[u64]) {
        let mut state = self.state.lock();
        for unique in gone {
            state.watched.remove(unique);
        }
    }

    fn rest(&self, duration: Duration) {
        let until = Instant::now() + duration;
        let mut state = self.state.lock();
        while !state.closed && !self.changed.wait_until(&mut state, until).timed_out() {}
    }
}

impl Mount {
    /// Looks after watched reads until the mount ends.
    pub(crate) fn heed_signals(self: &Arc<Self>) {
        while let Some(watched) = self.signals.next() {
            let began = Instant::now();
            let (gone, asked): (Vec<_>, Vec<_>) =
                watched.into_iter().filter_map(|(unique, why)| self.look(unique, why).map(|answer| (unique, answer))).unzip();
            // Forgotten first: the kernel may ask again as soon as it has the answer.
            self.signals.forget(&gone);
            asked.into_iter().flatten().for_each(|by| self.device.error(by, libc::EAGAIN));
            self.signals.rest(LOOK_EVERY.max(began.elapsed() * REST));
        }
    }

    /// Ends a read whose reader wants or has to end. `None` while it goes on waiting, and otherwise what to answer with "ask again".
    fn look(&self, unique: u64, why: Watch) -> Option<Option<u64>> {
        let waiting = self.pending.lock().get(&unique).map(|w| (Arc::clone(&w.object), w.thread));
        let Some((object, thread)) = waiting else {
            // Answered by now; or no read; or one that a thread of the pool is still on its way with.
            return Some(match why {
                Watch::Asked(by) => Some(by),
                Watch::TakenOver => None,
            });
        };
        let ends = match fate(thread) {
            Fate::Ends => true,
            Fate::Waits => false,
            Fate::Unknown => why != Watch::TakenOver,
        };
        // One that is being read from the disk waits for that, as it would for its own disk.
        (ends && object.interrupt(unique)).then_some(None)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Ends,
    Waits,
    Unknown,
}

/// `/proc` counts processes as this process does, and so as the kernel does for our mounts.
static PROC_IS_OURS: LazyLock<bool> = LazyLock::new(|| {
    let own = fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse::<u32>().ok());
    own == Some(std::process::id())
});

/// Whether a thread has a signal that ends its wait.
fn fate(thread: u32) -> Fate {
    if thread == 0 || !*PROC_IS_OURS {
        return Fate::Unknown;
    }
    // A thread that can't be looked at is as unknown as one that has no number here.
    fs::read_to_string(format!("/proc/{thread}/status")).map_or(Fate::Unknown, |status| fate_by(&status).unwrap_or(Fate::Unknown))
}

/// Signals that, left alone, do not end a process: CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH.
const HARMLESS: u64 = {
    let numbers = [libc::SIGCHLD, libc::SIGCONT, libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGURG, libc::SIGWINCH];
    let (mut mask, mut at) = (0, 0);
    while at < numbers.len() {
        mask |= 1 << (numbers[at] - 1);
        at += 1;
    }
    mask
};

const CTRL_C: u64 = 1 << (libc::SIGINT - 1);

fn fate_by(status: &str) -> Option<Fate> {
    let mask =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let pending = mask("SigPnd:")? | mask("ShdPnd:")?;
    let withheld = mask("SigBlk:")? | mask("SigIgn:")? | HARMLESS;
    let survived = withheld | mask("SigCgt:")? & !CTRL_C;
    Some(if pending & !survived == 0 { Fate::Waits } else { Fate::Ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status with these signals in its masks: pending for the thread, for the process, blocked, ignored, handled.
    fn status(masks: [&[i32]; 5]) -> String {
        let names = ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"];
        let bits = |numbers: &[i32]| numbers.iter().fold(0u64, |mask, number| mask | 1 << (number - 1));
        names.iter().zip(masks).map(|(name, numbers)| format!("{name}:\t{:016x}\n", bits(numbers))).collect()
    }

    #[test]
    fn only_a_signal_that_nobody_takes_or_ctrl_c_ends_a_wait() {
        let (kill, interrupt, profile) = (libc::SIGKILL, libc::SIGINT, libc::SIGPROF);
        let cases = [
            (status([&[], &[], &[], &[], &[]]), Fate::Waits),
            (status([&[kill], &[], &[], &[], &[profile]]), Fate::Ends),
            (status([&[], &[libc::SIGQUIT], &[], &[], &[]]), Fate::Ends),
            (status([&[], &[interrupt], &[], &[], &[interrupt]]), Fate::Ends),
            (status([&[], &[libc::SIGTERM], &[], &[], &[libc::SIGTERM]]), Fate::Waits),
            (status([&[], &[interrupt], &[], &[interrupt], &[]]), Fate::Waits),
            (status([&[], &[interrupt], &[interrupt], &[], &[]]), Fate::Waits),
            (status([&[profile], &[libc::SIGTERM], &[], &[], &[profile]]), Fate::Ends),
            (status([&[libc::SIGURG, libc::SIGCHLD], &[libc::SIGWINCH, libc::SIGTSTP], &[], &[], &[]]), Fate::Waits),
        ];
        for (text, fate) in cases {
            assert_eq!(fate_by(&text), Some(fate), "{text}");
        }
        assert_eq!(fate_by("Name:\tx\n"), None);
    }

    #[test]
    fn a_living_thread_is_seen_and_one_without_a_number_is_not() {
        // SAFETY: the call has no preconditions.
        let own = unsafe { libc::gettid() };
        assert_eq!(fate(own as u32), Fate::Waits);
        assert_eq!(fate(0), Fate::Unknown);
    }
}
