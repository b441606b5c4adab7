"""The top of the command line: the list of commands, and the one place where an error becomes lines and an exit code.

Exit codes  0 done, 1 it failed and says why, 2 wrong usage, 130 broken off with Ctrl+C (serve and demo: 0).
Promises    nothing of server, store or gateway is imported before a command asks for it. No traceback without --debug.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from leeward.cli.form import LazyGroup
from leeward.cli.terminal import Session, show, show_error
from leeward.errors import LeewardError
from leeward.version import VERSION

__all__ = ["leeward", "run"]

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
BROKEN_OFF: Final = 130

START: Final = """\
leeward keeps telemetry when everything else fails.

  leeward demo                        watch it work: real events, nothing to set up
  leeward serve                       start the server
  leeward send signup -p plan=pro     send an event
  leeward connect posthog | sentry    point an SDK that you have at it
  leeward query --since 1h            read events
  leeward doctor                      find out what is wrong, and the cure

leeward --help lists everything.\
"""


class _Top(LazyGroup):
    examples = ("leeward demo", "leeward query --since 1h")
    rows = {  # noqa: RUF012 - written once, here
        "serve": "Start the server; Ctrl+C stops it.",
        "demo": "Watch leeward work, with nothing to set up.",
        "connect": "Print the lines that point an SDK at this server, and wait for its first event.",
        "send": "Send an event, or many from stdin.",
        "query": "Read events, the newest first.",
        "keys": "Make, list and revoke keys.",
        "config": "Look at the settings and where they come from.",
        "spool": "Look at events that wait on this machine, send or delete them.",
        "chaos": "Break a provider on purpose, to see that answers keep coming.",
        "doctor": "Check all that must work, with one event leeward.doctor, and name the cure.",
        "completion": "Print the completion script of a shell.",
    }


@click.command(cls=_Top, invoke_without_command=True)
@click.version_option(VERSION, message="leeward %(version)s", help="Show the version.")
@click.pass_context
def leeward(context: click.Context) -> None:
    """Telemetry that is not lost: a server with its own store, and the tools around it."""
    if context.invoked_subcommand is None:
        show(START)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give the exit code."""
    session = Session()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a narrow locale must not turn an answer into a traceback
    try:
        code = leeward.main(
            arguments if arguments is None else list(arguments), "leeward", standalone_mode=False, obj=session
        )
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return DONE if session.stops_cleanly else BROKEN_OFF
    except click.UsageError as error:
        show_error(_usage(error), session)
        return WRONG_USAGE
    except SystemExit:
        return DONE  # click leaves this way when a pipe broke under it, and when it has completed a word for a shell
    except BrokenPipeError:
        # The reader has seen enough. What is still buffered must not fail a second time when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        # Boundary: here every error becomes lines for a person.
        if session.debug:
            import traceback

            traceback.print_exc()
        show_error(_in_words(error), session)
        return FAILED
    return code if isinstance(code, int) else DONE


def _usage(error: click.UsageError) -> LeewardError:
    """Wrong usage: what was wrong, and the nearest right name or the page to read."""
    path = error.ctx.command_path if error.ctx is not None else "leeward"
    help_page = f"{path} --help"
    if isinstance(error, (click.NoSuchOption, click.NoSuchCommand)):
        near = error.possibilities[0] if error.possibilities else ""
        seen = error.option_name if isinstance(error, click.NoSuchOption) else error.command_name
        kind = "an option" if isinstance(error, click.NoSuchOption) else "a command"
        fix = f"did you mean {near}? ({help_page} lists all)" if near else f"{help_page} lists all"
        return LeewardError(f"{seen} is not {kind} of {path}", code="usage", fix=fix)
    message = " ".join(error.format_message().split()).rstrip(".")
    return LeewardError(message[:1].lower() + message[1:], code="usage", fix=help_page)


def _in_words(error: Exception) -> LeewardError:
    if isinstance(error, LeewardError):
        return error
    if isinstance(error, click.ClickException):
        return LeewardError(error.format_message())
    if isinstance(error, ModuleNotFoundError) and not (error.name or "leeward").startswith("leeward"):
        return LeewardError(
            f"this command needs {error.name}, which is not installed",
            code="extra_missing",
            fix='pip install "leeward[server]"',
        )
    if isinstance(error, OSError):
        return LeewardError(
            str(error.strerror or error), code="system", where=str(error.filename) if error.filename else ""
        )
    return LeewardError(
        f"leeward did not expect this: {type(error).__name__}: {error}",
        code="internal",
        fix="run it again with --debug, and report what it prints",
    )
