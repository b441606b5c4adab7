"""What a gateway's server says of its providers over HTTP: `/health`, `/api/providers`, `/metrics`; and what it tells others."""

from __future__ import annotations

import asyncio
import json

import pytest

import recorder
from leeward.wire.sentry.envelope import split
from leeward.wire.sentry.items import map_envelope
from served import ADMIN_KEY, CHAT_KEY, served, settings_with
from upstreams import answer, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
OPENS = {"breaker": {"consecutive_failures": 2, "open_s": 600, "open_max_s": 600}}


def simulated(name):
    return {"name": name, "kind": "simulated", "models": {"chat": f"{name}-large"}}


def with_gateway(work, *names, **further):
    async def main():
        async with served(settings_with(*map(simulated, names), **further)) as gateway:
            await work(gateway)

    asyncio.run(main())


async def broken(gateway, *names, fault="500"):
    """Break these, and ask until they are open."""
    for name in names:
        gateway.application.gateway.core.homes.simulated[name].fault = fault
    for _ in range(3):
        await gateway.chat()


def test_all_well_is_healthy_and_who_asks_needs_no_key():
    async def work(gateway):
        told = await gateway.ask("GET", "/health", key="")
        assert told.status == 200
        assert told.json() == {
            "status": "healthy",
            "parts": {"providers": {"status": "healthy", "count": 2.0, "unwell": 0.0}},
        }

    with_gateway(work, "a", "b")


def test_one_provider_that_is_down_is_a_degraded_200_and_all_are_a_503():
    async def work(gateway):
        await broken(gateway, "a")
        told = await gateway.ask("GET", "/health", key="")
        assert (told.status, told.json()["status"]) == (200, "degraded")
        assert told.json()["parts"]["providers"]["unwell"] == 1.0
        assert "500" not in told.body.decode()
        await broken(gateway, "b")
        told = await gateway.ask("GET", "/health", key="")
        assert (told.status, told.json()["status"]) == (503, "unhealthy")
        assert told.json()["parts"]["providers"]["detail"] == "no provider answers"
        assert (await gateway.ask("GET", "/livez", key="")).status == 200
        assert (await gateway.ask("GET", "/readyz", key="")).status == 200

    with_gateway(work, "a", "b", gateway=OPENS)


def test_one_provider_is_asked_for_by_its_name():
    async def work(gateway):
        await broken(gateway, "a")
        bad, good = [await gateway.ask("GET", f"/health?provider={name}", key="") for name in "ab"]
        assert (bad.status, bad.json()["status"]) == (503, "unhealthy")
        assert (good.status, good.json()["status"]) == (200, "healthy")
        nobody = await gateway.ask("GET", "/health?provider=nobody", key="")
        assert nobody.status == 404
        assert "nobody" not in nobody.json()["error"]

    with_gateway(work, "a", "b", gateway=OPENS)


def test_without_providers_there_is_nothing_to_be_unhealthy():
    async def work(gateway):
        told = await gateway.ask("GET", "/health", key="")
        assert (told.status, told.json()) == (200, {"status": "healthy", "parts": {}})

    with_gateway(work)


def test_the_list_of_providers_has_breaker_health_calls_and_latency():
    async def work(gateway):
        await broken(gateway, "a")
        told = (await gateway.ask("GET", "/api/providers", key=ADMIN_KEY)).json()
        first, second = told["providers"]
        assert [each["name"] for each in (first, second)] == ["a", "b"]
        assert (first["kind"], first["breaker"], first["models"][0]["breaker"]) == ("simulated", "open", "open")
        assert first["models"][0]["opens_in_s"] > 0
        assert (first["models"][0]["calls"], first["models"][0]["failures"]) == (2, 2)
        assert second["models"][0]["calls"] == 3
        assert second["models"][0]["latency_p50_ms"] >= 0
        assert (await gateway.ask("GET", "/api/providers", key=CHAT_KEY)).status == 403
        assert (await gateway.ask("GET", "/api/providers", key="")).status == 401

    with_gateway(work, "a", "b", gateway=OPENS)


