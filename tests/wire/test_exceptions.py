"""Exceptions of any SDK as error columns: the stack as Python prints it, everything within bounds."""

from __future__ import annotations

import json
import traceback

import msgspec
import pytest
from hypothesis import given, strategies as st

from leeward.wire.exceptions import (
    EXCEPTIONS_MAX,
    FRAMES_MAX,
    MESSAGE_CHARS_MAX,
    STACK_CHARS_MAX,
    Frame,
    Raised,
    cut_message,
    cut_stack,
    error_columns,
    raised_of,
    text_of,
)


def described(error):
    """A real exception and its causes, as SDKs describe them."""
    chain = []
    source = ""
    while error is not None:
        frames = [
            Frame(
                filename=step.name,
                abs_path=step.filename,
                function=step.name,
                lineno=step.lineno,
                context_line=step.line,
            )
            for step in traceback.extract_tb(error.__traceback__)
        ]
        module = type(error).__module__
        chain.append(Raised(type(error).__qualname__, str(error), module, source=source, frames=frames))
        source = "cause" if error.__cause__ is not None else "context"
        error = error.__cause__ or error.__context__
    return chain


def divide():
    return 1 / 0


class OfThisModule(Exception):
    pass


def with_a_cause():
    try:
        try:
            divide()
        except ZeroDivisionError as first:
            raise OfThisModule("no result") from first
    except OfThisModule as error:
        return error


def with_a_context():
    try:
        try:
            divide()
        except ZeroDivisionError:
            raise OfThisModule("while handling")  # noqa: B904 - that it has no cause is what this is about
    except OfThisModule as error:
        return error


@pytest.mark.parametrize("raised", [with_a_cause, with_a_context])
def test_the_stack_reads_as_python_prints_it(raised):
    error = raised()
    printed = "".join(traceback.format_exception(error, chain=True))
    said = [line for line in printed.rstrip("\n").split("\n") if set(line.strip()) - set("^~")]

    columns = error_columns(described(error))

    assert [line for line in columns.stack.split("\n") if line] == [line for line in said if line]
    assert columns.message == str(error)
    assert columns.type == f"{type(error).__module__}.{type(error).__name__}"


@pytest.mark.parametrize(
    ("type_", "module", "title"),
    [
        ("ValueError", "", "ValueError"),
        ("ValueError", "builtins", "ValueError"),
        ("MyError", "__main__", "MyError"),
        ("ConnectError", "httpx", "httpx.ConnectError"),
        ("httpx.ConnectError", "httpx", "httpx.ConnectError"),
        ("", "httpx", ""),
    ],
)
def test_a_type_is_told_with_its_module_as_a_traceback_does(type_, module, title):
    assert error_columns([Raised(type_, "v", module)]).type == title


def test_the_rest_holds_all_exceptions_and_whether_the_program_went_on():
    frame = Frame("a.py", "/x/a.py", "f", "app", 3, 5, True, "  1/0 ")
    raised = [Raised("E", "v"), Raised("Cause", "w", handled=False, source="cause", frames=[frame])]

    rest = json.loads(error_columns(raised).rest)

    assert rest == {
        "handled": False,
        "exceptions": [
            {"type": "E", "value": "v", "frames": []},
            {
                "type": "Cause",
                "value": "w",
                "handled": False,
                "source": "cause",
                "frames": [
                    {
                        "filename": "a.py",
                        "abs_path": "/x/a.py",
                        "function": "f",
                        "module": "app",
                        "lineno": 3,
                        "colno": 5,
                        "in_app": True,
                        "context_line": "1/0",
                    }
                ],
            },
        ],
    }
    assert json.loads(error_columns(raised, handled=True).rest)["handled"] is True
    assert "handled" not in json.loads(error_columns([Raised("E")]).rest)


def test_no_exception_has_only_what_is_said_besides():
    assert error_columns([]) == ("", "", "", "")
    assert error_columns([], handled=True, stack="text") == ("", "", "text", '{"handled":true,"exceptions":[]}')


def test_without_frames_there_is_no_stack_but_the_senders_own():
    assert error_columns([Raised("E", "v")]).stack == ""
    assert error_columns([Raised("E", "v")], stack="mine").stack == "mine"


def test_frames_are_told_with_what_is_known_of_them():
    frames = [Frame(function="f"), Frame(filename="a.js", lineno=3), Frame(lineno=7, function="g")]

    lines = error_columns([Raised("E", frames=frames)]).stack.split("\n")

    assert lines[1:] == ["  f", '  File "a.js", line 3, in ?', '  File "?", line 7, in g', "E"]


def test_a_member_of_a_group_is_told_as_one():
    raised = [Raised("Group", "2 errors"), Raised("E", "v", source="group", frames=[Frame(function="f")])]

    assert "The above exception is a member of the following group:" in error_columns(raised).stack


# -- bounds


