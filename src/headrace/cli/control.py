"""`headrace up`, `headrace control` and `headrace login`, and how commands reach the control plane."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from headrace.cli import show
from headrace.cli.logged_in import language
from headrace.cli.reach import Json, print_json
from headrace.errors import UsageError
from headrace.printable import printable

if TYPE_CHECKING:
    from headrace.client import ControlClient

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Keys of the control plane, on its own machine.")

Database = Annotated[str | None, typer.Option(help="Database URL (SQLite in the state directory).")]
Url = Annotated[str, typer.Argument(help="Address of the control plane, like https://headrace.example.com:7370.")]


def up(
    listen: Annotated[str | None, typer.Option(help="Address and port (127.0.0.1:7370).")] = None,
    database: Database = None,
) -> None:
    """Start the control plane here, in the foreground. Ctrl-C ends it."""
    import asyncio
    import logging

    server, settings = _installed()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    chosen = settings.load({"control_listen": listen, "control_database": database})

    async def serve() -> None:
        replica = await server.Replica.open(chosen)
        _tell(replica.url, replica.first_token)
        await replica.serve()

    asyncio.run(serve())


@app.command("new-admin-token", epilog="Example: headrace control new-admin-token")
def new_admin_token(database: Database = None, as_json: Json = False) -> None:
    """Make a one-time token of an administrator, for `headrace login`. On the control plane's own machine, whether it runs or not."""
    import asyncio

    server, settings = _installed()
    token = asyncio.run(server.new_admin_token(settings.load({"control_database": database})))
    if as_json:
        return print_json({"token": token})
    print(token)
    return None


@app.command("rotate-keys", epilog="Example: headrace control rotate-keys --new-master-key-file /etc/headrace/master.key.new")
def rotate_keys(
    new_master_key_file: Annotated[
        Path | None, typer.Option(help="Seal under the master key in this file from now on; give it to every replica, and restart them.")
    ] = None,
    new_master_key_command: Annotated[
        str,
        typer.Option(help="Have this program keep the master key from now on (control_master_key_command)."),
    ] = "",
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Seal all credentials under a new key. On the control plane's own machine, whether it runs or not."""
    import asyncio

    if new_master_key_file and new_master_key_command:
        raise UsageError("bad-setting", "new master key: a file and a command are given; give one of them")
    _, settings = _installed()
    from headrace.control.rotation import rotate_keys as rotate

    done = asyncio.run(rotate(settings.load({"control_database": database}), new_master_key_file, new_master_key_command))
    if as_json:
        return print_json({"volumes": done.volumes, "data_keys": done.data_keys})
    print(f"credentials of {show.count(done.volumes, 'volume')} are sealed under a new key")
    if new := new_master_key_file or new_master_key_command:
        print(f"{show.count(done.data_keys, 'data key')} are under the new master key; give {new} to every replica and restart them")
    return None


def _installed() -> tuple[Any, Any]:
    """What a server needs, which only these commands load."""
    try:
        from headrace.control import server, settings
    except ImportError as error:
        raise UsageError("bad-setting", f"the control plane is not installed ({error.name}); run `pip install 'headrace[control]'`") from None
    return server, settings


def _tell(url: str, first: str | None) -> None:
    print(f"control plane: {url}", flush=True)
    if first is not None:
        print(f"first start: within a day, run\n\n    headrace login {url}\n\nand give it this token, which works once: {first}", flush=True)


def login(
    url: Url,
    certificates: Annotated[str | None, typer.Option("--ca", help="File of certificate authorities to trust.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Send the token over plain HTTP to another machine.")] = False,
    as_json: Json = False,
) -> None:
    """Remember a control plane and a token for it. A one-time token is exchanged for one that lasts.

    The token is asked for, or taken from HEADRACE_TOKEN: as an argument everybody on the machine would see it.
    """
    _must_be_private(url, insecure=insecure)
    from headrace.client import ControlClient, Keeping, Login

    text = _token()
    # Before a one-time token is exchanged: it is gone then, and what it was exchanged for must not be lost.
    with Keeping() as keeping:
        with ControlClient(url, text, certificates=certificates, language=language()) as client:
            kept, until = _usable(client, text)
        path = keeping.keep(Login(url, kept, certificates))
    if as_json:
        return print_json({"url": url, "file": str(path), "expires": until})
    print(f"logged in to {url}{f' until {until}' if until else ''}; kept in {path}")
    return None


def _must_be_private(url: str, *, insecure: bool) -> None:
    """Raises UsageError for what is no address of a control plane, and for one that a token would be sent to in clear."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        usable = False
    if not url.startswith(("https://", "http://")) or not usable:
        shown = printable(url.rpartition("@")[2], 200)
        raise UsageError("bad-setting", f"URL: {shown!r} is not the address of a control plane; write https://HOST:PORT")
    if parts.scheme == "http" and not _is_here(parts.hostname or "") and not insecure:
        raise UsageError("bad-setting", "URL: the token would go over the network in clear; use https://, or --insecure where nobody listens")


def _is_here(host: str) -> bool:
    try:
        import ipaddress

        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token() -> str:
    text = (os.environ.get("HEADRACE_TOKEN") or typer.prompt("token", hide_input=True, err=True)).strip()
    if not text or any(not "!" <= letter <= "~" for letter in text):
        raise UsageError("bad-setting", "token: it is not a token; copy it whole, from `hr_` on")
    return str(text)


def _usable(client: ControlClient, text: str) -> tuple[str, str | None]:
    """A token for every day: the one given, or what it is exchanged for."""
    from headrace.client import ControlFailure

    try:
        next(client.volumes(), None)
    except ControlFailure as failure:
        if failure.code == "forbidden":
            return text, None
        if failure.code != "unauthenticated":
            raise
        made = client.login()
        return made["token"], made["expires"]
    return text, None
