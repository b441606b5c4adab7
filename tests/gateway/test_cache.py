"""Kept answers: to whom they belong, which requests they serve, how long and how many."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import assume, given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from leeward.gateway.cache import ANSWER_SHARE_MAX, CANONICAL_BYTES_MAX, OVERHEAD_BYTES, UNCOUNTED, AnswerCache
from leeward.wire.chat import ChatRequest, Needs

ROOM = 1 << 20
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def request(body, *, model="chat", operation="chat", stream=False):
    """A request as its caller spelled it."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ChatRequest(model=model, fields=FIELDS(text), needs=Needs(), stream=stream, operation=operation)


def key(body, tenant="t", **named):
    return AnswerCache(300, 86_400, ROOM).key(tenant, request(body, **named))


@pytest.fixture
def cache():
    return AnswerCache(ttl_s=300, stale_s=3600, bytes_max=ROOM)


# Which requests are the same


def test_the_same_request_has_the_same_key():
    assert key({"messages": [{"role": "user", "content": "a"}]}) == key(
        {"messages": [{"role": "user", "content": "a"}]}
    )


def test_the_order_of_keys_at_any_depth_does_not_count():
    one = b'{"temperature":0,"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}'
    other = b'{"messages":[{"content":[{"text":"a","type":"text"}],"role":"user"}],"temperature":0}'
    assert key(one) == key(other)


def test_the_order_of_many_fields_does_not_count():
    fields = {f"field_{number}": number for number in range(60)}
    assert key(fields) == key(dict(reversed(fields.items())))


def test_the_spelling_of_numbers_and_texts_does_not_count():
    one = b'{"temperature":1.0,"top_p":1e-1,"seed":100,"messages":[{"content":"\xc3\xa9\xf0\x9f\x98\x80/"}]}'
    other = b'{ "temperature": 1, "top_p": 0.10, "seed": 1e2, "messages":[{"content":"\\u00e9\\ud83d\\ude00\\/"} ] }'
    assert key(one) == key(other)


def test_the_order_of_a_list_counts():
    assert key({"stop": ["a", "b"]}) != key({"stop": ["b", "a"]})


@pytest.mark.parametrize("name", sorted(UNCOUNTED))
def test_fields_that_say_who_asks_or_how_it_travels_do_not_count(name):
    assert key({"messages": [], name: "x"}) == key({"messages": []})


def test_a_streamed_and_a_whole_answer_serve_each_other():
    assert key({"messages": [], "stream": True}, stream=True) == key({"messages": []})


@pytest.mark.parametrize(
    "other",
    [
        {"messages": ["b"]},
        {"messages": ["a"], "temperature": 0},
        {"messages": ["a"], "seed": None},
        {"messages": ["a"], "tools": []},
        {"messages": ["a"], "unknown": 1},
        {"messages": ["a", 1]},
        {"messages": ["a"], "n": 2},
    ],
)
def test_every_other_field_counts_also_one_that_nobody_knows(other):
    assert key(other) != key({"messages": ["a"]})


def test_model_operation_and_tenant_count():
    keys = [key({}), key({}, model="other"), key({}, operation="embeddings"), key({}, tenant="u")]
    assert len(set(keys)) == len(keys)


def test_no_part_can_pass_for_its_neighbour():
    assert key({}, tenant="a", model="bc") != key({}, tenant="ab", model="c")
    assert key({"a": 1, "b": 2}) != key({"a": "1b2"})
    assert key({"ab": 1}) != key({"a": "b=1"})


@pytest.mark.parametrize(
    "raw", [b'"\\ud800"', b"1e400", b"-1e400", b"[" * 5000 + b"]" * 5000], ids=["surrogate", "huge", "-huge", "deep"]
)
def test_what_cannot_be_read_is_compared_byte_for_byte(raw):
    kept = [ChatRequest(model="m", fields={"x": msgspec.Raw(each)}, needs=Needs()) for each in (raw, raw, raw + b" ")]
    first, again, other = (AnswerCache(1, 2, ROOM).key("t", each) for each in kept)
    assert first == again
    assert other != first
    assert first != key({"x": None})


def test_a_large_field_is_compared_byte_for_byte():
    large = b'"' + b"a" * CANONICAL_BYTES_MAX + b'"'
    assert key(b'{"x":' + large + b"}") == key(b'{ "x" : ' + large + b"}")
    assert key(b'{"x":[' + large + b"]}") != key(b'{"x":[ ' + large + b"]}")


NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(st.characters(codec="utf-8"))),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(st.characters(codec="utf-8")), inner)),
    max_leaves=12,
)


