"""No noun reaches into another's tables, and what all share knows no noun's service."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import headrace.control

ROOT = Path(headrace.control.__file__).parent
# Knows all tables, for migrations.
REGISTER = "tables.py"


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_models_are_imported_within_their_noun_only() -> None:
    seen = 0
    for path in ROOT.rglob("*.py"):
        for name in _imports(path):
            parts = name.removeprefix("headrace.control.").split(".")
            if name.startswith("headrace.control.") and len(parts) > 1 and parts[1] == "models" and path.name != REGISTER:
                seen += 1
                assert path.parent.name == parts[0], f"{path.relative_to(ROOT)} imports {name}"
    assert seen > 4


def test_a_service_knows_no_routes() -> None:
    for path in ROOT.rglob("*.py"):
        if path.name not in ("routes.py", "app.py"):
            assert not [name for name in _imports(path) if ".routes" in name], path


def test_the_node_and_the_sdk_know_no_control_plane() -> None:
    for part in ("node", "sdk", "client", "checking"):
        for path in (ROOT.parent / part).rglob("*.py"):
            assert not [name for name in _imports(path) if name.startswith("headrace.control")], path


def test_a_check_knows_neither_side() -> None:
    paths = list((ROOT.parent / "checking").rglob("*.py"))
    assert len(paths) > 5
    for path in paths:
        assert not [name for name in _imports(path) if name.startswith(("headrace.node", "headrace.client"))], path
