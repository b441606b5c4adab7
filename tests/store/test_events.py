"""What the server relies on, held against the real engine and the one in memory alike."""

import msgspec
import pytest

from leeward.store.clickhouse import StoreRefused
from leeward.store.clients import CLIENT_DAYS, ClientAccount, ClientAccounts
from leeward.store.events import COLUMNS, Block, EventQuery
from leeward.store.migrate import shipped
from store_rows import DAY_MS, NOW_MS, block, event

ALL = EventQuery(project=1, start_ms=0, end_ms=NOW_MS + DAY_MS, limit=1000)

HOSTILE = [
    "it's", '"quoted"', "back\\slash", "\\'", "tab\tnew\nline\r", "nul\0nul", "\x01\x7f", "é😀\u2028", "{x:String}",
    "%27; DROP TABLE events --", "--b\r\nContent-Disposition: form-data", "', (1", "\\N", "a" * 100_000, "ÿ", " ", "]",
]  # fmt: skip


def ids(rows):
    return [row["id"] for row in rows]


def test_an_event_comes_out_as_it_went_in_and_absent_fields_are_empty(store):
    given = event(
        "e1",
        data='{"a":1.0,"b":"\\u0000/é","big":123456789012345678901234567890}',
        level="WARN",
        duration_ms=1.5,
        input_tokens=2**40,
        error_message="x" * 10_000,
        attributes='{"k":"v"}',
    )
    store.load(block([given, event("e2")]))
    rows = store.query(msgspec.structs.replace(ALL, order="asc"))
    assert rows[0] == {**msgspec.structs.asdict(given), "wal_position": 0}
    assert rows[1] == {**msgspec.structs.asdict(event("e2")), "wal_position": 1}
    assert tuple(rows[0]) == COLUMNS
    assert rows[1]["data"] == "{}"


def test_w12_far_event_times_are_kept_and_never_become_a_partition(store):
    times = [-(2**62), 0, 1, NOW_MS, 2**62]
    store.load(block([event(f"e{at}", timestamp=at) for at in times]))
    assert {row["timestamp"] for row in store.query(ALL)} == set(times)
    assert store.statistics().rows == 5


def test_w10_a_block_that_is_loaded_again_with_its_token_is_stored_once_in_every_table(store):
    blocks = [block([event(f"e{n}-{i}") for i in range(3)], n * 10, batches=[{"batch_id": f"b{n}"}]) for n in range(5)]
    for one in blocks:
        store.load(one)
    for _ in range(2):
        for one in blocks:
            store.load(one)
    assert sorted(ids(store.query(ALL))) == sorted(f"e{n}-{i}" for n in range(5) for i in range(3))
    assert sorted(key for chunk in store.ids_since(0) for key in chunk) == sorted(
        (1, "event", f"e{n}-{i}") for n in range(5) for i in range(3)
    )


def test_w10_a_block_whose_ids_a_crash_kept_away_is_not_taken_for_loaded_and_loading_it_again_adds_them(
    real_store, client
):
    one = block([event("e1"), event("e2")], 0)
    client.command("DROP VIEW event_ids_of_events SYNC")
    real_store.load(one)  # as if the process had died between the part of the events and the part of the ids
    migrations = shipped()[0].statements
    client.command(next(statement for statement in migrations if "MATERIALIZED VIEW" in statement))

    before = real_store.loaded("log", [(one.first, one.last)], 0)
    real_store.load(one)

    assert before == [False]
    assert real_store.loaded("log", [(one.first, one.last)], 0) == [True]
    assert sorted(ids(real_store.query(ALL))) == ["e1", "e2"]
    assert sorted(key for chunk in real_store.ids_since(0) for key in chunk) == [(1, "event", "e1"), (1, "event", "e2")]


def test_w11_honest_repeats_in_another_block_are_both_stored(store):
    same = event("e1", data='{"same":true}')
    store.load(block([same], 0))
    one = block([same], 0)
    store.load(Block(instance="log", first=1, last=1, segment=1, lines=one.lines))  # the very same bytes
    assert ids(store.query(ALL)) == ["e1", "e1"]


def test_w13_a_poison_row_whose_error_is_cut_inside_a_character_is_refused_like_any_other(real_store):
    for shift in range(4):
        poison = b'{"project":"' + b"x" * shift + "é😀".encode() * 300 + b'"}'
        with pytest.raises(StoreRefused):
            real_store.load(Block(instance="log", first=0, last=0, segment=1, lines=[poison]))


