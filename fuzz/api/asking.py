"""Runs schemathesis against a control plane: boundary values of every field, then as much as there is time for, valid and not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from fuzz.api.plane import SENT, Asked

ROOT = Path(__file__).parent.parent.parent
_DOCUMENT = ROOT / "docs" / "reference" / "openapi.json"
_CHECKS = (
    "status_code_conformance", "content_type_conformance", "response_schema_conformance", "response_headers_conformance",
    "unsupported_method", "no_secret_comes_back", "a_problem_is_whole",
)  # fmt: skip
_LIMIT_SECONDS = 30
_OFTEN = 0.7
# Hosts that are none, that nobody may reach, and that say more than a host.
_ENDPOINTS = (
    "http://127.0.0.1:9000", "https://10.0.0.1", "http://[::1]:9", "http://[fe80::1%25eth0]", "http://169.254.169.254", "https://[::ffff:a9fe:a9fe]",
    "https://nowhere.invalid", f"https://user:{SENT[1]}@10.0.0.1", f"https://user:{SENT[1]}@h:99999", "http://2852039166", "https://a..b", "//x", "https://\u4f8b\u3048.jp",
    "https://oss-cn-hangzhou.aliyuncs.com", "https://qwen.oss-cn-hangzhou.aliyuncs.com", "https://cos.ap-guangzhou.myqcloud.com",
)  # fmt: skip
# Texts that are none to a database, a path, a terminal or a language.
_ODD = (
    "\0", "a\0b", "%00", "a\nb", "\u202ex", "e\u0301", "\u0958" * 250, "\U00020bb7", "../..", "a/b", "'; --", "%s{0}", "NaN", "9" * 400, "x" * 300,
)  # fmt: skip


def ask(asked: Asked, role: str, *, phases: str, examples: int, seconds: int | None = None) -> subprocess.CompletedProcess[str]:
    """Asks as somebody of this role; what is found is in stdout. With `seconds` it goes on so long, without it is drawn alike each time."""
    config = asked.log.with_name(f"{role}.toml")
    config.write_text(_config(asked), encoding="utf-8")
    told = {"role": role, "known": dict(asked.known), "odd": _ODD, "tokens": dict(asked.tokens), "secrets": asked.secrets, "spared": asked.spared}
    environment = {**os.environ, "HEADRACE_FUZZ_API": json.dumps(told), "SCHEMATHESIS_HOOKS": "fuzz.api.hooks", "PYTHONPATH": str(ROOT)}
    bound = ["--generation-deterministic"] if seconds is None else ["--generation-database", "none", "--max-time", str(seconds)]
    arguments = [
        "--url", asked.url, "--checks", ",".join(_CHECKS), "--phases", phases, "--max-examples", str(examples), *bound,
        "--request-timeout", str(_LIMIT_SECONDS), "--suppress-health-check", "all", "--continue-on-failure", "--no-shrink", "--no-color",
        "--warnings", "off", "--exclude-path-regex", "/stream$",
    ]  # fmt: skip
    # Streams last until what they tell of is over: tests/control/test_streams.py asks for them.
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", str(_DOCUMENT), *arguments]
    return subprocess.run(command, cwd=asked.log.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _config(asked: Asked) -> str:
    """Where generated values alone would seldom meet something that is there."""
    known = asked.known
    words = {
        "volumes": known["volume"],
        "regions": known["region"],
        "ids": (*known["node"], *known["volume_id"], *known["acceleration"], *known["token"]),
        "accelerations": known["acceleration"],
        "digests": known["digest"],
        "endpoints": _ENDPOINTS,
        "etags": ("*", '"x-1"', 'W/"x-1", *'),
        "odd": _ODD,
        **{f"sent{number}": (key,) for number, key in enumerate(SENT)},
    }
    places = {
        "query.region": "regions", "query.volume": "volumes", "query.object_id": "ids", "header.If-Match": "etags",
        "body.region": "regions", "body.endpoint": "endpoints", "body.digest": "digests", "body.held[*].acceleration": "accelerations",
        "body.listing[*]": "accelerations",
    }  # fmt: skip
    for number, field in enumerate(("access_key", "secret_key", "session_token")):
        places[f"body.{field}"] = places[f"body.credentials.{field}"] = f"sent{number}"
    lines = [f"[dictionaries.{name}]\nvalues = {json.dumps(values, ensure_ascii=False)}" for name, values in words.items()]
    lines += ["[generation.dictionaries]", 'string = { dictionary = "odd", probability = 0.1 }']
    lines += ["[parameters]", *(f'"{place}" = {{ dictionary = "{name}", probability = {_OFTEN} }}' for place, name in places.items())]
    return "\n".join(lines) + "\n"
