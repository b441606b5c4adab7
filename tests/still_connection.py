"""A gateway's connection without a network: given bytes in given pieces, and time that stands still until it is moved."""

from __future__ import annotations

import itertools

from leeward.gateway.connection import Connection
from leeward.gateway.exchange import Exchange

BYTES_MAX = 1000
STALL_S, HEAD_S, DEADLINE_S = 5.0, 10.0, 60.0


class Timer:
    def __init__(self, at_s, call):
        self.at_s, self.call, self.cancelled = at_s, call, False

    def cancel(self):
        self.cancelled = True


class Loop:
    """Timers and the clock they go by."""

    def __init__(self):
        self.now_s = 0.0
        self.timers = []
        self.set = 0

    def monotonic_s(self):
        return self.now_s

    def call_later(self, delay_s, call):
        self.set += 1
        self.timers.append(Timer(self.now_s + delay_s, call))
        return self.timers[-1]

    def pending(self):
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, seconds):
        end_s = self.now_s + seconds
        while due := [timer for timer in self.pending() if timer.at_s <= end_s]:
            first = min(due, key=lambda timer: timer.at_s)
            self.timers.remove(first)
            self.now_s = first.at_s
            first.call()
        self.now_s = end_s


class Socket:
    def __init__(self):
        self.sent, self.reads, self.aborted, self.unsent = b"", True, False, 0

    def write(self, data):
        self.sent += data

    def pause_reading(self):
        self.reads = False

    def resume_reading(self):
        self.reads = True

    def get_write_buffer_size(self):
        return self.unsent

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True


class Owner:
    def __init__(self):
        self.told = []

    def made(self, connection):
        self.told.append("made")

    def free(self, connection):
        self.told.append("free")

    def useless(self, connection):
        self.told.append("useless")

    def gone(self, connection):
        self.told.append("gone")


class Call:
    """A connection with an exchange on it, and what came of it."""

    def __init__(self, *, bytes_max=BYTES_MAX, push=True):
        self.loop, self.owner, self.socket = Loop(), Owner(), Socket()
        self.connection = Connection(self.loop, self.loop, self.owner)
        self.connection.connection_made(self.socket)
        self.begin(bytes_max=bytes_max, push=push)

    def begin(self, *, bytes_max=BYTES_MAX, push=True):
        self.data, self.ends = [], []
        self.exchange = Exchange(bytes_max=bytes_max, limit_s=self.loop.now_s + DEADLINE_S, stall_s=STALL_S)
        if push:
            self.exchange.forward(self.data.append, self.ends.append)
        self.connection.send(self.exchange, b"HEAD", b"BODY", HEAD_S)

    def feed(self, *parts):
        for part in parts:
            if not self.socket.aborted:
                self.connection.data_received(part)
        return self

    @property
    def outcome(self):
        """Status, body and error's kind; the kind is "" for a whole answer and None before the end."""
        kind = None if not self.ends else "" if self.ends[0] is None else self.ends[0].kind
        return self.exchange.status, b"".join(self.data), kind


def cut(data: bytes, places: list[int] | range = ()) -> list[bytes]:
    """In pieces, none of them larger than what one read of a socket brings."""
    places = [*(place % (len(data) + 1) for place in places), *range(0, len(data), 16_384)]
    marks = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks) if a < b]