def test_w13_a_block_with_one_row_that_cannot_be_read_is_refused_whole(store):
    good = block([event(f"e{i}") for i in range(10)], batches=[])
    for poison in (b'{"project":"x"}', b"{", b"[]", b'{"nobody":1}', good.lines[0][:-1] + b',"data":{}}'):
        bad = Block(instance="log", first=0, last=10, segment=1, lines=[*good.lines, poison])
        with pytest.raises(StoreRefused) as refused:
            store.load(bad)
        assert refused.value.clickhouse_code
        assert store.query(ALL) == []
        assert list(store.ids_since(0)) == []
    store.load(good)
    assert len(store.query(ALL)) == 10


def test_loaded_says_which_blocks_are_there(store):
    store.load(block([event("a"), event("b")], 10))
    store.load(block([event("c")], 30))
    ranges = [(10, 11), (0, 9), (12, 29), (30, 40), (2**63, 2**63 + 5)]
    assert store.loaded("log", ranges, NOW_MS) == [True, False, False, True, False]
    assert store.loaded("other", ranges, NOW_MS) == [False] * 5
    assert store.loaded("log", [], NOW_MS) == []


def test_a_block_whose_batches_alone_arrived_is_not_loaded_and_can_be_loaded_again(store):
    whole = block([event("a")], 5, batches=[{"batch_id": "b"}])
    store.load(msgspec.structs.replace(whole, lines=[]))
    assert store.loaded("log", [(5, 5)], NOW_MS) == [False]
    store.load(whole)
    assert store.loaded("log", [(5, 5)], NOW_MS) == [True]
    assert store.batch(1, "b") is not None


def test_known_ids_are_exact_for_any_text(store):
    store.load(block([event(text) for text in HOSTILE]))
    keys = [(1, "event", text) for text in HOSTILE]
    others = [(1, "event", text + "x") for text in HOSTILE] + [(2, "event", HOSTILE[0]), (1, "log", HOSTILE[0])]
    assert store.known_ids([*keys, *others], 0) == set(keys)
    assert store.known_ids(keys, NOW_MS + 1) == set()
    assert store.known_ids([], 0) == set()


def test_known_ids_look_past_the_block_that_asks(store):
    store.load(block([event("a"), event("b")], 10))
    store.load(block([event("b")], 20))
    keys = [(1, "event", "a"), (1, "event", "b")]
    assert store.known_ids(keys, 0, ("log", 10, 11)) == {(1, "event", "b")}
    assert store.known_ids(keys, 0, ("other", 0, 99)) == set(keys)


def test_known_ids_of_thousands_are_asked_in_bounded_pieces(store):
    store.load(block([event(f"id-{n}") for n in range(2500)]))
    keys = [(1, "event", f"id-{n}") for n in range(5000)]
    assert store.known_ids(keys, 0) == set(keys[:2500])


def test_ids_since_gives_every_key_of_every_kind(store):
    store.load(block([event("a"), event("b", kind="log"), event("c", project=2)]))
    assert {key for chunk in store.ids_since(NOW_MS) for key in chunk} == {
        (1, "event", "a"), (1, "log", "b"), (2, "event", "c")
    }  # fmt: skip
    assert list(store.ids_since(NOW_MS + 1)) == []


def test_filters_are_values_and_never_statements(store):
    store.load(block([event(f"e{n}", distinct_id=text, name=text) for n, text in enumerate(HOSTILE)]))
    for n, text in enumerate(HOSTILE):
        found = store.query(msgspec.structs.replace(ALL, filters={"distinct_id": text, "name": text}))
        assert ids(found) == [f"e{n}"]
    assert store.query(msgspec.structs.replace(ALL, filters={"distinct_id": "\udcff"})) == []


def test_only_known_columns_and_bounded_pages_make_a_query():
    for wrong in ({"filters": {"data": "x"}}, {"order": "sideways"}, {"limit": 0}, {"limit": 1001}):
        with pytest.raises(ValueError, match="not a query"):
            EventQuery(project=1, start_ms=0, end_ms=1, **wrong)


