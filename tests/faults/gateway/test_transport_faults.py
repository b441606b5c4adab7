"""Providers whose network, names, certificates or protocol are broken, as the gateway's transport meets them."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import os
import ssl

import pytest
import trustme

from leeward.gateway.origin import Endpoint, Origin
from leeward.gateway.resolve import DnsError, Resolver
from leeward.gateway.transport import TransportError
from upstreams import BYTES_MAX, CLOSE, HANG, LOOPS, RESET, Caller, answer, chunked, run, serving, until

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def loop(request):
    return request.param


async def error_of(awaitable) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await awaitable
    return caught.value


class Names:
    """Stands for the resolver; each look-up gets the next answer."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    async def addresses(self, name, port):
        self.asked += 1
        found = self.answers[min(self.asked, len(self.answers)) - 1]
        if not found:
            raise DnsError("the name does not resolve")
        return found


def named(endpoint: Endpoint, name: str = "api.example.com", **changes) -> Endpoint:
    return Endpoint(Origin.of(f"{endpoint.origin.scheme}://{name}:{endpoint.origin.port}"), **changes)


# -- G15: the keep-alive race


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_g15_a_kept_connection_that_closes_as_we_send_is_replaced_once(loop, end):
    async def work(caller: Caller) -> None:
        async with serving([answer(b"1")], [end], [answer(b"2")]) as (upstream, endpoint):
            assert await caller.read(endpoint) == b"1"
            assert await caller.read(endpoint, b"again") == b"2"
            assert upstream.connections == 2
            assert [request[-5:] for request in upstream.requests[1:]] == [b"again", b"again"]
            statistics = caller.transport.statistics()
            assert (statistics.races, statistics.reused, statistics.open) == (1, 0, 1)

    run(loop, work)


@pytest.mark.parametrize(
    ("scripts", "changes", "requests"),
    [
        ([[answer()], [CLOSE], [CLOSE]], {}, 3),  # once, not twice
        ([[answer()], [CLOSE]], {"repeatable": False}, 2),
        ([[answer()], [b"H", RESET]], {}, 2),  # a byte of the answer was there
        ([[answer()], [HANG]], {"head_timeout_s": 0.02}, 2),
        ([[CLOSE]], {}, 1),  # a new connection has no such race
    ],
)
def test_g15_nothing_but_that_race_is_repeated(loop, scripts, changes, requests):
    async def work(caller: Caller) -> None:
        async with serving(*scripts) as (upstream, endpoint):
            if requests > 1:
                await caller.read(endpoint)
            assert (await error_of(caller.read(endpoint, **changes))).sent
            assert len(upstream.requests) == requests

    run(loop, work)


def test_g15_an_idle_connection_that_the_provider_closed_is_not_used(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer(b"1"), CLOSE], [answer(b"2")]) as (upstream, endpoint):
            await caller.read(endpoint)
            await until(lambda: not caller.transport._pool.sockets)
            assert caller.transport.statistics().open == 0
            assert await caller.read(endpoint) == b"2"
            assert (len(upstream.requests), caller.transport.statistics().races) == (2, 0)

    run(loop, work)


# -- G19: resets while the request leaves


@pytest.mark.parametrize("kept", [False, True])
def test_g19_a_reset_at_any_byte_of_the_request_says_that_some_was_sent_and_repeats_only_the_race(loop, kept):
    async def work(caller: Caller) -> None:
        async with serving([answer()]) as (upstream, endpoint):
            await caller.read(endpoint, b"body of the request")
            length = len(upstream.requests[0])
            step = 1 if HEAVY else 17
            for count in [*range(0, length, step), length]:
                upstream.reset_after = None
                if kept and not caller.transport.statistics().idle:
                    await caller.read(endpoint, b"body of the request")
                elif not kept:
                    for connection in list(caller.transport._pool.sockets):
                        connection.close()
                before, races = upstream.connections, caller.transport.statistics().races
                upstream.reset_after = count
                error = await error_of(caller.read(endpoint, b"body of the request"))
                assert (error.kind, error.sent) == ("reset", True)
                assert upstream.connections - before == 1
                assert caller.transport.statistics().races - races == (1 if kept else 0)

    run(loop, work)


def test_g19_a_reset_in_the_middle_of_a_large_body_is_told_as_sent(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer()]) as (upstream, endpoint):
            upstream.reset_after = 300_000
            error = await error_of(caller.read(endpoint, b"x" * 20_000_000))
            assert (error.kind, error.sent) == ("reset", True)
            assert caller.transport.statistics().races == 0

    run(loop, work)


