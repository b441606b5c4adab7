"""The growing Bloom filter: never "new" for an id that was added, seldom "perhaps" for one that was not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from leeward.server import id_filter
from leeward.server.id_filter import IdFilter

LANE = (1, "event")


@pytest.fixture
def small(monkeypatch):
    """Generations that fill up after 32, 64, 64 … ids."""
    monkeypatch.setattr(id_filter, "FIRST_BITS", 1 << 9)
    monkeypatch.setattr(id_filter, "LARGEST_BITS", 1 << 10)


def chunks(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]


@pytest.mark.usefixtures("small")
class TestSmall:
    @settings(deadline=None)
    @given(st.lists(st.text(max_size=5), max_size=300), st.integers(1, 40))
    def test_an_id_that_was_added_is_never_called_new(self, ids, size):
        made = IdFilter()

        for turn, chunk in enumerate(chunks(ids, size)):
            if turn % 2:
                made.add(LANE, chunk, turn)
            else:
                made.add_and_find(LANE, chunk, turn)

        assert made.add_and_find(LANE, ids, 99) == list(range(len(ids)))

    @settings(deadline=None)
    @given(st.lists(st.sampled_from("abcdef"), max_size=12))
    def test_a_repeat_within_one_call_is_found(self, ids):
        found = IdFilter().add_and_find(LANE, ids, 0)

        assert set(found) >= {index for index, name in enumerate(ids) if name in ids[:index]}

    def test_generations_double_up_to_the_largest(self):
        made = IdFilter()

        for n in range(224):
            made.add(LANE, [str(n)], 0)

        assert [generation.mask + 1 for generation in made._generations] == [512, 1024, 1024, 1024]
        assert made.bytes_used == (512 + 3 * 1024) // 8
        assert len(made) == 224

    def test_a_generation_is_dropped_when_its_newest_id_has_left_the_window(self):
        made = IdFilter()
        made.add(LANE, [f"old {n}" for n in range(32)], 1000)
        made.add(LANE, [f"young {n}" for n in range(40)], 2000)

        made.forget_before(1000)
        assert made.add_and_find(LANE, ["old 0"], 2000) == [0]
        made.forget_before(1001)

        assert len(made) == 41
        assert made.add_and_find(LANE, [f"young {n}" for n in range(40)], 2000) == list(range(40))

    def test_the_youngest_generation_stays_whatever_its_age(self):
        made = IdFilter()
        made.add(LANE, ["a"], 1)

        made.forget_before(10**15)

        assert made.add_and_find(LANE, ["a"], 2) == [0]

    def test_what_was_built_aside_is_known_after_the_merge_and_forgotten_by_its_own_age(self):
        aside, made = IdFilter(), IdFilter()
        aside.add(LANE, [f"before {n}" for n in range(60)], 1000)
        made.add(LANE, ["since"], 2000)

        made.merge(aside)

        assert made.add_and_find(LANE, ["before 0", "before 59", "since"], 2000) == [0, 1, 2]
        made.forget_before(1500)
        assert len(made) == 4


def test_ids_of_another_project_or_kind_are_others():
    made = IdFilter()
    made.add(LANE, ["a", "b"], 0)

    assert made.add_and_find((2, "event"), ["a"], 0) == []
    assert made.add_and_find((1, "span"), ["b"], 0) == []
    assert made.add_and_find((1, "event"), ["a"], 0) == [0]


@pytest.mark.parametrize("shape", ["{:032x}", "e{}", "0190a1b2-{:04x}-7000-8000-000000000000"])
def test_of_new_ids_fewer_than_three_in_a_hundred_are_perhaps_known(shape, monkeypatch):
    """With as many full generations as thirty million ids have; ids in sequence are the hardest for a weak hash."""
    monkeypatch.setattr(id_filter, "FIRST_BITS", 1 << 13)
    made = IdFilter()
    ids = [shape.format(n) for n in range(512 * 0xFF)]
    for chunk in chunks(ids, 1000):
        made.add(LANE, chunk, 0)

    assert len(made._generations) == 8
    perhaps = made.add_and_find(LANE, [shape.format(n) for n in range(10_000_000, 10_020_000)], 0)

    assert len(perhaps) < 20_000 * 0.03


def test_a_filter_made_for_many_ids_holds_them_in_one_generation():
    found = IdFilter(ids_expected=1_000_000)

    assert found.bytes_used * 8 >= 16 * 1_000_000
    assert len(found._generations) == 1
