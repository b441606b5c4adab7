"""The form of every command: help with examples first, the options that all have, commands loaded when they run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from leeward.cli.terminal import Session

__all__ = ["KINDS", "LEVELS", "Command", "Group", "LazyGroup", "Within", "command", "connection_options", "group"]

WIDTH: Final = 80
# The model's own words. They are repeated here because the model needs msgspec, and who only sends may not have it.
KINDS: Final = ("event", "exception", "span", "log", "metric")
LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Within(click.IntRange):
    """A whole number within limits that the help says in its own words; what is none is refused with both of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        try:
            number = int(value)
            if int(self.min or 0) <= number <= int(self.max or 0):
                return number
        except ValueError:
            pass  # refused below, like a number that is too large
        name = param.opts[-1] if param is not None else "it"
        allowed = f"a whole number from {self.min} to {self.max}"
        raise click.UsageError(f"{name} is {str(value)[:40]!r}, but must be {allowed}", ctx)

    def _describe_range(self) -> str:
        return ""


def _note(name: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def note(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        session = context.find_root().obj
        if value and isinstance(session, Session):
            setattr(session, name, True)

    return note


COMMON: Final = (
    click.Option(
        ["--no-color"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_note("no_color"),
        help="No colours (NO_COLOR).",
    ),
    click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_note("debug"),
        help="Show an error's code and traceback.",
    ),
)


class _Form(click.Command):
    """Help in our order: one sentence, the examples, how to call it, the options."""

    examples: tuple[str, ...] = ()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own options first, then those that all have."""
        own = super().get_params(ctx)
        return [*own[:-1], *COMMON, own[-1]]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the whole page."""
        formatter.width = min(formatter.width, WIDTH)
        formatter.write_text(self.help or "")
        formatter.write_paragraph()
        for example in self.examples:
            formatter.write(f"  {example}\n")
        formatter.write_paragraph()
        self.format_usage(ctx, formatter)
        self.format_options(ctx, formatter)


class Command(_Form):
    """One command."""


class Group(_Form, click.Group):
    """A command with commands of its own, all in one file; alone it shows its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help where nothing was asked for: that is a question, and no wrong usage."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def own(self, name: str, *examples: str) -> Callable[[Callable[..., Any]], Command]:
        """Make a command of a function, and add it here."""

        def make(function: Callable[..., Any]) -> Command:
            made = command(name, *examples)(function)
            self.add_command(made)
            return made

        return make

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; where there is none, the nearest is named."""
        return _known(super().get_command(ctx, cmd_name), self, ctx, cmd_name)


class LazyGroup(_Form, click.Group):
    """The top: names and sentences stand here, a command's module is imported when the command is asked for."""

    rows: dict[str, str]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names, in the order of the help."""
        return list(self.rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        found = None
        if cmd_name in self.rows:
            found = importlib.import_module(f"leeward.cli.{cmd_name}").command
        return _known(found, self, ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - see above
        """List names and sentences without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.rows.items()))


def _known(found: click.Command | None, group: click.Group, ctx: click.Context, name: str) -> click.Command | None:
    """The command, or what click's own message lacks for commands that are not loaded: the names to choose from."""
    if found is None and not name.startswith("-") and not ctx.resilient_parsing:
        raise click.NoSuchCommand(name, possibilities=group.list_commands(ctx), ctx=ctx)
    return found


def command(name: str, *examples: str) -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function; its docstring is the one sentence of the help."""

    def make(function: Callable[..., Any]) -> Command:
        made = click.command(name, cls=Command)(function)
        made.examples = examples
        return made

    return make


def group(name: str, *examples: str) -> Callable[[Callable[..., Any]], Group]:
    """Make a group of a function; what it does itself is nothing."""

    def make(function: Callable[..., Any]) -> Group:
        made = click.group(name, cls=Group)(function)
        made.examples = examples
        return made

    return make


def connection_options(function: _Function) -> _Function:
    """The options that say which server to talk to, and as whom."""
    for option in (
        click.option("--config", metavar="FILE", help="Configuration file [./leeward.toml] (LEEWARD_CONFIG)."),
        click.option("--data-dir", metavar="FOLDER", help="Its data [the user's] (LEEWARD_SERVER__DATA_DIR)."),
        click.option("--key", metavar="KEY", help="Key for it [from first-keys.json] (LEEWARD_API_KEY)."),
        click.option("--host", metavar="URL", help="The server [http://127.0.0.1:5330] (LEEWARD_HOST)."),
    ):
        function = option(function)
    return function
