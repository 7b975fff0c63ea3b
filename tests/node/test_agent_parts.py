"""Parts of the agent by themselves: what it keeps on disk, how it waits, what it chooses."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.errors import NodeFailure, UsageError
from headrace.node.agent import identity as identities
from headrace.node.agent.backoff import Backoff
from headrace.node.agent.contact import Contact, plain
from headrace.node.agent.desired import Last, parse
from headrace.node.agent.identity import Identity
from headrace.node.agent.room import fitting
from headrace.node.agent.snapshots import spelled

ORIGIN = {
    "volume_id": "v1", "volume": "qwen", "revision": 3, "provider": "s3", "region": "us-east-1", "endpoint": "http://s3", "addressing": "path",
    "bucket": "models", "directory": "qwen", "anonymous": False, "bandwidth": 0, "requests": 7,
}  # fmt: skip
DIGEST = "0" * 64
DOCUMENT = {
    "version": 5, "draining": False,
    "accelerations": [{
        "id": "a1", "origin": ORIGIN, "state": "active", "current": 1, "list": None, "hold": 1,
        "versions": [{"number": 1, "label": "", "digest": DIGEST, "files": 1, "bytes": 2}],
        "selection": {"kind": "patterns", "include": ["*.gguf"], "exclude": []},
    }],
}  # fmt: skip


def test_waits_grow_up_to_a_bound_and_are_spread() -> None:
    backoff = Backoff(8.0)
    waits = [backoff.next() for _ in range(40)]
    assert waits[0] <= 1.0
    assert all(4.0 <= wait <= 8.0 for wait in waits[8:])
    assert len(set(waits)) > 30
    backoff.reset()
    assert backoff.next() <= 1.0


def test_an_identity_is_kept_for_its_user_alone_and_is_not_shown(tmp_path: Path) -> None:
    directory = tmp_path / "control"
    assert identities.kept(directory) is None
    one = Identity("https://control", "n1", "zj-1", "hn_secret", "/etc/ca.pem")
    identities.keep(directory, one)
    assert stat.S_IMODE((directory / "identity.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert identities.kept(directory) == one
    assert "secret" not in repr(one)
    (directory / "identity.json").write_text('{"url": "https://control", "token": "hn_secret"')
    with pytest.raises(UsageError) as caught:
        identities.kept(directory)
    assert "node leave" in caught.value.message
    assert "secret" not in caught.value.message
    identities.forget(directory)
    assert identities.kept(directory) is None


def test_what_should_be_is_read_back_and_nonsense_is_refused(tmp_path: Path) -> None:
    last = Last(tmp_path)
    assert last.read() is None
    last.write(DOCUMENT)
    desired = last.read()
    assert desired == parse(DOCUMENT)
    assert desired is not None
    (item,) = desired.items
    version = item.version(1)
    assert version is not None
    assert (item.origin.uri, item.origin.prefix, version.digest, item.version(None)) == ("s3://models/qwen", "qwen/", DIGEST, None)
    assert desired.digests == {DIGEST}
    for broken in (
        [],
        {"version": 1},
        {**DOCUMENT, "accelerations": [{"id": "a"}]},
        json.loads(json.dumps(DOCUMENT).replace(DIGEST, "../../etc/passwd")),
    ):
        with pytest.raises(NodeFailure):
            parse(broken)
        (tmp_path / "desired.json").write_text(json.dumps(broken))
        assert last.read() is None
    (tmp_path / "desired.json").write_bytes(b"\xff\x00")
    assert last.read() is None


def test_what_fits_is_chosen_in_order_and_always_the_same() -> None:
    sizes = [("a", 5), ("b", 9), ("c", 5), ("d", 0)]
    assert fitting(sizes, [], 11).pulled == ["a", "c", "d"]
    assert fitting(sizes[1:3], ["b", "c"], 11).pulled == ["b"]
    assert (fitting(sizes, [], 0).pulled, fitting(sizes[:1], ["a"], 4).pulled) == (["d"], [])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("HTTP://S3.Example.COM:80/", "http://s3.example.com"),
        ("https://s3.example.com:443", "https://s3.example.com"),
        ("https://s3.example.com:8443", "https://s3.example.com:8443"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_endpoints_in_one_spelling(given: str, wanted: str) -> None:
    assert spelled(given) == wanted


def test_contact_tells_the_last_error_until_it_is_heard_again(capsys: pytest.CaptureFixture[str]) -> None:
    contact = Contact()
    assert contact.describe() == {"heard": False, "heard_at": None, "error": ""}
    contact.failed("away\x1b[2J\nreally")
    contact.failed("away\x1b[2J\nreally")
    assert contact.describe()["error"] == "away [2J really"
    contact.heard()
    assert (contact.describe()["heard"], contact.describe()["error"]) == (True, "")
    assert capsys.readouterr().err.count("away") == 1
    assert plain("x" * 999, 10) == "x" * 10


def test_a_node_that_has_not_joined_loads_no_http_client() -> None:
    code = "import sys, headrace.node.service, headrace.node.methods; print([name for name in ('httpx', 'headrace.client') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
