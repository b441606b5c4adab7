"""The `leeward` command. It needs an extra; with the base alone it names the one to install."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from leeward.cli.main import run  # noqa: PLC0415 - the base package has no click
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write(
            "error: the leeward command is not part of the base package\n"
            'fix: pip install "leeward[server]"  (or "leeward[cli]" for a machine that only sends and asks)\n'
        )
        sys.exit(1)
    sys.exit(run())


if __name__ == "__main__":
    main()
