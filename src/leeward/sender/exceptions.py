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
from leeward.sender.messages import dict_of, group_members, message_of, module_of, type_dict, type_mro, type_name

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
_type_qualname: Final = type.__dict__["__qualname__"].__get__
_traceback_of: Final = BaseException.__dict__["__traceback__"].__get__
_cause_of: Final = BaseException.__dict__["__cause__"].__get__
_context_of: Final = BaseException.__dict__["__context__"].__get__
_hides_context: Final = BaseException.__dict__["__suppress_context__"].__get__
_DICT_DESCRIPTORS: Final = (type(type.__dict__["__dict__"]), type(BaseException.__dict__["__suppress_context__"]))

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
    return issubclass(type(exc), BaseException) and dict.get(dict_of(exc), MARK) is True


def mark_captured(exc: BaseException) -> None:
    """Remember on the object itself that it was captured: nothing to clean up, and it survives pickling."""
    if issubclass(type(exc), BaseException):
        dict.__setitem__(dict_of(exc), MARK, True)


def category_of(exc: BaseException) -> str:
    """Which part of the world failed: network, authentication, provider or other.

    By the names of its classes and a status code that it carries: the packages meant here need not be there.
    """
    bases = type_mro(type(exc))
    names = {type_name(base) for base in bases}
    status = _status_of(exc, names)
    if status in {401, 403} or not names.isdisjoint(AUTHENTICATION_NAMES):
        return "authentication"
    if status is None and (not names.isdisjoint(NETWORK_NAMES) or _is_unreachable(exc)):
        return "network"
    if not names.isdisjoint(PROVIDER_NAMES):
        return "provider"
    packages = {module_of(base).partition(".")[0] for base in bases}
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
    for base in type_mro(type(value)):
        found = type_dict(base).get("__dict__")
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
        module = module_of(type(error))
        exceptions.append(
            {
                "type": bounded_text(_type_qualname(type(error)), NAME_CHARS_MAX),
                "value": message_of(error, message_chars_max),
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
        linked += [("group", member) for member in islice(group_members(error), EXCEPTIONS_MAX + 1)]
    return linked


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
