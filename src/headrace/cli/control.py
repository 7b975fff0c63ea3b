"""`headrace up` and `headrace login`, and how commands reach the control plane."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.reach import Json, print_json
from headrace.errors import UsageError

if TYPE_CHECKING:
    from headrace.client import ControlClient

Url = Annotated[str, typer.Argument(help="Address of the control plane, like https://headrace.example.com:7370.")]


def control() -> ControlClient:
    """The control plane that this user is logged in to."""
    # An HTTP client takes a tenth of a second to load: commands that need none don't wait for it.
    from headrace.client import ControlClient, remembered

    login = remembered()
    return ControlClient(login.url, login.token, certificates=login.certificates, language=language())


def language() -> str:
    """`zh` where the locale is Chinese, else `en`."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if locale.lower().startswith("zh") else "en"


def up(
    listen: Annotated[str | None, typer.Option(help="Address and port (127.0.0.1:7370).")] = None,
    database: Annotated[str | None, typer.Option(help="Database URL (SQLite in the state directory).")] = None,
) -> None:
    """Start the control plane here, in the foreground. Ctrl-C ends it."""
    try:
        from headrace.control import server, settings  # only this command needs what a server needs
    except ImportError as error:
        raise UsageError("bad-setting", f"the control plane is not installed ({error.name}); run `pip install 'headrace[control]'`") from None
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    chosen = settings.load({"control_listen": listen, "control_database": database})

    async def serve() -> None:
        replica = await server.Replica.open(chosen)
        _tell(replica.url, replica.first_token)
        await replica.serve()

    asyncio.run(serve())


def _tell(url: str, first: str | None) -> None:
    print(f"control plane: {url}", flush=True)
    if first is not None:
        print(f"first start: within a day, run\n\n    headrace login {url}\n\nand give it this token, which works once: {first}", flush=True)


def login(
    url: Url,
    token: Annotated[str | None, typer.Option(envvar="HEADRACE_TOKEN", help="The token; asked for when it is not given.")] = None,
    certificates: Annotated[str | None, typer.Option("--ca", help="File of certificate authorities to trust.")] = None,
    as_json: Json = False,
) -> None:
    """Remember a control plane and a token for it. A one-time token is exchanged for one that lasts."""
    if not url.startswith(("https://", "http://")):
        raise UsageError("bad-setting", f"URL: {url!r} has no scheme; write https://HOST:PORT")
    from headrace.client import ControlClient, Login, remember

    text = token or typer.prompt("token", hide_input=True, err=True)
    with ControlClient(url, text, certificates=certificates, language=language()) as client:
        kept, until = _usable(client, text)
    path = remember(Login(url, kept, certificates))
    if as_json:
        return print_json({"url": url, "file": str(path), "expires": until})
    print(f"logged in to {url}{f' until {until}' if until else ''}; kept in {path}")
    return None


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
