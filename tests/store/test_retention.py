from hypothesis import given, strategies as st

from leeward.store.retention import Day, believed_now_ms, expired
from store_rows import DAY_MS, NOW_MS

NOON_MS = DAY_MS // 2


def day(number: int, first: int = 0, last: int = DAY_MS - 1) -> Day:
    return Day(f"{number:05}", number * DAY_MS + first, number * DAY_MS + last)


def test_a_day_goes_when_its_last_row_is_older_than_the_retention():
    days = [day(n) for n in range(100, 110)]
    now_ms = 110 * DAY_MS - 1
    assert expired(days, now_ms, 7) == ["00100", "00101"]
    assert expired(days, now_ms + 1, 7) == ["00100", "00101"]


def test_an_empty_store_has_nothing_to_drop():
    assert expired([], NOW_MS, 7) == []
    assert believed_now_ms([day(5)], 0) is None
    assert expired([day(5)], 0, 7) == []


def test_w16_rows_after_a_leap_are_believed_once_they_span_a_day():
    before = [day(n) for n in range(100, 103)]
    assert expired([*before, day(4000, NOON_MS)], 4001 * DAY_MS, 7) == []
    assert expired([*before, day(4000, NOON_MS), day(4001, 0, NOON_MS - 1)], 4002 * DAY_MS, 7) == []
    assert expired([*before, day(4000, NOON_MS), day(4001, 0, NOON_MS)], 4002 * DAY_MS, 7) == [
        "00100",
        "00101",
        "00102",
    ]


def test_w16_a_server_that_was_off_for_weeks_drops_what_expired_a_day_after_its_return():
    assert expired([day(100), day(130), day(131)], 132 * DAY_MS, 7) == ["00100"]


def test_w16_rows_from_the_future_do_not_make_the_present_expire():
    days = [day(100), day(101), day(4000), day(4001), day(4002)]
    assert expired(days, 102 * DAY_MS, 7) == []
    assert expired([*days, day(109)], 110 * DAY_MS, 7) == []


def test_a_store_that_gets_no_rows_keeps_its_last_days():
    assert expired([day(100), day(101)], 101 * DAY_MS + 300 * DAY_MS, 7) == []


@given(
    st.lists(st.integers(0, 60), unique=True).map(sorted),
    st.integers(0, 100 * DAY_MS),
    st.integers(1, 30),
)
def test_nothing_goes_early_by_the_clock_or_by_the_rows(numbers, now_ms, keep_days):
    days = [day(n) for n in numbers]
    gone = set(expired(days, now_ms, keep_days))
    newest_ms = max((one.last_ms for one in days), default=0)
    for one in days:
        if one.name in gone:
            assert one.last_ms < now_ms - keep_days * DAY_MS
            assert one.last_ms < newest_ms - keep_days * DAY_MS
