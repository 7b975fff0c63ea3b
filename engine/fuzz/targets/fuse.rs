//! FUSE requests: a mount whose kernel says anything. Every request that wants an answer gets one, and READ gives the file's own bytes.
//!
//! The input is a list of requests: opcode, node, length and body in the fewest bytes that can say them.

#![no_main]

use headrace_fuzz::engine::{Engine, FILES, byte_at};
use headrace_fuzz::take;
use headrace_mount::{KernelMask, Mount, MountConfig, fuzzing::attach};
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, LazyLock, Mutex};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const READ: u32 = 15;
const READDIR: u32 = 28;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const READDIRPLUS: u32 = 44;
const HEADER: usize = 40;
const ANSWER_HEADER: usize = 16;
const REQUESTS_MAX: usize = 32;
/// A socket's message is smaller than what the kernel takes in one answer.
const ANSWER_MAX: u32 = 64 * 1024;
const PATIENCE_SECONDS: i64 = 10;

struct Kernel {
    socket: OwnedFd,
    unique: Mutex<u64>,
    _mount: Arc<Mount>,
    _engine: Engine,
}

static KERNEL: LazyLock<Kernel> = LazyLock::new(|| {
    let engine = Engine::start();
    let (ours, theirs) = pair();
    let config = MountConfig {
        volume: Arc::clone(&engine.volume),
        directory: "/nowhere".to_owned(),
        source: "s3://b/p".to_owned(),
        uid: 0,
        gid: 0,
        file_mode: 0o444,
        dir_mode: 0o555,
        allow_other: false,
        mask: KernelMask::default(),
    };
    let mount = attach(config, Arc::clone(&engine.snapshot), theirs, true).expect("a mount's threads");
    Kernel { socket: ours, unique: Mutex::new(1), _mount: mount, _engine: engine }
});

fn pair() -> (OwnedFd, OwnedFd) {
    let mut fds = [0; 2];
    let patience = libc::timeval { tv_sec: PATIENCE_SECONDS, tv_usec: 0 };
    // SAFETY: two descriptors are made, checked and owned at once; the option's value lives through the call.
    unsafe {
        assert_eq!(libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()), 0);
        let length = size_of::<libc::timeval>() as libc::socklen_t;
        assert_eq!(libc::setsockopt(fds[0], libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const patience).cast(), length), 0);
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

struct Asked {
    opcode: u32,
    node: u64,
    body: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    let mut unique = KERNEL.unique.lock().unwrap_or_else(|_| std::process::abort());
    let mut waiting = HashMap::new();
    let mut rest = data;
    for _ in 0..REQUESTS_MAX {
        if rest.is_empty() {
            break;
        }
        let asked = request(&mut rest);
        *unique += 2;
        send(&asked, *unique);
        // An interrupt is answered only when there is nothing to interrupt.
        if !matches!(asked.opcode, FORGET | BATCH_FORGET | INTERRUPT) {
            waiting.insert(*unique, asked);
        }
    }
    let interrupts = |answer: &[u8]| i32::from_ne_bytes(answer[4..8].try_into().expect("4 bytes")) == -libc::EAGAIN;
    while !waiting.is_empty() {
        let answer = receive().unwrap_or_else(|| panic!("no answer to {:?}", waiting.values().map(|a| a.opcode).collect::<Vec<_>>()));
        let id = u64::from_ne_bytes(answer[8..16].try_into().expect("8 bytes"));
        match waiting.remove(&id) {
            Some(asked) => check(&asked, &answer),
            None => assert!(interrupts(&answer), "an answer to nobody"),
        }
    }
});

/// One request out of the input. Nodes are the root, one of the snapshot's, or any.
fn request(rest: &mut &[u8]) -> Asked {
    let [opcode, node, length] = take(rest);
    let node = match node {
        0 => 1,
        1..=250 => u64::from((node - 1) / 32) << 48 | 1 << 32 | u64::from((node - 1) % 32),
        _ => u64::from_ne_bytes(take(rest)),
    };
    let (body, left) = rest.split_at(rest.len().min(usize::from(length)));
    let mut body = body.to_vec();
    *rest = left;
    let opcode = u32::from(opcode);
    if let (READ | READDIR | READDIRPLUS, Some(size)) = (opcode, body.get_mut(16..20)) {
        let asked = u32::from_ne_bytes((&*size).try_into().expect("4 bytes"));
        size.copy_from_slice(&asked.min(ANSWER_MAX).to_ne_bytes());
    }
    Asked { opcode, node, body }
}

fn send(asked: &Asked, unique: u64) {
    let mut bytes = Vec::new();
    bytes.extend(((HEADER + asked.body.len()) as u32).to_ne_bytes());
    bytes.extend(asked.opcode.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(asked.node.to_ne_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(&asked.body);
    // SAFETY: the bytes live through the call.
    let sent = unsafe { libc::write(KERNEL.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    assert_eq!(sent, bytes.len() as isize, "a message goes whole");
}

/// One answer; `None` when none comes.
fn receive() -> Option<Vec<u8>> {
    let mut bytes = vec![0; ANSWER_MAX as usize + 4096];
    let count = loop {
        // SAFETY: the buffer is valid for its length.
        let count = unsafe { libc::read(KERNEL.socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        // libFuzzer's alarm goes off every few seconds, and a socket with a time limit is not read on by itself.
        if count >= 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            break count;
        }
    };
    bytes.truncate(usize::try_from(count).ok()?);
    assert!(bytes.len() >= ANSWER_HEADER && bytes[..4] == (bytes.len() as u32).to_ne_bytes(), "an answer tells its own length");
    Some(bytes)
}

fn check(asked: &Asked, answer: &[u8]) {
    let error = i32::from_ne_bytes(answer[4..8].try_into().expect("4 bytes"));
    assert!((-511..=0).contains(&error), "the kernel refuses {error}");
    assert!(error == 0 || answer.len() == ANSWER_HEADER, "an error with a body");
    let body = &answer[ANSWER_HEADER..];
    match asked.opcode {
        LOOKUP if error == 0 => assert_eq!(body.len(), 128),
        READ if error == 0 => check_bytes(asked, body),
        READDIR | READDIRPLUS if error == 0 => assert!(body.len() <= ANSWER_MAX as usize && body.len().is_multiple_of(8)),
        _ => {}
    }
}

fn check_bytes(asked: &Asked, body: &[u8]) {
    let offset = u64::from_ne_bytes(asked.body[8..16].try_into().expect("8 bytes"));
    let right = |(path, size): &(&str, u64)| {
        let key = format!("p/{path}");
        offset.saturating_add(body.len() as u64) <= *size && body.iter().zip(offset..).all(|(byte, at)| *byte == byte_at(&key, at))
    };
    assert!(body.is_empty() || FILES.iter().any(right), "bytes of no file, for node {:x}", asked.node);
}
