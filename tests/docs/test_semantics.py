"""`docs/semantics.md` is executed: every call named in its tables is made, and what comes back is what the page says."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace

PAGE = Path(__file__).parents[2] / "docs/semantics.md"
CALL = re.compile(r"\| `([^`]+)` \| (.+) \|")
CONTENT = b"0123456789" * 1000


def stated() -> dict[str, str]:
    """Call → answer, from the tables under the two headings that begin with `Calls`."""
    sections = PAGE.read_text().split("\n## ")
    lines = [line for section in sections if section.startswith("Calls") for line in section.splitlines()]
    return {match[1].replace("\\|", "|"): match[2] for match in map(CALL.fullmatch, lines) if match}


def calls(root: Path, elsewhere: Path) -> dict[str, Callable[[], object]]:
    file, absent, empty = root / "file", root / "absent", root / "empty"
    fd = os.open(file, os.O_RDONLY)
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
        "copy_file_range(file to another file system)": lambda: os.copy_file_range(fd, out, 100),
        "mmap(MAP_SHARED, PROT_READ)": lambda: mapped(flags=mmap.MAP_SHARED, prot=mmap.PROT_READ) == CONTENT or pytest.fail("other bytes"),
        "mmap(MAP_PRIVATE, PROT_READ|PROT_WRITE)": lambda: mapped(flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE),
        "mmap(MAP_SHARED, PROT_WRITE)": lambda: mapped(flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE),
        "lseek(SEEK_DATA)": lambda: os.lseek(fd, 0, os.SEEK_HOLE) == len(CONTENT) or pytest.fail("a hole"),
        "posix_fadvise": lambda: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED),
        "fsync": lambda: os.fsync(fd),
        "stat": lambda: os.stat(file),
        "access(R_OK)": lambda: os.access(file, os.R_OK) or pytest.fail("refused"),
        "listdir": lambda: listed() == ["empty", "file"] or pytest.fail("another order"),
        "readlink(file)": lambda: os.readlink(file),
        "listxattr": lambda: os.listxattr(file),
        "getxattr": lambda: os.getxattr(file, "user.x"),
        "flock(LOCK_EX)": lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
        "fcntl(F_SETLK, F_RDLCK)": lambda: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
        "open(file, O_WRONLY)": lambda: opened(file, os.O_WRONLY),
        "open(file, O_RDWR)": lambda: opened(file, os.O_RDWR),
        "open(file, O_RDONLY|O_TRUNC)": lambda: opened(file, os.O_RDONLY | os.O_TRUNC),
        "open(absent, O_CREAT)": lambda: opened(absent, os.O_WRONLY | os.O_CREAT),
        "open(directory, O_TMPFILE)": lambda: opened(root, os.O_RDWR | os.O_TMPFILE),
        "access(W_OK)": lambda: os.access(file, os.W_OK) and pytest.fail("granted"),
        "truncate": lambda: os.truncate(file, 0),
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
    known = calls(headrace.mount(bucket.uri("m")), tmp_path / "elsewhere")
    page = {call: "works" if said.startswith(("works", "refused")) else said for call, said in stated().items()}
    assert sorted(page) == sorted(known)
    assert {call: answer(known[call]) for call in page} == page
