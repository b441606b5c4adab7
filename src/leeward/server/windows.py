"""What each key has used up, this minute and this day (UTC): counts in memory, the day's in a file.

Promises  A restart gives no key its day anew: the day's counts are in a file, written aside, synced and renamed. A file
           that cannot be read is set aside and reported, and the server starts. A clock that is set back gives nothing
           anew, and keeps nobody waiting longer than the window that it shows then.
Limits     A crash forgets up to 30 seconds of a day's counts, a restart the minute's; without a file it forgets both.
           10,000 keys are counted; beyond, the one that has been still for longest is forgotten. A clock set forward
           begins the window that it shows.
Belongs to the event loop; only `load` and `stop` may be called from elsewhere, before and after requests.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from leeward.journal.files import OsFiles, read_file, write_aside

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.journal.files import Files
    from leeward.server.logs import Report

__all__ = ["DAY_MS", "KEYS_MAX", "MINUTE_MS", "SAVE_EVERY_S", "Windows", "wait_s"]

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
KEYS_MAX: Final = 10_000
SAVE_EVERY_S: Final = 30.0
RETRY_AFTER_S_MAX: Final = 60.0
FILE_BYTES_MAX: Final = 4 << 20
_FORMAT: Final = 1


class _Used(msgspec.Struct):
    """What a key has used in the windows that it was last seen in, by their numbers since 1970."""

    in_day: list[int]
    minute: int = 0
    in_minute: int = 0
    day: int = 0

    def move_to(self, now_ms: int) -> None:
        """Begin new windows where time has gone on. Where it went back, the counts go with it into the earlier ones."""
        minute, day = now_ms // MINUTE_MS, now_ms // DAY_MS
        if minute > self.minute:
            self.in_minute = 0
        if day > self.day:
            self.in_day = [0] * len(self.in_day)
        self.minute, self.day = minute, day


_Day = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]], msgspec.Meta(min_length=2)]  # number, counts


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[1]
    used: list[tuple[str, _Day]]  # the key that was counted last stands last


_DECODE = msgspec.json.Decoder(_File).decode
_ENCODE = msgspec.json.Encoder().encode


class Windows:
    """The counts of all keys: one of the minute, and some of the day."""

    def __init__(
        self,
        path: Path | None,
        *,
        name: str,
        day_counts: int,
        clock: Clock,
        report: Report,
        files: Files | None = None,
        save_every_s: float = SAVE_EVERY_S,
    ) -> None:
        """Without a path, all is in memory only. `name` is what the reports begin with."""
        self._path = path
        self._name = name
        self._day_counts = day_counts
        self._clock = clock
        self._report = report
        self._files = OsFiles() if files is None else files
        self._used: dict[str, _Used] = {}  # the key that was counted last stands last
        self._save_every_s = save_every_s
        self._changed = False
        self._snapshots = 0
        self._saving = threading.Lock()
        self._saved = 0  # the number of the newest snapshot in the file
        self._stopped = False

    def _current(self, key_id: str, now_ms: int) -> _Used | None:
        """What a key has used in the windows of now, if anything."""
        used = self._used.get(key_id)
        if used is not None:
            used.move_to(now_ms)
        return used

    def _counting(self, key_id: str, now_ms: int) -> _Used:
        """The same, to be added to."""
        used = self._used.pop(key_id, None) or _Used([0] * self._day_counts)
        if len(self._used) >= KEYS_MAX:
            del self._used[next(iter(self._used))]
        self._used[key_id] = used
        used.move_to(now_ms)
        self._changed = True
        return used

    # The file

    def load(self) -> None:
        """Go on with the day's counts of before; a file that is none of ours is set aside."""
        if self._path is None:
            return
        try:
            held = self._read(str(self._path))
        except FileNotFoundError:
            return
        except OSError as error:
            self._report(f"{self._name}_unreadable", {"reason": error.strerror or "the disk does not give the file"})
            return
        for key_id, (day, *counts) in held[-KEYS_MAX:]:
            self._used[key_id] = _Used(counts, day=day)

    def start(self) -> None:
        """Save from now on what has changed, every half minute. On the event loop."""
        if self._path is not None:
            asyncio.get_running_loop().call_later(self._save_every_s, self._save_in_thread)

    def stop(self) -> None:
        """End that, and save. From any thread; nothing is counted any more."""
        self._stopped = True
        if self._changed and self._path is not None:
            self._save(*self._snapshot())

    def _save_in_thread(self) -> None:
        if self._stopped:
            return
        if self._changed:
            asyncio.get_running_loop().run_in_executor(None, self._save, *self._snapshot())
        self.start()

    def _snapshot(self) -> tuple[int, bytes]:
        """What is worth keeping: the counts of this day; and which snapshot that is."""
        self._changed = False
        self._snapshots += 1
        today = self._clock.wall_ms() // DAY_MS
        used = [(key_id, [used.day, *used.in_day]) for key_id, used in self._used.items() if used.day >= today]
        return self._snapshots, _ENCODE(_File(_FORMAT, used))

    def _save(self, number: int, content: bytes) -> None:
        """Replace the file, unless a newer snapshot is in it. What the disk does not take is tried again."""
        assert self._path is not None
        with self._saving:
            if number <= self._saved:
                return
            try:
                write_aside(self._files, str(self._path), content)
                self._files.fsync_dir(str(self._path.parent))
            except OSError as error:
                self._changed = True
                reason = error.strerror or "the disk did not take the file"
                self._report(f"{self._name}_not_saved", {"reason": reason})
                return
            self._saved = number

    def _read(self, path: str) -> list[tuple[str, _Day]]:
        used = self._decoded(read_file(self._files, path, bytes_max=FILE_BYTES_MAX))
        if used is None:
            damaged = f"{path}.damaged"
            self._files.rename(path, damaged)
            reason = "the day's counts were unreadable: they begin anew"
            self._report(f"{self._name}_set_aside", {"reason": reason, "file": damaged})
        return used or []

    def _decoded(self, content: bytes) -> list[tuple[str, _Day]] | None:
        """What a file holds, or None if it is damaged or counts something else."""
        try:
            used = _DECODE(content).used
        except (msgspec.MsgspecError, RecursionError):
            return None
        return used if all(len(day) == 1 + self._day_counts for _, day in used) else None


def wait_s(now_ms: int, window_ms: int) -> float:
    """How long a key that has used a window up should wait: until it ends, but not longer than a minute.

    An SDK that was told to stay away for a day would not hear that the limit has been raised.
    """
    return min(RETRY_AFTER_S_MAX, (window_ms - now_ms % window_ms) / 1000)
