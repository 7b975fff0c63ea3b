"""`python -m docs.generate [--check]`: writes the pages of `docs/reference`, or says which of them differ from the code."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.generate import commands, errors, metrics, protocol, python
from headrace import settings

REFERENCE = Path(__file__).parents[1] / "reference"
PAGES = {
    "commands.md": commands.page,
    "settings.md": settings.reference,
    "errors.md": errors.page,
    "protocol.md": protocol.page,
    "metrics.md": metrics.page,
    "python.md": python.page,
}


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    differ = []
    REFERENCE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = REFERENCE / name, page()
        if path.exists() and path.read_text() == text:
            continue
        differ.append(f"docs/reference/{name}")
        if not check:
            path.write_text(text)
    if check and differ:
        print(f"{', '.join(differ)}: not what the code says; run `make docs` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
