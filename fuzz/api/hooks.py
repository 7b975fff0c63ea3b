"""What schemathesis loads: who asks what, and what must hold of every answer beside what the document says."""

from __future__ import annotations

import json
import os
import zlib
from typing import Any
from urllib.parse import quote

import schemathesis

_TOLD: dict[str, Any] = json.loads(os.environ["HEADRACE_FUZZ_API"])
# Addresses that want a bearer of their own.
_BEARERS = (("/v1/node/", "node"), ("/v1/enrol", "enrol"), ("/v1/login", "login"))
# What a parameter names, where its own name does not say it.
_NAMED = {
    "/v1/regions/{name}": "region",
    "/v1/volumes/{name}": "volume",
    "/v1/nodes/{identifier}": "node",
    "/v1/tokens/{identifier}": "token",
    "/v1/node/accelerations/{identifier}": "acceleration",
    "/v1/node/volumes/{identifier}": "volume_id",
}
# Texts that are none to a database, a path, a terminal or a language; schemathesis puts no NUL into a path by itself.
_ODD: list[str] = _TOLD["odd"]
# Problems with a status of a failure that are meant: no fault of the control plane.
_MEANT = ("too-many-checks", "too-many-streams")
_WAIT_SECONDS = 0.1
_ANSWER_MAX = 500_000


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]) -> None:
    """Says who asks, keeps what the rest of the run needs, and waits for no change."""
    path = case.operation.path
    bearer = next((bearer for prefix, bearer in _BEARERS if path.startswith(prefix)), _TOLD["role"])
    case.headers["Authorization"] = f"Bearer {_TOLD['tokens'][bearer]}"
    chosen = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    if chosen % 2:
        case.path_parameters.update(_there(path, case.path_parameters))
    elif chosen % 8 == 0:
        case.path_parameters.update({name: quote(_ODD[chosen // 8 % len(_ODD)], safe="") for name in case.path_parameters})
        case.query.update({name: _ODD[chosen // 8 % len(_ODD)] for name, value in case.query.items() if isinstance(value, str)})
    if case.method == "DELETE" or path.endswith("/release"):
        for name, value in case.path_parameters.items():
            case.path_parameters[name] = "spared" if value in _TOLD["spared"] else value
    if path == "/v1/node/desired" and "wait" in case.query:
        case.query["wait"] = _shorter(case.query["wait"])


def _there(path: str, parameters: dict[str, Any]) -> dict[str, str]:
    """Something that is there, in place of what was generated, which seldom is; always the same for the same, so that a failure can be seen again."""
    found = {}
    for name, value in parameters.items():
        kind = _NAMED.get(f"{path.split('{')[0]}{{{name}}}", name)
        if values := _TOLD["known"].get(kind):
            found[name] = values[zlib.crc32(repr(value).encode()) % len(values)]
    return found


def _shorter(wait: object) -> object:
    return min(wait, _WAIT_SECONDS) if isinstance(wait, int | float) else wait


@schemathesis.check
def no_secret_comes_back(_context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]) -> None:
    """Keys come back to a node that needs them, and to nobody else."""
    if case.operation.path.endswith("/credentials") and case.operation.path.startswith("/v1/node/"):
        return
    told = f"{dict(response.headers)} {response.text}"
    for secret in _TOLD["secrets"]:
        assert secret not in told, "an answer holds a secret"


@schemathesis.check
def a_problem_is_whole(_context: schemathesis.CheckContext, response: schemathesis.Response, _case: schemathesis.Case[Any]) -> None:
    """Whatever is refused is refused with a problem document, in both languages, of a bounded size."""
    assert len(response.content) < _ANSWER_MAX
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/problem+json"], "no problem document"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["code"] in _MEANT or response.status_code < 500, "a failure"
    for sentence in (problem["cause"], problem["remedy"], *(one[part] for one in problem["fields"] for part in ("cause", "remedy"))):
        assert sentence["en"], "nothing is said in English"
        assert sentence["zh"], "nothing is said in Chinese"
