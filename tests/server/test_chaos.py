"""Faults on purpose over HTTP: who may, what is answered, what is refused and with which cure."""

from __future__ import annotations

import asyncio
import json

import pytest

from chaos_server import ADMIN_KEY, READ_KEY, ChaosServer
from leeward.gateway.faults import FAULTS


class Client:
    """Asks an application of its own; `server` is looked into."""

    def __init__(self):
        self.server = ChaosServer()
        self.runner = asyncio.Runner()
        self.runner.run(self.server.know())

    def __call__(self, method, path, document=None, *, key=ADMIN_KEY):
        body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        sent = []
        headers = [(b"host", b"test")]
        if key:
            headers.append((b"authorization", b"Bearer " + key.encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "client": ("127.0.0.1", 1),
        }

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        self.runner.run(self.server.app(scope, receive, send))
        assert self.server.reports == []
        return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture
def client():
    made = Client()
    yield made
    made.runner.run(made.server.chaos.know({}, (), real_may=False))
    made.runner.close()


def test_the_list_has_the_providers_and_every_fault_with_its_sentence(client):
    status, document = client("GET", "/api/chaos")

    assert status == 200
    assert document["count"] == 2
    quiet = {"fault": "", "ends_in_s": None, "share": None, "calls": 0}
    assert document["providers"] == [
        {"provider": "openai", "simulated": False, **quiet},
        {"provider": "primary", "simulated": True, **quiet},
    ]
    assert document["faults"] == [{"fault": mode, "sentence": row.sentence} for mode, row in FAULTS.items()]


def test_a_fault_is_switched_on_seen_and_switched_off(client):
    wanted = {"fault": "429", "for_s": 30, "retry_after_s": 7, "share": 0.5}

    assert client("PUT", "/api/chaos/primary", wanted) == (
        200,
        {"provider": "primary", "simulated": True, "fault": "429", "ends_in_s": 30.0, "share": 0.5, "calls": 0},
    )
    assert client.server.primary.fault.retry_after_s == 7
    assert [each["fault"] for each in client("GET", "/api/chaos")[1]["providers"]] == ["", "429"]
    status, state = client("DELETE", "/api/chaos/primary")
    assert (status, state["fault"]) == (200, "")
    assert client.server.primary.fault is None


def test_a_fault_without_a_time_lasts_a_minute(client):
    assert client("PUT", "/api/chaos/openai", {"fault": "stall", "after_events": 0})[1]["ends_in_s"] == 60


@pytest.mark.parametrize(("key", "status", "code"), [("", 401, "unauthorized"), (READ_KEY, 403, "forbidden")])
def test_only_an_admin_may(client, key, status, code):
    for method, path in (("GET", "/api/chaos"), ("PUT", "/api/chaos/primary"), ("DELETE", "/api/chaos/primary")):
        refused = client(method, path, {"fault": "503"}, key=key)
        assert (refused[0], refused[1]["code"]) == (status, code)
    assert client.server.primary.fault is None


@pytest.mark.parametrize(
    ("document", "code", "part"),
    [
        ({"fault": "stal"}, "unknown_fault", "did you mean stall?"),
        ({"fault": "xyzzy"}, "unknown_fault", "the faults are: 429"),
        ({"fault": "slow", "share": 7}, "bad_fault", "Share: expected `float` <= 1"),
        ({"fault": "slow", "for_s": 0}, "invalid_field", "$.for_s"),
        ({"fault": "slow", "fro_s": 1}, "invalid_field", "fro_s"),
        ({}, "invalid_field", "fault"),
        (b"{", "invalid_json", ""),
        (b"[" * 5000, "invalid_field", ""),
    ],
)
def test_what_is_no_fault_is_refused_with_its_cure(client, document, code, part):
    status, refused = client("PUT", "/api/chaos/primary", document)

    assert (status, refused["code"]) == (400, code)
    assert part in json.dumps(refused)
    assert client.server.primary.fault is None


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_provider_that_there_is_not_is_named_with_the_nearest(client, method):
    status, refused = client(method, "/api/chaos/primry", {"fault": "503"})

    assert (status, refused["code"]) == (404, "provider_not_found")
    assert refused["details"] == ["did you mean primary? known here: openai, primary"]


def test_a_real_provider_is_not_broken_where_the_settings_do_not_allow_it(client):
    client.runner.run(client.server.know(real_may=False))

    status, refused = client("PUT", "/api/chaos/openai", {"fault": "503"})

    assert (status, refused["code"]) == (409, "chaos_off")
    assert refused["details"] == ["set [gateway] chaos = true"]
