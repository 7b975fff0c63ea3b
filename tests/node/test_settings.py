"""Settings: where they come from, and one message for each wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace import amounts, settings
from headrace.errors import UsageError

GIB = 1 << 30


def load(tmp_path: Path, toml: str = "", options: dict[str, str | None] | None = None, **environ: str) -> settings.Settings:
    (tmp_path / "config.toml").write_text(toml)
    base = {"HEADRACE_CONFIG": str(tmp_path / "config.toml"), "HOME": str(tmp_path), "HEADRACE_CACHE_DIR": str(tmp_path / "c")}
    return settings.load(options, {**base, **environ})


def test_an_option_beats_the_environment_beats_the_file(tmp_path: Path) -> None:
    toml = 'memory = "100Mi"\n'
    assert load(tmp_path, toml).memory == 100 << 20
    assert load(tmp_path, toml, HEADRACE_MEMORY="200Mi").memory == 200 << 20
    assert load(tmp_path, toml, {"memory": "300Mi"}, HEADRACE_MEMORY="200Mi").memory == 300 << 20


def test_several_cache_directories_with_sizes(tmp_path: Path) -> None:
    found = load(tmp_path, HEADRACE_CACHE_DIR="/a=10Gi:/b", HEADRACE_CACHE_SIZE="2Gi")
    assert found.cache_directories == (("/a", 10 * GIB), ("/b", 2 * GIB))
    assert load(tmp_path, 'cache_dir = ["/a=1Gi", "/b=2Gi"]', HEADRACE_CACHE_DIR="").cache_directories == (("/a", GIB), ("/b", 2 * GIB))


def test_a_cache_size_of_nothing_as_an_option_is_no_default(tmp_path: Path) -> None:
    """It was taken as unset: 80 % of the disk."""
    with pytest.raises(UsageError, match="smaller than one window"):
        load(tmp_path, options={"cache_size": "0"})


@pytest.mark.parametrize(
    ("text", "directory", "limit"),
    [
        ("/runs/lr=3e-4/cache", "/runs/lr=3e-4/cache", 2 * GIB),
        ("/runs/lr=3e-4/cache=1Gi", "/runs/lr=3e-4/cache", GIB),
        ("/runs/day=/", "/runs/day=", 2 * GIB),
        ("/runs/day==1Gi", "/runs/day=", GIB),
    ],
)
def test_a_path_may_hold_an_equals_sign(tmp_path: Path, text: str, directory: str, limit: int) -> None:
    """It was cut at the first one."""
    found = load(tmp_path, HEADRACE_CACHE_DIR=text, HEADRACE_CACHE_SIZE="2Gi")
    assert found.cache_directories == ((directory, limit),)


def test_lists_in_the_file_are_joined_as_their_setting_is_written(tmp_path: Path) -> None:
    """Names were joined with colons, so that two of them were one wrong one."""
    toml = 'interfaces = ["10.0.0.1", " 10.0.0.2 "]\nkernel_mask = ["epoch", "resend"]\n'
    found = load(tmp_path, toml)
    assert found.interfaces == ("10.0.0.1", "10.0.0.2")
    assert found.kernel_mask == ("epoch", "resend")
    assert load(tmp_path, HEADRACE_KERNEL_MASK=" epoch , resend").kernel_mask == ("epoch", "resend")


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 3 * GIB // 2), ("2TB", 2 * 10**12), (" 7 mib ", 7 << 20)]
)
def test_sizes(text: str, count: int) -> None:
    assert amounts.parse_bytes("x", text) == count


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("0.00001", 0.001), ("0.0", 0), ("5m", 300), ("2h", 7200), ("1d", 86400)])
def test_times(text: str, seconds: float) -> None:
    assert amounts.parse_seconds("x", text) == seconds


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HEADRACE_MEMORY", "lots", "memory"),
        ("HEADRACE_MEMORY", "1Mi", "one window"),
        ("HEADRACE_CACHE_SIZE", "-1", "cache size"),
        ("HEADRACE_CACHE_SIZE", "1Mi", "one window"),
        ("HEADRACE_CACHE_RESERVE", "x", "cache reserve"),
        ("HEADRACE_CACHE_MAX_AGE", "soon", "cache max age"),
        ("HEADRACE_DEADLINE", "never", "deadline"),
        ("HEADRACE_CONNECTIONS", "0", "connections"),
        ("HEADRACE_CONNECTIONS", "many", "connections"),
        ("HEADRACE_CONNECTIONS", "²", "connections"),
        ("HEADRACE_CONNECTIONS", "9" * 5000, "connections"),
        ("HEADRACE_MEMORY", "9" * 400, "memory"),
        ("HEADRACE_MEMORY", "٣Gi", "memory"),
        ("HEADRACE_DEADLINE", "9" * 400, "deadline"),
        ("HEADRACE_DEADLINE", "inf", "deadline"),
        ("HEADRACE_IDLE", "nan", "idle"),
        ("HEADRACE_CACHE_SIZE", "0", "smaller than one window"),
        ("HEADRACE_CACHE_DIR", "/a=0", "smaller than one window"),
        ("HEADRACE_CACHE_DIR", "/a:", "a path is empty"),
        ("HEADRACE_CACHE_DIR", ":/a", "a path is empty"),
        ("HEADRACE_CACHE_DIR", "/a::/b", "a path is empty"),
        ("HEADRACE_CACHE_DIR", "=10Gi", "a path is empty"),
        ("HEADRACE_CACHE_DIR", "/a=", "where a size should be"),
        ("HEADRACE_CACHE_DIR", "/" + "x" * 300, "too long"),
        ("HEADRACE_CACHE_DIR", "/\udcff", "not UTF-8"),
        ("HEADRACE_KEEP_SNAPSHOTS", "1", "keep snapshots"),
        ("HEADRACE_LOG_SIZE", "big", "log size"),
        ("HEADRACE_CONFIG", "/nowhere/config.toml", "HEADRACE_CONFIG"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, value: str, words: str) -> None:
    with pytest.raises(UsageError) as failure:
        load(tmp_path, **{name: value})
    assert words in failure.value.message


@pytest.mark.parametrize(
    ("toml", "words"), [("speed = 1", "'speed'"), ("memory = ", "config.toml"), ("memory = [1, 2]", "a list"), ('memory = "x"', "memory")]
)
def test_a_wrong_file_is_named(tmp_path: Path, toml: str, words: str) -> None:
    with pytest.raises(UsageError) as failure:
        load(tmp_path, toml)
    assert words in failure.value.message


def test_every_setting_reaches_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command was told must be what the node it starts is told."""
    from headrace.node import client

    seen: dict[str, str] = {}
    monkeypatch.setattr(client.subprocess, "Popen", lambda *_, env, **__: seen.update(env))
    own = load(
        tmp_path,
        HEADRACE_NODE=str(tmp_path / "run/n.sock"),
        HEADRACE_DEADLINE="7",
        HEADRACE_KERNEL_MASK="epoch,resend",
        HEADRACE_CACHE_DIR="/a=b=/:/c",
        HEADRACE_LEARN_ORDER="0",
        HEADRACE_VERIFY_READS="1",
    )
    client.start_keeper(own)
    # Sizes come with the directories.
    assert {setting.variable for setting in settings.SETTINGS} - seen.keys() == {"HEADRACE_CACHE_SIZE"}
    assert settings.load({}, {**seen, "HEADRACE_CONFIG": str(tmp_path / "config.toml")}) == own


