"""What was learned from a load: the order in which a directory's files were asked for.

The engine records it, and goes by it when the directory is next loaded cold (`engine/fetch/src/load.rs`). It holds names, sizes and
offsets, no bytes, and serves any copy of the same files: `headrace order export` and `import` carry it to other machines. Where it is kept
is the matter of `order_store.py`, and when of `learning.py`.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from headrace.errors import UsageError
from headrace.node.protocol import LINE_MAX

FORMAT = 1
# As the engine's bounds (`engine/fetch/src/order.rs`).
_FILES_MAX = 4096
_STEPS_MAX = 65_536
_NAME_BYTES_MAX = 255
# Far beyond what any store takes as one object.
_SIZE_MAX = 2**50
# A message of the protocol has room for a document and for what is said around it.
DOCUMENT_BYTES_MAX = LINE_MAX - 64 * 1024

File = tuple[str, int]
Step = tuple[int, int, int]


@dataclass(frozen=True)
class Order:
    """Files as (name, bytes), each once; steps as (index of the file, first byte, one past the last), each byte once."""

    files: list[File]
    steps: list[Step]

    @property
    def bytes(self) -> int:
        return sum(end - start for _, start, end in self.steps)

    def document(self, directory: str) -> dict[str, Any]:
        """As it is written and exchanged; `directory` (a key without its last slash) tells where it was learned."""
        return {"headrace_order": FORMAT, "directory": directory, "files": self.files, "steps": self.steps}


def encoded(document: Any) -> str:
    """A document as text."""
    return json.dumps(document, separators=(",", ":"))


def parse(document: Any) -> Order:
    """The order of a document. Raises UsageError naming what does not fit."""
    known = document.get("headrace_order") if isinstance(document, dict) else None
    if type(known) is not int or known != FORMAT:
        raise _unfit(f"it is not a learned order of format {FORMAT}; export one with `headrace order export`")
    files = _files(document.get("files"))
    return Order(files, _steps(document.get("steps"), files))


def _unfit(why: str) -> UsageError:
    return UsageError("bad-order", f"order: {why}")


def _files(given: Any) -> list[File]:
    if not isinstance(given, list) or len(given) > _FILES_MAX or not all(map(_is_file, given)):
        raise _unfit(f"files must be a list of at most {_FILES_MAX} pairs of a name and a size of at most {_SIZE_MAX} bytes; export it again")
    if len({name for name, _ in given}) < len(given):
        raise _unfit("files must name each file once; export it again")
    return [(name, size) for name, size in given]


def _is_file(value: Any) -> bool:
    if not (isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str)):
        return False
    return is_name(value[0]) and type(value[1]) is int and 0 <= value[1] <= _SIZE_MAX


def is_name(name: str) -> bool:
    """Whether a file of a directory can be called so. Control characters can be in a key, but are no good on anybody's terminal."""
    if name in (".", "..") or "/" in name or any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name):
        return False
    try:
        return 0 < len(name.encode()) <= _NAME_BYTES_MAX
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _steps(given: Any, files: list[File]) -> list[Step]:
    if not isinstance(given, list) or len(given) > _STEPS_MAX or not _are_steps(given, [size for _, size in files]):
        raise _unfit(f"steps must be a list of at most {_STEPS_MAX} triples of a file's index, a start and an end within the file; export it again")
    if not given:
        raise _unfit("it has no steps, so that there is nothing to go by; load the model, then export it again")
    steps = [(file, start, end) for file, start, end in given]
    if any(one[0] == other[0] and one[2] > other[1] for one, other in pairwise(sorted(steps))):
        raise _unfit("steps must name each byte of a file once, and two of them overlap; export it again")
    return steps


def _are_steps(given: list[Any], sizes: list[int]) -> bool:
    """One plain loop: there may be tens of thousands, and while they are looked at nothing else of the node goes on."""
    for step in given:
        if not isinstance(step, list | tuple) or len(step) != 3:
            return False
        file, start, end = step
        if type(file) is not int or type(start) is not int or type(end) is not int or not 0 <= file < len(sizes):
            return False
        if not 0 <= start < end <= sizes[file]:
            return False
    return True


def merged(order: Order, known: Order | None) -> Order:
    """An order, and after it what it did not come to of the one known before: a look into a model, or half a load, takes nothing away.

    A file of another size is another file: of the one that had its name nothing is left. Files with names that no document may have are left
    out, and at the end what would be too much for one.
    """
    steps = _named(order)
    if known is not None:
        sizes = dict(order.files)
        steps += [step for step in _left(_named(known), steps) if sizes.get(step[0][0], step[0][1]) == step[0][1]]
    return _bounded(steps)


_NamedStep = tuple[File, int, int]


def _named(order: Order) -> list[_NamedStep]:
    files = [file if is_name(file[0]) else None for file in order.files]
    return [(file, start, end) for number, start, end in order.steps if (file := files[number]) is not None]


def _left(steps: list[_NamedStep], taken: list[_NamedStep]) -> list[_NamedStep]:
    """What of some steps others don't have."""
    covered: dict[File, list[tuple[int, int]]] = {}
    for file, start, end in taken:
        covered.setdefault(file, []).append((start, end))
    for ranges in covered.values():
        ranges.sort()
    left = []
    for file, start, end in steps:
        ranges = covered.get(file, [])
        at = start
        for index in range(max(bisect_right(ranges, (start,)) - 1, 0), len(ranges)):
            low, high = ranges[index]
            if low >= end:
                break
            if low > at:
                left.append((file, at, low))
            at = max(at, high)
        if at < end:
            left.append((file, at, end))
    return left


def _bounded(steps: list[_NamedStep]) -> Order:
    """The first of these steps, as many as one document holds."""
    order = _numbered(steps[:_STEPS_MAX])
    while len(encoded(order.document(""))) > DOCUMENT_BYTES_MAX:
        order = _numbered(steps[: len(order.steps) * 3 // 4])
    return order


def _numbered(steps: list[_NamedStep]) -> Order:
    numbers: dict[File, int] = {}
    chosen: list[Step] = []
    for file, start, end in steps:
        if file in numbers or len(numbers) < _FILES_MAX:
            chosen.append((numbers.setdefault(file, len(numbers)), start, end))
    return Order(list(numbers), chosen)
