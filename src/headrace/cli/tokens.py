"""`headrace token` and `headrace events`."""

from __future__ import annotations

import itertools
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from headrace.amounts import parse_seconds
from headrace.cli.logged_in import control
from headrace.cli.reach import Json, print_json
from headrace.cli.tables import print_table
from headrace.errors import UsageError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Who may call the control plane. For administrators.")


@app.command("create", epilog="Example: headrace token create ci --for alice --scope volumes:read --lasts 30d")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    subject: Annotated[str, typer.Option("--for", help="Whoever it stands for.")],
    role: Annotated[str, typer.Option(help="user or admin.")] = "user",
    scope: Annotated[list[str] | None, typer.Option(help="What it may, like volumes:read; all that its role may without one.")] = None,
    lasts: Annotated[str, typer.Option(help="How long, like 12h or 30d.")] = "90d",
    as_json: Json = False,
) -> None:
    """Make a token. Its text is shown this once."""
    said = {"name": name, "subject": subject, "role": role, "scopes": scope or ["*"], "lasts_seconds": int(parse_seconds("lasts", lasts))}
    with control() as client:
        made = client.create_token(said, secrets.token_hex(16))
    if as_json:
        return print_json(made)
    print(made["token"])
    return None


@app.command("ls", epilog="Example: headrace token ls")
def ls(as_json: Json = False) -> None:
    """Tokens, without their secrets."""
    with control() as client:
        found = list(client.tokens())
    if as_json:
        return print_json(found)
    rows = [(t["id"], t["name"], t["subject"], t["role"], " ".join(t["scopes"]), t["expires"]) for t in found]
    print_table(("ID", "NAME", "FOR", "ROLE", "MAY", "UNTIL"), rows, "no tokens")
    return None


@app.command("revoke", epilog="Example: headrace token revoke 01jz…")
def revoke(identifier: Annotated[str, typer.Argument(help="Its ID, as `headrace token ls` shows it.")], as_json: Json = False) -> None:
    """End a token at once."""
    with control() as client:
        client.revoke_token(identifier)
    if as_json:
        return print_json({"id": identifier})
    print(f"token {identifier} is revoked")
    return None


def events(
    most: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 50,
    noun: Annotated[str | None, typer.Option(help="Of one kind of object only, like volume.")] = None,
    since: Annotated[str | None, typer.Option(help="From then on: a time like 2026-01-31T08:00Z, or how long ago, like 2h or 7d.")] = None,
    until: Annotated[str | None, typer.Option(help="Before then, likewise.")] = None,
    as_json: Json = False,
) -> None:
    """What changed, newest first: when, who, what and why."""
    filters = {"noun": noun, "since": _time("--since", since), "until": _time("--until", until)}
    with control() as client:
        found = list(itertools.islice(client.events(**{name: value for name, value in filters.items() if value}), most))
    if as_json:
        return print_json(found)
    rows = [(e["at"], e["who"], e["kind"], e["object_name"], e["why"]) for e in found]
    print_table(("AT", "WHO", "WHAT", "OBJECT", "WHY"), rows, "nothing happened yet")
    return None


def _time(option: str, text: str | None) -> str | None:
    """A time as the API has it. One without a zone is in this machine's."""
    if text is None:
        return None
    try:
        if "-" in text:
            return datetime.fromisoformat(text).astimezone(UTC).isoformat()
        return (datetime.now(UTC) - timedelta(seconds=parse_seconds(option, text))).isoformat()
    except (ValueError, OverflowError):
        raise UsageError("bad-setting", f"{option}: {text!r} is not a time; write it like 2026-01-31T08:00Z, or 7d for seven days ago") from None
