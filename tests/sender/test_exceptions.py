"""What is told of an exception, whatever its class does when it is asked (C22), and what never is (C24)."""

import asyncio
import collections
import copy
import datetime
import errno
import json
import os
import pickle
import socket
import ssl
import subprocess
import sys
import threading
import types
import urllib.error
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings, strategies as st

from leeward.sender import exceptions, messages
from leeward.sender.exceptions import category_of, describe, mark_captured, was_captured

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
FRAME_KEYS = ["filename", "abs_path", "function", "module", "lineno", "in_app", "context_line"]


@pytest.fixture(autouse=True)
def nothing_known():
    exceptions._frames_known.clear()


class Hostile(Exception):
    """Every way in which an exception can run its own code; each of them is counted and then fails."""

    calls: ClassVar = collections.Counter()

    def _refuse(self, *args, **kwargs):
        Hostile.calls["called"] += 1
        raise RuntimeError("the caller's own code ran")

    __str__ = __repr__ = __eq__ = __bool__ = __len__ = __iter__ = __getattr__ = __setattr__ = __format__ = _refuse
    __hash__ = Exception.__hash__
    __class__ = __cause__ = __context__ = __traceback__ = __notes__ = __suppress_context__ = property(_refuse)
    args = status_code = response = message = property(_refuse)


class HostileMeta(type):
    def __getattribute__(cls, name):
        Hostile.calls["called"] += 1
        raise RuntimeError("the caller's own metaclass ran")

    __instancecheck__ = __subclasscheck__ = __getattribute__


# Not at the top of the module: what collects tests would ask it for its attributes.
HIDDEN = {"HostileKind": HostileMeta("HostileKind", (Exception,), {})}


class HostileArgument:
    __str__ = __repr__ = __eq__ = __bool__ = __len__ = __iter__ = __getattr__ = Hostile._refuse
    __hash__ = object.__hash__
    __class__ = property(Hostile._refuse)


class LoudStr(str):
    __slots__ = ()
    __str__ = __repr__ = __len__ = __getitem__ = __iter__ = encode = Hostile._refuse


class LyingKeyError(KeyError):
    @property
    def args(self):
        return Hostile._refuse(self)


def caught(raising):
    try:
        raising()
    except BaseException as error:  # the tests are about all of them
        return error
    raise AssertionError("nothing was raised")


def raised(error):
    def raising():
        raise error

    return caught(raising)


def message_of(error):
    return describe(error)["message"]


def chain_of(value):
    return [(e["type"], e["exception_id"], e["parent_id"], e["source"]) for e in value["exceptions"]]


def run_source(text, filename, **names):
    return caught(lambda: exec(compile(text, filename, "exec"), names))


def check_shape(value):
    """What the wires rely on."""
    assert list(value) == ["type", "message", "stack", "handled", "category", "exceptions"]
    assert value["category"] in {"network", "authentication", "provider", "other"}
    for number, item in enumerate(value["exceptions"]):
        assert list(item) == ["type", "value", "module", "exception_id", "parent_id", "source", "frames"]
        assert item["exception_id"] == number
        assert item["parent_id"] is None if number == 0 else item["parent_id"] < number
        assert item["source"] in ({"cause", "context", "group"} if number else {""})
        assert len(item["frames"]) <= exceptions.FRAMES_EACH_MAX + 1
        for frame in item["frames"]:
            assert list(frame) == FRAME_KEYS
            assert [type(frame[key]) for key in FRAME_KEYS] == [str, str, str, str, int, bool, str]
    assert len(json.dumps(value)) < 1 << 20
    return value


# --- the value


def test_an_exception_is_its_type_message_frames_and_a_text_like_pythons():
    def inner():
        raise ValueError("no good")

    def outer():
        inner()

    value = check_shape(describe(caught(outer)))

    assert (value["type"], value["message"], value["handled"]) == ("ValueError", "no good", True)
    (only,) = value["exceptions"]
    assert (only["type"], only["value"], only["module"], only["source"]) == ("ValueError", "no good", None, "")
    assert [frame["function"].rpartition(".")[2] for frame in only["frames"]] == ["caught", "outer", "inner"]
    newest = only["frames"][-1]
    assert newest["filename"] == "test_exceptions.py" or newest["filename"].endswith("/test_exceptions.py")
    assert newest["abs_path"] == __file__
    assert newest["function"].endswith("pythons.<locals>.inner")
    assert newest["module"] == __name__
    assert newest["lineno"] == inner.__code__.co_firstlineno + 1
    assert newest["context_line"] == '        raise ValueError("no good")'
    assert newest["in_app"] is True
    lines = value["stack"].split("\n")
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-3:] == [
        f'  File "{__file__}", line {newest["lineno"]}, in {newest["function"]}',
        '    raise ValueError("no good")',
        "ValueError: no good",
    ]


def test_it_says_whether_the_program_handled_it():
    assert describe(ValueError(), handled=False)["handled"] is False
    assert describe(ValueError(), handled=HostileArgument())["handled"] is True


