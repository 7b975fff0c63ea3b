"""Every link between the pages of the repository leads somewhere, and to a heading that is there; every test they name exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`((?:tests|engine)/[\w/.]+\.(?:py|rs))(?:::(\w+))?`")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def pages() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return listed.stdout.splitlines()


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages())
def test_links(page: str) -> None:
    path = ROOT / page
    for target, anchor in LINK.findall(path.read_text()):
        leads_to = (path.parent / target) if target else path
        assert leads_to.exists(), f"{page}: {target} does not exist"
        if anchor:
            assert anchor in anchors(leads_to), f"{page}: {target} has no heading {anchor}"


@pytest.mark.parametrize("page", pages())
def test_tests_that_are_named(page: str) -> None:
    for file, name in TEST.findall((ROOT / page).read_text()):
        assert (ROOT / file).exists(), f"{page}: {file} does not exist"
        if name:
            assert re.search(rf"\b(?:def|fn) {name}\(", (ROOT / file).read_text()), f"{page}: {file} has no {name}"
