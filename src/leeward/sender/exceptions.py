"""An exception → the plain value that the wires send: types, messages, frames, chain, and a text as Python prints it.

Promises  `describe` never raises and never looks at local variables. It runs no method that a program's own class
          defines: `__str__`, properties and metaclasses of others may raise, wait or lie. A message is what the
          standard library's own class says, if all that it looks at is plain; else it is made from the arguments.
          Every text goes through `scrub.values`. Time and size are bounded for chains, groups and stacks of any length.
Limits    `EXCEPTIONS_MAX` exceptions, breadth first from the outermost; they share `FRAMES_MAX` frames and
          `MESSAGES_CHARS_MAX`. Of a longer stack the oldest and the newest frames stay. A source line is only read from
          a `.py` file that the frame names in full. An object that is raised twice counts as captured the second time.

Loaded with the first exception, not with the client.
"""

from __future__ import annotations

import os
import sys
from itertools import islice
from stat import S_ISREG

from leeward.scrub.values import bounded_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Final

__all__ = ["category_of", "describe", "mark_captured", "was_captured"]

EXCEPTIONS_MAX: Final = 20
FRAMES_MAX: Final = 120  # of all exceptions together
FRAMES_EACH_MAX: Final = 50
TRACEBACK_STEPS_MAX: Final = 100_000  # about 3 ms; what lies beyond is newer and not looked at
MESSAGES_CHARS_MAX: Final = 32_768  # of all exceptions together
MESSAGE_CHARS_MAX: Final = 8_192
STACK_CHARS_MAX: Final = 65_536
PATH_CHARS_MAX: Final = 300
NAME_CHARS_MAX: Final = 160
LINE_CHARS_MAX: Final = 200
NOTES_MAX: Final = 10
ARGUMENTS_MAX: Final = 10
ARGUMENT_DEPTH_MAX: Final = 4  # an exception as another's argument, as requests and urllib3 do it
PLAIN_CHARS_MAX: Final = 8_192
PLAIN_INT_BITS_MAX: Final = 1_024  # below the smallest limit that a host may set for int to str
SOURCE_FILES_MAX: Final = 20
SOURCE_BYTES_MAX: Final = 1 << 20  # of one file
SOURCES_BYTES_MAX: Final = 2 << 20  # of all files of one exception; about 10 ms
LINE_BYTES_MAX: Final = 4_000  # decoded of one line; more than is shown, so that a secret is seen whole
FRAMES_KNOWN_MAX: Final = 256

UNREADABLE: Final = "<unreadable>"
MARK: Final = "__leeward_captured__"
CAUSE_SENTENCE: Final = "The above exception was the direct cause of the following exception:"
CONTEXT_SENTENCE: Final = "During handling of the above exception, another exception occurred:"

AUTHENTICATION_NAMES: Final = frozenset({"AuthenticationError", "BadCredentials", "PermissionDeniedError"})
NETWORK_NAMES: Final = frozenset(
    {
        "APIConnectionError",
        "APITimeoutError",
        "ClientConnectionError",
        "ConnectionError",
        "MaxRetryError",
        "NewConnectionError",
        "SSLError",
        "Timeout",
        "TimeoutError",
        "TransportError",
        "URLError",
        "gaierror",
        "herror",
    }
)
NETWORK_ERRNOS: Final = frozenset({"EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH"})
PROVIDER_NAMES: Final = frozenset({"APIStatusError", "ElsewhereError"})
PROVIDER_PACKAGES: Final = frozenset({"anthropic", "cohere", "groq", "litellm", "mistralai", "ollama", "openai"})

