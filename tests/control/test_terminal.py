"""Commands told wrongly, or on a bad day: one message with what to do, no traceback, no secret lost or shown."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control.conftest import MASTER_KEY, Origins, Place
from headrace.cli import nodes, volumes
from headrace.cli.tables import print_table
from headrace.client import ControlClient, ControlFailure, Keeping, Login
from headrace.errors import UsageError
from headrace.testing.control import control_plane
from headrace.testing.nodes import SimulatedNode
from support.headrace import COMMAND

TOKEN = "hr_" + "0" * 26 + "_" + "x" * 43


def _run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEADRACE_", "LC_", "LANG", "XDG_"))}
    told = clean | {"HOME": str(home), "HEADRACE_CONTROL_STATE": str(home / "state")} | environment
    return subprocess.run([COMMAND, *arguments], env=told, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def _told(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode not in (0, 130), done
    assert "Traceback" not in done.stderr, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (("--database", "postgresql://u:secret@127.0.0.1:9/x"), {"HEADRACE_CONTROL_MASTER_KEY": MASTER_KEY}, ("start it, or correct",)),
        (("--database", "postgresql://u@127.0.0.1:9/x?sslmode=require"), {"HEADRACE_CONTROL_MASTER_KEY": MASTER_KEY}, ("start it, or correct",)),
        (("--database", "postgresql://u@127.0.0.1:9/x?sslmode=bogus"), {"HEADRACE_CONTROL_MASTER_KEY": MASTER_KEY}, ("control database",)),
        (("--database", "sqlite:////nonexistent/x.db"), {}, ("control database", "make its directory")),
        (("--database", "sqlite://"), {}, ("name a file",)),
        ((), {"HEADRACE_CONTROL_STATE": "/proc/none"}, ("control state", "choose another")),
        ((), {"HEADRACE_CONTROL_CERTIFICATE": "/nonexistent", "HEADRACE_CONTROL_CERTIFICATE_KEY": "/nonexistent"}, ("control certificate", "PEM")),
    ],
)
def test_a_start_that_cannot_be_is_told(tmp_path: Path, options: tuple[str, ...], environment: dict[str, str], words: tuple[str, ...]) -> None:
    done = _run(tmp_path, "up", "--listen", "127.0.0.1:0", *options, **environment)
    _told(done, *words)
    assert "secret" not in done.stderr
    assert "hr_" not in done.stdout


def test_a_first_token_is_not_made_before_the_certificate_was_seen(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught, control_plane(tmp_path / "state", certificate="/nonexistent", certificate_key="/nonexistent"):
        pass
    assert isinstance(caught.value.__cause__, UsageError)
    with control_plane(tmp_path / "state") as control:
        assert control.first_token


@contextmanager
def _answering(status: int, content: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "content"), [(200, b"<html>hello"), (200, b"[]"), (404, b"<html>"), (200, b"\xff")])
def test_whatever_answers_is_no_control_plane(tmp_path: Path, status: int, content: bytes) -> None:
    with _answering(status, content) as url:
        _told(_run(tmp_path, "login", url, HEADRACE_TOKEN=TOKEN), "not as a control plane does")


@pytest.mark.parametrize(
    ("arguments", "token", "words"),
    [
        (("http://[",), TOKEN, ("https://HOST:PORT",)),
        (("http://h:99999/",), TOKEN, ("https://HOST:PORT",)),
        (("https://user:pass@h/",), TOKEN, ("https://HOST:PORT",)),
        (("http://headrace.example.com:7370",), TOKEN, ("in clear", "--insecure")),
        (("https://127.0.0.1:9",), "é", ("token",)),
        (("https://127.0.0.1:9",), "two words", ("token",)),
        (("https://127.0.0.1:9", "--ca", "/nonexistent"), TOKEN, ("ca: /nonexistent", "PEM")),
    ],
)
def test_a_login_told_wrongly(tmp_path: Path, arguments: tuple[str, ...], token: str, words: tuple[str, ...]) -> None:
    done = _run(tmp_path, "login", *arguments, HEADRACE_TOKEN=token)
    _told(done, *words)
    assert "pass" not in done.stderr
    assert token not in done.stderr


def test_a_token_is_no_argument(tmp_path: Path) -> None:
    done = _run(tmp_path, "login", "https://127.0.0.1:9", "--token", TOKEN)
    assert (done.returncode, "No such option" in done.stderr) == (2, True)


def test_a_one_time_token_is_not_spent_where_its_successor_cannot_be_kept(place: Place, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no directory")
    with control_plane(tmp_path / "other") as control:
        assert control.first_token
        done = _run(tmp_path, "login", control.url, HEADRACE_TOKEN=control.first_token, XDG_CONFIG_HOME=str(tmp_path / "config"))
        _told(done, "XDG_CONFIG_HOME")
        assert _run(tmp_path, "login", control.url, HEADRACE_TOKEN=control.first_token).returncode == 0


def test_a_place_that_is_taken_and_not_used_is_left_as_it_was(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    with Keeping(environment):
        pass
    assert list((tmp_path / "headrace").iterdir()) == []
    with Keeping(environment) as keeping:
        path = keeping.keep(Login("https://h", TOKEN))
    assert [one.name for one in path.parent.iterdir()] == ["login.json"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) < 200


def test_the_way_back_in_and_new_keys_by_commands(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with control_plane(state) as control:
        made = _run(tmp_path, "control", "new-admin-token")
        assert made.returncode == 0, made.stderr
        with control.client(made.stdout.strip()) as once, control.client(once.login()["token"]) as admin:
            assert list(admin.volumes()) == []
        rotated = _run(tmp_path, "control", "rotate-keys")
        assert (rotated.returncode, rotated.stdout) == (0, "credentials of 0 volumes are sealed under a new key\n"), rotated.stderr


def test_what_others_wrote_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b[31mX\nFAKE ROW\u202e"
    print_table(("NAME",), [(evil,)], "none")
    volumes._findings([{"level": "note", "field": "f", "cause": {"en": evil, "zh": evil}, "remedy": {"en": evil, "zh": evil}}])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert len(shown.splitlines()) == 3


def test_a_refusal_is_shown_on_lines_of_its_own(common: Place) -> None:
    with pytest.raises(ControlFailure) as caught:
        common.admin.volume("\x1b[31m")
    assert "\x1b" not in caught.value.message


def test_nodes_by_commands(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.admin.create_region({"name": "zj-1"})
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1", gpu="H800")
    node.client.close()
    monkeypatch.setenv("HEADRACE_CONTROL_URL", place.control.url)
    monkeypatch.setenv("HEADRACE_TOKEN", place.admin._http.headers["authorization"].removeprefix("Bearer "))
    identifier = next(place.admin.nodes())["id"]

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(nodes.app, arguments)
        assert done.exit_code == 0, done
        return done.output

    assert "gpu-1" in run("ls", "--region", "zj-1")
    assert "gpu=H800" in run("show", "gpu-1", "--region", "zj-1")
    assert run("drain", identifier) == "node gpu-1 is draining\n"
    assert run("drain", "gpu-1", "--region", "zj-1", "--undo") == "node gpu-1 is ready\n"
    assert run("rm", "gpu-1", "--region", "zj-1") == "node gpu-1 is removed\n"
    assert list(place.admin.nodes()) == []


def test_edits_by_commands(place: Place, origins: Origins, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": origins.access.access_key, "AWS_SECRET_ACCESS_KEY": origins.access.secret_key}
    login = {"HEADRACE_CONTROL_URL": place.control.url, "HEADRACE_TOKEN": place.admin._http.headers["authorization"].removeprefix("Bearer ")}
    made = place.admin.create_volume(origins.volume("qwen"))
    for options, field, value in (
        (("--addressing", "path"), "addressing", "path"),
        (("--read-only",), "read_only", True),
        (("--writable",), "read_only", False),
        (("--endpoint", origins.access.endpoint), "endpoint", made["endpoint"]),
    ):
        done = _run(tmp_path, "volume", "edit", "qwen", *options, **keys, **login)
        assert done.returncode == 0, done.stderr
        assert place.admin.volume("qwen")[field] == value
    place.admin.create_region({"name": "zj-1"})
    assert _run(tmp_path, "region", "edit", "zj-1", "--title-zh", "浙江一区", **login).returncode == 0
    assert "浙江一区" in _run(tmp_path, "region", "show", "zj-1", **login).stdout
    assert "--title" in _run(tmp_path, "region", "edit", "zj-1", **login).stderr


def test_a_client_of_an_address_that_is_none() -> None:
    with pytest.raises((ControlFailure, UsageError)), ControlClient("http://[", TOKEN) as client:
        client.volume("x")
