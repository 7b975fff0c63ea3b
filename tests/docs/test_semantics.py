"""`docs/semantics.md` is executed: every call named in its tables is made, and what comes back is what the page says.

Attributes are looked at here too. What takes a story (keys, failures) is told in the test that a line is proved by.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import re
import select
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace

PAGE = Path(__file__).parents[2] / "docs/semantics.md"
CALL = re.compile(r"\| `([^`]+)` \| (.+) \|")
CONTENT = b"0123456789" * 1000
SCRIPT = b"#!/bin/sh\nexit 0\n"
LIBC = ctypes.CDLL(None, use_errno=True)
FS_IOC_GETFLAGS = 0x80086601
IN_OPEN = 0x20
AT_FDCWD = -100


# What is told in other tests: a line of the page, by the beginning of its first cell → the test.
PROVED_BY = {
    "Which keys become paths": {
        "`a/b`": "e2e/test_flat_store.py::test_every_key_is_a_path_or_skipped_by_rule",
        "`a/`": "e2e/test_flat_store.py::test_markers_are_directories_also_empty_ones",
        "`/a`": "e2e/test_flat_store.py::test_every_key_is_a_path_or_skipped_by_rule",
        "`a/../b`": "e2e/test_flat_store.py::test_every_key_is_a_path_or_skipped_by_rule",
        "with a NUL byte": "e2e/test_flat_store.py::test_every_key_is_a_path_or_skipped_by_rule",
        "a part over 255 bytes": "e2e/test_flat_store.py::test_every_key_is_a_path_or_skipped_by_rule",
        "`a` beside": "e2e/test_flat_store.py::test_every_key_is_a_path_or_skipped_by_rule",
        "listed twice": "../engine/snapshot/tests/model.rs::the_rule_for_keys_that_cannot_be_paths",
    },
    "When a read fails": {
        "the object was replaced": "e2e/test_flat_store.py::test_without_versions_what_is_held_stays_and_the_rest_says_why",
        "no byte for the deadline": "fault/test_ten_thousand_faults.py::test_what_fails_for_good_gives_eio_within_the_deadline_and_nothing_else_does",
        "access to the object is denied": "e2e/test_connections.py::test_an_object_that_may_not_be_read",
        "the keys are wrong": "e2e/test_failing_origin.py::test_expired_credentials_are_told_and_replaced_in_the_living_mount",
        "the object is in an archive class": "e2e/test_flat_store.py::test_archived_objects_are_listed_and_refused_at_open",
        "a read of the same range failed": "e2e/test_failing_origin.py::test_a_range_that_stalled_fails_at_once_for_a_while",
        "the cache disk fails": "e2e/test_disks.py::test_a_disk_that_can_not_read_back_what_it_holds",
        "... while the kernel reads": "e2e/test_disks.py::test_a_disk_that_can_not_read_back_what_the_kernel_reads_itself",
        "the node was killed": "e2e/test_survival.py::test_twenty_kills_under_eight_readers",
        "the cache disk is full": "e2e/test_disks.py::test_a_disk_that_fills_up_while_it_is_used",
        "the reader got a signal that it handles": "e2e/test_signals.py::test_a_signal_that_is_handled_ends_no_read",
        "the reader got a signal that it dies of": "e2e/test_signals.py::test_a_signal_that_a_waiting_reader_dies_of_ends_it_at_once",
        "the reader got Ctrl-C": "e2e/test_signals.py::test_ctrl_c_ends_a_read_of_a_program_that_handles_it",
    },
}

# What is told in prose: a paragraph or an item of a list, by its beginning → the tests.
TOLD = {
    "A mount is a read-only": [
        "docs/test_semantics.py::test_the_mount_has_the_options_that_the_page_says",
        "docs/test_semantics.py::test_every_call_does_what_the_page_says",
    ],
    "`s3://BUCKET/qwen` shows": [
        "e2e/test_flat_store.py::test_every_key_is_a_path_or_skipped_by_rule",
        "e2e/test_bad_input.py::test_one_message",
    ],
    "Stored bytes are shown": [
        "e2e/test_flat_store.py::test_a_stored_encoding_is_not_undone",
        "e2e/test_flat_store.py::test_archived_objects_are_listed_and_refused_at_open",
    ],
    "A mount shows one snapshot.": ["e2e/test_thin_line.py::test_refresh_and_rollback_switch_what_is_looked_up_and_leave_what_is_open"],
    "`headrace refresh` lists": [
        "e2e/test_thin_line.py::test_refresh_and_rollback_switch_what_is_looked_up_and_leave_what_is_open",
        "e2e/test_flat_store.py::test_a_directory_that_is_held_never_shows_two_versions",
        "e2e/test_thin_line.py::test_a_pinned_mount_never_shows_another_version",
    ],
    "Two mounts of one prefix": ["e2e/test_thin_line.py::test_two_versions_side_by_side"],
    "A range that has just failed": [
        "e2e/test_failing_origin.py::test_a_range_that_stalled_fails_at_once_for_a_while",
        "../engine/fetch/tests/schedules/late.rs::what_was_fetched_ahead_in_vain_fails_nobody_who_comes_later",
        "../engine/fetch/tests/schedules/late.rs::who_joins_a_request_late_gets_another",
    ],
    "Of signals:": [
        "e2e/test_signals.py::test_a_signal_that_is_handled_ends_no_read",
        "e2e/test_signals.py::test_a_signal_that_a_waiting_reader_dies_of_ends_it_at_once",
        "e2e/test_signals.py::test_a_reader_that_handled_a_signal_can_still_be_killed",
        "e2e/test_signals.py::test_a_signal_that_waits_for_the_page",
        "e2e/test_signals.py::test_a_reader_that_the_node_cannot_see_is_let_go_at_any_signal",
    ],
    "A first read waits": ["e2e/test_signals.py::test_a_signal_that_is_handled_ends_no_read"],
    "A file of 1 MiB or more is read past": ["e2e/test_switch.py::test_an_incomplete_large_file_is_read_past_the_page_cache"],
    "A complete file of 1 MiB or more": [
        "e2e/test_thin_line.py::test_complete_files_are_read_by_the_kernel_itself",
        "e2e/test_switch.py::test_descriptors_and_mappings_open_across_the_switch",
    ],
    "A descriptor opened with `O_DIRECT`": [
        "docs/test_semantics.py::test_direct_reads_out_of_line_are_as_on_the_file_system_of_the_cache_once_the_kernel_reads_it"
    ],
    "The cache may give up": ["e2e/test_eviction.py::test_a_file_larger_than_the_cache"],
}


def rows(heading: str) -> list[str]:
    """First cells of a section's table, without its head."""
    (section,) = [section for section in PAGE.read_text().split("\n## ") if section.startswith(heading)]
    return [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")][1:]


def prose() -> list[str]:
    """Paragraphs and items of lists."""
    parts = [part.strip() for block in PAGE.read_text().split("\n\n") for part in re.split(r"(?m)^- ", block)]
    return [part for part in parts if part and part[0] not in "#|"]


def assert_exists(proof: str) -> None:
    file, _, name = proof.partition("::")
    assert re.search(rf"\b(def|fn) {name}\(", (PAGE.parents[1] / "tests" / file).read_text()), proof


def assert_told_once(told: list[str], starts: list[str]) -> None:
    found = {text: [start for start in starts if text.startswith(start)] for text in told}
    assert {text: each for text, each in found.items() if len(each) != 1} == {}
    assert sorted(start for each in found.values() for start in each) == sorted(starts)


@pytest.mark.parametrize("heading", sorted(PROVED_BY))
def test_every_line_that_takes_a_story_has_its_test(heading: str) -> None:
    assert_told_once(rows(heading), list(PROVED_BY[heading]))
    for proof in PROVED_BY[heading].values():
        assert_exists(proof)


def spellings(code: str) -> set[str]:
    """How a test may say it: by its name, by its text, or by the exception that Python has for it."""
    number = getattr(errno, code, None)
    if number is None:
        return {code}
    return {code, os.strerror(number), type(OSError(number, "")).__name__} - {"OSError"}


def test_what_a_failed_read_gives_is_what_its_test_says() -> None:
    """Errors and signals in the answers; the words beside them are for people."""
    (section,) = [section for section in PAGE.read_text().split("\n## ") if section.startswith("When a read fails")]
    lines = [line.removeprefix("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    found = 0
    for row, answer, *_ in lines:
        (proof,) = [proof for start, proof in PROVED_BY["When a read fails"].items() if row.startswith(start)]
        text = (PAGE.parents[1] / "tests" / proof.partition("::")[0]).read_text()
        for code in re.findall(r"\b(?:E[A-Z]{2,}|SIG[A-Z]+)\b", answer):
            found += 1
            assert any(spelling in text for spelling in spellings(code)), f"{row}: {code} is not in {proof}"
    assert found >= 9


def test_every_paragraph_has_its_tests() -> None:
    assert_told_once(prose(), list(TOLD))
    for proof in (proof for proofs in TOLD.values() for proof in proofs):
        assert_exists(proof)


def stated() -> dict[str, str]:
    """Call → answer, from the tables under the two headings that begin with `Calls`."""
    sections = PAGE.read_text().split("\n## ")
    lines = [line for section in sections if section.startswith("Calls") for line in section.splitlines()]
    return {match[1].replace("\\|", "|"): match[2] for match in map(CALL.fullmatch, lines) if match}


def c_call(name: str, *arguments: object) -> int:
    """A function of the C library that the os module has not; OSError when it fails."""
    answered = int(LIBC[name](*arguments))
    if answered < 0:
        raise OSError(ctypes.get_errno(), name)
    return answered


def handle_of(path: Path) -> ctypes.Array[ctypes.c_char]:
    """What name_to_handle_at(2) gives: a `struct file_handle`."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
    c_call("name_to_handle_at", AT_FDCWD, os.fsencode(path), handle, ctypes.byref(ctypes.c_int()), 0)
    return handle


def ready(descriptor: int) -> bool:
    """Whether all three say at once that it can be read."""
    poll, epoll = select.poll(), select.epoll()
    poll.register(descriptor, select.POLLIN)
    epoll.register(descriptor, select.EPOLLIN)
    with epoll:
        return [poll.poll(0), epoll.poll(0), select.select([descriptor], [], [], 0)[0]] == [
            [(descriptor, select.POLLIN)], [(descriptor, select.EPOLLIN)], [descriptor],
        ]  # fmt: skip


def open_is_seen(path: Path) -> bool:
    """Whether inotify tells that somebody opens a file."""
    watcher = c_call("inotify_init1", os.O_NONBLOCK)
    try:
        watched = c_call("inotify_add_watch", watcher, os.fsencode(path), IN_OPEN)
        path.read_bytes()
        return struct.unpack_from("iI", os.read(watcher, 4096)) == (watched, IN_OPEN)
    finally:
        os.close(watcher)


def calls(root: Path, elsewhere: Path, executable: Path) -> dict[str, Callable[[], object]]:
    file, absent, empty = root / "file", root / "absent", root / "empty"
    fd = os.open(file, os.O_RDONLY)
    direct = os.open(file, os.O_RDONLY | os.O_DIRECT)
    out = os.open(elsewhere, os.O_RDWR | os.O_CREAT)

    def opened(path: Path, flags: int) -> None:
        os.close(os.open(path, flags))

    def mapped(**how: int) -> bytes:
        with mmap.mmap(fd, 0, **how) as view:
            return view[:]

    def listed() -> list[str]:
        with os.scandir(root) as entries:
            return [entry.name for entry in entries]

    return {
        "open(file, O_RDONLY)": lambda: opened(file, os.O_RDONLY),
        "open(file, O_RDONLY|O_DIRECT)": lambda: opened(file, os.O_RDONLY | os.O_DIRECT),
        "open(file, O_RDONLY|O_CREAT)": lambda: opened(file, os.O_RDONLY | os.O_CREAT),
        "open(file, O_RDONLY|O_CREAT|O_EXCL)": lambda: opened(file, os.O_RDONLY | os.O_CREAT | os.O_EXCL),
        "open(absent)": lambda: opened(absent, os.O_RDONLY),
        "open(file/x)": lambda: opened(file / "x", os.O_RDONLY),
        "read(file)": lambda: os.pread(fd, len(CONTENT) + 1, 0) == CONTENT or pytest.fail("other bytes"),
        "read(directory)": lambda: os.read(os.open(root, os.O_RDONLY), 1),
        "pread(beyond the end)": lambda: os.pread(fd, 10, 1 << 40) == b"" or pytest.fail("bytes"),
        "sendfile(file to file)": lambda: os.sendfile(out, fd, 0, 100),
        "pread(misaligned, O_DIRECT)": lambda: os.pread(direct, 10, 3) == CONTENT[3:13] or pytest.fail("other bytes"),
        "preadv2(RWF_NOWAIT)": lambda: os.preadv(fd, [bytearray(4)], 0, os.RWF_NOWAIT),
        "copy_file_range(file to another file system)": lambda: os.copy_file_range(fd, out, 100),
        "mmap(MAP_SHARED, PROT_READ)": lambda: mapped(flags=mmap.MAP_SHARED, prot=mmap.PROT_READ) == CONTENT or pytest.fail("other bytes"),
        "mmap(MAP_PRIVATE, PROT_READ|PROT_WRITE)": lambda: mapped(flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE),
        "mmap(MAP_SHARED, PROT_WRITE)": lambda: mapped(flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE),
        "lseek(SEEK_DATA)": lambda: os.lseek(fd, 0, os.SEEK_HOLE) == len(CONTENT) or pytest.fail("a hole"),
        "poll, select, epoll_wait": lambda: ready(fd) or pytest.fail("not ready"),
        "execve(file of mode 0444)": lambda: subprocess.run([root / "script"], check=True),
        "execve(file of mode 0555)": lambda: subprocess.run([executable / "script"], check=True),
        "ioctl(FS_IOC_GETFLAGS)": lambda: fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)),
        "inotify_add_watch(IN_OPEN)": lambda: open_is_seen(file) or pytest.fail("no event"),
        "name_to_handle_at": lambda: handle_of(file),
        "posix_fadvise": lambda: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED),
        "fsync": lambda: os.fsync(fd),
        "stat": lambda: os.stat(file),
        "access(R_OK)": lambda: os.access(file, os.R_OK) or pytest.fail("refused"),
        "listdir": lambda: listed() == ["empty", "file", "script"] or pytest.fail("another order"),
        "readlink(file)": lambda: os.readlink(file),
        "listxattr": lambda: os.listxattr(file),
        "getxattr": lambda: os.getxattr(file, "user.x"),
        "flock(LOCK_EX)": lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
        "fcntl(F_SETLK, F_RDLCK)": lambda: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
        "fcntl(F_SETLK, F_WRLCK)": lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
        "open(file, O_WRONLY)": lambda: opened(file, os.O_WRONLY),
        "open(file, O_RDWR)": lambda: opened(file, os.O_RDWR),
        "open(file, O_RDONLY|O_TRUNC)": lambda: opened(file, os.O_RDONLY | os.O_TRUNC),
        "open(absent, O_CREAT)": lambda: opened(absent, os.O_WRONLY | os.O_CREAT),
        "open(directory, O_TMPFILE)": lambda: opened(root, os.O_RDWR | os.O_TMPFILE),
        "access(W_OK)": lambda: os.access(file, os.W_OK) and pytest.fail("granted"),
        "truncate": lambda: os.truncate(file, 0),
        "ftruncate(descriptor opened for reading)": lambda: os.ftruncate(fd, 0),
        "fallocate(descriptor opened for reading)": lambda: os.posix_fallocate(fd, 0, 10),
        "mkdir(existing name)": lambda: empty.mkdir(),
        "mkdir": lambda: absent.mkdir(),
        "rmdir": lambda: empty.rmdir(),
        "unlink": lambda: file.unlink(),
        "rename": lambda: file.rename(absent),
        "link": lambda: os.link(file, absent),
        "symlink": lambda: absent.symlink_to("file"),
        "mkfifo": lambda: os.mkfifo(absent),
        "chmod": lambda: file.chmod(0o777),
        "chown": lambda: os.chown(file, 1, 1),
        "utime": lambda: os.utime(file),
        "setxattr": lambda: os.setxattr(file, "user.x", b"1"),
        "removexattr": lambda: os.removexattr(file, "user.x"),
        "write(descriptor opened for reading)": lambda: os.write(fd, b"x"),
    }


def answer(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return f"`{errno.errorcode[error.errno or 0]}`".replace("EOPNOTSUPP", "ENOTSUP")
    return "works"


def test_every_call_does_what_the_page_says(headrace: Headrace, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("m/file", CONTENT)
    bucket.put("m/empty/", b"")
    bucket.put("m/script", SCRIPT)
    executable = headrace.mount(bucket.uri("m"), "executable", "--file-mode", "0555")
    known = calls(headrace.mount(bucket.uri("m")), tmp_path / "elsewhere", executable)
    page = {call: "works" if said.startswith(("works", "refused")) else re.split("[,;:]", said)[0] for call, said in stated().items()}
    if tuple(map(int, platform.release().split(".")[:2])) < (5, 19):
        page["copy_file_range(file to another file system)"] = "works"
    assert sorted(page) == sorted(known)
    assert {call: answer(known[call]) for call in page} == page


def test_attributes_are_what_the_page_says(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/d/file", 1_500_001)
    bucket.put("m/marked/", b"")
    marked = bucket.client.head_object(Bucket=bucket.name, Key="m/marked/")["LastModified"].timestamp()
    written = bucket.client.head_object(Bucket=bucket.name, Key="m/d/file")["LastModified"].timestamp()
    began = time.time()
    root = headrace.mount(bucket.uri("m"))
    listed = time.time()
    other = headrace.mount(bucket.uri("m"), "other", "--file-mode", "0440", "--dir-mode", "0750", "--uid", "7", "--gid", "8")
    cold, folder = (root / "d/file").stat(), (root / "d").stat()
    assert (root / "d/file").read_bytes() == bucket.objects["m/d/file"]
    headrace.wait_durable(1)
    warm = (root / "d/file").stat()
    space = os.statvfs(root)
    known = {
        "type, permission bits": [stat.filemode(s.st_mode) for s in (cold, folder)] == ["-r--r--r--", "dr-xr-xr-x"]
        and [stat.filemode(s.stat().st_mode) for s in (other / "d/file", other / "d")] == ["-r--r-----", "drwxr-x---"],
        "owner, group": (cold.st_uid, cold.st_gid) == (os.getuid(), os.getgid())
        and ((other / "d/file").stat().st_uid, (other / "d/file").stat().st_gid) == (7, 8),
        "size": (cold.st_size, folder.st_size) == (1_500_001, 0),
        "blocks": cold.st_blocks == warm.st_blocks == -(-1_500_001 // 512),
        "times": int(cold.st_mtime) == int(cold.st_atime) == int(cold.st_ctime) == int(written)
        and int((root / "marked").stat().st_mtime) == int(marked)
        and began <= folder.st_mtime <= listed,
        "inode number": cold.st_ino == warm.st_ino,
        "links": (cold.st_nlink, folder.st_nlink) == (1, 2),
        "`statfs`": (space.f_bfree, space.f_bavail, space.f_ffree, space.f_namemax) == (0, 0, 0, 255)
        and (space.f_blocks, space.f_files) == (-(-1_500_001 // 4096), 3),
    }
    assert known == dict.fromkeys(rows("Attributes"), True)


def test_the_mount_has_the_options_that_the_page_says(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/file", CONTENT)
    root = headrace.mount(bucket.uri("m"))
    (line,) = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {root} " in line]
    at = line.index("-")
    kind, options = line[at + 1], {*line[5].split(","), *line[at + 3].split(",")}
    assert f"type `{kind}`" in PAGE.read_text()
    (promised,) = re.findall(r"mounted `([^`]+)`", PAGE.read_text())
    assert set(promised.split(",")) <= options


def test_direct_reads_out_of_line_are_as_on_the_file_system_of_the_cache_once_the_kernel_reads_it(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/file", 1 << 21)
    root = headrace.mount(bucket.uri("m"))

    def out_of_line(path: Path) -> str:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            return answer(lambda: os.pread(descriptor, 10, 3) == data[3:13] or pytest.fail("other bytes"))
        finally:
            os.close(descriptor)

    assert out_of_line(root / "file") == "works"
    assert (root / "file").read_bytes() == data
    headrace.wait_durable(1)
    (cached,) = (path for path in (headrace.base / "cache").rglob("*.data") if path.stat().st_size == len(data))
    assert out_of_line(root / "file") == (out_of_line(cached) if headrace.passthrough else "works")
