"""The door's memory against a plain model of it."""

from __future__ import annotations

import re

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from leeward.model import KINDS
from leeward.server.door import Door, event_key, key_code
from leeward.server.record import CODE_OF_KIND, BatchHead, Head

IDS_MAX = 5
PROJECTS = st.integers(1, 2)
KINDS_USED = st.sampled_from(["event", "span"])
NAMES = st.sampled_from([f"id-{n}" for n in range(25)])
BATCH_NAMES = st.sampled_from([f"b-{n}" for n in range(8)])


def a_batch(name, keys=1, received_at=5, duplicates=0):
    return BatchHead(
        name, b"digest", received_at, keys, duplicates, [f"key {n}" for n in range(keys)], [(0, "c", "no")]
    )


class Memory(RuleBasedStateMachine):
    """Everything ever admitted, in order; the door must know the end of it and must not know anything else."""

    def __init__(self):
        super().__init__()
        self.door = Door(IDS_MAX)
        self.now = 100
        self.order = []  # of all admissions, those taken back too
        self.accepted = {}
        self.batch_order = []
        self.batches = {}

    def enter(self, key, seen):
        if seen is None:
            self.order.append(key)
            self.accepted[key] = self.now
        else:
            assert seen == self.accepted[key]

    @rule(project=PROJECTS, kind=KINDS_USED, name=NAMES)
    def admit(self, project, kind, name):
        self.now += 1
        before = self.door.first_seen(project, kind, name)
        seen = self.door.admit(project, kind, name, self.now)
        seen = None if seen is None else abs(seen)
        assert seen == before
        self.enter((project, kind, name), seen)

    @rule(project=PROJECTS, names=st.lists(st.tuples(KINDS_USED, NAMES), max_size=3))
    def forget(self, project, names):
        epoch = self.door.epoch
        self.door.forget(project, names)
        assert self.door.epoch != epoch
        for kind, name in names:
            self.accepted.pop((project, kind, name), None)

    @rule(project=PROJECTS, name=BATCH_NAMES, keys=st.integers(0, 4), duplicates=st.integers(0, 2))
    def remember_batch(self, project, name, keys, duplicates):
        self.now += 1
        batch = a_batch(name, keys, self.now, duplicates)
        self.door.remember_batch(project, batch)
        self.batches[project, name] = batch
        self.batch_order.append((project, name, 1 + keys))

    @rule(project=PROJECTS, name=BATCH_NAMES)
    def forget_batch(self, project, name):
        self.door.forget_batch(project, name)
        self.batches.pop((project, name), None)

    @rule(project=PROJECTS, names=st.lists(st.tuples(KINDS_USED, NAMES), max_size=4, unique=True), name=BATCH_NAMES)
    def learn(self, project, names, name):
        self.now += 1
        batch = a_batch(name, len(names), self.now)
        letters = "".join(CODE_OF_KIND[kind] for kind, _ in names)
        mixed = letters[:1].upper() + letters[1:]
        self.door.learn(Head(project, self.now, mixed, [event_id for _, event_id in names], batch))
        for kind, event_id in names:
            seen = self.door.first_seen(project, kind, event_id)
            if seen is not None:  # else it was known at first, and pushed out by those after it
                self.enter((project, kind, event_id), None if seen == self.now else seen)
        self.batches[project, name] = batch
        self.batch_order.append((project, name, 1 + len(names)))

    @rule()
    def restart(self):
        restored = Door(IDS_MAX)
        assert restored.restore(self.door.snapshot())
        self.door = restored

    @precondition(lambda self: self.order)
    @rule(data=st.data())
    def a_damaged_snapshot_changes_nothing(self, data):
        saved = self.door.snapshot()
        cut = data.draw(st.integers(0, len(saved) - 1))
        assert not self.door.restore(saved[:cut])
        assert self.door.snapshot() == saved

    @invariant()
    def the_last_ids_are_known_and_no_others_than_were_accepted(self):
        last = set(self.order[-IDS_MAX:])
        for project in (1, 2):
            for kind in ("event", "span"):
                for n in range(25):
                    key = (project, kind, f"id-{n}")
                    seen = self.door.first_seen(*key)
                    assert seen in {None, self.accepted.get(key)}
                    assert seen is not None or key not in last or key not in self.accepted

    @invariant()
    def the_last_batches_are_known_word_for_word(self):
        weight = 0
        for project, name, own in reversed(self.batch_order):
            weight += own
            if weight > IDS_MAX:
                break
            assert self.door.batch(project, name) == self.batches.get((project, name))
        for (project, name), batch in self.batches.items():
            assert self.door.batch(project, name) is None or self.door.batch(project, name) == batch

    @invariant()
    def it_stays_small(self):
        held = self.door.statistics()
        assert held.ids <= 2 * IDS_MAX + 4
        assert held.batches <= 2 * IDS_MAX + 2
        assert held.epoch == self.door.epoch