def test_the_type_is_named_as_python_prints_it():
    class Local(Exception):
        pass

    Local.__module__ = "__main__"
    assert describe(Local())["type"] == Local.__qualname__
    assert describe(Local())["exceptions"][0]["module"] == "__main__"
    Local.__module__ = 5
    assert describe(Local())["exceptions"][0]["module"] is None
    error = json.JSONDecodeError("m", "d", 0)
    assert describe(error)["type"] == "json.decoder.JSONDecodeError"
    assert describe(error)["exceptions"][0]["type"] == "JSONDecodeError"
    assert describe(error)["exceptions"][0]["module"] == "json.decoder"


def test_a_class_without_a_module_has_a_type_all_the_same():
    names = {}
    exec("Bare = type('Bare', (Exception,), {})", names)

    value = describe(names["Bare"]("x"))
    assert (value["type"], value["message"]) == ("Bare", "x")


def test_an_exception_that_was_never_raised_has_no_frames():
    value = check_shape(describe(ValueError("x")))

    assert value["exceptions"][0]["frames"] == []
    assert value["stack"] == "ValueError: x"


def test_what_is_no_exception_is_told_as_well():
    for thing in ("a text", None, 5, HostileArgument(), ValueError):
        value = check_shape(describe(thing))
        assert value["exceptions"][0]["type"] == type(thing).__name__
        assert value["exceptions"][0]["frames"] == []
        mark_captured(thing)
        assert not was_captured(thing)
    assert message_of("a text") == "a text"


def test_it_is_a_new_value_each_time():
    error = raised(ValueError("x"))
    for _ in range(3):
        frame = describe(error)["exceptions"][0]["frames"][0]
        assert frame["function"] == "caught"
        frame["function"] = "changed"


# --- chains and groups


def test_a_cause_is_told_after_its_effect_and_stands_before_it_in_the_text():
    def wrapped():
        try:
            {}["key"]
        except KeyError as error:
            raise RuntimeError("outer") from error

    value = check_shape(describe(caught(wrapped)))

    assert chain_of(value) == [("RuntimeError", 0, None, ""), ("KeyError", 1, 0, "cause")]
    before, after = value["stack"].split(f"\n\n{exceptions.CAUSE_SENTENCE}\n\n")
    assert before.endswith("KeyError: 'key'")
    assert after.endswith("RuntimeError: outer")


def test_what_was_being_handled_is_told_unless_it_is_hidden():
    def handled(hide):
        try:
            {}["key"]
        except KeyError:
            if hide:
                raise RuntimeError("outer") from None
            raise RuntimeError("outer")  # noqa: B904 - the implicit context is what is tested

    value = describe(caught(lambda: handled(hide=False)))
    assert chain_of(value) == [("RuntimeError", 0, None, ""), ("KeyError", 1, 0, "context")]
    assert exceptions.CONTEXT_SENTENCE in value["stack"]
    assert chain_of(describe(caught(lambda: handled(hide=True)))) == [("RuntimeError", 0, None, "")]


def test_the_members_of_a_group_are_its_children():
    group = ExceptionGroup("many", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])])
    group.__cause__ = OSError("first")

    value = check_shape(describe(raised(group)))

    assert chain_of(value) == [
        ("ExceptionGroup", 0, None, ""),
        ("OSError", 1, 0, "cause"),
        ("ValueError", 2, 0, "group"),
        ("ExceptionGroup", 3, 0, "group"),
        ("KeyError", 4, 3, "group"),
    ]
    assert value["message"] == "many (2 sub-exceptions)"
    assert value["exceptions"][3]["value"] == "inner (1 sub-exception)"
    assert value["stack"].split("\n")[-7:] == [
        "ExceptionGroup: many (2 sub-exceptions)",
        "  +---------------- 1 ----------------",
        "  | ValueError: 1",
        "  +---------------- 2 ----------------",
        "  | ExceptionGroup: inner (1 sub-exception)",
        "  |   +---------------- 1 ----------------",
        "  |   | KeyError: 2",
    ]


def test_c22_a_circle_of_causes_is_walked_once():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    group = ExceptionGroup("g", [first, second])
    first.__context__ = group

    assert [item["value"] for item in describe(first)["exceptions"]] == ["first", "second"]
    assert len(describe(group)["exceptions"]) == 3


def test_c22_a_chain_of_100_000_is_cut_behind_its_outermost():
    chain = None
    links = []
    for number in range(100_000):
        error = ValueError(number)
        error.__cause__ = chain
        chain = error
        links.append(error)

    value = check_shape(describe(chain))

    assert len(value["exceptions"]) == exceptions.EXCEPTIONS_MAX
    assert value["message"] == "99999"
    assert value["stack"].endswith("ValueError: 99999\n\n… more exceptions …")
    for error in links:  # the interpreter itself could not free it in one go
        error.__cause__ = None


def test_c22_a_group_of_100_000_is_cut():
    value = check_shape(describe(ExceptionGroup("wide", [ValueError("x")] * 50_000 + [ValueError("y")] * 50_000)))
    assert [item["value"] for item in value["exceptions"]] == ["wide (100000 sub-exceptions)", "x"]

    value = check_shape(describe(ExceptionGroup("wide", [ValueError(number) for number in range(100_000)])))
    assert len(value["exceptions"]) == exceptions.EXCEPTIONS_MAX
    assert "… more exceptions …" in value["stack"]


