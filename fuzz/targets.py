"""The targets, and how libFuzzer is to run each."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
DICTIONARIES = ROOT / "fuzz" / "dictionaries"
FOUND = ROOT / ".cache" / "fuzz"
_TARGET_DIRECTORY = ROOT / "target" / "fuzz"

# What `cargo fuzz --sanitizer none` does, without cargo-fuzz: coverage by LLVM's own pass, which stable Rust has too.
# Level 4 follows calls; counters and their table are what libFuzzer reads; comparisons teach it magic numbers.
_COVERAGE = (
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
)


@dataclass(frozen=True)
class Target:
    """One way in from outside."""

    name: str
    about: str
    bytes_max: int
    written_in: str = "rust"

    def command(self) -> list[str]:
        if self.written_in == "python":
            return [sys.executable, "-m", f"fuzz.{self.name}"]
        return [str(_TARGET_DIRECTORY / _host() / "fuzz" / f"fuzz-{self.name}")]

    def options(self) -> list[str]:
        """An input that takes 10 s, or a process of 1 GiB, is a finding."""
        options = [f"-max_len={self.bytes_max}", "-timeout=10", "-rss_limit_mb=1024"]
        dictionary = DICTIONARIES / self.name
        return [*options, f"-dict={dictionary}"] if dictionary.exists() else options


TARGETS = (
    Target("http", "answers to a pinned ranged GET", 8192),
    Target("listing", "S3's XML: listings, versions, refusals", 8192),
    Target("snapshot", "snapshot files", 4096),
    Target("meta", "the cache's meta files", 1024),
    Target("header", "heads of safetensors and GGUF files", 8192),
    Target("handout", "frames on the data socket", 4096),
    Target("fuse", "requests of a kernel", 2048),
    Target("control", "lines on the control socket", 4096, "python"),
)


def build() -> None:
    """Builds the targets in a directory of their own. Raises CalledProcessError as cargo failed."""
    # With a target named, the flags are for it alone, and not for the build scripts of the crates.
    subprocess.run(
        ["cargo", "build", "--quiet", "-p", "headrace-fuzz", "--bins", "--profile", "fuzz", "--target", _host(), "--target-dir", _TARGET_DIRECTORY],
        cwd=ROOT, env={**os.environ, "RUSTFLAGS": " ".join(_COVERAGE)}, check=True,
    )  # fmt: skip


def _host() -> str:
    told = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return next(line.removeprefix("host: ") for line in told.splitlines() if line.startswith("host: "))
