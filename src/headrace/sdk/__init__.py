"""The Python door: files of a bucket as Python files and as memory, without a mount.

`Volume` stands on a lease (`lease.py`: the running node holds the volume for this process) or on an engine of its own
(`own_engine.py`). Either gives handles; `File` makes a Python file of one, `mapping.py` makes memory of one. The bytes of a
complete file come from the node's cache file through its descriptor, without the node; those of an incomplete file
come over the node's hand-out socket (`channels.py`), straight into the caller's buffer.
"""

from headrace.sdk.entry import Entry, WarmProgress
from headrace.sdk.file import File
from headrace.sdk.volume import Volume, open  # noqa: A004 - headrace.open

__all__ = ["Entry", "File", "Volume", "WarmProgress", "open"]
