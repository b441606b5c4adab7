"""An event's time, id and level as callers give them: what the wire takes comes out, or nothing."""

import datetime
import json
import subprocess
import sys
import uuid

import pytest
from hypothesis import given, strategies as st

from leeward.model import LEVELS
from leeward.sender.given import ID_CHARS_MAX, TIME_MS_MAX, event_id_of, level_of, timestamp_of
from leeward.wire.native import NativeEvent, to_event

UTC = datetime.UTC


class Arrow:
    """A time of another library: no datetime, but it has what counts."""

    def timestamp(self):
        return 1.5


class Nowhere(datetime.tzinfo):
    """A zone that does not know its offset: the time is as good as without one."""

    def utcoffset(self, moment):
        return None


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (5, 5),
        (1_795_322_741, 1_795_322_741),  # milliseconds, though it looks like seconds
        (1_795_322_741_463.9, 1_795_322_741_463),
        (-1, -1),
        (TIME_MS_MAX, TIME_MS_MAX),
        (datetime.datetime(1970, 1, 2, tzinfo=UTC), 86_400_000),
        (datetime.datetime(1970, 1, 2, 0, 0, 0, 1999, tzinfo=UTC).replace(tzinfo=None), 86_400_002),
        (datetime.datetime(1970, 1, 2, tzinfo=Nowhere()), 86_400_000),
        (datetime.datetime(1970, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=1))), 82_800_000),
        (Arrow(), 1500),
        ("2026-01-02T03:04:05.678+01:00", "2026-01-02T03:04:05.678+01:00"),
        (Text("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05Z"),
    ],
)
def test_a_time_is_a_number_of_milliseconds_a_datetime_or_a_text(value, expected):
    found = timestamp_of(value)

    assert found == expected
    assert type(found) in {int, str}


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        float("nan"),
        float("inf"),
        TIME_MS_MAX + 1,
        -(10**4000),
        "",
        "yesterday",
        "12345678",
        "2026-0102T",
        "2026-01-0",
        "２０２６-01-02",
        "2026-01-02T\ud800",
        "2026-01-02" + "0" * 100,
        datetime.date(2026, 1, 2),
        [],
    ],
)
def test_what_is_no_time_is_none(value):
    assert timestamp_of(value) is None


def test_a_datetime_without_a_zone_is_utc_wherever_the_program_runs():
    program = """
import datetime, json, time
from leeward.sender.given import timestamp_of
print(json.dumps([time.timezone, timestamp_of(datetime.datetime(1970, 1, 2))]))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], env={"TZ": "LEE-5"}, capture_output=True, check=True, text=True
    )

    assert json.loads(result.stdout) == [-18_000, 86_400_000]


@given(
    st.one_of(
        st.integers(), st.floats(), st.datetimes(), st.datetimes().map(str), st.datetimes(timezones=st.timezones())
    )
)
def test_the_server_takes_every_time_that_comes_out(value):
    time = timestamp_of(value)

    if time is not None:
        event = NativeEvent(event_type="e", timestamp=time)
        made = to_event(event, project=1, received_at=1, event_id="i", data=b"{}", attributes=b"", batch_id="")
        assert type(made.timestamp) is int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("order-7", "order-7"),
        (7, "7"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("x" * ID_CHARS_MAX, "x" * ID_CHARS_MAX),
        ("ü" * ID_CHARS_MAX, "ü" * ID_CHARS_MAX),
        ("x" * (ID_CHARS_MAX + 1), None),
        ("", None),
        ("\ud800", None),
    ],
)
def test_an_id_is_what_can_be_said_in_128_characters(value, expected):
    assert event_id_of(value) == expected


def test_a_level_is_one_of_the_servers_in_any_case_or_loggings_word_for_it():
    assert [level_of(level.lower()) for level in LEVELS] == list(LEVELS)
    assert (level_of("warning"), level_of("CRITICAL")) == ("WARN", "FATAL")
    assert [level_of(value) for value in ("loud", "", 30)] == ["", "", ""]


def test_c22_a_value_of_which_everything_raises_is_none_of_them():
    class Hostile:  # made in the test, since pytest itself would touch it
        def __getattribute__(self, name):
            raise RuntimeError("hostile")

        def __str__(self):
            raise RuntimeError("hostile")

    assert timestamp_of(Hostile()) is None
    assert event_id_of(Hostile()) is None
    assert level_of(Hostile()) == ""
    assert event_id_of(10**5000) is None  # what int refuses to write
