import msgspec
import pytest

from leeward.server.dashboard.overview import OverviewState
from leeward.server.dashboard.view import Reading, build
from leeward.store.clients import ClientAccount, ClientAccounts
from page_server import MINUTE_MS, event

NOW = 1_800_000_030_000
SPACE = "\N{NO-BREAK SPACE}"
HEALTHY = OverviewState(health="healthy", store="running")


def built(reading=Reading(), now_ms=NOW, **state):  # noqa: B008 - frozen
    return build(reading, msgspec.structs.replace(HEALTHY, **state), now_ms)


def test_when_all_is_well_the_three_answers_say_so():
    view = built(Reading(minutes=[(NOW - 30_000, 1234, 0)]))
    assert (view.broken.tone, view.broken.words) == ("good", "Nothing is broken")
    assert (view.lost.tone, view.lost.words) == ("good", "0 events lost")
    assert (view.rate.words, view.rate.notes) == ("1,234 events", ("No errors among them.",))


@pytest.mark.parametrize(
    ("health", "tone", "words"), [("degraded", "warn", "Degraded"), ("unhealthy", "bad", "Broken")]
)
def test_trouble_is_told_in_words_and_never_by_colour_alone(health, tone, words):
    view = built(health=health, troubles=("The disk is full.",))
    assert (view.broken.tone, view.broken.words, view.broken.notes) == (tone, words, ("The disk is full.",))
    assert view.broken.mark in {"!", "✕"}


def test_a_store_that_does_not_answer_the_page_is_trouble_even_before_the_server_has_noticed():
    view = built(Reading(trouble="It is away."))
    assert (view.broken.tone, view.broken.words) == ("warn", "The store does not answer")
    assert view.trouble == "It is away. Events are still accepted, and wait in the log."
    assert view.rate.words == "Unknown"


def test_a_server_that_may_not_accept_does_not_say_that_it_accepts():
    assert built(Reading(trouble="It is away."), health="unhealthy").trouble == "It is away."


def test_a_lost_event_is_red_and_counted():
    view = built(lost=3)
    assert (view.lost.tone, view.lost.words) == ("bad", "3 events lost")
    assert built(lost=1).lost.words == "1 event lost"


def test_events_in_the_log_and_in_the_dead_letter_list_are_not_lost():
    view = built(dead=12, unstored_events=1, unstored_bytes=2048)
    assert view.lost.tone == "good"
    assert view.lost.notes == (
        "12 events refused by the store: kept in the dead-letter list, to be replayed.",
        f"1 event (2.0{SPACE}KiB) is safe in the log, not in the store yet.",
    )


def test_the_chart_has_sixty_minutes_and_ends_with_the_running_one():
    this_minute = NOW // MINUTE_MS * MINUTE_MS
    view = built(Reading(minutes=[(this_minute, 5, 1), (this_minute - 59 * MINUTE_MS, 10, 0), (0, 99, 99)]))
    bars = view.chart.bars
    assert len(bars) == 60
    assert (bars[0].events, bars[0].height, bars[0].top) == (10, 100.0, 0.0)
    assert (bars[-1].events, bars[-1].height, bars[-1].errors_height) == (5, 50.0, 100.0)
    assert (view.chart.events, view.chart.errors, view.chart.peak) == (15, 1, "10")
    assert bars[-1].title == "5 events, 1 error"


def test_one_event_beside_a_million_is_still_seen():
    this_minute = NOW // MINUTE_MS * MINUTE_MS
    view = built(Reading(minutes=[(this_minute, 1, 0), (this_minute - MINUTE_MS, 1_000_000, 0)]))
    assert view.chart.bars[-1].height == 2.0
    assert view.chart.bars[-3].height == 0.0


def test_an_exception_shows_its_message_and_stack():
    error = {"type": "TimeoutError", "message": "too slow", "stack": "a\n  b"}
    (row,) = built(Reading(events=[event(1, NOW, kind="exception", error=error)])).rows
    assert (row.preview, row.stack, row.tone) == ("TimeoutError: too slow", "a\n  b", "bad")


@pytest.mark.parametrize(("level", "tone"), [("ERROR", "bad"), ("FATAL", "bad"), ("WARN", "warn"), ("INFO", "plain")])
def test_a_level_gives_a_row_its_tone(level, tone):
    (row,) = built(Reading(events=[event(1, NOW, kind="log", level=level)])).rows
    assert (row.level, row.tone) == (level, tone)


