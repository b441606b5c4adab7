"""A13: the demo alone takes OpenTelemetry without a key, from this machine, and not from a web page."""

from __future__ import annotations

import asyncio
import socket

import pytest

from leeward.cli.keyless import Keyless, try_listen

KEY = "lw_" + "k" * 32


def came_through(port=4318, path="/v1/traces", client=("127.0.0.1", 5), headers=()):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)

    scope = {"server": ("127.0.0.1", port), "path": path, "client": client, "headers": [*headers]}
    asyncio.run(Keyless(4318, KEY)(app, scope, None, None))
    return scopes[0]


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs", "/v1/logs/"])
@pytest.mark.parametrize("client", [("127.0.0.1", 5), ("::1", 5)])
def test_a13_otlp_from_this_machine_gets_the_demos_own_key(path, client):
    scope = came_through(path=path, client=client, headers=[(b"authorization", b"Bearer other"), (b"x-a", b"1")])

    assert scope["path"] == path
    assert scope["headers"] == [(b"x-a", b"1"), (b"authorization", b"Bearer " + KEY.encode())]


@pytest.mark.parametrize(
    "refused",
    [
        {"path": "/api/telemetry/query"},
        {"path": "/v1/tracesx"},
        {"path": "/"},
        {"client": ("10.0.0.7", 5)},
        {"client": None},
        {"client": ("unix", 0)},
        {"headers": [(b"origin", b"https://shop.example")]},
        {"headers": [(b"origin", b"null")]},
    ],
)
def test_a13_all_else_finds_nothing_there_and_gets_no_key(refused):
    scope = came_through(**refused)

    assert scope["path"] == "/-"
    assert not [name for name, _ in scope["headers"] if name == b"authorization"]


def test_a13_on_every_other_port_nothing_is_changed():
    scope = came_through(port=5330, headers=[(b"x-a", b"1")])

    assert (scope["path"], scope["headers"]) == ("/v1/traces", [(b"x-a", b"1")])


def test_a_port_that_somebody_has_is_left_to_them():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert try_listen(taken.getsockname()[1]) is None
    free = try_listen(0)
    assert free is not None
    free.close()