# -- G10: answers without measure


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000, b"x" * (2 * BYTES_MAX), HANG], "too_large"),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", HANG], "too_large"),
        ([chunked(b"x" * (BYTES_MAX + 1)), HANG], "too_large"),
        ([b"HTTP/1.1 200 OK\r\n", b"x-endless: " + b"x" * (1 << 20), HANG], "too_large"),
        ([b"HTTP/1.1 200 OK\r\n", b"x-many: x\r\n" * 100_000, HANG], "too_large"),
        ([answer(gzip.compress(b"0" * 50_000_000), headers=b"content-encoding: gzip\r\n"), HANG], "protocol"),
        ([answer(b"one") + answer(b"two"), HANG], "protocol"),
        ([answer(b"longer than it says").replace(b"19", b"6"), HANG], "protocol"),
        ([b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x80\0\4\0\1\0\0\0\5\0\xff\xff\xff", HANG], "protocol"),
        ([b"\0\0\x08\7\0\0\0\0\0\0\0\0\1\0\0\0\0", CLOSE], "protocol"),  # GOAWAY of HTTP/2
    ],
)
def test_g10_an_answer_without_measure_ends_in_an_error_and_its_connection_is_closed(loop, script, kind):
    async def work(caller: Caller) -> None:
        async with serving(script) as (upstream, endpoint):
            assert (await error_of(caller.read(endpoint))).kind == kind
            await until(lambda: upstream.ended)
            assert caller.transport.statistics().open == 0

    run(loop, work)


def test_g10_an_endless_stream_ends_at_its_limit(loop):
    async def work(caller: Caller) -> None:
        async with serving([b"HTTP/1.1 200 OK\r\n\r\n", b"data: x\n\n" * 1_000_000, HANG]) as (_, endpoint):
            exchange = await caller.begin(endpoint)
            got, ended = [], asyncio.get_running_loop().create_future()
            exchange.forward(lambda data: got.append(len(data)), ended.set_result)
            assert (await ended).kind == "too_large"
            assert sum(got) <= BYTES_MAX

    run(loop, work)


# -- G12: names that lead astray


def test_g12_a_name_that_rebinds_to_this_machine_is_refused_at_the_connect(loop):
    names = Names(["93.184.216.34"], ["127.0.0.1"], ["169.254.169.254"], ["::ffff:127.0.0.1", "10.0.0.1"])

    async def work(caller: Caller) -> None:
        async with serving() as (upstream, endpoint):
            target = named(endpoint)
            await caller.transport._resolver.addresses("api.example.com", 80)  # what it was at the first look
            for _ in range(3):
                error = await error_of(caller.begin(target))
                assert (error.kind, error.sent) == ("forbidden_address", False)
            assert upstream.connections == 0

    run(loop, work, resolver=names)


def test_g12_a_private_provider_s_name_may_lead_here_and_the_checked_address_is_the_one_that_is_used(loop):
    names = Names(["127.0.0.1"], ["169.254.169.254"])

    async def work(caller: Caller) -> None:
        async with serving([answer(b"private")]) as (upstream, endpoint):
            assert await caller.read(named(endpoint, "llm.internal", private=True)) == b"private"
            assert b"host: llm.internal:%d\r\n" % endpoint.origin.port in upstream.requests[0]
            assert names.asked == 1

    run(loop, work, resolver=names)


def test_g12_of_several_addresses_only_the_allowed_ones_are_tried(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer(b"last")]) as (_, endpoint):
            target = named(endpoint, "llm.internal", private=True)
            assert await caller.read(target) == b"last"

    run(loop, work, resolver=Names(["169.254.169.254", "fe80::1%lo", "127.0.0.9", "127.0.0.1"]))


# -- G15: names and certificates


def test_g15_a_name_that_does_not_resolve_is_told_as_dns(loop):
    async def work(caller: Caller) -> None:
        error = await error_of(caller.begin(Endpoint(Origin.of("https://api.example.com"))))
        assert (error.kind, error.sent) == ("dns", False)
        assert caller.transport.statistics().open == 0

    run(loop, work, resolver=Names([]))


@pytest.mark.parametrize(
    ("changes", "kind"), [({"connect_timeout_s": 0.02}, "connect_timeout"), ({"deadline_in_s": 0.02}, "deadline")]
)
def test_g15_a_name_service_that_hangs_does_not_keep_the_call(loop, changes, kind):
    class Hanging:
        async def addresses(self, name, port):
            await asyncio.Event().wait()

    async def work(caller: Caller) -> None:
        error = await error_of(caller.begin(Endpoint(Origin.of("https://api.example.com")), **changes))
        assert (error.kind, error.sent) == (kind, False)

    run(loop, work, resolver=Hanging())


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    certificate.configure_cert(context)
    return context