# --- stacks


def test_c22_of_a_deep_recursion_the_oldest_and_the_newest_frames_stay():
    def dive(depth):
        if depth == 0:
            raise ValueError("bottom")
        dive(depth - 1)

    value = check_shape(describe(caught(lambda: dive(300))))

    frames = value["exceptions"][0]["frames"]
    left_out = 303 - exceptions.FRAMES_EACH_MAX
    assert len(frames) == exceptions.FRAMES_EACH_MAX + 1
    assert frames[0]["function"] == "caught"
    assert frames[25]["function"] == f"… {left_out} frames …"
    assert (frames[25]["lineno"], frames[25]["in_app"], frames[25]["context_line"]) == (0, False, "")
    assert frames[-1]["lineno"] == dive.__code__.co_firstlineno + 2
    assert f"\n  … {left_out} frames …\n" in value["stack"]


def test_c22_a_stack_without_end_is_walked_to_a_limit(monkeypatch):
    monkeypatch.setattr(exceptions, "TRACEBACK_STEPS_MAX", 1_000)
    error = raised(ValueError("x"))
    step = error.__traceback__
    for line in range(2_000):
        step = types.TracebackType(step, step.tb_frame, 0, line + 1)

    value = check_shape(describe(error.with_traceback(step)))

    assert value["exceptions"][0]["frames"][0]["lineno"] == 2_000
    assert value["exceptions"][0]["frames"][-1]["lineno"] == 1_001
    error.__traceback__ = None
    while step.tb_next is not None:
        step.tb_next, step = None, step.tb_next


def test_c22_near_the_end_of_the_stack_there_is_still_an_answer():
    told = []

    def dive():
        try:
            dive()
        except RecursionError as error:
            if len(told) < 300:
                try:
                    told.append(describe(error))
                except RecursionError:
                    told.clear()  # the call itself did not fit
            raise

    caught(dive)

    assert len(told) == 300
    assert {value["type"] for value in told} <= {"RecursionError", "Exception", "<unreadable>"}
    assert told[0]["message"] == "<unreadable>"
    assert told[-1]["message"].startswith("maximum recursion depth exceeded")


