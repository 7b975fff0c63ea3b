"""`headrace doctor`: what works here, what does not, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from headrace import settings as configuration
from headrace.cli.reach import Json, print_json
from headrace.errors import Exit

_MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


def doctor(
    source: Annotated[str | None, typer.Argument(metavar="[s3://BUCKET[/PREFIX]]", help="Also check the way to this source.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Endpoint address; default as AWS tools find it.")] = None,
    region: Annotated[str | None, typer.Option(help="Region; default as AWS tools find it.")] = None,
    addressing: Annotated[str | None, typer.Option(help="path or virtual.")] = None,
    anonymous: Annotated[bool, typer.Option(help="Sign nothing: for public buckets.")] = False,
    cache_dir: Annotated[str | None, typer.Option(help="Cache directories: PATH[=SIZE][:PATH[=SIZE]…]")] = None,
    as_json: Json = False,
) -> None:
    """Check this machine, the cache and, with a source, the way to the bucket. Changes nothing; 1 when something failed."""
    from headrace.cli import checks, origin_checks

    settings = configuration.load({"cache_dir": cache_dir})
    findings = checks.machine(settings)
    if source:
        given = {"endpoint": endpoint, "region": region, "addressing": addressing, "anonymous": anonymous}
        findings += origin_checks.origin(source, {k: v for k, v in given.items() if v})
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{_MARKS[finding.state]} {finding.what}: {finding.found}")
            if finding.remedy:
                print(f"        remedy: {finding.remedy}")
    if any(finding.state == "failed" for finding in findings):
        raise typer.Exit(Exit.FAILED)
