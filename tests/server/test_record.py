"""A request's events as one log record, and back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from leeward.model import KINDS, Event
from leeward.server.record import CODE_OF_KIND, KIND_OF_CODE, BatchHead, Head, pack, row, unpack, unpack_head
from leeward.wire.client import ClientReport

TEXTS = st.text(max_size=12)
NUMBERS = st.integers(0, 2**63 - 1)
BATCHES = st.builds(
    BatchHead,
    TEXTS,
    st.binary(max_size=16),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.lists(TEXTS, max_size=4),
    st.lists(st.tuples(NUMBERS, TEXTS, TEXTS), max_size=3),
)
CLIENTS = st.builds(ClientReport, TEXTS, NUMBERS, st.dictionaries(TEXTS, NUMBERS, max_size=3))
EVENTS = st.builds(
    Event,
    project=st.integers(1, 2**31),
    kind=st.sampled_from(KINDS),
    id=TEXTS,
    name=TEXTS,
    received_at=NUMBERS,
    timestamp=st.integers(-(2**63), 2**63 - 1),
    data=TEXTS,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    attributes=TEXTS,
)


@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.lists(EVENTS, max_size=5), st.none() | BATCHES, st.none() | CLIENTS, NUMBERS)
def test_what_was_packed_comes_out_and_the_head_alone_too(project, received_at, events, batch, client, rows_before):
    kinds, ids = "".join(CODE_OF_KIND[e.kind] for e in events), [e.id for e in events]
    head = Head(project, received_at, kinds, ids, batch, client, rows_before)
    rows = [row(event) for event in events]

    payload = pack(head, rows)

    assert unpack(payload) == (head, rows)
    assert unpack_head(payload) == head


@settings(deadline=None)
@given(EVENTS)
def test_a_row_is_one_json_line_that_holds_the_whole_event(event):
    line = row(event)

    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Event) == event
    assert line.startswith(b'{"project":')  # its place in the log is put in front


def test_a_row_leaves_out_what_is_absent():
    event = Event(project=1, kind="event", id="e", name="a", received_at=5, timestamp=5)

    assert row(event) == b'{"project":1,"kind":"event","id":"e","name":"a","received_at":5,"timestamp":5}'


def test_each_kind_has_a_letter_and_may_be_written_in_upper_case():
    assert [KIND_OF_CODE[CODE_OF_KIND[kind]] for kind in KINDS] == list(KINDS)
    assert {code.upper() for code in KIND_OF_CODE}.isdisjoint(KIND_OF_CODE)


def test_a_head_without_rows_is_a_batch_of_known_events():
    head = Head(1, 5, "", [], BatchHead("b", b"d", 5, 2, 2, ["k1", "k2"], []))

    assert unpack(pack(head, [])) == (head, [])


@pytest.mark.parametrize("damage", [b"", b"\xff\xff\xff\xff", b"\x05\0\0\0abc"])
def test_bytes_that_are_no_record_are_refused(damage):
    with pytest.raises(msgspec.MsgspecError):
        unpack(damage)