def shuffled(value, draw):
    """The same value, written in another order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name], draw) for name in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(each, draw) for each in value]
    return value


@given(VALUES, st.data())
def test_any_spelling_of_any_value_is_the_same_request(value, data):
    again = json.dumps({"x": shuffled(value, data.draw)}, ensure_ascii=data.draw(st.booleans()), indent=1).encode()
    assert key({"x": value}) == key(again)


@given(VALUES, VALUES)
def test_different_values_are_different_requests(one, other):
    # Python holds True for 1; JSON does not. Its texts differ in that, and in nothing that is one value.
    assume(_told(one) != _told(other))
    assert key({"x": one}) != key({"x": other})


def _told(value):
    if isinstance(value, dict):
        return {name: _told(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_told(each) for each in value]
    return (type(value) is bool, value)


# What is kept


def test_an_answer_is_fresh_for_its_time_and_then_stale_and_then_gone(cache):
    cache.put(b"k", b'{"a":1}', 1000)
    assert cache.get(b"k", 1300, stale=False).body == b'{"a":1}'
    assert cache.get(b"k", 1300.1, stale=False) is None
    kept = cache.get(b"k", 4600, stale=True)
    assert (kept.body, kept.age_s) == (b'{"a":1}', 3600)
    assert cache.get(b"k", 4600.1, stale=True) is None
    assert cache.statistics().bytes == 0


@pytest.mark.parametrize(
    ("body", "is_stream"),
    [
        (b'{"id":"1"}', False),
        (b' \n{"id":"1"}', False),
        (b'data: {"id":"1"}\n\n', True),
        (b": a comment\n\ndata: {}\n\n", True),
        (b"event: x\ndata: {}\n\n", True),
    ],
)
def test_what_is_kept_says_whether_it_was_streamed(cache, body, is_stream):
    cache.put(b"k", body, 0)
    assert cache.get(b"k", 0, stale=False).is_stream is is_stream


def test_a_newer_answer_takes_the_place_and_the_age_of_the_older(cache):
    cache.put(b"k", b"{1}", 0)
    cache.put(b"k", b"{22}", 200)
    kept = cache.get(b"k", 400, stale=False)
    assert (kept.body, kept.age_s) == (b"{22}", 200)
    assert cache.statistics().bytes == len(b"{22}") + OVERHEAD_BYTES
    assert cache.get(b"k", 3700, stale=True) is not None  # the older one's end is not the newer one's


def test_when_there_is_no_room_the_one_used_longest_ago_goes():
    body = b"{" * (1000 - OVERHEAD_BYTES)
    cache = AnswerCache(300, 3600, 8000)
    for each in range(8):
        cache.put(b"%d" % each, body, each)
    assert cache.get(b"0", 9, stale=False) is not None
    cache.put(b"new", body, 10)
    assert cache.get(b"1", 10, stale=True) is None
    assert cache.get(b"0", 10, stale=True) is not None
    statistics = cache.statistics()
    assert (statistics.answers, statistics.bytes, statistics.evicted) == (8, 8000, 1)


def test_an_answer_that_would_throw_out_the_others_is_not_kept_nor_the_older_one_it_replaces(cache):
    cache.put(b"k", b"{}", 0)
    cache.put(b"k", b"{" * (ROOM // ANSWER_SHARE_MAX), 1)
    assert cache.get(b"k", 1, stale=True) is None


def test_hits_and_misses_are_counted(cache):
    cache.put(b"k", b"{}", 0)
    cache.get(b"k", 0, stale=False)
    cache.get(b"k", 301, stale=False)
    cache.get(b"k", 301, stale=True)
    cache.get(b"other", 301, stale=True)
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses) == (2, 2)


class CacheBesideItsModel(RuleBasedStateMachine):
    """A list in order of use, searched from end to end, does the same."""

    TTL_S, STALE_S, BYTES_MAX = 10, 25, 9000

    @initialize()
    def begin(self):
        self.cache = AnswerCache(self.TTL_S, self.STALE_S, self.BYTES_MAX)
        self.now_s = 0.0
        self.held = []  # (key, body, put_s), what was used last stands last

    @rule(seconds=st.integers(1, 12))
    def pass_time(self, seconds):
        self.now_s += seconds

    @rule(tenant=st.sampled_from("ab"), question=st.integers(0, 9), size=st.integers(1, 900))
    def put(self, tenant, question, size):
        key = self.cache.key(tenant, request({"q": question}))
        body = b"{%s:%d:%s" % (tenant.encode(), question, b"x" * size)
        self.cache.put(key, body, self.now_s)
        self.held = [each for each in self.live() if each[0] != key]
        if (len(body) + OVERHEAD_BYTES) * ANSWER_SHARE_MAX <= self.BYTES_MAX:
            self.held.append((key, body, self.now_s))
        while self.bytes_held() > self.BYTES_MAX:
            self.held.pop(0)

    @rule(tenant=st.sampled_from("ab"), question=st.integers(0, 9), stale=st.booleans())
    def get(self, tenant, question, stale):
        key = self.cache.key(tenant, request({"q": question}))
        kept = self.cache.get(key, self.now_s, stale=stale)
        self.held = self.live()
        oldest = self.STALE_S if stale else self.TTL_S
        found = [each for each in self.held if each[0] == key and self.now_s - each[2] <= oldest]
        assert (kept is None) == (not found)
        if kept is not None:
            assert (kept.body, kept.age_s) == (found[0][1], self.now_s - found[0][2])
            assert kept.body.startswith(b"{%s:%d:" % (tenant.encode(), question))
            self.held.remove(found[0])
            self.held.append(found[0])

    @precondition(lambda self: hasattr(self, "cache"))
    @invariant()
    def bounded(self):
        assert self.cache.statistics().bytes <= self.BYTES_MAX

    def live(self):
        return [each for each in self.held if self.now_s - each[2] <= self.STALE_S]

    def bytes_held(self):
        return sum(len(body) + OVERHEAD_BYTES for _, body, _ in self.held)


TestCacheBesideItsModel = CacheBesideItsModel.TestCase
