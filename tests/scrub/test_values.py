"""What a caller may give, and what the encoder gets of it (C22)."""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import sys
import threading
import types
import uuid
from typing import ClassVar

import pytest
from hypothesis import example, given, settings, strategies as st

from leeward.scrub import values
from leeward.scrub.names import is_secret_name
from leeward.scrub.values import bounded, bounded_text


class Hostile:
    """Every way in which a value can run its own code; each of them is counted and then fails."""

    calls: ClassVar = collections.Counter()

    def _refuse(self, *args, **kwargs):
        Hostile.calls["called"] += 1
        raise RuntimeError("the caller's own code ran")

    __str__ = __repr__ = __iter__ = __len__ = __eq__ = __bool__ = __int__ = __float__ = __index__ = _refuse
    __getattr__ = __call__ = __format__ = __bytes__ = __enter__ = __reduce__ = items = keys = isoformat = item = _refuse
    __hash__ = object.__hash__
    __class__ = property(_refuse)


class HostileMeta(type):
    def __getattribute__(cls, name):
        Hostile.calls["called"] += 1
        raise RuntimeError("the caller's own metaclass ran")

    def __instancecheck__(cls, instance):
        raise RuntimeError("the caller's own metaclass ran")


class HostileKind(metaclass=HostileMeta):
    pass


class LoudStr(str):
    __slots__ = ()
    __str__ = __len__ = __getitem__ = __iter__ = encode = Hostile._refuse


class LoudInt(int):
    __int__ = __str__ = __repr__ = __index__ = Hostile._refuse


class LoudFloat(float):
    __float__ = __repr__ = __sub__ = Hostile._refuse


class LoudDict(dict):
    items = keys = __iter__ = __len__ = __getitem__ = copy = Hostile._refuse


class LoudList(list):
    __iter__ = __len__ = __getitem__ = Hostile._refuse


class LoudSet(set):
    __iter__ = __len__ = Hostile._refuse


class LoudBytes(bytes):
    __len__ = __getitem__ = decode = Hostile._refuse


class LoudError(Exception):
    __str__ = __repr__ = Hostile._refuse


class Nameless:
    __module__ = 3


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


@dataclasses.dataclass
class Point:
    x: int
    y: object = None


@dataclasses.dataclass(slots=True)
class SlottedPoint:
    x: int
    y: int


@dataclasses.dataclass
class LoudPoint:
    x: int = 1
    y: int = dataclasses.field(init=False)

    def __getattribute__(self, name):
        raise RuntimeError("the caller's own code ran")


class LoudField(Point):
    x = property(Hostile._refuse)

    def __init__(self):
        pass


class LoudTime(datetime.datetime):
    isoformat = __str__ = Hostile._refuse


class LoudColour(enum.Enum):
    RED = "red"
    value = property(Hostile._refuse)
    __str__ = Hostile._refuse


NASTY = [
    LoudField(),
    LoudTime(2026, 1, 2),
    LoudColour.RED,
    Hostile(),
    HostileKind(),
    LoudStr("loud"),
    LoudInt(5),
    LoudFloat(2.5),
    LoudDict(a=1),
    LoudList([1]),
    LoudSet({1}),
    LoudBytes(b"loud"),
    LoudError("loud"),
    LoudError(Hostile()),
    Nameless(),
    Colour.RED,
    Colour.PAIR,
    Point(1, Hostile()),
    SlottedPoint(1, 2),
    SlottedPoint.__new__(SlottedPoint),
    LoudPoint(),
    object(),
    threading.Lock(),
    (number for number in range(3)),
    iter([1]),
    lambda: None,
    sys,
    int,
    HostileKind,
    float("nan"),
    float("inf"),
    -float("inf"),
    10**9_999,
    -(2**63) - 1,
    2**64,
    "\ud800 lone",
    "\x00",
    "x" * 200_000,
    b"\xff\x00",
    bytearray(b"ab"),
    memoryview(b"ab"),
    decimal.Decimal("1.10"),
    decimal.Decimal("sNaN"),
    uuid.UUID(int=7),
    uuid.UUID.__new__(uuid.UUID),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    datetime.timedelta(seconds=1),
    pathlib.Path("/a/b"),
    collections.OrderedDict(a=1),
    collections.namedtuple("Pair", "a b")(1, 2),  # noqa: PYI024
    types.MappingProxyType({"a": 1}),
]