def test_a_row_of_unexpected_types_is_still_a_row():
    odd = {"key": 1, "event_type": None, "received_at": "soon", "error": "text", "data": 7, "level": ["x"]}
    (row,) = built(Reading(events=[odd])).rows
    assert row.preview == "7"
    (row,) = built(Reading(events=[{"error": {"stack": 5}}])).rows
    assert row.stack == ""


def test_at_most_fifty_events_are_shown():
    assert len(built(Reading(events=[event(number, NOW) for number in range(60)])).rows) == 50


def test_when_nothing_is_stored_yet_but_the_log_has_some_the_page_says_that_they_are_on_their_way():
    view = built(unstored_bytes=2048)
    assert view.on_their_way == f"2.0{SPACE}KiB of events are in the log, on the way into the store."
    assert built().on_their_way == ""
    assert built(Reading(events=[event(1, NOW)]), unstored_bytes=9).on_their_way == ""


def test_the_facts_have_separators_and_units():
    view = built(accepted=1_234_567, unstored_events=1200, unstored_bytes=2048, lag_s=0.5, sync_ms=NOW, dead=1)
    facts = {fact.label: fact for fact in view.facts}
    assert facts["Accepted"].value == "1,234,567 events"
    assert facts["In the log, not stored yet"].value == f"1,200 events, 2.0{SPACE}KiB"
    assert facts["In the log, not stored yet"].note == f"the oldest for 500{SPACE}ms"
    assert facts["Last sync of the log"].moment.utc.endswith("UTC")
    assert facts["Dead letters"].tone == "warn"
    assert {fact.label: fact.value for fact in built().facts}["Last sync of the log"] == "nothing written yet"


def test_refusals_stand_by_code_and_those_that_never_happened_do_not():
    assert built(refused={"unauthorized": 1200, "bad": 0}).refused == (("unauthorized", "1,200"),)


ACCOUNT = ClientAccount("p-1", NOW - 9, NOW, 1300, 1234, {"spool_full": 60, "too_old": 1}, 5)


def test_without_numbered_clients_nothing_is_said_of_them():
    assert built().clients is None


def test_clients_that_lost_nothing_are_green_zeros():
    whole = msgspec.structs.replace(ACCOUNT, received=1300, lost={}, missing=0)
    view = built(Reading(clients=ClientAccounts([whole], total=1)))
    assert (view.lost.tone, view.lost.words, view.lost.notes) == ("good", "0 events lost", ())
    assert [(one.tone, one.mark, one.words) for one in (view.clients.lost, view.clients.missing)] == [
        ("good", "✓", "0")
    ] * 2
    assert (view.clients.rows[0].lost, view.clients.rows[0].reasons, view.clients.more) == ("0", (), "")


def test_what_clients_lost_is_told_beside_what_was_lost_here_and_is_never_called_ours():
    view = built(Reading(clients=ClientAccounts([ACCOUNT], total=1, lost=61, missing=5)))
    assert (view.lost.tone, view.lost.words) == ("warn", "61 events lost by clients")
    assert view.lost.notes == ("Nothing was lost here.", "5 events of clients missing: on the way, or lost.")
    assert built(Reading(clients=ClientAccounts([ACCOUNT], 1, 61, 5)), lost=2).lost.words == "2 events lost"


def test_events_on_their_way_are_no_reason_for_alarm_but_are_said():
    view = built(Reading(clients=ClientAccounts([ACCOUNT], total=1, missing=1)))
    assert (view.lost.tone, view.lost.notes) == ("good", ("1 event of clients missing: on the way, or lost.",))
    assert view.clients.missing.tone == "warn"


def test_a_clients_row_has_its_numbers_and_reasons():
    view = built(Reading(clients=ClientAccounts([ACCOUNT], total=1_001, lost=61, missing=5)))
    (row,) = view.clients.rows
    assert (row.process, row.received, row.lost, row.missing, row.missing_tone) == ("p-1", "1,234", "61", "5", "warn")
    assert row.reasons == (("spool_full", "60"), ("too_old", "1"))
    assert row.last_seen.utc == "2027-01-15 08:00:30 UTC"
    assert view.clients.more == "1,000 more, as 1,001 were seen lately."


def test_at_most_ten_clients_are_shown():
    assert len(built(Reading(clients=ClientAccounts([ACCOUNT] * 30, total=30))).clients.rows) == 10