def test_c22_when_not_even_the_type_can_be_read_there_is_still_an_answer(monkeypatch):
    def exhausted(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(exceptions, "bounded_text", exhausted)
    monkeypatch.setattr(messages, "bounded_text", exhausted)

    assert check_shape(describe(ValueError("x")))["type"] == "Exception"


def test_the_text_keeps_its_end_and_its_size():
    deep = None
    for number in range(20):
        error = ValueError(f"{number:06} " + "line\n" * 2_000)
        error.__cause__ = deep
        deep = error
    text = describe(deep)["stack"]
    assert text.startswith("Val")  # 20 messages of 1,638 characters fit

    errors = [ValueError("x" * 30 + "\n" + "y\n" * 8_000) for _ in range(4)]
    nested = errors[3]
    for error in errors[:3]:
        nested = ExceptionGroup("g", [ExceptionGroup("h", [ExceptionGroup("i", [nested, error])])])
    text = check_shape(describe(nested))["stack"]
    assert len(text) <= exceptions.STACK_CHARS_MAX + 30


def test_a_text_that_is_too_long_is_cut_at_a_line(monkeypatch):
    monkeypatch.setattr(exceptions, "STACK_CHARS_MAX", 100)

    text = describe(ValueError("first\n" * 50 + "the last one"))["stack"]

    head, _, rest = text.partition("\n")
    assert head.startswith("…<cut ")
    assert rest == "first\n" * 14 + "the last one"
    assert describe(ValueError("x" * 500))["stack"] == "…<cut 412>\n" + "x" * 100


# --- frames and source lines


def test_c22_code_with_any_file_name_has_frames():
    for name in (
        "",
        "<string>",
        "relative.py",
        "/nowhere/x.py",
        "/dev/zero",
        "/a\0b.py",
        "/\udc80.py",
        "/\ud800.py",
        "/" * 9_999,
    ):
        code = compile("1/0", "x", "exec").replace(co_filename=name)
        value = check_shape(describe(caught(types.FunctionType(code, {}))))
        frame = value["exceptions"][0]["frames"][-1]
        assert frame["abs_path"] == name[: exceptions.PATH_CHARS_MAX]
        assert frame["context_line"] == ""


def test_c22_names_of_a_strange_kind_are_texts_in_the_end():
    Hostile.calls.clear()
    code = compile("1/0", "x", "exec").replace(co_filename=LoudStr("/loud.py"), co_qualname=LoudStr("loud"))

    def raising():
        exec(code, {"__name__": LoudStr("loud")})

    frame = check_shape(describe(caught(raising)))["exceptions"][0]["frames"][-1]

    assert [type(frame[key]) for key in ("abs_path", "function", "module")] == [str, str, str]
    assert (frame["abs_path"], frame["module"]) == ("/loud.py", "")
    assert not Hostile.calls


def test_c24_a_line_is_only_shown_of_a_python_file_that_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("settings.yaml", "module.py"):
        (tmp_path / name).write_text("planted = 1\n")

    def line_of(name):
        exceptions._frames_known.clear()
        return describe(run_source("1/0", name))["exceptions"][0]["frames"][-1]["context_line"]

    assert line_of(str(tmp_path / "settings.yaml")) == ""
    assert line_of("module.py") == ""
    assert line_of(str(tmp_path / "module.py")) == "planted = 1"


def test_a_line_is_read_from_regular_files_of_a_sane_size_only(tmp_path, monkeypatch):
    def line_of(path):
        exceptions._frames_known.clear()
        return check_shape(describe(run_source("\n1/0", str(path))))["exceptions"][0]["frames"][-1]["context_line"]

    (tmp_path / "short.py").write_text("one line\n")
    (tmp_path / "large.py").write_bytes(b"\nx\n" + b"#" * exceptions.SOURCE_BYTES_MAX)
    (tmp_path / "latin.py").write_bytes(b"\ncaf\xe9 = 1\r\n")
    (tmp_path / "long.py").write_text("\n" + "x" * 1_000_000)
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")

    assert line_of(tmp_path / "short.py") == ""
    with monkeypatch.context() as patch:
        sizes = []
        patch.setattr(exceptions.os, "read", lambda descriptor, size: sizes.append(size) or b"")
        assert line_of(tmp_path / "large.py") == ""
        assert line_of(tmp_path / "folder.py") == ""
        assert line_of(tmp_path / "pipe.py") == ""
        assert set(sizes) == {Path(__file__).stat().st_size}  # of this file, which has frames as well
    assert line_of(tmp_path / "latin.py") == "caf\ufffd = 1"
    assert line_of(tmp_path / "long.py") == "x" * exceptions.LINE_CHARS_MAX

    def broken(descriptor, count):
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(exceptions.os, "read", broken)
    assert line_of(tmp_path / "latin.py") == ""


def test_only_so_many_files_are_read_for_one_exception_the_newest_frames_first(tmp_path, monkeypatch):
    monkeypatch.setattr(exceptions, "SOURCE_FILES_MAX", 2)
    text = "def call(n, calls):\n    calls[n](n + 1, calls)\n"
    calls = []
    for number in range(4):
        path = tmp_path / f"part{number}.py"
        path.write_text(text)
        names = {}
        exec(compile(text, str(path), "exec"), names)
        calls.append(names["call"])
    error = caught(lambda: calls[0](1, [*calls, lambda n, calls: 1 / 0]))

    def lines():
        return [bool(f["context_line"]) for f in describe(error)["exceptions"][0]["frames"]][2:]

    assert lines() == [False, False, False, True, True]
    assert lines() == [False, True, True, True, True]  # what is known is not read again


def test_so_many_bytes_are_read_for_one_exception(tmp_path, monkeypatch):
    monkeypatch.setattr(exceptions, "SOURCES_BYTES_MAX", 1)
    for name in "ab":
        (tmp_path / f"{name}.py").write_text("1/0\n")
    code = compile("1/0", str(tmp_path / "a.py"), "exec")
    outer = compile("exec(code)", str(tmp_path / "b.py"), "exec")

    frames = describe(caught(lambda: exec(outer, {"code": code})))["exceptions"][0]["frames"]

    assert [frame["context_line"] for frame in frames[-2:]] == ["", "1/0"]


def test_what_is_remembered_of_frames_does_not_grow(monkeypatch):
    monkeypatch.setattr(exceptions, "FRAMES_KNOWN_MAX", 5)
    for number in range(20):
        describe(run_source("\n" * number + "1/0", f"<{number}>"))
        assert len(exceptions._frames_known) <= 5
    exceptions._frames_known.clear()
    describe(run_source("1/0", "/" * 100_000))
    assert all(len(path) < 5_000 for path, *_ in exceptions._frames_known)


def test_c22_a_module_in_an_archive_and_one_without_a_loader_have_frames(tmp_path, monkeypatch):
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("packed_away.py", "def fail():\n    1/0\n")
    monkeypatch.syspath_prepend(str(archive))
    import packed_away

    for loader in (packed_away.__loader__, None, HostileArgument()):
        exceptions._frames_known.clear()
        packed_away.__loader__ = loader
        frame = describe(caught(packed_away.fail))["exceptions"][0]["frames"][-1]
        assert (frame["filename"], frame["module"], frame["lineno"]) == ("packed_away.py", "packed_away", 2)
        assert frame["context_line"] == ""
        assert frame["in_app"] is True


def test_the_short_name_begins_below_the_nearest_entry_of_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), f"{tmp_path}/lib/", f"{tmp_path}/li", None, ""])

    def short(name):
        exceptions._frames_known.clear()
        return describe(run_source("1/0", name))["exceptions"][0]["frames"][-1]["filename"]

    assert short(f"{tmp_path}/lib/pkg/mod.py") == "pkg/mod.py"
    assert short(f"{tmp_path}/libx/mod.py") == "libx/mod.py"
    assert short("/elsewhere/mod.py") == "mod.py"
    assert short("pkg/mod.py") == "pkg/mod.py"
    assert short("<string>") == "<string>"


