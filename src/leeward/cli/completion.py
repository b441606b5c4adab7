"""`leeward completion`: click's own completion scripts."""

from __future__ import annotations

import click

from leeward.cli.form import command as make
from leeward.cli.main import leeward
from leeward.cli.terminal import show

__all__ = ["command"]


@make(
    "completion",
    "leeward completion bash > ~/.local/share/bash-completion/completions/leeward",
    "leeward completion zsh > ~/.zfunc/_leeward",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import ShellComplete, get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    # Not the class's own `source`: bash's starts a bash to see its version, and the script may be for another machine.
    show(ShellComplete.source(made(leeward, {}, "leeward", "_LEEWARD_COMPLETE")).strip())
