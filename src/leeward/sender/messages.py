"""What an exception says, without asking a class that is not Python's own.

Promises  no method that a program's own class defines runs, so nothing of theirs can raise, wait or lie. The message is
          what the standard library's class says, if all that it looks at is plain; else it is made from the arguments.
          Every text goes through `scrub.values`; the work grows with the characters asked for, not with the arguments.
Limits    a class with a `__str__` of its own is not asked even if that is harmless; its `message` and arguments speak.
"""

from __future__ import annotations

import sys
from itertools import islice

from leeward.scrub.values import bounded_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["dict_of", "group_members", "message_of", "module_of", "type_dict", "type_mro", "type_name"]

NAME_CHARS_MAX: Final = 160
NOTES_MAX: Final = 10
ARGUMENTS_MAX: Final = 10
ARGUMENT_DEPTH_MAX: Final = 4  # an exception as another's argument, as requests and urllib3 do it
ARGUMENT_CHARS_MIN: Final = 200  # with less room than this, an exception in an argument is only named
ITEM_CHARS_MIN: Final = 100
OVERLAP_CHARS: Final = 256  # taken beyond what is shown, so that a secret at the cut is seen whole
PLAIN_CHARS_MAX: Final = 8_192
PLAIN_INT_BITS_MAX: Final = 1_024  # below the smallest limit that a host may set for int to str
VALUE_MODULES: Final = frozenset({"datetime", "decimal", "ipaddress", "pathlib", "uuid"})

# The interpreter's own descriptors: reading through them runs no code of the program's.
type_name: Final = type.__dict__["__name__"].__get__
type_mro: Final = type.__dict__["__mro__"].__get__
type_dict: Final = type.__dict__["__dict__"].__get__
dict_of: Final = BaseException.__dict__["__dict__"].__get__  # every exception has one, also with __slots__ or frozen
group_members: Final = BaseExceptionGroup.__dict__["exceptions"].__get__
_type_module: Final = type.__dict__["__module__"].__get__
_args_of: Final = BaseException.__dict__["args"].__get__
_group_message: Final = BaseExceptionGroup.__dict__["message"].__get__
_SLOT_WRAPPER: Final = type(BaseException.__dict__["__str__"])
_FUNCTION: Final = type(bounded_text)
_MODULE: Final = type(sys)

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


def message_of(error: Any, chars_max: int) -> str:
    """The message, and behind it the notes that were added."""
    if not issubclass(type(error), BaseException):
        return _argument_text(error, chars_max)  # whoever captures a text as an error shall find it
    message = _message(error, chars_max, 0)
    notes = dict.get(dict_of(error), "__notes__")
    if type(notes) is not list or not notes:
        return message
    texts = [note[: chars_max + OVERLAP_CHARS] for note in notes[:NOTES_MAX] if type(note) is str]
    return _cut("\n".join([message, *texts]), chars_max)


def module_of(kind: type) -> str:
    """The module that a class says it is from; empty if that is no text."""
    try:
        module = _type_module(kind)
    except AttributeError:  # made by `type()` where there is no `__name__`
        return ""
    return module if type(module) is str else ""


def _cut(text: str, chars_max: int, length: int = 0) -> str:
    """At most so many characters, clean; `length` says how many there were, if the text is only a beginning."""
    more = max(len(text), length) - chars_max
    short = bounded_text(text, chars_max)
    return f"{short}…<cut {more}>" if more > 0 else short


def _message(error: BaseException, chars_max: int, depth: int) -> str:
    kind, args = type(error), _args_of(error)
    owner = next(base for base in type_mro(kind) if "__str__" in type_dict(base))
    if owner is BaseException and len(args) == 1 and type(args[0]) is str:
        return _cut(args[0], chars_max)
    if owner is BaseExceptionGroup:
        count = len(group_members(error))
        return f"{_argument_text(_group_message(error), chars_max)} ({count} sub-exception{'' if count == 1 else 's'})"
    try:
        if _may_say(error, kind, owner):
            return _cut(type_dict(owner)["__str__"](error), chars_max)
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
    method = type_dict(owner)["__str__"]
    if type(method) is _SLOT_WRAPPER:
        fields = [(base, name) for base, names in _FIELDS_READ if issubclass(owner, base) for name in names]
        return all(_is_plain(type_dict(base)[name].__get__(error)) for base, name in fields)
    if type(method) is not _FUNCTION or not _is_standard(kind):
        return False  # a subclass may put its own property where the method expects a value
    stored = dict_of(error)
    return all(_is_plain(dict.get(stored, name)) for name in method.__code__.co_names)


def _is_whole(error: BaseException, base: type, text_kind: Any) -> bool:
    """Whether a UnicodeError's fields fit together: its C code trusts them, and with others reads beyond the text."""
    fields: Any = type_dict(base)
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
    name = module_of(kind)
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    module = sys.modules.get(name)
    return type(module) is _MODULE and module.__dict__.get(type_name(kind)) is kind


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
        message = dict.get(dict_of(error), "message")
        if type(message) is str:
            return _cut(message, chars_max)
    if not args:
        return ""
    shown = args[:ARGUMENTS_MAX]
    share = chars_max // len(shown)
    texts = []
    for arg in shown:
        if issubclass(type(arg), BaseException):
            is_told = depth < ARGUMENT_DEPTH_MAX and share >= ARGUMENT_CHARS_MIN
            inner = _message(arg, share, depth + 1) if is_told else "…"
            name = bounded_text(type_name(type(arg)))
            texts.append(f"{name}: {inner}" if inner else name)
        else:
            texts.append(_argument_text(arg, share))
    if len(args) > ARGUMENTS_MAX:
        texts.append(f"<{len(args) - ARGUMENTS_MAX} more>")
    return texts[0] if len(args) == 1 else f"({', '.join(texts)})"


def _argument_text(arg: Any, chars_max: int) -> str:
    kind = type(arg)
    if issubclass(kind, str):
        return _cut(str.__getitem__(arg, slice(0, chars_max + OVERLAP_CHARS)), chars_max, str.__len__(arg))
    if kind is bytes:
        return _cut(arg[: chars_max + OVERLAP_CHARS].decode("utf-8", "replace"), chars_max, len(arg))
    return _cut(bounded_text(_sample(arg, chars_max, 0), chars_max + 1), chars_max)


def _sample(value: Any, chars_max: int, depth: int) -> Any:
    """The value itself if it is small, else what can be told of it in little time. Texts are left out, never cut."""
    kind = type(value)
    if kind is list or kind is tuple or kind is dict:
        if depth == 2:
            return f"<{kind.__name__} of {len(value)}>"
        room = max(ITEM_CHARS_MIN, chars_max // ARGUMENTS_MAX)
        items = list(islice(value.items() if kind is dict else value, ARGUMENTS_MAX))
        if kind is dict:
            return {_sample(key, room, 2): _sample(item, room, depth + 1) for key, item in items if type(key) is str}
        more = [f"<{len(value) - len(items)} more>"] if len(items) < len(value) else []
        return [_sample(item, room, depth + 1) for item in items] + more
    if kind is str or kind is bytes:
        return value if len(value) <= chars_max else f"<{kind.__name__} of {len(value)}>"
    if value is None or kind is bool or kind is int or kind is float or module_of(kind) in VALUE_MODULES:
        return value
    return f"<{module_of(kind)}.{type_name(kind)}>"
