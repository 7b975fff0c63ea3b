"""The control plane's API document, its problems and its settings, as the code has them."""

from __future__ import annotations

import json

from fastapi import FastAPI

from headrace.control import app, settings
from headrace.control.problems import PROBLEMS


def openapi() -> str:
    """The OpenAPI document. Routes alone are asked for it: no database is opened."""
    document = app.with_routes(FastAPI(title=app.TITLE, version="1", openapi_url=None)).openapi()
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def problems() -> str:
    lines = [
        "# Problems of the control plane",
        "",
        "Generated from `headrace/control/problems.py`. A request that is refused is answered with a problem document (RFC 9457):",
        "`code` is stable; `cause` and `remedy` are in both languages; `fields` names what is wrong in the request, each with its own",
        "code, cause and remedy; `detail` is in the language that `Accept-Language` asks for. What stands in braces differs from case to case.",
        "",
        "| code | status | cause | remedy | 原因 | 处理方法 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| `{code}` | {p.status} | {p.cause.en} | {p.remedy.en} | {p.cause.zh} | {p.remedy.zh} |" for code, p in sorted(PROBLEMS.items())]
    return "\n".join(lines) + "\n"


def configuration() -> str:
    lines = [
        "# Settings of the control plane",
        "",
        "Generated from `headrace/control/settings.py`. In the configuration file they stand below `[control]`, without `control_`.",
        "",
        "| environment | kind | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{s.variable}` | {s.kind} | {s.default or '—'} | {s.meaning} |" for s in settings.SETTINGS]
    return "\n".join(lines) + "\n"
