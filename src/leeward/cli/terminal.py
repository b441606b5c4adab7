"""What goes to the terminal: data on stdout, talk on stderr, colour only where someone sees it, no control bytes.

Promises  texts from outside pass `printable` or `json_text`, so that no event can move the cursor or change a colour.
          Nothing is asked when stdin is not a terminal.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Final

import click

from leeward.errors import LeewardError

__all__ = [
    "Session",
    "byte_text",
    "confirm",
    "json_text",
    "printable",
    "program",
    "show",
    "show_error",
    "table",
    "talk",
    "wants_colour",
]

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB")
_NOT_PLAIN: Final = re.compile(r"[^ -~]")


class Session:
    """One run of the command: what the options that every command has were set to."""

    def __init__(self) -> None:
        self.debug = False
        self.no_color = False
        self.stops_cleanly = False  # Ctrl+C is how this command ends, not how it is broken off


def wants_colour(stream: IO[str], environ: Mapping[str, str], *, no_color: bool) -> bool:
    """Whether to colour what goes to this stream: the option first, then the variables, then whether anyone looks."""
    if no_color or environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return environ.get("TERM") != "dumb" and stream.isatty()


def _colours(stream: IO[str]) -> bool:
    context = click.get_current_context(silent=True)
    session = context.find_root().obj if context is not None else None
    no_color = isinstance(session, Session) and session.no_color
    return wants_colour(stream, os.environ, no_color=no_color)


def show(text: str) -> None:
    """Write a line of data to stdout."""
    click.echo(text, color=_colours(sys.stdout))


def talk(text: str) -> None:
    """Write a line for the person to stderr."""
    click.echo(text, err=True, color=_colours(sys.stderr))


def show_error(error: LeewardError, session: Session) -> None:
    """The three lines of an error: what, where, and the next command; its code when asked for more."""
    colour = wants_colour(sys.stderr, os.environ, no_color=session.no_color)
    lines = [click.style("error: ", fg="red", bold=True) + printable(error.message)]
    if error.where:
        lines.append(click.style("where: ", bold=True) + printable(error.where))
    if error.fix:
        lines.append(click.style("fix: ", bold=True) + printable(error.fix))
    if session.debug:
        lines.append(click.style("code: ", bold=True) + error.code)
    click.echo("\n".join(lines), err=True, color=colour)


def confirm(what: str, *, yes: bool) -> None:
    """Ask before something is destroyed; without a terminal the answer must have been given as an option.

    Raises:
        LeewardError: nobody could be asked, or the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise LeewardError(f"{what} needs a yes, and there is no terminal to ask on", code="needs_yes", fix="add --yes")
    if not click.confirm(f"{what}. Go on?", err=True):
        raise LeewardError("nothing was changed", code="declined")


def printable(text: str) -> str:
    """The text with every character escaped that is not simply shown: controls, direction marks, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def json_text(text: str) -> str:
    """JSON text with the same value, in printable ASCII. Outside its strings JSON has no other characters."""
    return _NOT_PLAIN.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> list[str]:
    """Columns two spaces apart; the last one is not padded."""
    texts = [[printable(str(cell)) for cell in row] for row in ([head, *rows] if head else rows)]
    if not texts:
        return []
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]


def byte_text(count: float) -> str:
    """A number of bytes for a person: 81.2 MiB."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:,.0f} {_UNITS[unit]}" if unit == 0 else f"{count:,.1f} {_UNITS[unit]}"


def program() -> str:
    """How this person calls leeward: its name if the shell finds the same one there, else the path that was typed."""
    import shlex
    import shutil

    typed = sys.argv[0]
    if os.path.basename(typed) == "__main__.py":  # noqa: PTH119 - an argument, not a file
        return f"{shlex.quote(sys.executable)} -m leeward"
    found = shutil.which("leeward")
    if found is not None and os.path.exists(typed) and os.path.samefile(found, typed):  # noqa: PTH110, PTH121 - as above
        return "leeward"
    return shlex.quote(typed)
