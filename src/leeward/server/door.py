"""The door's memory: which ids and batches were accepted lately, and when.

Limits    At least the last 200,000 accepted ids (configurable), and the batches accepted in the same time.
Promises  Exact: an id in it was accepted; two requests with the same id never both find it new. Entries are made
          before the log's fsync and taken back if that fails, so every answer, a repeat's too, waits for the log.
          A snapshot is only worth keeping once the log is synced up to where it was taken and nothing was taken
          back since: `epoch` tells.

Not thread-safe: it belongs to the event loop.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from leeward.server.record import KIND_OF_CODE, BatchHead, Head

__all__ = ["Door", "DoorStatistics", "event_key", "key_code"]

_LETTERS: Final = bytes.maketrans(b"+/", b"Aa")


def key_code(project: int, kind: str, event_id: str) -> str:
    """The 8 characters `[A-Za-z0-9]` that end an event's key; the same for the same event, always."""
    digest = hashlib.blake2b(f"{project}\0{kind}\0{event_id}".encode(), digest_size=6).digest()
    return base64.b64encode(digest).translate(_LETTERS).decode()


def event_key(received_at: int, code: str) -> str:
    """The key of an event that was first accepted at *received_at* (milliseconds)."""
    return f"telemetry:{received_at}:{code}"


class DoorStatistics(msgspec.Struct, frozen=True):
    """A snapshot of the door's memory."""

    ids: int
    batches: int
    epoch: int


class _Generation(msgspec.Struct):
    """Ids by (project, kind) → first acceptance, and batches by (project, batch id)."""

    ids: dict[tuple[int, str], dict[str, int]] = {}
    batches: dict[tuple[int, str], BatchHead] = {}
    count: int = 0


class _Saved(msgspec.Struct, array_like=True):
    generations: list[tuple[list[tuple[int, str, dict[str, int]]], list[tuple[int, BatchHead]]]]


class Door:
    """Two generations: when the younger holds `ids_max`, the older is forgotten."""

    def __init__(self, ids_max: int = 200_000) -> None:
        self._ids_max = ids_max
        self._young = _Generation()
        self._old = _Generation()
        self.epoch = 0

    def first_seen(self, project: int, kind: str, event_id: str) -> int | None:
        """When the id was accepted first, in milliseconds, or None if the door does not know it."""
        lane = (project, kind)
        for generation in (self._young, self._old):
            ids = generation.ids.get(lane)
            if ids is not None:
                seen = ids.get(event_id)
                if seen is not None:
                    return seen
        return None

    def admit(self, project: int, kind: str, event_id: str, received_at: int) -> int | None:
        """Enter an id, unless the door knows it: then return when it was accepted first, in milliseconds."""
        lane = (project, kind)
        young = self._young
        ids = young.ids.get(lane)
        if ids is None:
            ids = young.ids[lane] = {}
        seen = ids.get(event_id)
        if seen is None:
            older = self._old.ids.get(lane)
            if older is not None:
                seen = older.get(event_id)
        if seen is not None:
            return seen
        ids[event_id] = received_at
        self._count(1)
        return None

    def _count(self, entries: int) -> None:
        self._young.count += entries
        if self._young.count >= self._ids_max:
            self._old, self._young = self._young, _Generation()

    def forget(self, project: int, ids: Iterable[tuple[str, str]]) -> None:
        """Take back (kind, id)s whose record did not reach the disk."""
        self.epoch += 1
        for kind, event_id in ids:
            for generation in (self._young, self._old):
                if generation.ids.get((project, kind), {}).pop(event_id, None) is not None:
                    generation.count -= 1

    def batch(self, project: int, batch_id: str) -> BatchHead | None:
        """The batch of that id, if it was accepted lately."""
        key = (project, batch_id)
        return self._young.batches.get(key) or self._old.batches.get(key)

    def remember_batch(self, project: int, batch: BatchHead) -> None:
        """Enter an accepted batch."""
        self._young.batches[project, batch.batch_id] = batch
        self._count(1 + batch.duplicates)  # its keys take room, even where its events were known

    def forget_batch(self, project: int, batch_id: str) -> None:
        """Take back a batch whose record did not reach the disk."""
        self._young.batches.pop((project, batch_id), None)
        self._old.batches.pop((project, batch_id), None)

    def learn(self, head: Head) -> None:
        """Enter what a record of the log says was accepted: after a restart, oldest record first."""
        for letter, event_id in zip(head.kinds.lower(), head.ids, strict=True):
            self.admit(head.project, KIND_OF_CODE[letter], event_id, head.received_at)
        if head.batch is not None:
            self.remember_batch(head.project, head.batch)

    def snapshot(self) -> bytes:
        """Everything, as bytes for `restore`."""
        return msgspec.msgpack.encode(
            _Saved(
                [
                    (
                        [(project, kind, ids) for (project, kind), ids in generation.ids.items()],
                        [(project, batch) for (project, _), batch in generation.batches.items()],
                    )
                    for generation in (self._old, self._young)
                ]
            )
        )

    def restore(self, saved: bytes) -> bool:
        """Replace the memory by a snapshot. False, and nothing changed, when the bytes are no snapshot."""
        try:
            generations = msgspec.msgpack.decode(saved, type=_Saved).generations
            self._old, self._young = (
                _Generation(
                    {(project, kind): ids for project, kind, ids in lanes},
                    {(project, batch.batch_id): batch for project, batch in batches},
                    sum(len(ids) for _, _, ids in lanes),
                )
                for lanes, batches in generations
            )
        except (msgspec.MsgspecError, ValueError):
            return False
        return True

    def statistics(self) -> DoorStatistics:
        """How much the door remembers."""
        generations = (self._young, self._old)
        return DoorStatistics(
            ids=sum(g.count for g in generations), batches=sum(len(g.batches) for g in generations), epoch=self.epoch
        )
