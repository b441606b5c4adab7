"""What a server costs, over all its processes: CPU, resident memory, disk. Read from /proc, so Linux only."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from benchmarks.loading import TICK


class Memory(NamedTuple):
    """Resident megabytes, summed over processes: now, and at most (each process at its own worst moment)."""

    now_mb: float
    peak_mb: float


def tree(roots: Iterable[int]) -> list[int]:
    """The processes and all that descend from them."""
    below: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            below[int(_stat(int(path.name))[1])].append(int(path.name))
    found, open_ends = [], list(roots)
    while open_ends:
        pid = open_ends.pop()
        found.append(pid)
        open_ends += below[pid]
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time so far, with what ended children took."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(int(field) for field in _stat(pid)[11:15])
    return total / TICK


def memory(pids: Iterable[int]) -> Memory:
    """Pages that processes share count for each of them."""
    now_kb = peak_kb = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = dict(
                line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
            )
            now_kb += int(fields["VmRSS"].split()[0])
            peak_kb += int(fields["VmHWM"].split()[0])
    return Memory(now_kb / 1024, peak_kb / 1024)


def forget_peaks(pids: Iterable[int]) -> None:
    """From here on a peak is counted anew."""
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def disk_bytes(folder: Path) -> int:
    """What lies there, as the file system counts it."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).lstat().st_blocks * 512
    return total


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
