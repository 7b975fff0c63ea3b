"""The node ends after its last answers. Without that, `stop` was now and then answered by a connection that broke off."""

from __future__ import annotations

import threading

from headrace.node.answering import Answering


def test_the_end_waits_for_the_answer() -> None:
    answering = Answering()
    entered, go_on, order = threading.Event(), threading.Event(), []

    def answer() -> None:
        with answering:
            entered.set()
            go_on.wait(10)
            order.append("answered")

    thread = threading.Thread(target=answer)
    thread.start()
    assert entered.wait(10)
    assert not answering.wait_none(0)
    go_on.set()
    assert answering.wait_none(10)
    order.append("ended")
    thread.join()
    assert order == ["answered", "ended"]


def test_an_end_that_nobody_asked_for_waits_for_nobody() -> None:
    assert Answering().wait_none(0)