def test_the_programs_own_frames_are_told_from_installed_standard_and_frozen_ones():
    def is_in_app(filename, module):
        exceptions._frames_known.clear()
        return describe(run_source("1/0", filename, __name__=module))["exceptions"][0]["frames"][-1]["in_app"]

    assert is_in_app("/srv/app/main.py", "main")
    assert is_in_app("/srv/app/platform.py", "platform")  # the program's, though of a standard module's name
    assert is_in_app("<string>", "main")
    assert is_in_app("main.py", "main")
    assert not is_in_app("/venv/lib/python3.12/site-packages/x/y.py", "x.y")
    assert not is_in_app("/usr/lib/python3/dist-packages/x.py", "x")
    assert not is_in_app(r"/C:\venv\Lib\site-packages\x.py", "x")
    assert not is_in_app(json.decoder.__file__, "json.decoder")
    assert not is_in_app("<frozen importlib._bootstrap>", "mine")
    assert not is_in_app("<string>", "collections.abc")


def test_an_instruction_without_a_line_has_line_0():
    def fail():
        1 / 0  # noqa: B018 - it is here to fail

    code = fail.__code__.replace(co_linetable=b"")
    frame = describe(caught(types.FunctionType(code, {})))["exceptions"][0]["frames"][-1]

    assert (frame["lineno"], frame["context_line"]) == (0, "")


# --- messages


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ValueError("text"),
        ValueError(1, "two", b"three", None, 4.5, (6,)),
        KeyError("key"),
        KeyError("a", "b"),
        OSError(2, "No such file", "a", None, "b"),
        FileNotFoundError("just text"),
        ImportError("cannot", name="x", path="y"),
        SystemExit(3),
        StopIteration([1]),
        subprocess.CalledProcessError(-9, ["ls", "-l"]),
        subprocess.TimeoutExpired("ls", 5),
        urllib.error.URLError("no route"),
        ssl.SSLError(1, "handshake"),
        socket.gaierror(-2, "Name or service not known"),
        json.JSONDecodeError("Expecting value", "doc", 0),
        caught(b"a\xff".decode),
        caught(lambda: b"a\xff\xfe".decode("utf-16")),
        caught("\udc80".encode),
        caught(lambda: "é".encode("ascii")),
        UnicodeTranslateError("abc", 0, 2, "why"),
        UnicodeError("any"),
        caught(lambda: compile("a b", "x.py", "exec")),
        caught(lambda: [].missing),
        caught(lambda: undefined),  # noqa: F821 - it is the NameError that is wanted
        asyncio.CancelledError(),
        TimeoutError(),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_the_standard_librarys_own_classes_say_what_they_always_say(error):
    assert message_of(error) == str(error)


def test_an_http_error_says_its_status_although_it_holds_an_open_answer():
    error = urllib.error.HTTPError("http://x", 404, "Not Found", HostileArgument(), None)

    assert message_of(error) == "HTTP Error 404: Not Found"


def test_a_subclass_without_a_str_of_its_own_says_what_its_base_says():
    class Missing(KeyError):
        pass

    class Gone(OSError):
        pass

    assert message_of(Missing("key")) == "'key'"
    assert message_of(Gone(2, "gone", "file")) == "[Errno 2] gone: 'file'"


def test_c22_a_str_of_the_programs_own_is_not_called_its_arguments_speak():
    class Own(Exception):
        __str__ = Hostile._refuse

    class OwnProcessError(subprocess.CalledProcessError):
        cmd = property(Hostile._refuse, lambda self, value: None)

    class Titled(Exception):
        def __init__(self, status, message):
            super().__init__(status)
            self.message = message

        __str__ = Hostile._refuse

    Hostile.calls.clear()
    assert message_of(Own("text")) == "text"
    assert message_of(Own("text", 5)) == "(text, 5)"
    assert message_of(Own()) == ""
    assert message_of(Own(HostileArgument())) == f"<{__name__}.HostileArgument>"
    assert message_of(Own(*range(50))) == "(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, <40 more>)"
    assert message_of(Titled(5, "its message")) == "its message"
    assert message_of(Titled("text", "its message")) == "text"
    assert message_of(OwnProcessError(1, "ls")) == "(1, ls)"
    assert not Hostile.calls


def test_c22_a_class_that_only_calls_itself_standard_is_not_believed(monkeypatch):
    class Borrowing(Exception):
        __str__ = object.__str__  # Python's own, but it asks for the repr
        __repr__ = Hostile._refuse

    class NoModule:
        __getattribute__ = Hostile._refuse

    monkeypatch.setitem(sys.modules, "asyncio.no_such_part", NoModule())
    impostor = type("CalledProcessError", (Exception,), {"__str__": Hostile._refuse, "__module__": "subprocess"})
    stranger = type("Unheard", (Exception,), {"__str__": Hostile._refuse, "__module__": "asyncio.no_such_part"})
    Hostile.calls.clear()

    assert message_of(impostor("text")) == "text"
    assert message_of(stranger("text")) == "text"
    assert message_of(Borrowing("text")) == "text"
    assert not Hostile.calls


def test_c22_an_argument_that_is_an_exception_gives_its_own_message():
    assert message_of(OSError(KeyError("a"))) == "KeyError: 'a'"
    assert message_of(OSError(ValueError())) == "ValueError"
    deep = ValueError("bottom")
    for _ in range(50):
        deep = ValueError(deep)
    assert message_of(deep) == "ValueError: " * 5 + "…"
    circle = ValueError()
    circle.args = (circle,)
    assert message_of(circle) == "ValueError: " * 5 + "…"