# The interpreter's own descriptors: reading through them runs no code of the program's.
_type_name: Final = type.__dict__["__name__"].__get__
_type_qualname: Final = type.__dict__["__qualname__"].__get__
_type_module: Final = type.__dict__["__module__"].__get__
_type_mro: Final = type.__dict__["__mro__"].__get__
_type_dict: Final = type.__dict__["__dict__"].__get__
_args_of: Final = BaseException.__dict__["args"].__get__
_traceback_of: Final = BaseException.__dict__["__traceback__"].__get__
_cause_of: Final = BaseException.__dict__["__cause__"].__get__
_context_of: Final = BaseException.__dict__["__context__"].__get__
_hides_context: Final = BaseException.__dict__["__suppress_context__"].__get__
_dict_of: Final = BaseException.__dict__["__dict__"].__get__  # every exception has one, also with __slots__ or frozen
_group_message: Final = BaseExceptionGroup.__dict__["message"].__get__
_group_members: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_SLOT_WRAPPER: Final = type(BaseException.__dict__["__str__"])
_FUNCTION: Final = type(bounded_text)
_MODULE: Final = type(sys)
_DICT_DESCRIPTORS: Final = (type(type.__dict__["__dict__"]), type(BaseException.__dict__["__suppress_context__"]))

# What the C code of a class's `__str__` reads besides the arguments.
_FIELDS_READ: Final = (
    (OSError, ("errno", "strerror", "filename", "filename2")),
    (ImportError, ("msg",)),
    (SyntaxError, ("msg", "filename", "lineno")),
)
_UNICODE_ERRORS: Final[tuple[tuple[type, type], ...]] = (
    (UnicodeDecodeError, bytes),
    (UnicodeEncodeError, str),
    (UnicodeTranslateError, str),
)

_STDLIB: Final = os.path.dirname(getattr(os, "__file__", None) or "?")
_OPEN_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_FRAME: Final = {
    "filename": "",
    "abs_path": "",
    "function": "",
    "module": "",
    "lineno": 0,
    "in_app": False,
    "context_line": "",
}
_frames_known: Final[dict[tuple[str, str, str, int], dict[str, Any]]] = {}


def describe(exc: BaseException, *, handled: bool = True) -> dict[str, Any]:
    """The error value of `exc`, outermost exception first; see the module's promises."""
    is_handled = handled is not False
    try:
        return _error(exc, handled=is_handled)
    except Exception:
        # Boundary: the stack or memory may end here; that there was an error is still told.
        try:
            name = bounded_text(_type_qualname(type(exc)), NAME_CHARS_MAX)
        except Exception:
            # Not even one more call fits on the stack.
            name = "Exception"
        bare = {"type": name, "message": UNREADABLE, "stack": "", "handled": is_handled, "category": "other"}
        return {**bare, "exceptions": []}


def was_captured(exc: BaseException) -> bool:
    """Whether this very object was captured; an exception that was raised from it is another one."""
    return issubclass(type(exc), BaseException) and dict.get(_dict_of(exc), MARK) is True


def mark_captured(exc: BaseException) -> None:
    """Remember on the object itself that it was captured: nothing to clean up, and it survives pickling."""
    if issubclass(type(exc), BaseException):
        dict.__setitem__(_dict_of(exc), MARK, True)


def category_of(exc: BaseException) -> str:
    """Which part of the world failed: network, authentication, provider or other.

    By the names of its classes and a status code that it carries: the packages meant here need not be there.
    """
    bases = _type_mro(type(exc))
    names = {_type_name(base) for base in bases}
    status = _status_of(exc, names)
    if status in {401, 403} or not names.isdisjoint(AUTHENTICATION_NAMES):
        return "authentication"
    if status is None and (not names.isdisjoint(NETWORK_NAMES) or _is_unreachable(exc)):
        return "network"
    if not names.isdisjoint(PROVIDER_NAMES):
        return "provider"
    packages = {_module_of(base).partition(".")[0] for base in bases}
    return "other" if packages.isdisjoint(PROVIDER_PACKAGES) else "provider"


def _status_of(exc: BaseException, names: set[str]) -> int | None:
    """An HTTP status among the stored attributes, or among those of a stored `response`."""
    stored = _attributes_of(exc)
    response = _attributes_of(dict.get(stored, "response"))
    keys = ("status_code", "status", "code") if "HTTPError" in names else ("status_code", "status")
    for attributes in (stored, response):
        for key in keys:
            status = dict.get(attributes, key)
            if type(status) is int:
                return status
    return None