def test_the_reference_names_every_setting() -> None:
    page = settings.reference()
    assert all(f"`{s.variable}`" in page for s in settings.SETTINGS)


@pytest.mark.parametrize(
    ("own", "files", "limits"),
    [
        ("4:memory:/a/b\n0::/\n", {"memory/a/b/memory.limit_in_bytes": "3000", "memory/a/memory.limit_in_bytes": "2000"}, [3000, 2000]),
        ("0::/system.slice/x.service\n", {"system.slice/x.service/memory.max": "5000", "system.slice/memory.max": "max"}, [5000]),
        ("0::/\n", {"memory.max": "7000"}, [7000]),
        ("4:memory:/outside/of/the/container\n", {"memory/memory.limit_in_bytes": "9000"}, [9000]),
        ("3:cpu:/\n", {"memory.max": "1"}, []),
    ],
)
def test_the_memory_limit_of_the_own_control_group_counts(tmp_path: Path, own: str, files: dict[str, str], limits: list[int]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(own)
    assert settings._group_limits(tmp_path, tmp_path / "own") == limits


def test_where_the_task_door_is(tmp_path: Path) -> None:
    """Other users find root's node at one place; a node that is named has its door beside it."""
    assert load(tmp_path, XDG_RUNTIME_DIR="/run/me").task_socket == settings.ROOT_TASK_SOCKET
    assert load(tmp_path, HEADRACE_NODE="/run/x/n.sock").task_socket == "/run/x/n.task.sock"
    assert load(tmp_path, HEADRACE_NODE="/run/x/n.sock", HEADRACE_TASK_SOCKET="/run/d").task_socket == "/run/d"
    assert load(tmp_path).task_paths == ("/mnt", "/models", "/data")
    assert load(tmp_path, 'task_paths = ["/srv/", "/a/./b"]').task_paths == ("/srv", "/a/b")
    for wrong in ("mnt", "/mnt/../etc"):
        with pytest.raises(UsageError, match="task paths"):
            load(tmp_path, HEADRACE_TASK_PATHS=wrong)
