"""Events: found by time, and forgotten when they are old."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from control.conftest import MASTER_KEY, Place
from headrace.cli import tokens as commands
from headrace.cli.app import app
from headrace.client import ControlClient, ControlFailure
from headrace.control import background, settings
from headrace.control.background import forget_what_is_over
from headrace.control.events.models import Event
from headrace.control.ids import first_id, new_id
from headrace.errors import UsageError
from headrace.testing.control import control_plane

DAY = timedelta(days=1)


@pytest.fixture
def times(place: Place) -> list[datetime]:
    """When r0, r1 and r2 were made, a day apart."""
    made = []
    for number in range(3):
        place.control.clock.advance(DAY)
        place.admin.create_region({"name": f"r{number}"})
        (event,) = [one for one in place.admin.events(noun="region") if one["object_name"] == f"r{number}"]
        made.append(datetime.fromisoformat(event["at"]))
    return made


def _named(place: Place, **filters: datetime | str) -> list[str]:
    told = {name: at.isoformat() if isinstance(at, datetime) else at for name, at in filters.items()}
    return [event["object_name"] for event in place.admin.events(noun="region", **told)]


def _forget(place: Place) -> None:
    asyncio.run_coroutine_threadsafe(forget_what_is_over(place.control.plane), place.control.loop).result(60)


def test_events_are_found_by_time(place: Place, times: list[datetime]) -> None:
    assert _named(place, since=times[1]) == ["r2", "r1"]
    assert _named(place, until=times[1]) == ["r0"]
    assert _named(place, since=times[1], until=times[2]) == ["r1"]
    assert _named(place, since=times[1] + timedelta(microseconds=1)) == ["r2"]
    assert _named(place, until=times[1] + timedelta(microseconds=1)) == ["r1", "r0"]
    assert _named(place, since=times[1].astimezone(UTC).isoformat().replace("+00:00", "Z")) == ["r2", "r1"]
    assert _named(place, since="0001-01-01T00:00:00+23:59", until="9999-12-31T23:59:59-23:59") == ["r2", "r1", "r0"]
    assert _named(place, since="9999-12-31T23:59:59-23:59") == []
    with place.user("alice") as alice:
        assert list(alice.events(since=times[0].isoformat(), noun="region")) == []


def test_pages_of_a_time_are_pages(place: Place, times: list[datetime]) -> None:
    asked = {"since": times[0].isoformat(), "until": times[2].isoformat(), "noun": "region", "limit": "1"}
    first = place.admin._document("GET", "/v1/events", params=asked)
    second = place.admin._document("GET", "/v1/events", params={**asked, "after": first["next"]})
    assert [page["items"][0]["object_name"] for page in (first, second)] == ["r1", "r0"]
    assert second["next"] is None


@pytest.mark.parametrize("text", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "", "NaN", "9" * 400, "\0"])
def test_what_is_no_time_is_told(place: Place, text: str) -> None:
    for name in ("since", "until"):
        with pytest.raises(ControlFailure) as caught:
            list(place.admin.events(**{name: text}))
        (finding,) = caught.value.problem["fields"]
        assert (caught.value.code, finding["field"]) == ("invalid", name)
        assert finding["cause"]["zh"] != finding["cause"]["en"]


def _kept(place: Place) -> list[str]:
    """As the database has them: the administrator's token is over by then."""

    async def names() -> list[str]:
        async with place.control.plane.database.reading() as session:
            return list(await session.scalars(select(Event.object_name).where(Event.noun == "region").order_by(Event.id)))

    return asyncio.run_coroutine_threadsafe(names(), place.control.loop).result(30)


def test_events_are_forgotten_after_ninety_days(place: Place, times: list[datetime]) -> None:
    place.control.clock.advance(times[1] + 90 * DAY - place.control.clock.now() - timedelta(seconds=30))
    _forget(place)
    assert _kept(place) == ["r1", "r2"]
    place.control.clock.advance(timedelta(seconds=31))
    _forget(place)
    assert _kept(place) == ["r2"]


def test_they_go_in_batches_and_a_turn_has_an_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_EVENTS_AT_ONCE", 2)
    monkeypatch.setattr(background, "_BATCHES_MAX", 2)
    place.control.clock.advance(DAY)  # what was made at the start goes first
    for number in range(7):
        place.admin.create_region({"name": f"r{number}"})
    place.control.clock.advance(80 * DAY)
    place.admin.create_region({"name": "new"})
    place.control.clock.advance(10 * DAY + timedelta(minutes=1))
    left = [_kept(place)]
    while len(left) < 10 and len(left[-1]) > 1:
        _forget(place)
        left.append(_kept(place))
    gone = [len(before) - len(after) for before, after in pairwise(left)]
    assert (sum(gone), max(gone) <= 4, left[-1]) == (7, True, ["new"])


def test_how_long_is_a_setting(tmp_path: Path) -> None:
    for text, kept in (("30d", 30 * DAY), ("0", None)):
        with control_plane(tmp_path / text, events_keep=text, master_key=MASTER_KEY) as control:
            assert control.plane.settings.events_keep == kept
    with pytest.raises(UsageError, match="control events keep"):
        settings.load({"control_events_keep": "long"}, {"HOME": "/nonexistent"})


def test_zero_keeps_them_for_ever(place: Place, times: list[datetime]) -> None:
    plane = place.control.plane
    place.control.clock.advance(80 * DAY)
    asyncio.run_coroutine_threadsafe(
        forget_what_is_over(replace(plane, settings=replace(plane.settings, events_keep=None))), place.control.loop
    ).result(60)
    assert _named(place) == ["r2", "r1", "r0"]


@pytest.fixture
def typed(place: Place, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    @contextmanager
    def control() -> Iterator[ControlClient]:
        yield place.admin

    monkeypatch.setattr(commands, "control", control)
    return CliRunner()


def test_the_command_takes_times_and_ages(typed: CliRunner, place: Place, times: list[datetime]) -> None:
    def names(*arguments: str) -> list[str]:
        done = typed.invoke(app, ["events", "--noun", "region", "--json", *arguments])
        assert done.exit_code == 0, done.output
        return [event["object_name"] for event in json.loads(done.stdout)]

    assert names("--since", times[1].isoformat()) == ["r2", "r1"]
    assert names("--until", times[1].isoformat()) == ["r0"]
    # This machine's clock is where the control plane's was before it was set forward.
    assert names("--since", "1h") == ["r2", "r1", "r0"]
    assert names("--until", "1h") == []
    for wrong in ("yesterday", "2026-99-01", "-5", "x-y"):
        done = typed.invoke(app, ["events", f"--since={wrong}"])
        assert isinstance(done.exception, UsageError) or done.exit_code == 2


def test_the_first_identifier_of_a_time() -> None:
    now = datetime(2026, 1, 31, 8, 0, 0, 1000, tzinfo=UTC)
    for at in (now, now + timedelta(milliseconds=7), datetime(1970, 1, 1, tzinfo=UTC)):
        assert first_id(at) <= new_id(at) < first_id(at + timedelta(milliseconds=1))
