"""Which events are kept: by rate and rule, and for one person always the same."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from leeward.sender.sampling import Sampler

PEOPLE = [f"user-{number}" for number in range(20_000)]
rates = st.floats(0, 1)
numbers = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(), st.decimals(), st.just(10**400), st.just([1])
)


def share(sampler, name="e", properties=None):
    return sum(sampler.keeps(name, properties or {}, by) for by in PEOPLE) / len(PEOPLE)


def test_all_nothing_and_about_as_many_as_the_rate_says_are_kept():
    assert share(Sampler(1.0)) == 1
    assert share(Sampler(0.0)) == 0
    for rate in (0.01, 0.1, 0.5, 0.9):
        assert share(Sampler(rate)) == pytest.approx(rate, abs=0.02)


@given(rates, rates, st.text())
def test_who_is_kept_at_one_rate_is_kept_at_every_higher_one(one, other, by):
    low, high = sorted((one, other))

    assert Sampler(high).keeps("e", {}, by) or not Sampler(low).keeps("e", {}, by)


@given(st.sampled_from([0.0, 1.0]), st.text(), st.dictionaries(st.text(), st.integers()), st.text())
def test_rate_0_keeps_nothing_and_rate_1_everything(rate, name, properties, by):
    assert Sampler(rate).keeps(name, properties, by) is (rate == 1.0)


def test_one_person_is_kept_or_left_with_every_event_and_in_every_process():
    sampler = Sampler(0.5)
    kept = [by for by in PEOPLE[:20] if sampler.keeps("a", {}, by)]
    assert kept == [by for by in PEOPLE[:20] if sampler.keeps("b", {"x": 1}, by)]
    assert 0 < len(kept) < 20

    program = f"from leeward.sender.sampling import Sampler; print([b for b in {PEOPLE[:20]} if Sampler(.5).keeps('a', {{}}, b)])"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == repr(kept)


def test_the_names_own_rule_wins_else_the_smallest_among_the_keys_else_the_general_rate():
    sampler = Sampler(1.0, {"heartbeat": 0.0, "debug": 0.5, "verbose": 0.0, "login": 1.0})

    assert not sampler.keeps("heartbeat", {}, "x")
    assert sampler.keeps("login", {"verbose": 1}, "x")
    assert sampler.keeps("other", {"unknown": 1}, "x")
    assert not sampler.keeps("other", {"debug": 1, "verbose": 0}, "x")
    assert share(sampler, properties={"debug": None}) == pytest.approx(0.5, abs=0.02)
    assert not Sampler(0.0, {"login": 1.0}).keeps("other", {}, "x")
    assert Sampler(0.0, {"login": 1.0}).keeps("login", {}, "x")


@given(rates, st.dictionaries(st.sampled_from("abcd"), rates), st.dictionaries(st.sampled_from("abcd"), st.none()))
def test_a_rule_is_as_good_as_a_general_rate_of_that_size(rate, rules, properties):
    smallest = min([rules[key] for key in properties if key in rules], default=rate)
    expected = rules.get("a", smallest)

    for by in PEOPLE[:50]:
        assert Sampler(rate, rules).keeps("a", properties, by) is Sampler(expected).keeps("a", {}, by)


def test_it_says_when_there_is_nothing_to_decide():
    assert Sampler().keeps_all
    assert Sampler(1.0, {}).keeps_all
    assert Sampler(1, {"a": 1.0, "b": 5}).keeps_all
    assert not Sampler(0.99).keeps_all
    assert not Sampler(1.0, {"a": 0.5}).keeps_all
    assert not Sampler(0.0, {"a": 1.0}).keeps_all


@given(numbers, st.dictionaries(st.text(), numbers))
def test_c22_what_is_no_rate_between_0_and_1_is_moved_there_or_keeps_everything(rate, rules):
    sampler = Sampler(rate, rules)

    for name in ("e", *rules):
        assert sampler.keeps(name, {"k": 1}, "x") in {True, False}
    assert all(0.0 <= value <= 1.0 for value in (sampler._rate, *sampler._rules.values()))


@pytest.mark.parametrize("rate", [2, 1e9, float("inf"), float("nan"), None, "half", [0.1], object(), True, 10**400])
def test_c22_these_keep_everything(rate):
    assert Sampler(rate).keeps_all


@pytest.mark.parametrize("rate", [0, -0.0, -1, float("-inf"), False, -(10**400)])
def test_c22_these_keep_nothing(rate):
    assert share(Sampler(rate)) == 0


def test_c22_a_number_of_the_programs_own_class_is_read_without_its_methods():
    def refuse(self, *args):
        raise RuntimeError("the caller's own code ran")

    class LoudFloat(float):
        __lt__ = __gt__ = __ge__ = __le__ = __float__ = __eq__ = __rmul__ = __mul__ = refuse
        __hash__ = float.__hash__

    class LoudInt(int):
        __lt__ = __gt__ = __ge__ = __le__ = __int__ = __bool__ = __index__ = refuse

    assert share(Sampler(LoudFloat(0.25))) == pytest.approx(0.25, abs=0.02)
    assert share(Sampler(LoudInt(0))) == 0


def test_c22_rules_that_cannot_be_read_are_no_rules():
    class Unreadable(dict):
        def keys(self):
            raise RuntimeError("the caller's own code ran")

    assert Sampler(1.0, 5).keeps_all
    assert Sampler(1.0, "ab").keeps_all
    assert Sampler(1.0, {5: 0.0, None: 0.0, b"a": 0.0}).keeps_all
    assert Sampler(1.0, [("e", 0.0)]).keeps("e", {}, "x") is False
    unreadable = Sampler(1.0, Unreadable(e=0.0))
    assert unreadable.keeps("other", {}, "x")


def test_c22_properties_that_are_no_dict_are_not_asked():
    class Loud:
        def __contains__(self, key):
            raise RuntimeError("the caller's own code ran")

    class LoudDict(dict):
        __contains__ = __iter__ = keys = Loud.__contains__

    sampler = Sampler(1.0, {"k": 0.0})

    assert sampler.keeps("e", Loud(), "x")
    assert sampler.keeps("e", ["k"], "x")
    assert not sampler.keeps("e", LoudDict(k=1), "x")


def test_c22_an_id_of_broken_text_counts_like_any_other():
    decided = Counter(Sampler(0.5).keeps("e", {}, f"\udc80{number}") for number in range(1_000))

    assert decided[True] == pytest.approx(500, abs=100)


def test_the_rules_are_a_copy():
    rules = {"e": 0.0}
    sampler = Sampler(1.0, rules)
    rules.clear()

    assert not sampler.keeps("e", {}, "x")


def test_a_rate_may_be_a_text_as_the_environment_has_it():
    assert not Sampler("0.0").keeps("e", {}, "x")
    assert not Sampler(1.0, {"e": "0"}).keeps("e", {}, "x")