TestMemory = Memory.TestCase
TestMemory.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_w9_batches_of_one_event_do_not_push_ids_out():
    door = Door(1000)

    for n in range(1000):
        door.admit(1, "event", f"e{n}", n)
        door.remember_batch(1, a_batch(f"b{n}"))

    assert all(door.first_seen(1, "event", f"e{n}") == n for n in range(1000))
    assert all(door.batch(1, f"b{n}") is not None for n in range(500, 1000))


def test_w9_batches_of_nothing_new_are_bounded_and_push_no_ids_out():
    door = Door(100)
    door.admit(1, "event", "e", 7)

    for n in range(10_000):
        door.remember_batch(1, a_batch(f"b{n}", keys=9, duplicates=9))

    assert door.first_seen(1, "event", "e") == 7
    assert door.statistics().batches <= 20


def test_w9_the_same_batch_again_takes_no_more_room():
    door = Door(100)
    door.remember_batch(1, a_batch("other"))

    for turn in range(1000):
        door.remember_batch(1, a_batch("same", received_at=turn))

    assert door.batch(1, "other") == a_batch("other")
    assert door.statistics().batches == 2
    door.forget_batch(1, "same")
    assert door.batch(1, "same") is None


def test_w3_what_is_taken_back_leaves_its_room_to_others():
    door = Door(100)
    door.admit(1, "event", "kept", 5)

    for turn in range(1000):
        door.admit(1, "event", f"lost {turn}", 6)
        door.forget(1, [("event", f"lost {turn}")])

    assert door.first_seen(1, "event", "kept") == 5
    assert door.statistics().ids == 1


def test_the_same_id_of_another_project_or_kind_is_another_id():
    door = Door()
    door.admit(1, "event", "e", 5)
    door.confirm(1, [("event", "e")], 5)

    assert door.admit(2, "event", "e", 6) is None
    assert door.admit(1, "span", "e", 7) is None
    assert door.admit(1, "event", "e", 8) == 5


def test_w9_what_is_not_on_stable_storage_yet_says_so_until_it_is_confirmed():
    door = Door()
    door.admit(1, "event", "e", 5)

    assert (door.admit(1, "event", "e", 6), door.first_seen(1, "event", "e")) == (-5, 5)
    door.confirm(1, [("event", "e")], 5)
    assert (door.admit(1, "event", "e", 7), door.first_seen(1, "event", "e")) == (5, 5)


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_snapshot_are_none(garbage):
    door = Door()
    door.admit(1, "event", "e", 5)

    if not door.restore(garbage):
        assert door.first_seen(1, "event", "e") == 5


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(KINDS), st.text(min_size=1, max_size=20))
def test_a_key_ends_in_eight_letters_that_the_event_alone_decides(project, kind, event_id):
    code = key_code(project, kind, event_id)

    assert re.fullmatch("[A-Za-z0-9]{8}", code)
    assert key_code(project, kind, event_id) == code
    assert key_code(project + 1, kind, event_id) != code
    assert event_key(1_795_322_741_501, code) == f"telemetry:1795322741501:{code}"


def test_key_codes_of_a_hundred_thousand_events_differ():
    assert len({key_code(1, "event", f"e{n}") for n in range(100_000)}) == 100_000


def test_long_ids_and_refusals_are_bounded_by_bytes_so_that_a_snapshot_fits_a_checkpoints_note():
    door = Door()
    for number in range(120_000):
        door.admit(1, "event", f"{number:06}" + "\U0001f600" * 122, 5)
    refusals = [(index, "missing_event_type", "event_type is required") for index in range(999)]
    for number in range(1_000):
        door.remember_batch(1, BatchHead(f"b{number}", bytes(16), 5, 1000, 0, ["k"], refusals))

    assert len(door.snapshot()) < 64 << 20


def test_w9_two_hundred_thousand_uuids_fit_the_bytes():
    door = Door()
    first = f"{0:036}"
    door.admit(1, "event", first, 5)
    for number in range(1, 200_000):
        door.admit(1, "event", f"{number:036}", 6)

    assert door.first_seen(1, "event", first) == 5
