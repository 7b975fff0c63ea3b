"""Another boot, as the node sees it."""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@contextmanager
def another_boot() -> Iterator[None]:
    """The kernel tells another boot id until the end of the `with`: what starts meanwhile believes that the machine was restarted."""
    with tempfile.NamedTemporaryFile("w", prefix="headrace-boot-") as file:
        file.write(f"{uuid.uuid4()}\n")
        file.flush()
        Path(file.name).chmod(0o444)
        subprocess.run(["mount", "--bind", file.name, _BOOT_ID], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", _BOOT_ID], check=True)