def is_plain(value):
    """What the encoder takes without asking anything."""
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(is_plain, value))
    if type(value) is int:
        return -(2**63) <= value < 2**64
    if type(value) is float:
        return value - value == 0
    return value is None or type(value) in {str, bool}


def nodes(value):
    if type(value) is dict:
        return 1 + sum(map(nodes, value.values()))
    return 1 + sum(map(nodes, value)) if type(value) is list else 1


def depth(value):
    children = value.values() if type(value) is dict else value if type(value) is list else ()
    return 1 + max(map(depth, children), default=-1)


def cooked(recipe):
    """The value that a recipe describes; hypothesis sees recipes only, for it would ask the values for their repr."""
    kind, content = recipe
    if kind == "nasty":
        return NASTY[content]
    if kind == "plain":
        return content
    parts = [cooked(part) for part in content]
    if kind == "dict":
        return dict(zip(filter(may_be_a_key, parts), reversed(parts), strict=False))
    return {"list": list, "tuple": tuple, "set": lambda parts: set(filter(may_be_a_key, parts)), "point": Point}[kind](
        parts
    )


def may_be_a_key(value):
    try:
        hash(value)
    except (TypeError, RuntimeError, AttributeError):
        return False
    return True


leaves = st.tuples(st.just("nasty"), st.integers(0, len(NASTY) - 1)) | st.tuples(
    st.just("plain"), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
)
recipes = st.recursive(
    leaves,
    lambda inner: st.tuples(st.sampled_from(["list", "tuple", "set", "dict", "point"]), st.lists(inner, max_size=6)),
    max_leaves=25,
)


@settings(max_examples=300, deadline=None)
@given(recipes)
@example(("list", [("nasty", number) for number in range(len(NASTY))]))
@example(("dict", [("nasty", number) for number in range(len(NASTY))]))
@example(("plain", dict.fromkeys(map(repr, range(200)), "\x00" * 5_000)))
def test_c22_any_value_becomes_a_small_plain_one_and_none_of_its_code_runs(recipe):
    value = cooked(recipe)
    Hostile.calls.clear()

    result = bounded(value)

    assert is_plain(result)
    assert not Hostile.calls
    assert nodes(result) <= 2 * values.NODES_MAX
    assert depth(result) <= values.DEPTH_MAX + 1
    assert len(json.dumps(result)) < 1_048_576
    assert is_plain(bounded(result))


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=50),
        st.text(max_size=50) | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        max_size=20,
    )
    | st.recursive(st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=9)
)
def test_what_is_plain_and_small_already_is_unchanged(value):
    if type(value) is dict:
        value = {name: item for name, item in value.items() if not is_secret_name(name)}
    assert bounded(value) == value


def test_the_result_is_a_copy_that_later_changes_do_not_reach():
    given_by_caller = {"a": 1}
    nested = {"list": [1]}

    result, nested_result = bounded(given_by_caller), bounded(nested)
    given_by_caller["a"] = 2
    nested["list"].append(2)

    assert result == {"a": 1}
    assert nested_result == {"list": [1]}