@pytest.mark.parametrize("order", ["desc", "asc"])
def test_w17_pages_neither_skip_nor_repeat_while_rows_arrive(store, order):
    first = [event(f"e{n:02}", received_at=NOW_MS - n // 3) for n in range(20)]
    store.load(block(first))
    page = msgspec.structs.replace(ALL, order=order, limit=7)
    rows = store.query(page)
    seen = ids(rows)
    store.load(block([event("later", received_at=NOW_MS + 1), event("before", received_at=NOW_MS - 100)], 100))
    for _ in range(4):
        page = msgspec.structs.replace(page, after=(rows[-1]["received_at"], rows[-1]["wal_position"]))
        rows = store.query(page)
        seen += ids(rows)
        if not rows:
            break
    places = {one.id: (one.received_at, index) for index, one in enumerate(first)}
    assert [x for x in seen if x in places] == sorted(places, key=places.get, reverse=order == "desc")


def test_projects_do_not_see_each_other(store):
    store.load(block([event("mine"), event("theirs", project=2)], batches=[{"batch_id": "b"}]))
    assert ids(store.query(ALL)) == ["mine"]
    assert store.event_by_id(1, "event", "theirs") is None
    assert store.event_by_id(2, "event", "theirs")["id"] == "theirs"
    assert store.batch(2, "b") is None
    assert store.minutes(2, 0, NOW_MS + 1) == [(NOW_MS, 1, 0)]


def test_retention_hides_a_row_to_the_millisecond(store, clock):
    store.load(block([event("old"), event("young", received_at=NOW_MS + 1)], batches=[{"batch_id": "b"}]))
    clock.now_ms = NOW_MS + 7 * DAY_MS - 1
    assert len(store.query(ALL)) == 2
    clock.now_ms += 1
    assert ids(store.query(ALL)) == ["young"]
    assert store.event_by_id(1, "event", "old") is None
    assert store.batch(1, "b") is None
    assert store.minutes(1, 0, NOW_MS + DAY_MS) == [(NOW_MS, 1, 0)]


def test_a_batch_comes_back_with_its_answer(store, clock):
    clock.now_ms = NOW_MS + 1000
    store.load(block([event("a")], 7, batches=[{"batch_id": "it's", "answer": '{"n":1}', "updated_at": NOW_MS + 9}]))
    assert store.batch(1, "it's") == {
        "received_at": NOW_MS, "answer": '{"n":1}', "wal_instance": "log", "wal_position": 7, "updated_at": NOW_MS + 9
    }  # fmt: skip
    assert store.batch(1, "its") is None


def of_client(batch_id, process, highest, received, **lost):
    return {
        "batch_id": batch_id, "client_process": process, "client_highest": highest, "client_received": received,
        "client_lost": lost,
    }  # fmt: skip


def test_w10_what_clients_said_is_summed_up_once_however_often_a_block_is_loaded(store):
    blocks = [
        block([event("a")], 0, batches=[of_client("b0", "p", 9, 4, spool_full=2), of_client("b1", "q", 3, 3)]),
        block([event("b")], 10, batches=[of_client("b2", "p", 7, 1, spool_full=1, too_old=1), {"batch_id": "b3"}]),
    ]
    for one in blocks * 3:
        store.load(one)
    assert store.clients(1, 10) == ClientAccounts(
        [
            ClientAccount("p", NOW_MS, NOW_MS, 9, 5, {"spool_full": 3, "too_old": 1}, 0),
            ClientAccount("q", NOW_MS, NOW_MS, 3, 3, {}, 0),
        ],
        total=2,
        lost=4,
        missing=0,
    )
    assert store.clients(2, 10) == ClientAccounts([])


def test_w10_sums_that_a_crash_kept_away_are_added_when_the_block_is_loaded_again(real_store, client):
    one = block([event("a")], 0, batches=[of_client("b0", "p", 9, 4)])
    client.command("DROP VIEW clients_of_batches SYNC")
    client.insert("batches", one.batches, token=one.token)  # as if the process had died between the two parts
    view = next(statement for step in shipped() for statement in step.statements if "clients_of_batches" in statement)
    client.command(view)
    assert real_store.loaded("log", [(one.first, one.last)], 0) == [False]

    real_store.load(one)

    assert [(found.received, found.missing) for found in real_store.clients(1, 10).accounts] == [(4, 5)]
    assert client.select("SELECT count() AS n FROM batches") == [{"n": 1}]


def test_clients_with_losses_or_gaps_come_first_and_then_those_seen_last(store):
    said = [("fine", 2, 2, {}), ("late", 2, 2, {}), ("gap", 5, 4, {}), ("lossy", 5, 3, {"r": 2}), ("ahead", 2, 3, {})]
    for number, (process, highest, received, lost) in enumerate(said):
        batch = of_client(f"b{number}", process, highest, received, **lost)
        received_at = NOW_MS + (1 if process == "late" else 0)
        store.load(block([event(process)], number * 10, batches=[{**batch, "received_at": received_at}]))
    found = store.clients(1, 4)
    assert [(one.process, one.missing) for one in found.accounts] == [
        ("gap", 1),
        ("lossy", 0),
        ("late", 0),
        ("ahead", 0),
    ]
    assert (found.total, found.lost, found.missing) == (5, 2, 1), "of all, listed or not"


def test_of_many_invented_reasons_the_largest_are_told_and_the_rest_are_one(store):
    lost = {f"r{number:02}": number for number in range(1, 41)}
    store.load(block([event("a")], 0, batches=[of_client("b0", "p", 1, 1, **lost)]))
    [one] = store.clients(1, 10).accounts
    assert one.lost == {**{f"r{number:02}": number for number in range(25, 41)}, "other": sum(range(1, 25))}


def test_a_clients_sums_outlive_its_batches_so_that_its_beginning_does_not_become_a_gap(store, clock):
    store.load(block([event("a")], 0, batches=[of_client("b0", "old", 5, 5), of_client("b1", "gone", 5, 4)]))
    later = NOW_MS + 20 * DAY_MS
    for day in range(2, 21, 2):
        at = NOW_MS + day * DAY_MS
        batch = {**of_client(f"c{day}", "old", 5 + day, 2), "received_at": at}
        store.load(block([], day * 10, batches=[batch]))
    clock.now_ms = later
    assert "batches/20251231" in store.drop_expired(later, 7)
    assert store.clients(1, 10) == ClientAccounts([ClientAccount("old", NOW_MS, later, 25, 25, {}, 0)], 1, 0, 0)


def test_w16_clients_that_are_gone_for_long_are_forgotten_and_a_clock_that_jumps_forgets_nobody(store, clock):
    store.load(block([event("a")], 0, batches=[of_client("b0", "gone", 5, 5)]))
    store.drop_expired(NOW_MS + 3650 * DAY_MS, 7)
    assert store.clients(1, 10).total == 1

    for day in range(2, CLIENT_DAYS + 3, 2):
        batch = {**of_client(f"c{day}", "there", day, 2), "received_at": NOW_MS + day * DAY_MS}
        store.load(block([], day * 10, batches=[batch]))
    clock.now_ms = NOW_MS + (CLIENT_DAYS + 2) * DAY_MS
    store.drop_expired(clock.now_ms, 7)
    clock.now_ms = NOW_MS + 1  # even one who asks for that time
    assert [one.process for one in store.clients(1, 10).accounts] == ["there"]


def test_batches_are_found_where_they_stand_in_the_logs(store):
    store.load(block([event("a")], 5, batches=[{"batch_id": "it's"}]))
    store.load(block([event("b")], 9, "other", batches=[{"batch_id": "it's"}, {"batch_id": "b"}]))
    assert store.batch_places([(1, "it's"), (1, "none"), (2, "b")]) == {(1, "it's"): {("log", 5), ("other", 9)}}
    assert store.batch_places([]) == {}


def test_minutes_count_events_and_errors(store):
    rows = [
        event("a"),
        event("b", level="ERROR"),
        event("c", kind="exception"),
        event("d", received_at=NOW_MS + 60_000),
    ]
    store.load(block(rows))
    assert store.minutes(1, NOW_MS, NOW_MS + 120_000) == [(NOW_MS, 3, 2), (NOW_MS + 60_000, 1, 0)]
    assert store.minutes(1, NOW_MS + 1, NOW_MS + 60_000) == []


def test_expired_days_are_dropped_and_ids_stay_longer(store, clock):
    for day in range(10):
        at = NOW_MS - day * DAY_MS
        rows = [event(f"day{day}", received_at=at)]
        store.load(block(rows, day * 10, batches=[{"batch_id": f"b{day}", "received_at": at}]))
    assert sorted(store.drop_expired(NOW_MS, 7)) == [
        "batches/20251222", "batches/20251223", "event_ids/20251222", "events/20251222", "events/20251223"
    ]  # fmt: skip
    assert store.statistics().rows == 8
    assert len({key for chunk in store.ids_since(0) for key in chunk}) == 9
    assert store.drop_expired(NOW_MS, 7) == []


def test_w16_a_clock_that_jumps_ahead_deletes_nothing(store, clock):
    for day in range(3):
        store.load(block([event(f"day{day}", received_at=NOW_MS - day * DAY_MS)], day * 10))
    jumped = NOW_MS + 3650 * DAY_MS
    assert store.drop_expired(jumped, 7) == []
    store.load(block([event("jumped", received_at=jumped)], 100))
    assert store.drop_expired(jumped, 7) == []
    assert store.drop_expired(NOW_MS - 3650 * DAY_MS, 7) == []
    assert store.statistics().rows == 4
