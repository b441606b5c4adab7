from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from leeward.gateway import resolve
from leeward.gateway.resolve import THREADS_MAX, DnsError, Resolver, getaddrinfo


class Time:
    now_s = 0.0

    def monotonic_s(self):
        return self.now_s


class LookUps:
    """Stands for the system's resolver: answers in turn; `held` ones wait until they are let go."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self.may_go, self.held = threading.Event(), False

    def __call__(self, name, port):
        self.asked.append((name, port))
        if self.held:
            self.may_go.wait()
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_name_is_looked_up_each_time_and_the_last_answer_counts():
    look_ups = LookUps(["192.0.2.1"], ["192.0.2.2"])
    resolver = Resolver(Time(), look_ups)

    async def main():
        return [await resolver.addresses("a.example", 443) for _ in range(2)]

    assert asyncio.run(main()) == [["192.0.2.1"], ["192.0.2.2"]]
    assert look_ups.asked == [("a.example", 443)] * 2


@pytest.mark.parametrize("failure", [socket.gaierror(), UnicodeError(), []])
def test_a_name_that_is_not_found_is_a_dns_error(failure):
    with pytest.raises(DnsError):
        asyncio.run(Resolver(Time(), LookUps(failure)).addresses("none.example", 443))


def test_those_who_ask_for_the_same_name_wait_for_one_look_up():
    look_ups = LookUps(["192.0.2.1"])
    look_ups.held = True
    resolver = Resolver(Time(), look_ups)

    async def main():
        asking = [asyncio.ensure_future(resolver.addresses("a.example", 443)) for _ in range(5)]
        await asyncio.sleep(0)
        asking[0].cancel()
        look_ups.may_go.set()
        return await asyncio.gather(*asking, return_exceptions=True)

    gone, *found = asyncio.run(main())
    assert isinstance(gone, asyncio.CancelledError)
    assert found == [["192.0.2.1"]] * 4
    assert len(look_ups.asked) == 1


def test_after_a_failure_the_last_addresses_are_used_until_they_are_an_hour_old():
    clock = Time()
    resolver = Resolver(clock, LookUps(["192.0.2.1"], socket.gaierror()))

    async def main():
        await resolver.addresses("a.example", 443)
        clock.now_s = 3600.0
        assert await resolver.addresses("a.example", 443) == ["192.0.2.1"]
        clock.now_s = 3601.0
        with pytest.raises(DnsError):
            await resolver.addresses("a.example", 443)

    asyncio.run(main())


def test_a_look_up_that_hangs_gives_way_to_the_last_addresses(monkeypatch):
    monkeypatch.setattr(resolve, "KNOWN_WAIT_S", 0.0)
    look_ups = LookUps(["192.0.2.1"])
    resolver = Resolver(Time(), look_ups)

    async def main():
        await resolver.addresses("a.example", 443)
        look_ups.held = True
        return await resolver.addresses("a.example", 443)

    assert asyncio.run(main()) == ["192.0.2.1"]
    thread = next(thread for thread in threading.enumerate() if thread.name == "leeward-dns")
    look_ups.may_go.set()  # its loop is closed by now: the thread ends without a word
    thread.join()


def test_look_ups_that_hang_take_a_few_threads_and_no_more():
    look_ups = LookUps(["192.0.2.1"])
    look_ups.held = True
    resolver = Resolver(Time(), look_ups)

    async def main():
        hanging = [asyncio.ensure_future(resolver.addresses(f"{n}.example", 443)) for n in range(THREADS_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(DnsError):
            await resolver.addresses("one-more.example", 443)
        look_ups.may_go.set()
        assert await asyncio.gather(*hanging) == [["192.0.2.1"]] * THREADS_MAX
        assert await resolver.addresses("one-more.example", 443) == ["192.0.2.1"]

    asyncio.run(main())


def test_without_a_thread_a_name_is_not_found(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(DnsError):
        asyncio.run(Resolver(Time()).addresses("a.example", 443))


def test_names_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(resolve, "NAMES_MAX", 2)
    resolver = Resolver(Time(), LookUps(["192.0.2.1"]))

    async def main():
        for number in range(5):
            await resolver.addresses(f"{number}.example", 443)

    asyncio.run(main())
    assert len(resolver._known) <= 2


def test_the_two_families_take_turns(monkeypatch):
    found = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 443)) for address in found])
    assert getaddrinfo("a.example", 443) == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]
    found.reverse()
    assert getaddrinfo("a.example", 443)[:2] == ["192.0.2.1", "2001:db8::3"]


def test_the_system_s_resolver_knows_this_machine():
    assert set(getaddrinfo("localhost", 80)) <= {"127.0.0.1", "::1"}
