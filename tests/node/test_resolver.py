"""What the environment says of the endpoint, and one message for each wrong one."""

from __future__ import annotations

import os

import pytest

from headrace.errors import UsageError
from headrace.node import resolver

KEYS = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden"}


@pytest.mark.parametrize(
    ("environment", "options", "shown"),
    [
        ({"AWS_ENDPOINT_URL": "notaurl"}, {}, "'notaurl'"),
        ({"AWS_ENDPOINT_URL": "http://[::1"}, {}, "'http://[::1'"),
        ({}, {"endpoint": "ftp://somewhere"}, "'ftp://somewhere'"),
        ({}, {"endpoint": "http://somewhere:many"}, "'http://somewhere:many'"),
        ({}, {"endpoint": "http://"}, "'http://'"),
        ({}, {"endpoint": "ftp://me:secret@somewhere"}, "'somewhere'"),
    ],
)
def test_an_endpoint_that_is_no_address_is_named(environment: dict[str, str], options: dict[str, str], shown: str) -> None:
    """The message was that the resolver of credentials broke off."""
    with pytest.raises(UsageError) as failure:
        resolver.resolve(KEYS | environment, options)
    assert failure.value.code == "bad-setting"
    assert failure.value.message.startswith(f"endpoint: {shown} is not"), failure.value.message
    assert "AWS_ENDPOINT_URL" in failure.value.message
    assert "secret" not in failure.value.message


@pytest.mark.parametrize("endpoint", ["https://s3.example.org", "http://127.0.0.1:9000/s3", "s3.example.org"])
def test_an_address_stays_as_it_was_given(endpoint: str) -> None:
    assert resolver.resolve(KEYS, {"endpoint": endpoint})["endpoint"] == endpoint
