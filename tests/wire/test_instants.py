"""Times as the client has them → as PostHog and OTLP write them."""

import datetime
import time

import pytest
from hypothesis import given, strategies as st

from leeward.wire.instants import iso_utc, nanoseconds

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(INT64)
def test_any_milliseconds_are_written_exactly_or_not_at_all(time_ms):
    text, time_ns = iso_utc(time_ms), nanoseconds(time_ms)

    if text is not None:
        moment = datetime.datetime.fromisoformat(text)
        since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        assert since // datetime.timedelta(milliseconds=1) == time_ms
    assert (text is None) == (not -62_135_596_800_000 <= time_ms < 253_402_300_800_000)
    assert time_ns == (time_ms * 1_000_000 if 0 < time_ms * 1_000_000 < 2**64 else None)


@given(st.text(max_size=64) | st.from_regex(r"\A\d{4}-\d\d-\d\d[T ]?[0-9:.,+Z-]{0,20}\Z"))
def test_no_text_raises_and_what_is_read_is_utc(text):
    written = iso_utc(text)

    if written is not None:
        assert datetime.datetime.fromisoformat(written).utcoffset() == datetime.timedelta(0)
    assert nanoseconds(text) is None or 0 < nanoseconds(text) < 2**64


@pytest.mark.parametrize(
    ("text", "iso", "time_ns"),
    [
        ("2026-11-22T04:45:41.463Z", "2026-11-22T04:45:41.463000+00:00", 1_795_322_741_463_000_000),
        ("2026-11-22T06:45:41.463126+02:00", "2026-11-22T04:45:41.463126+00:00", 1_795_322_741_463_126_000),
        ("2026-11-22T04:45:41", "2026-11-22T04:45:41+00:00", 1_795_322_741_000_000_000),  # without a zone: UTC
        ("2026-11-22", "2026-11-22T00:00:00+00:00", 1_795_305_600_000_000_000),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59+00:00", None),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00", None),  # OTLP's zero is no time
        ("0001-01-01T00:00:00+01:00", None, None),  # before the year 1, in UTC
        ("2026-11-22 or so", None, None),
    ],
)
def test_texts_of_callers(text, iso, time_ns):
    assert (iso_utc(text), nanoseconds(text)) == (iso, time_ns)


def test_a_text_without_a_zone_is_utc_wherever_the_program_runs(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert iso_utc("2026-11-22T04:45:41") == "2026-11-22T04:45:41+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