def _is_unreachable(exc: BaseException) -> bool:
    if not issubclass(type(exc), OSError):
        return False
    import errno

    number = OSError.__dict__["errno"].__get__(exc)
    return type(number) is int and errno.errorcode.get(number) in NETWORK_ERRNOS


def _attributes_of(value: Any) -> dict[str, Any]:
    """The instance's `__dict__`, read without asking its class; empty if it has none."""
    for base in _type_mro(type(value)):
        found = _type_dict(base).get("__dict__")
        if found is not None:
            stored: Any = found.__get__(value) if type(found) in _DICT_DESCRIPTORS else {}
            return stored if type(stored) is dict else {}
    return {}


# --- the whole value


def _error(exc: BaseException, *, handled: bool) -> dict[str, Any]:
    chain, is_cut = _chain(exc)
    message_chars_max = min(MESSAGE_CHARS_MAX, MESSAGES_CHARS_MAX // len(chain))
    frames_max = min(FRAMES_EACH_MAX, FRAMES_MAX // len(chain))
    sources = _Sources()
    exceptions: list[dict[str, Any]] = []
    for number, (error, parent, source) in enumerate(chain):
        module = _module_of(type(error))
        exceptions.append(
            {
                "type": bounded_text(_type_qualname(type(error)), NAME_CHARS_MAX),
                "value": _value(error, message_chars_max),
                "module": None if module in {"", "builtins"} else bounded_text(module, NAME_CHARS_MAX),
                "exception_id": number,
                "parent_id": parent,
                "source": source,
                "frames": _frames(error, frames_max, sources),
            }
        )
    stack = _Text(chain, exceptions).block(0)
    if is_cut:
        stack += ["", "… more exceptions …"]
    return {
        "type": _title(exceptions[0]),
        "message": exceptions[0]["value"],
        "stack": _end_of("\n".join(stack)),
        "handled": handled,
        "category": category_of(exc),
        "exceptions": exceptions,
    }


def _chain(exc: BaseException) -> tuple[list[tuple[BaseException, int | None, str]], bool]:
    """What belongs to `exc`, each once, as (exception, index of its parent, how it got there); and is that not all?"""
    chain: list[tuple[BaseException, int | None, str]] = [(exc, None, "")]
    seen = {id(exc)}
    for parent, (error, _, _) in enumerate(chain):  # which grows meanwhile
        for source, other in _linked(error):
            if id(other) in seen:
                continue
            if len(chain) == EXCEPTIONS_MAX:
                return chain, True
            seen.add(id(other))
            chain.append((other, parent, source))
    return chain, False


def _linked(error: BaseException) -> list[tuple[str, BaseException]]:
    if not issubclass(type(error), BaseException):
        return []
    linked = []
    cause, context = _cause_of(error), _context_of(error)
    if cause is not None:
        linked.append(("cause", cause))
    elif context is not None and not _hides_context(error):
        linked.append(("context", context))
    if issubclass(type(error), BaseExceptionGroup):
        linked += [("group", member) for member in islice(_group_members(error), EXCEPTIONS_MAX + 1)]
    return linked


def _module_of(kind: type) -> str:
    """The module that a class says it is from; empty if that is no text."""
    try:
        module = _type_module(kind)
    except AttributeError:  # made by `type()` where there is no `__name__`
        return ""
    return module if type(module) is str else ""


def _title(exception: dict[str, Any]) -> str:
    """The type as a traceback prints it."""
    module, name = exception["module"], exception["type"]
    return name if module in {None, "__main__"} else f"{module}.{name}"


def _end_of(text: str) -> str:
    """The last whole lines that fit; the error itself stands there."""
    if len(text) <= STACK_CHARS_MAX:
        return text
    cut = len(text) - STACK_CHARS_MAX
    cut = text.find("\n", cut) + 1 or cut
    return f"…<cut {cut}>\n{text[cut:]}"


class _Text:
    """The chain as Python prints it: what came first stands first, members of a group are set in."""

    __slots__ = ("chain", "exceptions")

    def __init__(self, chain: list[tuple[BaseException, int | None, str]], exceptions: list[dict[str, Any]]) -> None:
        self.chain = chain
        self.exceptions = exceptions

    def block(self, number: int) -> list[str]:
        lines: list[str] = []
        members = []
        for other, (_, parent, source) in enumerate(self.chain):
            if parent != number:
                continue
            if source == "group":
                members.append(other)
                continue
            sentence = CAUSE_SENTENCE if source == "cause" else CONTEXT_SENTENCE
            lines += [*self.block(other), "", sentence, ""]
        lines += self.own_lines(number)
        for position, member in enumerate(members, 1):
            lines.append(f"  +---------------- {position} ----------------")
            lines += [f"  | {line}" for line in self.block(member)]
        return lines

    def own_lines(self, number: int) -> list[str]:
        exception = self.exceptions[number]
        frames = exception["frames"]
        lines = ["Traceback (most recent call last):"] if frames else []
        for frame in frames:
            if frame["lineno"] == 0 and not frame["abs_path"]:
                lines.append(f"  {frame['function']}")
                continue
            lines.append(f'  File "{frame["abs_path"]}", line {frame["lineno"]}, in {frame["function"]}')
            if frame["context_line"]:
                lines.append(f"    {frame['context_line'].strip()}")
        lines += _syntax_lines(self.chain[number][0])
        title, value = _title(exception), exception["value"]
        return lines + (f"{title}: {value}" if value else title).split("\n")


def _syntax_lines(error: BaseException) -> list[str]:
    """Where the text is wrong, if that is what the error says."""
    if not issubclass(type(error), SyntaxError):
        return []
    fields = SyntaxError.__dict__
    path, line, text = (fields[name].__get__(error) for name in ("filename", "lineno", "text"))
    lines = []
    if type(line) is int:
        lines.append(f'  File "{bounded_text(path, PATH_CHARS_MAX) or "<string>"}", line {bounded_text(line)}')
    if type(text) is str and text.strip():
        lines.append(f"    {bounded_text(text.strip(), LINE_CHARS_MAX)}")
    return lines


# --- messages


def _value(error: Any, chars_max: int) -> str:
    """The message, and behind it the notes that were added."""
    if not issubclass(type(error), BaseException):
        return _cut(error, chars_max)  # whoever captures a text as an error shall find it
    message = _message(error, chars_max, 0)
    notes = dict.get(_dict_of(error), "__notes__")
    if type(notes) is not list or not notes:
        return message
    texts = [_cut(note, chars_max) for note in notes[:NOTES_MAX] if type(note) is str]
    return _cut("\n".join([message, *texts]), chars_max)


def _cut(text: Any, chars_max: int) -> str:
    short = bounded_text(text, chars_max)
    return f"{short}…<cut {len(text) - chars_max}>" if type(text) is str and len(text) > chars_max else short


def _message(error: BaseException, chars_max: int, depth: int) -> str:
    kind, args = type(error), _args_of(error)
    owner = next(base for base in _type_mro(kind) if "__str__" in _type_dict(base))
    if owner is BaseException and len(args) == 1 and type(args[0]) is str:
        return _cut(args[0], chars_max)
    if owner is BaseExceptionGroup:
        count = len(_group_members(error))
        return f"{_cut(_group_message(error), chars_max)} ({count} sub-exception{'' if count == 1 else 's'})"
    try:
        if _may_say(error, kind, owner):
            return _cut(_type_dict(owner)["__str__"](error), chars_max)
    except Exception:
        # A field was deleted, or is plain but not what the class expects: then the arguments speak.
        pass
    return _arguments_text(error, args, owner, chars_max, depth)


def _may_say(error: BaseException, kind: type, owner: type) -> bool:
    """Whether the `__str__` of `owner` is the standard library's and sees nothing but plain values."""
    if not _is_standard(owner):
        return False
    for base, text_kind in _UNICODE_ERRORS:
        if owner is base:
            return _is_whole(error, base, text_kind)
    if not _is_plain(_args_of(error)):
        return False
    method = _type_dict(owner)["__str__"]
    if type(method) is _SLOT_WRAPPER:
        fields = [(base, name) for base, names in _FIELDS_READ if issubclass(owner, base) for name in names]
        return all(_is_plain(_type_dict(base)[name].__get__(error)) for base, name in fields)
    if type(method) is not _FUNCTION or not _is_standard(kind):
        return False  # a subclass may put its own property where the method expects a value
    stored = _dict_of(error)
    return all(_is_plain(dict.get(stored, name)) for name in method.__code__.co_names)


def _is_whole(error: BaseException, base: type, text_kind: Any) -> bool:
    """Whether a UnicodeError's fields fit together: its C code trusts them, and with others reads beyond the text."""
    fields: Any = _type_dict(base)
    text = fields["object"].__get__(error)
    start, end, reason = (fields[name].__get__(error) for name in ("start", "end", "reason"))
    encoding = "" if base is UnicodeTranslateError else fields["encoding"].__get__(error)
    return (
        type(text) is text_kind
        and type(start) is type(end) is int
        and 0 <= start <= end <= len(text)
        and type(encoding) is type(reason) is str
    )


def _is_standard(kind: type) -> bool:
    """Whether this class is really the one that the standard library has under its name."""
    name = _module_of(kind)
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    module = sys.modules.get(name)
    return type(module) is _MODULE and module.__dict__.get(_type_name(kind)) is kind


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether `str()` and `repr()` of it run no foreign code, and in little time."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) <= PLAIN_CHARS_MAX
    if kind is int:
        return bool(value.bit_length() <= PLAIN_INT_BITS_MAX)
    if kind is tuple or kind is list:
        return depth < 2 and len(value) <= ARGUMENTS_MAX and all(_is_plain(item, depth + 1) for item in tuple(value))
    return value is None or kind is bool or kind is float


def _arguments_text(error: BaseException, args: tuple[Any, ...], owner: type, chars_max: int, depth: int) -> str:
    """A message without asking the class: its arguments, or the text that it calls its message."""
    if owner is not BaseException and not any(type(arg) is str for arg in args):
        message = dict.get(_dict_of(error), "message")
        if type(message) is str:
            return _cut(message, chars_max)
    texts = []
    for arg in args[:ARGUMENTS_MAX]:
        if issubclass(type(arg), BaseException):
            inner = _message(arg, chars_max, depth + 1) if depth < ARGUMENT_DEPTH_MAX else "…"
            name = bounded_text(_type_name(type(arg)))
            texts.append(f"{name}: {inner}" if inner else name)
        else:
            texts.append(_cut(arg, chars_max))
    if len(args) > ARGUMENTS_MAX:
        texts.append(f"<{len(args) - ARGUMENTS_MAX} more>")
    return texts[0] if len(texts) == 1 else _cut(f"({', '.join(texts)})", chars_max) if texts else ""


# --- frames


def _frames(error: BaseException, frames_max: int, sources: _Sources) -> list[dict[str, Any]]:
    """Oldest call first; the newest are described first, while there is room to read their lines."""
    if not issubclass(type(error), BaseException):
        return []
    steps, left_out = _steps(_traceback_of(error), frames_max)
    frames = [_frame(step, sources) for step in reversed(steps)]
    frames.reverse()
    if left_out:
        frames.insert(frames_max // 2, {**_NO_FRAME, "function": f"… {left_out} frames …"})
    return frames


def _steps(traceback: TracebackType | None, frames_max: int) -> tuple[list[TracebackType], int]:
    """The oldest and newest steps of a traceback, and how many between them are left out."""
    length = 0
    step = traceback
    while step is not None and length < TRACEBACK_STEPS_MAX:
        length += 1
        step = step.tb_next
    oldest = frames_max // 2 if length > frames_max else length
    newest_from = length - (frames_max - oldest)
    steps = []
    step, position = traceback, 0
    while step is not None and position < length:
        if position < oldest or position >= newest_from:
            steps.append(step)
        step, position = step.tb_next, position + 1
    return steps, length - len(steps)


def _frame(step: TracebackType, sources: _Sources) -> dict[str, Any]:
    code = step.tb_frame.f_code
    path = code.co_filename if type(code.co_filename) is str else bounded_text(code.co_filename, PATH_CHARS_MAX)
    function = code.co_qualname if type(code.co_qualname) is str else bounded_text(code.co_qualname)
    module = dict.get(step.tb_frame.f_globals, "__name__")
    if type(module) is not str:
        module = ""
    line = step.tb_lineno or 0  # None for an instruction that stands nowhere in the source
    key = (path, function, module, line)
    known = _frames_known.get(key)
    if known is not None:
        return known.copy()
    context_line = sources.line(path, line)
    frame = {
        "filename": bounded_text(_short(path), PATH_CHARS_MAX),
        "abs_path": bounded_text(path, PATH_CHARS_MAX),
        "function": bounded_text(function, NAME_CHARS_MAX),
        "module": bounded_text(module, NAME_CHARS_MAX),
        "lineno": line,
        "in_app": _is_in_app(path, module),
        "context_line": context_line or "",
    }
    if context_line is not None and len(path) + len(function) + len(module) <= LINE_BYTES_MAX:
        if len(_frames_known) >= FRAMES_KNOWN_MAX:
            _frames_known.clear()
        _frames_known[key] = frame.copy()
    return frame


def _short(path: str) -> str:
    """The path below the longest entry of `sys.path` that holds it, else its last part; no path stays as it is."""
    if not os.path.isabs(path):
        return path
    best = 0
    for entry in tuple(sys.path):
        if type(entry) is str and len(entry) > best and path.startswith(entry):
            root = entry.rstrip("/\\")
            if path[len(root) : len(root) + 1] in {"/", "\\"}:
                best = len(root)
    return path[best + 1 :] if best else os.path.basename(path)


def _is_in_app(path: str, module: str) -> bool:
    """Whether the program's own people wrote it: not installed, not the standard library, not frozen into Python."""
    if not os.path.isabs(path):
        return not path.startswith("<frozen ") and module.partition(".")[0] not in sys.stdlib_module_names
    parts = path.replace("\\", "/").split("/")
    return "site-packages" not in parts and "dist-packages" not in parts and not path.startswith(_STDLIB + os.sep)


class _Sources:
    """The files whose lines one exception shows, each read once, and how much may still be read."""

    __slots__ = ("bytes_left", "files_left", "read")

    def __init__(self) -> None:
        self.bytes_left = SOURCES_BYTES_MAX
        self.files_left = SOURCE_FILES_MAX
        self.read: dict[str, list[bytes]] = {}

    def line(self, path: str, number: int) -> str | None:
        """The source line, empty if there is none; None if no more files are read for this exception.

        Only Python's own files, and only by their full path: the name in a frame is the program's to choose, and a
        template or a configuration file may hold anything.
        """
        if not path.endswith(".py") or not os.path.isabs(path) or number < 1:
            return ""
        lines = self.read.get(path)
        if lines is None:
            if not self.files_left or self.bytes_left <= 0:
                return None
            self.files_left -= 1
            content = _content(path)
            self.bytes_left -= len(content)
            lines = self.read[path] = content.splitlines()
        line = lines[number - 1] if number <= len(lines) else b""
        return bounded_text(line[:LINE_BYTES_MAX].decode("utf-8", "replace").rstrip(), LINE_CHARS_MAX)


def _content(path: str) -> bytes:
    """A regular file's bytes; nothing if it is none, is too large, or cannot be read."""
    try:
        descriptor = os.open(path, _OPEN_FLAGS)  # without blocking: it may be a pipe
    except (OSError, ValueError):  # a path in an archive; a path that no system can have
        return b""
    try:
        status = os.fstat(descriptor)
        is_source = S_ISREG(status.st_mode) and status.st_size <= SOURCE_BYTES_MAX
        return os.read(descriptor, status.st_size) if is_source else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)
