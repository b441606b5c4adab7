"""The door's memory: which ids and batches were accepted lately, and when.

Limits    At least the last 200,000 accepted ids (configurable), and apart from them the batches that hold as many keys;
          or, of longer ones, 16 MiB of ids and 10 MiB of batches. At most twice as much, so that a snapshot stays below
          the 64 MiB of a checkpoint's note.
Promises  Exact: an id in it was accepted; two requests with the same id never both find it new. Entries are made
          before the log's fsync, say so until it is done, and are taken back if it fails: a repeat of an event that is
          not on stable storage yet must not be answered from here.
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

IDS_BYTES_MAX: Final = 16 << 20
BATCHES_BYTES_MAX: Final = 10 << 20
_ID_BYTES: Final = 12  # an id's time and framing in a snapshot
_KEY_BYTES: Final = 40
_BATCH_BYTES: Final = 200
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


class _Ids(msgspec.Struct):
    """A generation of ids: (project, kind) → id → first acceptance. `size` is in bytes of a snapshot, at most."""

    lanes: dict[tuple[int, str], dict[str, int]] = {}
    count: int = 0
    size: int = 0


class _Batches(msgspec.Struct):
    """A generation of batches by (project, batch id). `weight` counts each batch and each of its keys."""

    by_id: dict[tuple[int, str], BatchHead] = {}
    weight: int = 0
    size: int = 0


class _Saved(msgspec.Struct, array_like=True):
    """Both generations of both, older first."""

    ids: tuple[list[tuple[int, str, dict[str, int]]], list[tuple[int, str, dict[str, int]]]]
    batches: tuple[list[tuple[int, BatchHead]], list[tuple[int, BatchHead]]]


class Door:
    """Two generations of each: when the younger holds `ids_max`, the older is forgotten."""

    def __init__(self, ids_max: int = 200_000) -> None:
        self._ids_max = ids_max
        self._young = _Ids()
        self._old = _Ids()
        self._young_batches = _Batches()
        self._old_batches = _Batches()
        self.epoch = 0

    def first_seen(self, project: int, kind: str, event_id: str) -> int | None:
        """When the id was accepted first, in milliseconds, or None if the door does not know it."""
        seen = self._find((project, kind), event_id)
        return None if seen is None else abs(seen)

    def admit(self, project: int, kind: str, event_id: str, received_at: int) -> int | None:
        """Enter an id, unless the door knows it.

        Returns:
            None: it is new, and entered as not durable yet; `confirm` it, or `forget` it. Otherwise when it was
            accepted first, in milliseconds: negative as long as that is not on stable storage.
        """
        lane = (project, kind)
        young = self._young
        ids = young.lanes.get(lane)
        if ids is None:
            ids = young.lanes[lane] = {}
        seen = ids.get(event_id)
        if seen is None:
            older = self._old.lanes.get(lane)
            if older is not None:
                seen = older.get(event_id)
        if seen is not None:
            return seen
        ids[event_id] = -received_at
        young.count += 1
        young.size += _size_of_id(event_id)
        if young.count >= self._ids_max or young.size >= IDS_BYTES_MAX:
            self._old, self._young = young, _Ids()
        return None

    def confirm(self, project: int, ids: Iterable[tuple[str, str]], received_at: int) -> None:
        """These (kind, id)s are on stable storage now."""
        for kind, event_id in ids:
            seen = self.admit(project, kind, event_id, received_at)
            if seen is None or seen < 0:
                for generation in (self._young, self._old):
                    lane = generation.lanes.get((project, kind))
                    if lane is not None and event_id in lane:
                        lane[event_id] = abs(lane[event_id])

    def _find(self, lane: tuple[int, str], event_id: str) -> int | None:
        for generation in (self._young, self._old):
            seen = generation.lanes.get(lane, {}).get(event_id)
            if seen is not None:
                return seen
        return None

    def forget(self, project: int, ids: Iterable[tuple[str, str]]) -> None:
        """Take back (kind, id)s whose record did not reach the disk."""
        self.epoch += 1
        for kind, event_id in ids:
            for generation in (self._young, self._old):
                if generation.lanes.get((project, kind), {}).pop(event_id, None) is not None:
                    generation.count -= 1
                    generation.size -= _size_of_id(event_id)

    def batch(self, project: int, batch_id: str) -> BatchHead | None:
        """The batch of that id, if it was accepted lately."""
        key = (project, batch_id)
        return self._young_batches.by_id.get(key) or self._old_batches.by_id.get(key)

    def remember_batch(self, project: int, batch: BatchHead) -> None:
        """Enter an accepted batch."""
        self.forget_batch(project, batch.batch_id)
        young = self._young_batches
        young.by_id[project, batch.batch_id] = batch
        young.weight += _weight(batch)
        young.size += _size_of_batch(batch)
        if young.weight >= self._ids_max or young.size >= BATCHES_BYTES_MAX:
            self._old_batches, self._young_batches = young, _Batches()

    def forget_batch(self, project: int, batch_id: str) -> None:
        """Take back a batch whose record did not reach the disk."""
        for generation in (self._young_batches, self._old_batches):
            batch = generation.by_id.pop((project, batch_id), None)
            if batch is not None:
                generation.weight -= _weight(batch)
                generation.size -= _size_of_batch(batch)

    def learn(self, head: Head) -> None:
        """Enter what a record of the log says was accepted: after a restart, oldest record first."""
        kinds = [KIND_OF_CODE[letter] for letter in head.kinds.lower()]
        self.confirm(head.project, zip(kinds, head.ids, strict=True), head.received_at)
        if head.batch is not None:
            self.remember_batch(head.project, head.batch)

    def snapshot(self) -> bytes:
        """Everything, as bytes for `restore`."""
        older, younger = (
            [(project, kind, ids) for (project, kind), ids in generation.lanes.items()]
            for generation in (self._old, self._young)
        )
        older_batches, younger_batches = (
            [(project, batch) for (project, _), batch in generation.by_id.items()]
            for generation in (self._old_batches, self._young_batches)
        )
        return msgspec.msgpack.encode(_Saved((older, younger), (older_batches, younger_batches)))

    def restore(self, saved: bytes) -> bool:
        """Replace the memory by a snapshot. False, and nothing changed, when the bytes are no snapshot."""
        try:
            found = msgspec.msgpack.decode(saved, type=_Saved)
        except msgspec.MsgspecError:
            return False
        self._old, self._young = (
            _Ids(
                # What the snapshot calls not durable has become so before it was kept.
                {(project, kind): {key: abs(at) for key, at in ids.items()} for project, kind, ids in lanes},
                sum(len(ids) for _, _, ids in lanes),
                sum(_size_of_id(event_id) for _, _, ids in lanes for event_id in ids),
            )
            for lanes in found.ids
        )
        self._old_batches, self._young_batches = (
            _Batches(
                {(project, batch.batch_id): batch for project, batch in batches},
                sum(_weight(batch) for _, batch in batches),
                sum(_size_of_batch(batch) for _, batch in batches),
            )
            for batches in found.batches
        )
        return True

    def statistics(self) -> DoorStatistics:
        """How much the door remembers."""
        return DoorStatistics(
            ids=self._young.count + self._old.count,
            batches=len(self._young_batches.by_id) + len(self._old_batches.by_id),
            epoch=self.epoch,
        )


def _weight(batch: BatchHead) -> int:
    return 1 + len(batch.keys)


def _size_of_id(event_id: str) -> int:
    return _ID_BYTES + (len(event_id) if event_id.isascii() else 4 * len(event_id))


def _size_of_batch(batch: BatchHead) -> int:
    refused = sum(len(code) + 4 * len(error) + _ID_BYTES for _, code, error in batch.refusals)
    return _BATCH_BYTES + len(batch.batch_id) + _KEY_BYTES * len(batch.keys) + refused