FORMS = [
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (-float("inf"), "-Infinity"),
    (2**64 - 1, 2**64 - 1),
    (2**64, "18446744073709551616"),
    (-(2**63) - 1, "-9223372036854775809"),
    (10**10_000, "<int of 33220 bits>"),
    (b"caf\xc3\xa9\xff", "café\ufffd"),
    (bytearray(b"ab"), "ab"),
    (decimal.Decimal("1.10"), "1.10"),
    (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2026-01-02T03:04:05+00:00"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (datetime.timedelta(minutes=1), 60.0),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (Colour.RED, "red"),
    (Colour.PAIR, [1, 2]),
    ((1, 2), [1, 2]),
    ({7}, [7]),
    (frozenset({7}), [7]),
    (Point(1, [2]), {"x": 1, "y": [2]}),
    (SlottedPoint(1, 2), {"x": 1, "y": 2}),
    (SlottedPoint.__new__(SlottedPoint), {}),
    (LoudPoint(), {"x": 1, "y": None}),
    (LoudField(), {"x": None, "y": None}),
    (LoudTime(2026, 1, 2), "2026-01-02T00:00:00"),
    (LoudColour.RED, "red"),
    (LoudStr("loud"), "loud"),
    (LoudInt(5), 5),
    (LoudFloat(2.5), 2.5),
    (LoudDict(a=1), {"a": 1}),
    (ValueError("bad"), "ValueError: bad"),
    (ValueError("x" * 70_000), "ValueError: " + "x" * values.STRING_CHARS_MAX + "…<cut 4464>"),
    (KeyError(3), "<KeyError>"),
    (object(), "<object>"),
    (Nameless(), "<Nameless>"),
    (decimal, "<module>"),
    (types.MappingProxyType({}), "<mappingproxy>"),
]


@pytest.mark.parametrize("row", range(len(FORMS)), ids=[ascii(form)[:60] for _, form in FORMS])
def test_c22_each_kind_of_value_has_one_form(row):
    value, result = FORMS[row]
    assert bounded(value) == result
    assert bounded({"a": {"b": value}}) == {"a": {"b": result}}


def test_c22_an_unknown_object_is_named_and_nothing_of_it_is_called():
    assert bounded({"who": Hostile()}) == {"who": f"<{Hostile.__dict__['__module__']}.Hostile>"}


def test_c22_a_generator_is_not_consumed():
    numbers = iter(range(3))
    generator = (number for number in numbers)

    assert bounded([generator]) == ["<generator>"]
    assert list(generator) == [0, 1, 2]


def test_c22_a_circle_is_cut_where_it_closes_and_a_repeat_is_not_a_circle():
    circle = {"name": "a", "list": []}
    circle["list"].append(circle)
    twice = ["x"]

    assert bounded(circle) == {"name": "a", "list": ["<circular>"]}
    assert bounded([twice, twice]) == [["x"], ["x"]]


def test_c22_a_million_levels_end_at_the_limit():
    deep = []
    for _ in range(1_000_000):
        deep = [deep]
    levels = bounded(deep)
    for _ in range(values.DEPTH_MAX):
        (levels,) = levels

    assert levels == "<too deep>"

    while deep:  # taken apart level by level, or the interpreter's own stack pays for it
        deep = deep.pop()


def test_c22_what_is_too_long_is_cut_with_a_mark_that_says_how_much():
    text = bounded("x" * 70_000)
    assert text == "x" * values.STRING_CHARS_MAX + f"…<cut {70_000 - values.STRING_CHARS_MAX}>"
    assert bounded(b"x" * 70_000) == text
    assert bounded({"k" * 300: 1}) == {"k" * 200 + "…<cut 100>": 1}
    many_keys = bounded(dict.fromkeys(map(str, range(1_500))))
    assert len(many_keys) == values.KEYS_MAX + 1
    assert many_keys["…"] == "<500 more>"
    assert bounded([0] * 100_000)[-1] == f"<{100_000 - values.NODES_MAX + 1} more>"


def test_c22_all_texts_of_one_value_share_one_limit():
    result = bounded({str(number): "x" * 60_000 for number in range(5)})

    assert sum(map(len, result.values())) <= values.TEXT_CHARS_MAX + 5 * 20
    assert result["4"] == "…<cut 60000>"


def test_c22_all_nodes_of_one_value_share_one_limit():
    result = bounded([[0] * 100 for _ in range(100)])

    assert nodes(result) <= values.NODES_MAX + 2
    assert result[-1] == f"<{100 - (len(result) - 1)} more>"
    assert bounded({"a": [0] * 10_000, "b": 1})["…"] == "<1 more>"


def test_c22_keys_become_texts_and_different_keys_stay_different():
    result = bounded({1: "a", "1": "b", None: "c", True and (1, "x"): "d", 2.5: "e", False: "f", b"k": "g"})

    assert result == {"1": "a", "1#1": "b", "null": "c", "[1,x]": "d", "2.5": "e", "false": "f", "k": "g"}
    assert bounded({True: 1}) == {"true": 1}
    assert bounded({Point: 1}) == {"<type>": 1}


def test_c22_a_small_dict_with_one_odd_value_keeps_the_others():
    for odd in (2**70, float("nan"), "x" * 2_000, Hostile(), [1]):
        result = bounded({"good": 1, "odd": odd})
        assert result["good"] == 1
        assert is_plain(result)
    assert bounded({"good": 1, 5: 1, "k" * 201: 2}).keys() == {"good", "5", "k" * 200 + "…<cut 1>"}


class BrokenZone(datetime.tzinfo):
    def utcoffset(self, when):
        raise RuntimeError("no such zone")


def test_c22_a_known_type_that_fails_is_named_instead():
    assert bounded([datetime.datetime(2026, 1, 1, tzinfo=BrokenZone())]) == ["<datetime>"]
    assert bounded([uuid.UUID.__new__(uuid.UUID)]) == ["<uuid.UUID>"]


def test_c22_where_the_stack_ends_the_event_still_goes():
    def near_the_end(left):
        return bounded([[[[[[1]]]]]]) if left == 0 else near_the_end(left - 1)

    limit = sys.getrecursionlimit()
    results = set()
    for left in range(limit - 120, limit):
        try:
            results.add(str(near_the_end(left)))
        except RecursionError:
            break

    assert "<unreadable>" in results


def test_c24_where_the_stack_ends_a_name_is_not_sent_unseen():
    def near_the_end(left):
        values.clean_text("x")
        return bounded_text("password=hunter22 " + "x" * 60) if left == 0 else near_the_end(left - 1)

    limit = sys.getrecursionlimit()
    results = set()
    for left in range(limit - 120, limit):
        try:
            results.add(near_the_end(left))
        except RecursionError:
            break

    assert results == {"password=<redacted> " + "x" * 60, "<unreadable>"}


def test_c24_a_small_dict_is_clean_the_first_time_and_when_its_names_are_known():
    given_by_caller = {"plan": "pro", "note": "key sk-" + "a" * 40, "count": 3}

    for _ in range(3):
        assert bounded(given_by_caller) == {"plan": "pro", "note": "key <redacted>", "count": 3}
    assert given_by_caller["note"].startswith("key sk-")


@pytest.mark.parametrize("wrap", [lambda text: {"note": text}, lambda text: [[text]], lambda text: {text: 1}])
def test_c24_a_text_is_cleaned_before_it_is_cut_and_the_cut_reveals_nothing(wrap):
    for length in (values.KEY_CHARS_MAX - 25, values.STRING_CHARS_MAX - 25):
        result = json.dumps(bounded(wrap("x" * length + " https://user:hunter2hunter2@host.example/ " + "y" * 300)))
        assert "hunter2" not in result


def test_c24_an_error_text_a_known_type_and_a_big_number_are_clean_too():
    assert bounded(ValueError("password=hunter22")) == "ValueError: password=<redacted>"
    assert bounded({"private_key": [uuid.UUID(int=7), 2**100, pathlib.Path("/a")]}) == {
        "private_key": ["<redacted>"] * 3
    }
    assert bounded_text(("Cookie", "a=b")) == "[Cookie,<redacted>]"


def test_numbers_of_numpy_are_numbers_though_numpy_is_never_imported(monkeypatch):
    class generic:  # noqa: N801 - numpy's own name
        def __init__(self, plain):
            self.plain = plain

        def item(self):
            return self.plain

    class float32(generic):  # noqa: N801 - numpy's own name
        pass

    value = float32(float("nan"))
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    assert bounded([value])[0].endswith("float32>")

    monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace(generic=generic))
    assert bounded([value, float32(1.5)]) == ["NaN", 1.5]


def test_without_the_modules_of_known_types_their_values_are_named(monkeypatch):
    value = uuid.UUID(int=7)
    for name in ("uuid", "enum", "decimal"):
        monkeypatch.delitem(sys.modules, name)

    assert bounded([value, Colour.RED, 1]) == ["<uuid.UUID>", f"<{__name__}.Colour>", 1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("name", "name"),
        (None, ""),
        (7, "7"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("x" * 300, "x" * 200),
        ({"a": [1, True]}, "{a:[1,true]}"),
    ],
)
def test_c22_names_and_ids_become_short_texts(value, text):
    assert bounded_text(value) == text
    assert bounded_text(LoudStr(text)) == text


@settings(max_examples=100, deadline=None)
@given(recipes, st.integers(1, 300))
def test_c22_any_value_has_a_text_for_a_name(recipe, chars_max):
    text = bounded_text(cooked(recipe), chars_max)

    assert type(text) is str
    assert len(text) <= chars_max
