"""Where a task may mount: absolute paths, distinct, none inside another, none over the system's own directories.

A node narrows that further by its administrator's list, and looks for symbolic links, which only it can.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.control.problems import Text, Wrong
from headrace.mount_paths import PATH_BYTES_MAX, is_systems, is_within
from headrace.printable import is_unshown


def checked(path: str) -> str:
    """The path, or Wrong: what it is not, and what to give instead."""
    if any(is_unshown(letter) for letter in path):
        raise Wrong(Text("it holds a control character", "含有控制字符"), Text("leave it out", "请去掉"))
    if len(path.encode()) > PATH_BYTES_MAX:
        raise Wrong(Text(f"it is longer than {PATH_BYTES_MAX} bytes", f"超过 {PATH_BYTES_MAX} 字节"), Text("give a shorter one", "请缩短"))
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
        raise Wrong(
            Text("a mount path is absolute, without `.`, `..`, or a slash at its end", "挂载路径须为绝对路径，且不含 `.`、`..` 或末尾斜杠"),
            Text("write it as /mnt/models", "请写成 /mnt/models 的形式"),
        )
    if is_systems(path):
        raise Wrong(
            Text("the system's own files are there", "该路径属于系统目录"),
            Text("mount below /mnt, /models or /data", "请挂载到 /mnt、/models 或 /data 下"),
        )
    return path


def apart(paths: Sequence[str]) -> None:
    """Raises Wrong where two are the same, or one lies in the other."""
    for number, path in enumerate(paths):
        for other in paths[:number]:
            if is_within(path, other) or is_within(other, path):
                raise Wrong(
                    Text(f"{path} and {other} are the same or lie in one another", f"{path} 与 {other} 相同或相互嵌套"),
                    Text("give each mount a path of its own", "请为每个挂载指定独立的路径"),
                )
