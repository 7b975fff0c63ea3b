"""`python -m docs.generate [--check]`: writes the pages of `docs/reference` and the figures in `docs/reliability.md`, or says which differ."""

from __future__ import annotations

import sys
from pathlib import Path

from docs.generate import commands, control, errors, metrics, protocol, python, reliability
from headrace import settings

REFERENCE = Path(__file__).parents[1] / "reference"
PAGES = {
    "commands.md": commands.page,
    "settings.md": settings.reference,
    "errors.md": errors.page,
    "protocol.md": protocol.page,
    "metrics.md": metrics.page,
    "python.md": python.page,
    "control-settings.md": control.configuration,
    "problems.md": control.problems,
    "openapi.json": control.openapi,
}


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    differ = []
    REFERENCE.mkdir(exist_ok=True)
    pages = {REFERENCE / name: page() for name, page in PAGES.items()}
    pages |= {reliability.DOCS / name: reliability.page(name) for name in reliability.WORDS}
    for path, text in pages.items():
        if path.exists() and path.read_text() == text:
            continue
        differ.append(str(path.relative_to(REFERENCE.parents[1])))
        if not check:
            path.write_text(text)
    if check and differ:
        print(f"{', '.join(differ)}: not what the code and the results say; run `make docs` and commit the result", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
