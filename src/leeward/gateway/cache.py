"""Good answers, kept for the fallback steps `cache` and `stale-cache`. In memory only.

Promises  A request finds only what the same tenant got for the same model, operation and fields; fields that say who
          asks or how the answer travels do not count. It finds the newest such answer, with its age, and never one
          older than `stale_s`. All answers together stay within `bytes_max`: what was used longest ago goes first.
Limits    Fields are compared as values (order of keys, escapes, 1 and 1.0 make no difference), those above 64 KiB byte
          for byte. An answer of more than an eighth of `bytes_max` is not kept. All tenants share the room.
Whoever puts sees to it that the answer is a good one: a degraded answer is never put. Belongs to the event loop.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from leeward.wire.chat import ChatRequest

__all__ = ["AnswerCache", "CacheStatistics", "Kept"]

CANONICAL_BYTES_MAX: Final = 64 << 10
ANSWER_SHARE_MAX: Final = 8  # an answer may take an eighth of the room, so that a few cannot throw out all others
OVERHEAD_BYTES: Final = 512  # of an entry, beside its body
INTEGER_MAX: Final = 2**53  # beyond, a double no longer tells neighbours apart

# What has no part in what is answered: who asks, how it travels, what the provider may do with it afterwards.
UNCOUNTED: Final = frozenset(
    {
        "metadata",
        "model",  # the route's, which counts by itself
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "stream",
        "stream_options",
        "user",
    }
)


class Kept(msgspec.Struct, frozen=True):
    """An answer that was kept: a completion as JSON, or the events of a stream without its `[DONE]`."""

    body: bytes
    age_s: float
    is_stream: bool


class CacheStatistics(msgspec.Struct, frozen=True):
    """What is held now, and what has happened since the start."""

    answers: int
    bytes: int
    hits: int
    misses: int
    evicted: int  # to make room; not for their age


class _Entry(msgspec.Struct, frozen=True):
    body: bytes
    put_s: float


class AnswerCache:
    """Answers by the key of their request. Times are monotonic seconds."""

    __slots__ = ("_age", "_bytes", "_evicted", "_hits", "_lock", "_misses", "_used", "bytes_max", "stale_s", "ttl_s")

    def __init__(self, ttl_s: float, stale_s: float, bytes_max: int) -> None:
        self._lock = threading.Lock()  # loops of several threads may share a gateway
        self.ttl_s = ttl_s
        self.stale_s = stale_s
        self.bytes_max = bytes_max
        self._used: OrderedDict[bytes, _Entry] = OrderedDict()  # what was used last stands last
        self._age: OrderedDict[bytes, None] = OrderedDict()  # the same keys, the youngest answer last
        self._bytes = 0
        self._hits = self._misses = self._evicted = 0

    def key(self, tenant: str, request: ChatRequest) -> bytes:
        """What two requests of one tenant have in common exactly if one's answer serves the other."""
        parts = [tenant.encode("utf-8", "surrogatepass"), request.model.encode(), request.operation.encode()]
        for name in sorted(request.fields.keys() - UNCOUNTED):
            parts += name.encode(), _canonical(bytes(request.fields[name]))
        found = hashlib.sha256()
        for part in parts:  # each with its length, so that no part can pass for the end of the one before
            found.update(b"%d:" % len(part))
            found.update(part)
        return found.digest()

    def put(self, key: bytes, body: bytes, now_s: float) -> None:
        """Keep an answer: a completion as JSON, or the events that a stream consisted of."""
        with self._lock:
            self._put(key, body, now_s)

    def _put(self, key: bytes, body: bytes, now_s: float) -> None:
        self._expire(now_s)
        if key in self._used:
            self._remove(key)
        cost = _cost(body)
        if cost * ANSWER_SHARE_MAX > self.bytes_max:
            return
        while self._bytes + cost > self.bytes_max:
            self._remove(next(iter(self._used)))
            self._evicted += 1
        self._used[key] = _Entry(body, now_s)
        self._age[key] = None
        self._bytes += cost

    def get(self, key: bytes, now_s: float, *, stale: bool) -> Kept | None:
        """The answer kept under a key: a fresh one, or with *stale* any that is better than none."""
        with self._lock:
            return self._get(key, now_s, stale=stale)

    def _get(self, key: bytes, now_s: float, *, stale: bool) -> Kept | None:
        self._expire(now_s)
        entry = self._used.get(key)
        if entry is None or (not stale and now_s - entry.put_s > self.ttl_s):
            self._misses += 1
            return None
        self._hits += 1
        self._used.move_to_end(key)
        return Kept(entry.body, now_s - entry.put_s, _is_stream(entry.body))

    def statistics(self) -> CacheStatistics:
        """How it is used."""
        return CacheStatistics(len(self._used), self._bytes, self._hits, self._misses, self._evicted)

    def _expire(self, now_s: float) -> None:
        """Forget what is too old for anything: it should not stay in memory for want of newer answers."""
        while self._age:
            oldest = next(iter(self._age))
            if now_s - self._used[oldest].put_s <= self.stale_s:
                return
            self._remove(oldest)

    def _remove(self, key: bytes) -> None:
        self._bytes -= _cost(self._used.pop(key).body)
        del self._age[key]


def _cost(body: bytes) -> int:
    return len(body) + OVERHEAD_BYTES


def _is_stream(body: bytes) -> bool:
    """A completion is a JSON object; an event begins with a field's name or a colon."""
    return not body[:64].lstrip().startswith(b"{")


def _canonical(raw: bytes) -> bytes:
    """One spelling for all JSON texts of a value. What is not to be read, or very large, is its own spelling."""
    if len(raw) > CANONICAL_BYTES_MAX:
        return b"~" + raw
    try:
        return b"=" + msgspec.json.encode(_DECODE(raw), order="sorted")
    except (msgspec.MsgspecError, RecursionError):
        return b"~" + raw  # a lone surrogate, a number beyond all doubles


def _number(text: str) -> int | float:
    """A number with a point or an exponent, as the integer that it may be."""
    value = float(text)
    if abs(value) == float("inf"):
        raise ValueError("no double holds it")
    return int(value) if value.is_integer() and abs(value) <= INTEGER_MAX else value


_DECODE: Final = msgspec.json.Decoder(float_hook=_number).decode
