"""A short program: it counts the words of its files, reports that, and ends without waiting for the network.

LEEWARD_API_KEY=lw_… python count_words.py FILE...
"""

from __future__ import annotations

import sys
from pathlib import Path

import leeward
from leeward.integrations import hooks


def main() -> int:
    leeward.init(app="count-words/1.0")  # the key comes from LEEWARD_API_KEY; without one nothing is reported
    hooks.install()  # what nobody handles is captured on its way out
    with leeward.timed("count.started", "count.finished", {"files": len(sys.argv) - 1}) as end:
        total = sum(len(Path(name).read_text(encoding="utf-8").split()) for name in sys.argv[1:])
        end["words"] = total
    print(total)
    return 0


if __name__ == "__main__":
    sys.exit(main())