def test_of_a_long_stack_the_oldest_and_the_newest_frames_stay():
    frames = [Frame(function=f"f{number}", lineno=number + 1) for number in range(1000)]

    columns = error_columns([Raised("RecursionError", frames=frames)])

    kept = json.loads(columns.rest)["exceptions"][0]["frames"]
    assert len(kept) == FRAMES_MAX
    assert (kept[0]["function"], kept[-1]["function"]) == ("f0", "f999")
    (mark,) = [frame for frame in kept if "lineno" not in frame]
    assert mark["function"] == f"… {1000 - FRAMES_MAX + 1} frames …"


def test_of_a_long_chain_the_nearest_causes_stay():
    columns = error_columns([Raised(f"E{number}", frames=[Frame(function="f")]) for number in range(70)])

    rest = json.loads(columns.rest)
    assert [one["type"] for one in rest["exceptions"]] == [f"E{number}" for number in range(EXCEPTIONS_MAX)]
    assert rest["exceptions_omitted"] == 20
    assert columns.stack.startswith("… 20 more exceptions …\n")
    assert columns.stack.endswith("E0")


def test_of_a_long_text_the_end_of_a_stack_and_the_beginning_of_a_message_stay():
    stack = "\n".join(f"line {number}" for number in range(20_000))

    assert cut_stack(stack).endswith("\nline 19999")
    assert cut_stack(stack).startswith(f"[cut: {len(stack)} characters]\nline ")
    assert len(cut_stack(stack)) <= STACK_CHARS_MAX
    assert len(cut_stack("x" * 70_000)) == STACK_CHARS_MAX
    assert cut_message("x" * 70_000).endswith(" [cut: 70000 characters]")
    assert len(cut_message("x" * 70_000)) == MESSAGE_CHARS_MAX
    for text in ("x" * STACK_CHARS_MAX, "short", ""):
        assert cut_stack(text) == cut_message(text) == text


def test_long_texts_are_cut_everywhere():
    long = "x" * 100_000
    frame = Frame(long, long, long, long, 1, 1, True, long)

    columns = error_columns([Raised(long, long, long, frames=[frame])])

    assert len(columns.type) == 200
    assert len(columns.message) == MESSAGE_CHARS_MAX
    assert len(columns.rest) < 15_000


# -- what SDKs send

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FRAME_KEYS = ["filename", "abs_path", "function", "module", "lineno", "colno", "in_app", "context_line"]


def test_an_exception_as_posthog_and_sentry_describe_it():
    raised = raised_of(
        {
            "type": "ZeroDivisionError",
            "value": "division by zero",
            "module": None,
            "mechanism": {"type": "chained", "handled": True, "source": "__cause__"},
            "stacktrace": {"frames": [{"filename": "s.py", "function": "f", "lineno": 6, "in_app": True}, None]},
        }
    )

    assert raised == Raised(
        "ZeroDivisionError",
        "division by zero",
        handled=True,
        source="cause",
        frames=[Frame("s.py", function="f", lineno=6, in_app=True)],
    )


@pytest.mark.parametrize(
    ("said", "source"),
    [
        ("__context__", "context"),
        ("cause", "cause"),
        ("exceptions[3]", "group"),
        ("errors[0]", "group"),
        ("x", ""),
        (5, ""),
    ],
)
def test_how_an_exception_hangs_on_another_is_told_in_one_word(said, source):
    raised = raised_of({"type": "E", "mechanism": {"source": said}})
    assert raised is not None
    assert raised.source == source


@pytest.mark.parametrize("nothing", [None, 5, "text", [], {}, {"type": None}, {"stacktrace": None, "mechanism": None}])
def test_what_says_nothing_is_none(nothing):
    assert raised_of(nothing) is None


def test_of_a_hundred_thousand_frames_few_are_built():
    raised = raised_of({"stacktrace": {"frames": [{"function": f"f{number}"} for number in range(100_000)]}})

    assert raised is not None
    assert len(raised.frames) == FRAMES_MAX


@given(
    st.dictionaries(st.sampled_from(["type", "value", "module", "mechanism", "stacktrace"]), JSON),
    st.dictionaries(st.sampled_from(FRAME_KEYS), JSON),
    st.dictionaries(st.sampled_from(["handled", "source"]), JSON),
)
def test_i1_members_of_any_type_raise_nothing(exception, frame, mechanism):
    for one in (exception, {**exception, "mechanism": mechanism, "stacktrace": {"frames": [frame, None, 5]}}):
        raised = raised_of(one)
        columns = error_columns([raised] if raised else [])
        assert not columns.rest or msgspec.json.decode(columns.rest)


def test_a_value_that_is_no_text_is_its_json():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]

    assert text_of({"a": 1}) == '{"a":1}'
    assert (text_of(None), text_of("x"), text_of(True)) == ("", "x", "true")
    assert text_of(10**30) == str(10**30)
    assert text_of(deep) == ""