HOSTILE_FIELDS = [
    lambda: ValueError(LoudStr("text")),
    lambda: KeyError(LoudStr("text")),
    lambda: KeyError(HostileArgument()),
    lambda: OSError(HostileArgument(), "text"),
    lambda: OSError(2, "text", HostileArgument()),
    lambda: SyntaxError(HostileArgument()),
    lambda: SyntaxError("m", (LoudStr("f"), HostileArgument(), HostileArgument(), LoudStr("t"))),
    lambda: ImportError(HostileArgument()),
    lambda: SystemExit(HostileArgument()),
    lambda: StopIteration(HostileArgument()),
    lambda: UnicodeDecodeError(LoudStr("utf-8"), b"x", 0, 1, LoudStr("r")),
    lambda: subprocess.CalledProcessError(1, [HostileArgument()]),
    lambda: ExceptionGroup(LoudStr("m"), [ValueError()]),
    lambda: LyingKeyError(HostileArgument()),
    lambda: Hostile(HostileArgument()),
    lambda: BaseException.__new__(HIDDEN["HostileKind"], "text"),
]


@pytest.mark.parametrize("make", HOSTILE_FIELDS)
def test_c22_no_code_of_the_programs_runs(make):
    error = make()
    Hostile.calls.clear()

    check_shape(describe(error))
    mark_captured(error)

    assert was_captured(error)
    assert not Hostile.calls


def test_c22_a_unicode_error_whose_fields_do_not_fit_is_not_asked():
    changes = [("start", -5), ("end", 99), ("start", 2**40), ("object", b""), ("object", "abc")]
    for name, value in changes:
        error = UnicodeDecodeError("utf-8", b"abc", 0, 1, "why")
        setattr(error, name, value)
        assert message_of(error) == "(utf-8, abc, 0, 1, why)"
    for other in (5, b"abc"):
        error = UnicodeEncodeError("utf-8", "abc", 0, 1, "why")
        error.object = other
        assert message_of(error) == "(utf-8, abc, 0, 1, why)"


def test_c22_a_field_that_was_deleted_or_is_of_another_kind_is_no_error():
    error = subprocess.CalledProcessError(1, "ls")
    del error.returncode
    assert message_of(error) == "(1, ls)"
    error.returncode = "one"
    assert message_of(error) == "(1, ls)"
    error.returncode, error.cmd = 1, HostileArgument()
    Hostile.calls.clear()
    assert message_of(error) == "(1, ls)"
    assert not Hostile.calls


def test_c22_large_messages_are_cut_and_marked():
    for text in ("x" * 5_000_000, LoudStr("x" * 5_000_000), b"x" * 5_000_000):
        assert message_of(ValueError(text)) == "x" * 8_192 + "…<cut 4991808>"
    assert message_of(KeyError("x" * 9_000)) == "x" * 8_192 + "…<cut 808>"
    assert message_of(ValueError(2**2_000, 1)) == "(<int of 2001 bits>, 1)"
    assert message_of(ValueError([[[[5]]]], 1)) == "([[<list of 1>]], 1)"
    for error in (
        KeyError("x" * 5_000_000),
        ValueError(10**300_000),
        ValueError(["x" * 1_000_000] * 5),
        ValueError(*["x" * 100_000] * 9),
        OSError(2, "x" * 1_000_000, "y" * 1_000_000),
        ValueError(list(range(100_000))),
    ):
        assert len(message_of(error)) < 8_400  # ten arguments have a mark each


def test_c22_the_work_does_not_grow_with_what_the_arguments_hold(monkeypatch):
    cleaned = []
    real = messages.bounded_text

    def counting(value, chars_max=200):
        cleaned.append(len(value))
        return real(value, chars_max)

    monkeypatch.setattr(messages, "bounded_text", counting)
    text = "x" * 100_000
    wide = [{text: text, "k": [text] * 100, "deep": [[[text]]]}] * 100
    nested = ValueError(*[text] * 9)
    for _ in range(6):
        nested = ValueError(*[nested] * 10)
    group = ExceptionGroup("g", [ValueError(*[wide] * 9), ValueError(text.encode(), (text,), LoudStr(text)), nested])

    message = check_shape(describe(group))["exceptions"]

    assert sum(len(item["value"]) for item in message) < exceptions.MESSAGES_CHARS_MAX
    assert sum(cleaned) < 2 * exceptions.MESSAGES_CHARS_MAX
    assert len(cleaned) < 500


def test_c22_of_large_arguments_a_sample_is_told():
    assert message_of(KeyError([1, [2, [3, {4: 5}]]])) == "[1,[2,<list of 2>]]"
    assert message_of(ValueError(["x" * 900, b"y" * 900, "z", {}])) == "[<str of 900>,<bytes of 900>,z,{}]"
    assert message_of(ValueError(list(range(99)))) == "[0,1,2,3,4,5,6,7,8,9,<89 more>]"
    assert message_of(ValueError({"a": {"b": {"c": 1}}, 5: 6})) == "{a:{b:<dict of 1>}}"
    assert message_of(ValueError(datetime.date(2030, 1, 2))) == "2030-01-02"
    assert message_of(ValueError(b"caf\xc3\xa9", 1)) == "(b'caf\\xc3\\xa9', 1)"
    assert message_of(ValueError(LoudStr("loud"))) == "loud"
    assert message_of(ValueError(collections.OrderedDict(a=1))) == "<collections.OrderedDict>"


