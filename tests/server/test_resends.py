"""Requests that come again byte for byte are known for a while, in bounded memory."""

from __future__ import annotations

from control_helpers import HeldClock
from leeward.server.resends import Resends


def test_the_same_request_at_the_same_place_of_the_same_project_is_known():
    resends = Resends(HeldClock())
    resends.remember(1, "/v1/logs", b"digest", "answer")

    assert resends.find(1, "/v1/logs", b"digest") == "answer"
    assert resends.find(2, "/v1/logs", b"digest") is None
    assert resends.find(1, "/v1/traces", b"digest") is None
    assert resends.find(1, "/v1/logs", b"other") is None


def test_after_a_quarter_of_an_hour_a_request_is_forgotten():
    clock = HeldClock()
    resends = Resends(clock)
    resends.remember(1, "/v1/logs", b"digest", "answer")

    clock.pass_s(15 * 60)
    assert resends.find(1, "/v1/logs", b"digest") == "answer"
    clock.pass_s(0.1)
    assert resends.find(1, "/v1/logs", b"digest") is None

    resends.remember(1, "/v1/logs", b"later", "answer")
    assert len(resends) == 1, "what is too old makes room when something comes"


def test_the_oldest_requests_give_way_when_there_are_too_many():
    resends = Resends(HeldClock(), requests_max=3)
    for number in range(5):
        resends.remember(1, "/v1/logs", b"%d" % number, number)

    assert [resends.find(1, "/v1/logs", b"%d" % number) for number in range(5)] == [None, None, 2, 3, 4]


def test_a_request_that_is_remembered_again_is_the_youngest():
    resends = Resends(HeldClock(), requests_max=2)
    for digest in (b"a", b"b", b"a", b"c"):
        resends.remember(1, "/v1/logs", digest, digest)

    assert resends.find(1, "/v1/logs", b"a") == b"a"
    assert resends.find(1, "/v1/logs", b"b") is None