def client_side(*authorities: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    for one in authorities:
        one.configure_trust(context)
    return context


def test_over_tls_a_hundred_calls_take_one_connection_that_speaks_http_1(loop, authority):
    async def work(caller: Caller) -> None:
        async with serving([answer(b"safe")], tls=server_side(authority.issue_cert("127.0.0.1"))) as (
            upstream,
            endpoint,
        ):
            for _ in range(100):
                assert await caller.read(endpoint) == b"safe"
            assert upstream.connections == 1
            (connection,) = caller.transport._pool.sockets
            assert connection._socket.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"

    run(loop, work, tls=client_side(authority))


def test_the_roots_of_ssl_cert_file_are_trusted_where_no_context_is_given(loop, authority, monkeypatch, tmp_path):
    roots = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(roots)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))

    async def work(caller: Caller) -> None:
        async with serving([answer(b"safe")], tls=server_side(authority.issue_cert("127.0.0.1"))) as (_, endpoint):
            assert await caller.read(endpoint) == b"safe"

    run(loop, work)


def expired(authority):
    return authority.issue_cert("127.0.0.1", not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))


@pytest.mark.parametrize(
    ("certificate", "detail"),
    [
        (expired, "tls_expired"),
        (lambda authority: authority.issue_cert("other.example"), "tls_host_name"),
        (lambda _: trustme.CA().issue_cert("127.0.0.1"), "tls_untrusted"),
    ],
)
def test_g15_a_certificate_that_proves_nothing_is_refused_and_nothing_is_sent(loop, authority, certificate, detail):
    async def work(caller: Caller) -> None:
        async with serving(tls=server_side(certificate(authority))) as (upstream, endpoint):
            error = await error_of(caller.begin(endpoint))
            assert (error.kind, error.sent) == ("tls", False)
            assert error.detail.startswith(detail.partition("_")[0])
            assert error.detail == detail
            assert upstream.requests == []
            assert caller.transport.statistics().open == 0

    run(loop, work, tls=client_side(authority))


def test_g15_a_failed_handshake_is_not_tried_again_at_the_name_s_other_addresses(loop):
    async def work(caller: Caller) -> None:
        met = []

        async def talk(reader, writer):
            met.append(writer)
            writer.write(b"220 mail.example ESMTP\r\n")
            await reader.read(1)
            writer.transport.abort()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        endpoint = Endpoint(Origin.of(f"https://llm.internal:{server.sockets[0].getsockname()[1]}"), private=True)
        error = await error_of(caller.begin(endpoint))
        assert (error.kind, error.sent) == ("tls", False)
        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert len(met) == 1
        server.close()

    run(loop, work, resolver=Names(["127.0.0.1", "127.0.0.1"]))


def test_g15_a_handshake_that_is_cut_is_a_reset_and_one_that_hangs_a_time_out(loop):
    async def work(caller: Caller) -> None:
        async def hang_up(reader, writer):
            await reader.read(1)
            writer.transport.abort()

        async def hang(reader, writer):
            await reader.read()
            writer.transport.abort()

        for behave, kind, wait_s in ((hang_up, "reset", 10.0), (hang, "connect_timeout", 0.02)):
            server = await asyncio.start_server(behave, "127.0.0.1", 0)
            endpoint = Endpoint(Origin.of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
            error = await error_of(caller.begin(endpoint, connect_timeout_s=wait_s))
            assert (error.kind, error.sent) == (kind, False)
            server.close()
            await until(lambda: len(asyncio.all_tasks()) == 1)

    run(loop, work)


def test_g15_over_tls_a_kept_connection_that_closes_as_we_send_is_replaced_once(loop, authority):
    async def work(caller: Caller) -> None:
        tls = server_side(authority.issue_cert("127.0.0.1"))
        async with serving([answer(b"1")], [RESET], [answer(b"2")], tls=tls) as (upstream, endpoint):
            await caller.read(endpoint)
            assert await caller.read(endpoint) == b"2"
            assert (upstream.connections, caller.transport.statistics().races) == (2, 1)

    run(loop, work, tls=client_side(authority))


def test_the_system_s_resolver_is_asked_on_a_thread(loop):
    async def work(caller: Caller) -> None:
        async with serving([answer(b"found")]) as (_, endpoint):
            assert await caller.read(named(endpoint, "llm.internal", private=True)) == b"found"

    clock = Caller().clock
    run(loop, work, resolver=Resolver(clock, lambda name, port: ["127.0.0.1"]))
