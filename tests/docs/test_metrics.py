"""Every figure that a node gives out is declared, with a meaning; none is declared that it does not give out."""

from __future__ import annotations

import re

from headrace.node.metrics import METRICS, kind
from support.bucket import Bucket
from support.headrace import Headrace


def test_what_is_declared_is_what_a_node_tells(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", b"1")
    headrace.mount(bucket.uri("m"))
    told = headrace.run("metrics").stdout
    remedy = "declare it in headrace/node/metrics.py, and run `make docs`"
    assert sorted(re.findall(r"^headrace_(\S+) ", told, re.MULTILINE)) == sorted(METRICS), remedy
    for name, meaning in METRICS.items():
        assert f"# HELP headrace_{name} {meaning}\n# TYPE headrace_{name} {kind(name)}\n" in told