def test_many_exceptions_share_the_room_for_messages_and_frames():
    def fail(depth):
        if depth:
            fail(depth - 1)
        raise ValueError("x" * 100_000)

    members = [caught(lambda: fail(60)) for _ in range(19)]
    value = check_shape(describe(ExceptionGroup("g", members)))

    assert {len(item["frames"]) for item in value["exceptions"][1:]} == {exceptions.FRAMES_MAX // 20 + 1}
    assert sum(len(item["value"]) for item in value["exceptions"]) < exceptions.MESSAGES_CHARS_MAX + 20 * 20


def test_notes_stand_behind_the_message():
    error = ValueError("x")
    error.add_note("first")
    error.add_note("second")
    assert message_of(error) == "x\nfirst\nsecond"
    assert describe(error)["stack"] == "ValueError: x\nfirst\nsecond"
    error.__notes__ = [HostileArgument(), LoudStr("loud"), *["n"] * 100]
    assert message_of(error) == "x" + "\nn" * (messages.NOTES_MAX - 2)
    error.__notes__ = HostileArgument()
    assert message_of(error) == "x"


def test_a_syntax_error_says_where():
    error = SyntaxError("bad", ("app.py", 7, 3, "  a b\n"))
    assert describe(error)["stack"] == '  File "app.py", line 7\n    a b\nSyntaxError: bad (app.py, line 7)'
    assert describe(SyntaxError("bad", (None, 7, 3, " ")))["stack"].startswith('  File "<string>", line 7\nSyntax')
    assert describe(SyntaxError("bad"))["stack"] == "SyntaxError: bad"


# --- privacy


def test_c24_local_variables_are_never_told():
    def fail():
        password = "planted-local"  # noqa: F841 - it must not be found
        raise ValueError("x")

    assert "planted-local" not in json.dumps(describe(caught(fail))).replace('password = \\"planted-local\\"', "")


def test_c24_a_token_is_found_nowhere_in_what_is_told(tmp_path):
    token = "ghp_" + "a1B2" * 9
    (tmp_path / "part.py").write_text(f"fail('{token}')\n")

    def fail(argument):
        wrong = SyntaxError(argument, (argument, 1, 1, f"call({argument})"))
        members = [raised(KeyError(argument)), wrong, OSError(2, "x", argument)]
        raise ExceptionGroup(argument, members) from ValueError(argument, 5)

    error = run_source((tmp_path / "part.py").read_text(), str(tmp_path / "part.py"), fail=fail)
    error.add_note(f"with {token}")
    value = check_shape(describe(error))

    assert len(value["exceptions"]) == 5
    assert value["exceptions"][0]["frames"][-2]["context_line"].startswith("fail(")
    assert token not in json.dumps(value)


def test_c24_every_text_passes_the_place_where_secrets_are_removed(monkeypatch, tmp_path):
    real = exceptions.bounded_text
    for module in (exceptions, messages):
        monkeypatch.setattr(module, "bounded_text", lambda *args: real(*args).replace("PLANTED", "-"))
    (tmp_path / "PLANTED.py").write_text("fail() # PLANTED\n")

    def fail():
        error = type("PLANTED", (Exception,), {"__module__": "PLANTED"})("PLANTED", {"k": "PLANTED"})
        error.add_note("PLANTED")
        raise error from ExceptionGroup("PLANTED", [SyntaxError("PLANTED", ("PLANTED", 1, 1, "PLANTED"))])

    fail.__code__ = fail.__code__.replace(co_qualname="PLANTED")
    error = run_source("fail()", str(tmp_path / "PLANTED.py"), fail=fail, __name__="PLANTED")
    value = describe(error)

    assert value["exceptions"][0]["frames"][-2]["context_line"] == "fail() # -"
    for item in value["exceptions"]:
        for frame in item["frames"]:
            if "PLANTED" in frame["context_line"]:
                raise AssertionError(frame)
    assert "PLANTED" not in json.dumps(value)


# --- hostile exceptions at large


def huge():
    return "x" * 100_000


plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.builds(huge))
arguments = st.recursive(
    plain | st.builds(HostileArgument) | st.builds(LoudStr, st.text()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KINDS = [
    Hostile,
    HIDDEN["HostileKind"],
    LyingKeyError,
    ValueError,
    KeyError,
    OSError,
    ConnectionError,
    SyntaxError,
    ImportError,
    StopIteration,
    SystemExit,
    UnicodeError,
    AttributeError,
    ssl.SSLError,
]
kinds = st.integers(0, len(KINDS) - 1).map(KINDS.__getitem__)  # drawn by number: hypothesis prints what it draws from


def built(kind, args):
    return BaseException.__new__(kind, *args) if type(kind) is HostileMeta else kind(*args)


def made(kind, args):
    try:
        return built(kind, args)
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError):  # the constructor asked an argument
        return ValueError(*args)


SET_CAUSE = BaseException.__dict__["__cause__"].__set__
SET_CONTEXT = BaseException.__dict__["__context__"].__set__


def linked(error, cause, context):
    SET_CAUSE(error, cause)
    SET_CONTEXT(error, context)
    return error


errors = st.recursive(
    st.builds(made, kinds, st.lists(arguments, max_size=6)),
    lambda inner: (
        st.builds(
            linked,
            st.builds(made, kinds, st.lists(arguments | inner, max_size=3)),
            st.none() | inner,
            st.none() | inner,
        )
        | st.builds(BaseExceptionGroup, st.text(), st.lists(inner, min_size=1, max_size=5))
    ),
    max_leaves=8,
)


@settings(max_examples=500 if HEAVY else 40)
@given(errors)
def test_c22_any_exception_gives_a_value_that_json_takes(error):
    Hostile.calls.clear()

    check_shape(describe(error))
    category_of(error)

    assert not Hostile.calls


# --- the mark


def test_an_exception_is_captured_once_and_what_is_raised_from_it_is_another():
    error = raised(ValueError("x"))
    assert not was_captured(error)
    mark_captured(error)
    assert was_captured(error)
    assert was_captured(raised(error))

    def wrapping():
        raise RuntimeError("y") from error

    assert not was_captured(caught(wrapping))
    assert not was_captured(ExceptionGroup("g", [error]))
    assert not was_captured(ValueError("x"))


def test_the_mark_needs_nothing_from_the_class_and_survives_a_copy():
    class Frozen(Exception):
        __slots__ = ()
        __setattr__ = __delattr__ = Hostile._refuse

    error = Frozen("x")
    mark_captured(error)
    assert was_captured(error)
    plain_error = ValueError("x")
    mark_captured(plain_error)
    assert was_captured(copy.copy(plain_error))
    assert was_captured(pickle.loads(pickle.dumps(plain_error)))


# --- categories


def foreign(module, *names, **attributes):
    """An exception as another package would raise it: the last name is its class, the others are its bases."""
    kind = Exception
    for name in names:
        kind = type(name, (kind,), {"__module__": module})
    error = kind("x")
    error.__dict__.update(attributes)
    return error


def answer(status):
    return types.SimpleNamespace(status_code=status)


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (ConnectionResetError(), "network"),
        (TimeoutError(), "network"),
        (socket.gaierror(-2, "x"), "network"),
        (ssl.SSLCertVerificationError("x"), "network"),
        (urllib.error.URLError("x"), "network"),
        (OSError(errno.ENETUNREACH, "x"), "network"),
        (OSError(errno.ENOENT, "x"), "other"),
        (OSError("x"), "other"),
        (foreign("httpx", "HTTPError", "TransportError", "ConnectError"), "network"),
        (foreign("requests.exceptions", "RequestException", "Timeout"), "network"),
        (foreign("openai", "OpenAIError", "APIError", "APIConnectionError"), "network"),
        (foreign("openai", "OpenAIError", "APIError", "APIStatusError", "NotFoundError", status_code=404), "provider"),
        (foreign("anthropic", "APIStatusError", "OverloadedError", status_code=529), "provider"),
        (foreign("mistralai.models", "SDKError"), "provider"),
        (foreign("openai", "APIStatusError", "AuthenticationError", status_code=401), "authentication"),
        (foreign("anthropic", "APIStatusError", "PermissionDeniedError"), "authentication"),
        (foreign("requests", "HTTPError", response=answer(403)), "authentication"),
        (foreign("httpx", "HTTPStatusError", response=answer(500)), "other"),
        (urllib.error.HTTPError("http://x", 401, "no", {}, None), "authentication"),
        (urllib.error.HTTPError("http://x", 503, "no", {}, None), "other"),
        (foreign("shop", "Refused", code=401), "other"),
        (foreign("shop", "Refused", status="401", response=object()), "other"),
        (foreign("shop", "ConnectionError", status="lost"), "network"),
        (foreign("gateway", "APIStatusError"), "provider"),
        (PermissionError(13, "x"), "other"),
        (ValueError("x"), "other"),
    ],
    ids=lambda value: value if type(value) is str else type(value).__name__,
)
def test_the_category_says_which_part_of_the_world_failed(error, category):
    assert category_of(error) == category
    assert describe(error)["category"] == category


def test_c22_a_status_that_must_be_computed_is_not_read():
    class Computed(Exception):
        status_code = property(Hostile._refuse)

    class Lazy:
        __dict__ = property(Hostile._refuse)

    class Slotted:
        __slots__ = ("status_code",)

    Hostile.calls.clear()
    error = Computed("x")
    for response in (Lazy(), Slotted(), HostileArgument()):
        error.__dict__["response"] = response
        assert category_of(error) == "other"
    assert not Hostile.calls


# --- at once


def test_several_threads_describe_at_once():
    error = raised(ValueError("x"))
    rounds = 2_000 if HEAVY else 100
    results = []

    def work():
        for _ in range(rounds):
            exceptions._frames_known.clear()
            results.append(describe(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == rounds * 4
    assert all(result == results[0] for result in results)
