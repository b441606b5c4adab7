"""Names within a deadline: who waits, who does not, and what is used when nothing can be looked up."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from leeward.clock import SystemClock
from leeward.sender import resolver as names
from leeward.sender.resolver import DnsError, Resolver
from sender_helpers import HandClock

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
MOVED = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 80))]
BLINK_S = 0.05  # for a wait that only the machine's clock can end


class Service:
    """A name service that a test commands: it answers, fails, or hangs until it is released."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        self.threads = []
        self.hanging = threading.Event()
        self.released = threading.Event()
        self.released.set()
        self.ended = threading.Event()

    def look_up(self, name, port, flags):
        self.asked.append(name)
        self.threads.append(threading.get_ident())
        self.hanging.set()
        assert self.released.wait(60)
        answer = self.answers.get(name, FOUND)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def start(self, work, arguments):
        def and_tell():
            work(*arguments)
            self.ended.set()

        threading.Thread(target=and_tell, daemon=True).start()

    def hang(self):
        self.hanging.clear()
        self.ended.clear()
        self.released.clear()

    def release(self):
        self.released.set()
        assert self.ended.wait(10)


@pytest.fixture
def service():
    service = Service()
    yield service
    service.released.set()


@pytest.fixture
def resolver(service):
    return Resolver(service.look_up, service.start)


@pytest.fixture
def clock():
    return HandClock()


def ask(resolver, name="a.example", wait_s=60.0, clock=None):
    clock = clock or SystemClock()
    return resolver.addresses(name, 80, deadline_s=clock.monotonic_s() + wait_s, clock=clock)


def hang_once(resolver, service, name="a.example"):
    """Leave one look-up behind, hanging."""
    service.hang()
    with pytest.raises(DnsError):
        ask(resolver, name, BLINK_S)


@pytest.mark.parametrize("literal", ["127.0.0.1", "::1"])
def test_a_literal_address_needs_neither_thread_nor_service(resolver, service, literal):
    found = ask(resolver, literal)

    assert found[0][4][:2] == (literal, 80)
    assert service.asked == []


def test_c2_a_name_is_looked_up_on_a_thread_of_its_own(resolver, service):
    assert ask(resolver) == FOUND
    assert service.asked == ["a.example"]
    assert service.threads != [threading.get_ident()]


def test_a_name_is_looked_up_by_the_system_if_nobody_else_is_given():
    assert ask(Resolver(), "localhost")[0][4][1] == 80


@pytest.mark.parametrize(
    "answer", [socket.gaierror(socket.EAI_NONAME, "no"), UnicodeError("a..b"), KeyError("patched"), []]
)
def test_c2_whatever_a_look_up_raises_means_that_there_is_no_address(resolver, service, answer):
    service.answers["a.example"] = answer

    with pytest.raises(DnsError):
        ask(resolver)


def test_c2_a_service_that_hangs_is_left_at_the_deadline_and_gets_no_second_thread(resolver, service):
    hang_once(resolver, service)

    for name in ("a.example", "b.example"):
        with pytest.raises(DnsError):
            ask(resolver, name)  # at once: an hour of patience changes nothing
    assert service.asked == ["a.example"]


def test_c2_what_a_look_up_finds_too_late_is_remembered(resolver, service):
    hang_once(resolver, service)
    service.release()
    service.answers["a.example"] = OSError("down")

    assert ask(resolver) == FOUND
    assert service.asked == ["a.example"] * 2


def test_c2_the_last_addresses_are_used_while_the_service_fails_for_an_hour(resolver, service, clock):
    assert ask(resolver, clock=clock) == FOUND
    service.answers = dict.fromkeys(("a.example", "b.example"), OSError("down"))

    clock.now_s += names.KNOWN_AGE_MAX_S
    assert ask(resolver, clock=clock) == FOUND
    with pytest.raises(DnsError):
        ask(resolver, "b.example", clock=clock)

    clock.now_s += 1
    with pytest.raises(DnsError):
        ask(resolver, clock=clock)


def test_c2_the_last_addresses_are_used_before_the_deadline_when_the_service_hangs(resolver, service, monkeypatch):
    monkeypatch.setattr(names, "KNOWN_WAIT_S", BLINK_S)
    ask(resolver)
    service.hang()

    assert ask(resolver, wait_s=3600) == FOUND
    assert ask(resolver, wait_s=3600) == FOUND


def test_a_server_that_has_moved_is_found_at_its_new_place(resolver, service):
    ask(resolver)
    service.answers["a.example"] = MOVED

    assert ask(resolver) == MOVED


def test_c13_without_a_thread_the_last_addresses_are_used_or_none(resolver, service, clock):
    ask(resolver, clock=clock)
    start, resolver._start = resolver._start, refuse

    assert ask(resolver, clock=clock) == FOUND
    with pytest.raises(DnsError):
        ask(resolver, "b.example", clock=clock)

    resolver._start = start
    assert ask(resolver, "b.example", clock=clock) == FOUND


def refuse(work, arguments):
    raise RuntimeError("can't create new thread at interpreter shutdown")


class Waiting(HandClock):
    """Tells when it is asked the time for the last time before a wait."""

    def __init__(self, calls):
        super().__init__()
        self._calls = calls
        self.waits = threading.Event()

    def monotonic_s(self):
        self._calls -= 1
        if not self._calls:
            self.waits.set()
        return super().monotonic_s()


@pytest.mark.parametrize(("name", "asked"), [("a.example", ["a.example"]), ("b.example", ["a.example", "b.example"])])
def test_two_clients_share_a_look_up_or_wait_for_their_turn(resolver, service, name, asked):
    service.hang()
    results = []
    first = threading.Thread(target=lambda: results.append(ask(resolver)))
    first.start()
    assert service.hanging.wait(10)

    clock = Waiting(calls=3)  # for the deadline, for the age of what is known, and before it waits
    second = threading.Thread(target=lambda: results.append(ask(resolver, name, clock=clock)))
    second.start()
    assert clock.waits.wait(10)
    service.released.set()
    first.join(10)
    second.join(10)

    assert results == [FOUND, FOUND]
    assert service.asked == asked


def test_c14_a_forked_child_does_not_wait_for_its_parents_look_up(resolver, service, monkeypatch):
    hang_once(resolver, service)
    service.released.set()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    service.hang()
    service.released.set()

    assert ask(resolver, "b.example") == FOUND


def test_what_is_remembered_has_a_bound(resolver):
    for number in range(3 * names.NAMES_MAX):
        assert ask(resolver, f"{number}.example") == FOUND

    assert len(resolver._known) <= names.NAMES_MAX


def test_c2_c11_a_service_that_hangs_for_ever_does_not_hold_the_exit():
    program = f"""
import time
from leeward.clock import SystemClock
from leeward.sender.resolver import DnsError, Resolver
clock = SystemClock()
try:
    Resolver(lambda *_: time.sleep(3600)).addresses("a.example", 80, deadline_s=clock.monotonic_s() + {BLINK_S}, clock=clock)
except DnsError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the name does not resolve\n", "")