def test_metrics_have_both_providers_from_the_start_and_count_on():
    async def work(gateway):
        before = (await gateway.ask("GET", "/metrics", key=ADMIN_KEY)).body.decode()
        assert 'leeward_gateway_attempts_total{outcome="server_error",provider="a"} 0.0' in before
        await broken(gateway, "a")
        after = (await gateway.ask("GET", "/metrics", key=ADMIN_KEY)).body.decode()
        assert 'leeward_gateway_attempts_total{outcome="server_error",provider="a"} 2.0' in after
        assert 'leeward_gateway_attempts_total{outcome="ok",provider="b"} 3.0' in after
        assert 'leeward_gateway_requests_total{outcome="ok"} 3.0' in after
        assert 'leeward_gateway_breaker_state{model="a-large",provider="a"} 2.0' in after

    with_gateway(work, "a", "b", gateway=OPENS)


def test_alone_its_spans_go_to_where_the_client_is_pointed_and_the_last_second_is_not_lost(tmp_path, monkeypatch):
    async def work(gateway):
        answered = await gateway.chat(headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
        assert answered.status == 200
        gateway.request_id = answered.headers["x-request-id"]
        told.append(gateway)

    told = []
    with recorder.Recorder() as server:
        monkeypatch.setenv("LEEWARD_API_KEY", recorder.KEY)
        monkeypatch.setenv("LEEWARD_HOST", server.host)
        monkeypatch.setenv("LEEWARD_SPOOL_DIR", str(tmp_path))
        with_gateway(work, "a")
        spans = {event["event_type"]: event for event in server.events.values()}

    parent, child = spans["gateway chat"], spans["chat a-large"]
    assert (parent["trace_id"], parent["parent_span_id"]) == (TRACE, SPAN)
    assert (child["trace_id"], child["parent_span_id"]) == (TRACE, parent["span_id"])
    assert parent["correlation_id"] == told[0].request_id
    assert child["output_tokens"] > 0


def test_alone_without_a_key_for_it_nothing_is_sent_or_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("LEEWARD_API_KEY", raising=False)
    monkeypatch.setenv("LEEWARD_SPOOL_DIR", str(tmp_path / "spool"))

    async def work(gateway):
        assert (await gateway.chat()).status == 200

    with_gateway(work, "a")
    assert not (tmp_path / "spool").exists()


def test_a_failure_of_our_own_is_one_line_with_the_stack_and_an_event_of_the_sentry_project():
    async def main():
        async with serving([answer(b'{"id":"1"}')]) as (upstream, endpoint):
            dsn = f"http://key@127.0.0.1:{endpoint.origin.port}/1"
            async with served(settings_with(simulated("a"), report={"sentry_dsn": dsn})) as gateway:

                def fail(*_):
                    raise ZeroDivisionError("Zebraquokka")

                gateway.application.gateway.core.circuits.admit = fail
                answered = await gateway.chat("Zebraquokka")
                assert answered.status == 503
                assert "Zebra" not in answered.body.decode()
                [(name, fields)] = gateway.lines
                assert name == "request_failed"
                assert fields["request_id"] == answered.headers["x-request-id"]
                assert isinstance(fields["error"], ZeroDivisionError)
            [request] = upstream.requests
            body = request.partition(b"\r\n\r\n")[2]
            [event] = map_envelope(body, split(body), project=1, received_at=1).events
            assert event.error_type == "ZeroDivisionError"
            assert "in fail" in event.error_stack
            assert b"Zebra" not in body
            assert json.loads(event.data)["tags"]["request_id"] == fields["request_id"]

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["401"])
def test_a_key_that_is_refused_is_told_to_the_sentry_project_once_and_counted(fault):
    async def main():
        async with serving([answer(b'{"id":"1"}')]) as (upstream, endpoint):
            dsn = f"http://key@127.0.0.1:{endpoint.origin.port}/1"
            settings = settings_with(simulated("a"), simulated("b"), report={"sentry_dsn": dsn})
            async with served(settings) as gateway:
                await broken(gateway, "a", fault=fault)
                metrics = (await gateway.ask("GET", "/metrics", key=ADMIN_KEY)).body.decode()
                assert "leeward_gateway_reports_total" in metrics
            assert len(upstream.requests) == 1
            assert b"credentials_refused" in upstream.requests[0]

    asyncio.run(main())
