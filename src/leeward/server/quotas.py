"""How many events each key has brought, this minute and this day (UTC), and whether it may bring more.

Counted    new events that are on stable storage; neither repeats nor what was refused.
Promises   A restart gives no key its day anew: the day's counts are in a file, written aside, synced and renamed. A file
           that cannot be read is set aside and reported, and the server starts. A clock that is set back gives nothing
           anew, and keeps nobody waiting longer than the window that it shows then.
Limits     A request that begins within its quota is taken whole, so a key may go over by what is under way. A crash
           forgets up to 30 seconds of a day's count, a restart the minute's. 10,000 keys are counted; beyond, the one
           that has been still for longest is forgotten. A clock set forward begins the window that it shows.
Belongs to the event loop; only `load` and `stop` may be called from elsewhere, before and after requests.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from leeward.errors import QuotaExceeded
from leeward.journal.files import OsFiles, read_file, write_aside

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.journal.files import Files
    from leeward.server.logs import Report

__all__ = ["UNLIMITED", "Quota", "Quotas"]

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
KEYS_MAX: Final = 10_000
SAVE_EVERY_S: Final = 30.0
RETRY_AFTER_S_MAX: Final = 60.0
FILE_BYTES_MAX: Final = 4 << 20
_FORMAT: Final = 1


class Quota(msgspec.Struct, frozen=True):
    """How many events a key may bring; None is no limit."""

    per_minute: int | None = None
    per_day: int | None = None


UNLIMITED: Final = Quota()


class _Used(msgspec.Struct):
    """What a key has brought in the windows that it was last seen in, by their numbers since 1970."""

    minute: int = 0
    in_minute: int = 0
    day: int = 0
    in_day: int = 0

    def move_to(self, now_ms: int) -> None:
        """Begin new windows where time has gone on. Where it went back, the counts go with it into the earlier ones."""
        minute, day = now_ms // MINUTE_MS, now_ms // DAY_MS
        if minute > self.minute:
            self.in_minute = 0
        if day > self.day:
            self.in_day = 0
        self.minute, self.day = minute, day


class _Day(msgspec.Struct, array_like=True):
    number: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    count: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[1]
    used: list[tuple[str, _Day]]  # the key that was counted last stands last


_DECODE = msgspec.json.Decoder(_File).decode
_ENCODE = msgspec.json.Encoder().encode


class Quotas:
    """The counts of all keys."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        report: Report,
        files: Files | None = None,
        save_every_s: float = SAVE_EVERY_S,
    ) -> None:
        self._path = path
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

    def check(self, key_id: str, quota: Quota | None, now_ms: int) -> None:
        """Refuse a key that has used a window up.

        Raises:
            QuotaExceeded: until that window ends, which `retry_after_s` says.
        """
        if quota is None:
            return
        in_minute, in_day = self.used(key_id, now_ms)
        if quota.per_day is not None and in_day >= quota.per_day:
            raise _exceeded(key_id, "--per-day", f"{quota.per_day:,} events of this day (UTC)", now_ms, DAY_MS)
        if quota.per_minute is not None and in_minute >= quota.per_minute:
            raise _exceeded(key_id, "--per-minute", f"{quota.per_minute:,} events of this minute", now_ms, MINUTE_MS)

    def count(self, key_id: str, events: int, now_ms: int) -> None:
        """Count events that were new and are on stable storage now. Without a quota too: one may be set today."""
        used = self._used.pop(key_id, None) or _Used()
        if len(self._used) >= KEYS_MAX:
            del self._used[next(iter(self._used))]
        self._used[key_id] = used
        used.move_to(now_ms)
        used.in_minute += events
        used.in_day += events
        self._changed = True

    def used(self, key_id: str, now_ms: int) -> tuple[int, int]:
        """Events of this minute and of this day."""
        used = self._used.get(key_id)
        if used is None:
            return 0, 0
        used.move_to(now_ms)
        return used.in_minute, used.in_day

    # The file

    def load(self) -> None:
        """Go on with the day's counts of before; a file that is none of ours is set aside."""
        try:
            held = self._read()
        except FileNotFoundError:
            return
        except OSError as error:
            self._report("quotas_unreadable", {"reason": error.strerror or "the disk does not give the file"})
            return
        for key_id, day in held[-KEYS_MAX:]:
            self._used[key_id] = _Used(day=day.number, in_day=day.count)

    def start(self) -> None:
        """Save from now on what has changed, every half minute. On the event loop."""
        asyncio.get_running_loop().call_later(self._save_every_s, self._save_in_thread)

    def stop(self) -> None:
        """End that, and save. From any thread; no event is counted any more."""
        self._stopped = True
        if self._changed:
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
        used = [(key_id, _Day(used.day, used.in_day)) for key_id, used in self._used.items() if used.day >= today]
        return self._snapshots, _ENCODE(_File(_FORMAT, used))

    def _save(self, number: int, content: bytes) -> None:
        """Replace the file, unless a newer snapshot is in it. What the disk does not take is tried again."""
        with self._saving:
            if number <= self._saved:
                return
            try:
                write_aside(self._files, str(self._path), content)
                self._files.fsync_dir(str(self._path.parent))
            except OSError as error:
                self._changed = True
                self._report("quotas_not_saved", {"reason": error.strerror or "the disk did not take the file"})
                return
            self._saved = number

    def _read(self) -> list[tuple[str, _Day]]:
        path = str(self._path)
        content = read_file(self._files, path, bytes_max=FILE_BYTES_MAX)
        try:
            return _DECODE(content).used
        except (msgspec.MsgspecError, RecursionError):
            damaged = f"{path}.damaged"
            self._files.rename(path, damaged)
            self._report(
                "quotas_set_aside", {"reason": "the day's counts were unreadable: they begin anew", "file": damaged}
            )
            return []


def _exceeded(key_id: str, option: str, what: str, now_ms: int, window_ms: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"This key has brought its {what}",
        fix=f"leeward keys set-quota {key_id} {option} N",
        # Not longer: an SDK that was told to stay away for a day would not hear that the quota has been raised.
        retry_after_s=min(RETRY_AFTER_S_MAX, (window_ms - now_ms % window_ms) / 1000),
    )
