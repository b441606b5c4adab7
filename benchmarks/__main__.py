"""`make bench`: the figures of the server that README and docs quote; `make bench-clients` has those of the client.

python -m benchmarks [--full]      --full: also the road with 10 million events already stored (ten minutes more)
"""

from __future__ import annotations

import subprocess
import sys

TABLES = ("road", "journal_append", "store_load")


def main() -> None:
    for name in TABLES:
        print(f"\n## {name}\n", flush=True)
        arguments = sys.argv[1:] if name == "road" else []
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()
