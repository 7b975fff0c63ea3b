"""Speeds from counters."""

from __future__ import annotations

from headrace.node.speed import Speed


def test_slopes_over_the_last_seconds() -> None:
    speed = Speed()
    assert speed.now() == {"origin_bytes_per_second": 0.0, "read_bytes_per_second": 0.0}
    for second in range(21):
        # Fast for ten seconds, then slow: only the last five count.
        speed.note({"fetched_bytes_total": 1000.0 * min(second, 10) + 10.0 * max(0, second - 10), "mount_read_bytes_total": 7.0 * second}, now=second)
    assert speed.now() == {"origin_bytes_per_second": 10.0, "read_bytes_per_second": 7.0}
