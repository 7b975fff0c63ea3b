"""Where an endpoint may lead to."""

from __future__ import annotations

import pytest

from headrace.control import settings
from headrace.checking.addresses import AddressRules
from headrace.errors import UsageError

DEFAULT = settings.load({}, {"HOME": "/nonexistent"}).origins


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "127.0.0.1",
        "127.1.2.3",
        "::1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd20:ce::254",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1::1",
        "::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "::ffff:0:7f00:1",
    ],
)
def test_what_is_denied(address: str) -> None:
    assert not DEFAULT.permits(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "8.8.8.8", "2001:db8::1", "fd12::1"])
def test_what_is_permitted(address: str) -> None:
    assert DEFAULT.permits(address)


def test_loopback_is_allowed_by_a_setting() -> None:
    allowed = settings.load({"control_origins_allow": "127.0.0.0/8,::1/128"}, {"HOME": "/nonexistent"}).origins
    assert all(allowed.permits(address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"))
    assert not allowed.permits("169.254.169.254")


def test_what_is_allowed_of_what_is_denied() -> None:
    rules = AddressRules.of(["10.1.0.0/16"], ["10.0.0.0/8"])
    assert [rules.permits(address) for address in ("10.1.2.3", "10.2.3.4", "192.0.2.1")] == [True, False, True]


def test_rules_are_the_same_after_a_journey_and_deny_by_default() -> None:
    assert AddressRules.read(DEFAULT.document()) == DEFAULT
    some = AddressRules.of(["10.1.0.0/16"], ["10.0.0.0/8"])
    assert AddressRules.read(some.document()) == some
    assert AddressRules.read({}) == DEFAULT
    assert not AddressRules.read({"allow": []}).permits("169.254.169.254")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "nonsense", "10.0.0.0/33"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(UsageError, match="is not a network"):
        settings.load({"control_origins_deny": text}, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"control_listen": "7370"}, "not an address and a port"),
        ({"control_listen": "localhost:7370"}, "not an IP address"),
        ({"control_listen": "0.0.0.0:7370"}, "no certificate"),
        ({"control_certificate": "/x"}, "come together"),
        ({"control_database": "mysql://x/y"}, None),
    ],
)
def test_settings_name_what_is_wrong(options: dict[str, str | None], message: str | None) -> None:
    if message is None:
        assert settings.load(options, {}).database == "mysql://x/y"
        return
    with pytest.raises(UsageError, match=message):
        settings.load(options, {})
