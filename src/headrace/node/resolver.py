"""Credentials and endpoint exactly as AWS tools read them, from a given environment.

A process of its own: botocore sees exactly the environment of the command that mounted, a hanging
`credential_process` hangs nobody else, and the node never loads botocore. The environment comes through standard input
and the answer leaves through standard output, so that neither shows in a process list.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from headrace.errors import CredentialFailure, HeadraceError, UsageError, from_code

_TIMEOUT_SECONDS = 60
# Hosts whose buckets are addressed by name, whatever else is said.
_VIRTUAL = ("amazonaws.com", "aliyuncs.com", "myqcloud.com")
CAPTURED = (
    "HOME", "PATH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_STS_REGIONAL_ENDPOINTS",
    "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy",
)  # fmt: skip


def captured(environ: dict[str, str]) -> dict[str, str]:
    """What of a command's environment matters."""
    return {name: environ[name] for name in CAPTURED if name in environ}


def resolve(environment: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """Runs the resolver. Raises CredentialFailure, or UsageError for the endpoint, with cause and remedy."""
    request = json.dumps({"environment": environment, "options": options})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "headrace.node.resolver"],
            input=request, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        message = f"credentials: nothing after {_TIMEOUT_SECONDS} s; check credential_process and the metadata service"
        raise CredentialFailure("bad-credentials", message) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise CredentialFailure("bad-credentials", "credentials: the resolver broke off; see the log") from None
    if "error" in answer:
        raise from_code(answer["error"]["code"], answer["error"]["message"])
    return dict(answer)


def _answer(options: dict[str, Any]) -> dict[str, Any]:
    import botocore.exceptions
    import botocore.session

    try:
        session = botocore.session.Session(profile=options.get("profile"))
        region = options.get("region") or session.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1"
        endpoint = _checked(options.get("endpoint") or _endpoint(session, region))
        credentials = None if options.get("anonymous") else session.get_credentials()
        frozen = credentials.get_frozen_credentials() if credentials else None
        expires = getattr(credentials, "_expiry_time", None) if credentials else None
        bundle = session.get_config_variable("ca_bundle")
        style = ((session.get_scoped_config().get("s3") or {}) if isinstance(session.get_scoped_config().get("s3"), dict) else {}).get(
            "addressing_style"
        )
    except botocore.exceptions.BotoCoreError as error:
        raise CredentialFailure("bad-credentials", f"credentials: {error}; check AWS_PROFILE and the AWS files") from None
    if frozen is None and not options.get("anonymous"):
        raise CredentialFailure(
            "bad-credentials",
            "credentials: none were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use --anonymous for a public bucket",
        )
    return {
        "region": region,
        "endpoint": endpoint,
        "addressing": options.get("addressing") or _addressing(endpoint, style),
        "ca_bundle": bundle if isinstance(bundle, str) else None,
        "proxy": _proxy(endpoint),
        "anonymous": bool(options.get("anonymous")),
        "access_key": frozen.access_key if frozen else None,
        "secret_key": frozen.secret_key if frozen else None,
        "session_token": frozen.token if frozen else None,
        "expires": expires.timestamp() if expires else None,
    }


def _endpoint(session: Any, region: str) -> str:
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(region_name=region, signature_version="s3v4")
    try:
        client = session.create_client("s3", region_name=region, config=config, aws_access_key_id="x", aws_secret_access_key="x")  # noqa: S106
    except BotoCoreError:  # some are ValueErrors too
        raise
    except ValueError:
        given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "endpoint_url of the profile"
        raise _no_address(given) from None
    url = str(client.meta.endpoint_url)
    return url.replace("https://s3.amazonaws.com", f"https://s3.{region}.amazonaws.com")


def _checked(endpoint: str) -> str:
    """Refuses what can't be asked, before anything listens to it; a host alone is one behind https."""
    try:
        url = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # brackets that don't close, or a port that is no number
        usable = False
    if not usable:
        raise _no_address(endpoint)
    return endpoint


def _no_address(endpoint: str) -> UsageError:
    shown = endpoint.rpartition("@")[2]  # before it may stand a password
    return UsageError(
        "bad-setting",
        f"endpoint: {shown!r} is not the address of an S3 server; correct AWS_ENDPOINT_URL or --endpoint, such as https://s3.example.org",
    )


def _addressing(endpoint: str, style: str | None) -> str:
    host = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}").hostname or ""
    if style in ("path", "virtual"):
        return style
    return "virtual" if host.endswith(_VIRTUAL) else "path"


def _proxy(endpoint: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    url = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if proxy_bypass(url.hostname or ""):
        return None
    return getproxies().get(url.scheme)


def main() -> None:
    request = json.load(sys.stdin)
    for name in CAPTURED:
        os.environ.pop(name, None)
    os.environ.update(request["environment"])
    try:
        answer = _answer(request["options"])
    except HeadraceError as error:
        answer = {"error": {"code": error.code, "message": error.message}}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
