"""Where no task may mount, whoever asks: the control plane, a node or a command. Each adds what only it knows."""

from __future__ import annotations

PATH_BYTES_MAX = 1024
# What programs, root's among them, trust to be the machine's. Neither these, nor anything in them, nor anything above them.
SYSTEM = ("/etc", "/usr", "/proc", "/dev", "/sys", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/run")


def is_within(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def is_systems(path: str) -> bool:
    """Whether a mount there would cover a part of the system."""
    return any(is_within(path, one) or is_within(one, path) for one in SYSTEM)
