"""What becomes of a good answer under each fault: pure, without a socket."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, strategies as st

from leeward.errors import ConfigError
from leeward.gateway.faults import FAULTS, Fault, Reply, fault_named, script_of

BODY = Reply(body=b'{"choices":[{"message":{"content":"hello"}}]}', empty=b'{"choices":[]}')
TAIL = b"data: [DONE]\n\n"


def stream(pieces):
    events = [b'data: {"opening":true}\n\n', *(b'data: {"piece":%d}\n\n' % at for at in range(pieces))]
    return Reply(events=events, tail=TAIL, empty=b'data: {"choices":[]}\n\n' + TAIL)


def written(script):
    return b"".join(script.writes)


def test_the_table_has_a_sentence_for_every_fault():
    for row in FAULTS.values():
        assert re.fullmatch(r"[A-Z].+\.", row.sentence)
    assert len({row.sentence for row in FAULTS.values()}) == len(FAULTS)


@pytest.mark.parametrize(("mode", "end"), [("hang", "silence"), ("reset", "reset")])
def test_before_the_head_nothing_is_written(mode, end):
    for reply in (BODY, stream(3), Reply()):
        script = script_of(Fault(mode=mode), reply, b"")
        assert (list(script.writes), script.end) == ([], end)


@pytest.mark.parametrize("mode", ["429", "500", "503", "401", "400"])
def test_a_refusal_is_openais_error_and_leaves_the_connection_usable(mode):
    script = script_of(Fault(mode=mode), stream(3), b"x-simulated: p\r\n")

    head, _, body = written(script).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + mode.encode())
    assert b"x-simulated: p\r\n" in head + b"\r\n"
    assert b"content-length: %d" % len(body) in head
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert script.end == "keep"


@pytest.mark.parametrize(
    ("fault", "headers"),
    [
        (Fault(mode="429"), [b"retry-after: 20", b"retry-after-ms: 20000"]),
        (Fault(mode="429", retry_after_s=0), [b"retry-after: 0", b"retry-after-ms: 0"]),
        (Fault(mode="429", retry_after_s=1.5), [b"retry-after: 2", b"retry-after-ms: 1500"]),
        (Fault(mode="503", retry_after_s=3), [b"retry-after: 3", b"retry-after-ms: 3000"]),
        (Fault(mode="503"), []),
        (Fault(mode="500", retry_after_s=3), []),
    ],
)
def test_when_to_come_again_is_said_in_whole_seconds_and_exactly(fault, headers):
    lines = written(script_of(fault, BODY, b"")).split(b"\r\n")

    assert [line for line in lines if line.startswith(b"retry-after")] == headers


def test_half_a_document_is_announced_whole_when_it_breaks_and_as_it_is_when_it_is_malformed():
    for mode, end in (("reset-mid", "reset"), ("cut", "close"), ("stall", "silence")):
        script = script_of(Fault(mode=mode), BODY, b"")
        head, _, body = written(script).partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(BODY.body) in head
        assert body == BODY.body[: len(BODY.body) // 2]
        assert script.end == end
    head, _, body = written(script_of(Fault(mode="malformed"), BODY, b"")).partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    with pytest.raises(ValueError):
        json.loads(body)


def test_a_slow_answer_is_the_good_one_later():
    for mode in ("slow", "slow-first-token"):
        script = script_of(Fault(mode=mode, delay_s=7), BODY, b"")
        assert written(script).endswith(BODY.body)
        assert (script.before_s, script.end) == (7, "keep")


def test_a_slow_first_token_comes_after_the_head_and_the_opening_event_which_come_at_once():
    script = script_of(Fault(mode="slow-first-token", delay_s=7), stream(4), b"")

    assert (script.before_s, script.after_first_s, script.pace_s) == (0, 7, 0)
    assert b"opening" in script.writes[0]
    assert b"piece" not in script.writes[0]


def test_a_slow_stream_takes_its_time_all_along():
    script = script_of(Fault(mode="slow", delay_s=10), stream(4), b"")

    assert len(script.writes) == 5
    assert script.after_first_s == script.pace_s == 2
    assert b"[DONE]" in script.writes[-1]


@given(
    mode=st.sampled_from(["reset-mid", "stall", "cut", "error-mid"]),
    pieces=st.integers(0, 20),
    after=st.integers(0, 30),
)
def test_what_breaks_in_mid_stream_is_the_good_streams_beginning_and_never_its_end(mode, pieces, after):
    script = script_of(Fault(mode=mode, after_events=after), stream(pieces), b"")

    said = written(script)
    assert [int(found) for found in re.findall(rb'"piece":(\d+)', said)] == list(range(min(pieces, after)))
    assert said.count(b"opening") == 1
    assert b"[DONE]" not in said
    assert (said.endswith(b"0\r\n\r\n")) == (mode == "error-mid")
    assert (b"chunked" in said) == (mode != "cut")
    assert script.end == {"reset-mid": "reset", "stall": "silence", "cut": "close", "error-mid": "keep"}[mode]


def test_an_empty_or_malformed_stream_ends_well_formed_around_what_is_wrong():
    empty = written(script_of(Fault(mode="empty"), stream(3), b""))
    assert b'{"choices":[]}' in empty
    assert b"[DONE]" in empty
    malformed = written(script_of(Fault(mode="malformed"), stream(3), b""))
    [event] = re.findall(rb"data: (.+)\n\n", malformed)
    with pytest.raises(ValueError):
        json.loads(event)
    assert malformed.endswith(b"0\r\n\r\n")


def test_a_fault_is_made_by_its_name_and_numbers():
    assert fault_named("429", retry_after_s=3) == Fault(mode="429", retry_after_s=3)


@pytest.mark.parametrize(
    ("name", "hint"), [("rest", "did you mean reset? "), ("slow-token", "did you mean slow"), ("xyzzy", "")]
)
def test_a_name_that_is_none_is_refused_with_the_nearest_and_all(name, hint):
    with pytest.raises(ConfigError) as refused:
        fault_named(name)

    assert refused.value.message == f"there is no fault {name!r}"
    assert refused.value.fix.startswith(hint or "the faults are: 429, 500")
    assert refused.value.fix.endswith(", ".join(FAULTS))


@pytest.mark.parametrize(
    ("numbers", "field"),
    [({"share": 2}, "share"), ({"delay_s": -1}, "delay_s"), ({"after_events": 1.5}, "after_events"), ({"x": 1}, "")],
)
def test_a_number_out_of_its_range_is_refused_by_its_name(numbers, field):
    with pytest.raises(ConfigError) as refused:
        fault_named("slow", **numbers)

    assert refused.value.message.startswith(field)
    assert refused.value.code == "bad_fault"
