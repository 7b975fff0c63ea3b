"""`headrace volume`: registered buckets."""

from __future__ import annotations

import os
import secrets
import sys
from typing import Annotated, Any

import typer

from headrace.cli.logged_in import control, language
from headrace.cli.reach import Json, print_json
from headrace.cli.tables import print_table
from headrace.errors import Exit, UsageError
from headrace.printable import printable

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Buckets that are registered with the control plane.")

Name = Annotated[str, typer.Argument(help="Name of the volume.")]
Provider = Annotated[str, typer.Option(help="aliyun-oss, tencent-cos, aws-s3 or s3.")]
AccessKey = Annotated[str | None, typer.Option(envvar="AWS_ACCESS_KEY_ID", help="Access key; the secret is taken from the environment or asked for.")]
Anonymous = Annotated[bool, typer.Option("--anonymous", help="The bucket needs no keys.")]


_SHOWN = ("name", "owner", "provider", "region", "endpoint", "addressing", "bucket", "directory", "read_only", "bandwidth", "requests")
# What decides to which server requests go.
_OF_THE_SERVER = frozenset({"provider", "region", "endpoint", "addressing", "bucket"})


@app.command("add", epilog="Example: headrace volume add qwen --provider aliyun-oss --region cn-hangzhou --bucket models --directory qwen1-5")
def add(
    name: Name,
    bucket: Annotated[str, typer.Option(help="Name of the bucket.")],
    directory: Annotated[str, typer.Option(help="Directory to accelerate.")] = "",
    provider: Provider = "s3",
    region: Annotated[str, typer.Option(help="Region of the bucket.")] = "",
    endpoint: Annotated[str, typer.Option(help="Endpoint; empty for the provider's own. Without a scheme it is HTTPS.")] = "",
    addressing: Annotated[str, typer.Option(help="auto, virtual or path.")] = "auto",
    access_key: AccessKey = None,
    anonymous: Anonymous = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Do not try whether the bucket can be written.")] = False,
    whole_bucket: Annotated[bool, typer.Option("--whole-bucket", help="Confirm that the whole bucket is meant.")] = False,
    bandwidth: Annotated[int, typer.Option(help="Most bytes a second from this origin, all nodes together; 0 is no ceiling.")] = 0,
    requests: Annotated[int, typer.Option(help="Most requests a second, likewise.")] = 0,
    check_only: Annotated[bool, typer.Option("--check", help="Try the connection, store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Register a bucket, after its connection was checked."""
    volume = {
        "name": name,
        "provider": provider,
        "region": region,
        "endpoint": endpoint,
        "addressing": addressing,
        "bucket": bucket,
        "directory": directory,
        "confirm_root": whole_bucket,
        "read_only": read_only,
        "bandwidth": bandwidth,
        "requests": requests,
        "credentials": _keys(access_key, anonymous=anonymous),
    }
    with control() as client:
        if check_only:
            return _tell_check(client.check_new_volume(volume), as_json=as_json)
        made = client.create_volume(volume, secrets.token_hex(16))
    if as_json:
        return print_json(made)
    _findings(made["findings"])
    print(f"volume {made['name']} is registered: {_place(made)}")
    return None


@app.command("ls", epilog="Example: headrace volume ls")
def ls(as_json: Json = False) -> None:
    """Volumes."""
    with control() as client:
        found = list(client.volumes())
    if as_json:
        return print_json(found)
    print_table(
        ("NAME", "PROVIDER", "WHERE", "OWNER"),
        [(v["name"], v["provider"], _place(v), v["owner"]) for v in found],
        "no volumes; register one with `headrace volume add`",
    )
    return None


@app.command("show", epilog="Example: headrace volume show qwen")
def show(name: Name, as_json: Json = False) -> None:
    """One volume."""
    with control() as client:
        volume = client.volume(name)
    if as_json:
        return print_json(volume)
    for field in _SHOWN:
        print(f"{field:<12} {printable(str(volume[field]))}")
    print(f"{'keys':<12} {'anonymous' if volume['anonymous'] else volume['access_key_hint'] or 'kept'}")
    print(f"{'checked':<12} {volume['checked']} from {volume['checked_from']}")
    _findings(volume["findings"])
    return None


@app.command("check", epilog="Example: headrace volume check qwen")
def check(name: Name, as_json: Json = False) -> None:
    """Check a volume's connection again."""
    with control() as client:
        _tell_check(client.check_volume(name), as_json=as_json)


@app.command("edit", epilog="Example: headrace volume edit qwen --directory qwen2-5")
def edit(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    directory: Annotated[str | None, typer.Option(help="Directory to accelerate.")] = None,
    provider: Annotated[str | None, typer.Option(help="aliyun-oss, tencent-cos, aws-s3 or s3.")] = None,
    region: Annotated[str | None, typer.Option(help="Region of the bucket.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Endpoint.")] = None,
    addressing: Annotated[str | None, typer.Option(help="auto, virtual or path.")] = None,
    bucket: Annotated[str | None, typer.Option(help="Name of the bucket.")] = None,
    access_key: AccessKey = None,
    anonymous: Anonymous = False,
    read_only: Annotated[bool | None, typer.Option("--read-only/--writable", help="Whether writing is left untried.")] = None,
    whole_bucket: Annotated[bool, typer.Option("--whole-bucket", help="Confirm that the whole bucket is meant.")] = False,
    bandwidth: Annotated[int | None, typer.Option(help="Most bytes a second; 0 is no ceiling.")] = None,
    requests: Annotated[int | None, typer.Option(help="Most requests a second; 0 is no ceiling.")] = None,
    as_json: Json = False,
) -> None:
    """Change a volume, after its connection was checked with the change.

    Where requests will go to another server, keys are sent with it, as `headrace volume add` takes them.
    """
    said = {
        "name": new_name,
        "directory": directory,
        "provider": provider,
        "region": region,
        "endpoint": endpoint,
        "addressing": addressing,
        "bucket": bucket,
        "read_only": read_only,
        "confirm_root": whole_bucket or None,
        "bandwidth": bandwidth,
        "requests": requests,
    }
    changes: dict[str, Any] = {field: value for field, value in said.items() if value is not None}
    if not changes:
        raise UsageError("bad-setting", "nothing to change; give an option, as `headrace volume edit --help` lists them")
    # Kept keys are not sent to another server. An edit of anything else leaves them alone, whatever the environment has.
    if _OF_THE_SERVER & set(changes) and (access_key or anonymous):
        changes["credentials"] = _keys(access_key, anonymous=anonymous)
    with control() as client:
        volume = client.edit_volume(name, changes, client.volume(name)["etag"])
    if as_json:
        return print_json(volume)
    _findings(volume["findings"])
    print(f"volume {volume['name']} is changed: {_place(volume)}")
    return None


@app.command("rotate", epilog="Example: AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… headrace volume rotate qwen")
def rotate(name: Name, access_key: AccessKey = None, anonymous: Anonymous = False, as_json: Json = False) -> None:
    """Replace a volume's keys, after they were checked. What is cached stays."""
    with control() as client:
        volume = client.rotate_credentials(name, _keys(access_key, anonymous=anonymous))
    if as_json:
        return print_json(volume)
    print(f"volume {name} has new keys")
    return None


@app.command("rm", epilog="Example: headrace volume rm qwen")
def rm(name: Name, as_json: Json = False) -> None:
    """Forget a volume. The bucket is not touched."""
    with control() as client:
        client.delete_volume(name)
    if as_json:
        return print_json({"name": name})
    print(f"volume {name} is forgotten")
    return None


def _keys(access_key: str | None, *, anonymous: bool) -> dict[str, Any]:
    """Keys for a request. A secret is never an argument: those are seen by everybody on the machine."""
    if anonymous:
        return {"anonymous": True}
    if not access_key:
        raise UsageError("bad-setting", "access key: none is given; give --access-key, set AWS_ACCESS_KEY_ID, or say --anonymous")
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not secret and not sys.stdin.isatty():
        raise UsageError("bad-setting", "secret key: none is given; set AWS_SECRET_ACCESS_KEY")
    return {
        "access_key": access_key,
        "secret_key": secret or typer.prompt("secret key", hide_input=True, err=True),
        "session_token": os.environ.get("AWS_SESSION_TOKEN", ""),
    }


def _place(volume: dict[str, Any]) -> str:
    return printable(f"{volume['bucket']}/{volume['directory']} at {volume['endpoint']}")


def _tell_check(check: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(check)
    else:
        _findings(check["findings"])
        print(f"checked from the {check['checked_from']}: {'passed' if check['passed'] else 'failed'}")
    if not check["passed"]:
        raise typer.Exit(Exit.FAILED)


def _findings(findings: list[dict[str, Any]]) -> None:
    tongue = language()
    for finding in findings:
        print(printable(f"{finding['level']}: {finding['field']}: {finding['cause'][tongue]}; {finding['remedy'][tongue]}"))
