"""The comparison of gateways counts right: an answer is good only if it is one, a load counts no more than that, cost is
compared within a round, and all gateways are told the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))  # benchmarks are run from the repository, not installed

from benchmarks.gateway import gateways, report  # noqa: E402 - see above
from benchmarks.gateway.answers import body_of, is_whole, verdict  # noqa: E402
from benchmarks.gateway.driver import Door, in_turn, load  # noqa: E402
from benchmarks.gateway.failures import Outcome  # noqa: E402
from benchmarks.gateway.gateways import GATEWAYS, Leeward, Unavailable, Upstreams, running  # noqa: E402
from benchmarks.gateway.packages import Installed, installed  # noqa: E402
from benchmarks.gateway.provider import MODEL, Providers  # noqa: E402

from leeward.settings.load import load as load_settings  # noqa: E402

UPSTREAMS = Upstreams("http://127.0.0.1:9001/v1", "http://127.0.0.1:9002/v1")
GOOD = {"choices": [{"message": {"content": "Sun."}, "finish_reason": "stop"}]}
PIECE = {"choices": [{"delta": {"content": "Sun."}, "finish_reason": None}]}
LAST = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
ERROR = {"error": {"message": "It broke off."}}


def _answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d Any\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def _chunked(*parts: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


def _events(*events: object) -> bytes:
    return b"".join(
        b"data: %s\n\n" % (event if isinstance(event, bytes) else json.dumps(event).encode()) for event in events
    )


@pytest.mark.parametrize("received", [_answer(b'{"a": 1}'), _chunked(b"one", b"two"), _answer(b"")])
def test_an_answer_is_whole_with_its_last_byte_and_not_before(received):
    assert is_whole(received)
    assert not any(is_whole(received[:size]) for size in range(len(received)))


def test_a_body_is_read_out_of_its_chunks_as_far_as_they_have_come():
    received = _chunked(b"one ", b"two")

    assert body_of(received) == b"one two"
    assert body_of(received[:-8]) == b"one tw"
    assert body_of(_answer(b"plain")) == b"plain"


@pytest.mark.parametrize(
    ("received", "found"),
    [
        (_answer(json.dumps(GOOD).encode()), "ok"),
        (_answer(b'{"choices": []}'), "garbage"),
        (_answer(b'{"choices": [{"message": {"content": "Sun."}, "finish_reason": null}]}'), "garbage"),
        (_answer(b'{"choices": [{"mess'), "garbage"),
        (_answer(b"{}", 502), "error"),
        (_answer(json.dumps(GOOD).encode())[:-5], "none"),
        (b"", "none"),
    ],
)
def test_a_whole_answer_is_good_only_with_content_and_a_finish(received, found):
    assert verdict(received, stream=False, whole=is_whole(received)) == found


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ((PIECE, LAST, b"[DONE]"), "ok"),
        ((PIECE, LAST), "silent-cut"),
        ((PIECE, b"[DONE]"), "silent-cut"),
        ((PIECE, ERROR, b"[DONE]"), "cut-with-error"),
        ((PIECE, b'{"choi'), "cut-with-error"),
        ((LAST, b"[DONE]"), "garbage"),
    ],
)
def test_a_stream_is_good_only_with_content_a_finish_and_its_end(events, found):
    assert verdict(_chunked(_events(*events)), stream=True, whole=True) == found


@pytest.fixture(scope="module")
def providers():
    with Providers() as started:
        yield started


@pytest.fixture
def door(providers):
    providers.become()
    return Door(providers.ports["primary"], MODEL)


@pytest.mark.parametrize("stream", [False, True])
def test_a_load_counts_the_answers_that_the_provider_gave(providers, door, stream):
    run = load(door, 4, count=50, stream=stream)

    assert (run.requests, run.good, len(run.latencies_s)) == (50, 50, 50)
    assert providers.count("primary") == (50, 4)
    assert run.events == 50 * (24 if stream else 1)


@pytest.mark.parametrize("mode", ["500", "empty", "reset", "cut"])
def test_a_load_counts_no_answer_as_good_that_is_none(providers, door, mode):
    providers.fail("primary", mode)

    run = load(door, 4, count=20)

    assert (run.requests, run.good) == (20, 0)
    assert providers.count("primary").calls == 20


@pytest.mark.parametrize(
    ("mode", "stream", "found"),
    [
        ("", False, "ok"),
        ("", True, "ok"),
        ("429", False, "error"),
        ("empty", True, "garbage"),
        ("reset", False, "none"),
        ("hang", False, "hung"),
        ("error-mid", True, "cut-with-error"),
        ("cut", True, "silent-cut"),
    ],
)
def test_a_caller_says_what_became_of_a_request(providers, door, mode, stream, found):
    if mode:
        providers.fail("primary", mode)

    (reply,) = in_turn(door._replace(headers={"x-any": "1"}), 1, stream=stream, wait_s=0.2)

    assert reply.verdict == found
    assert reply.first_s <= reply.total_s


def test_our_configuration_is_valid_and_says_what_all_gateways_are_told(tmp_path):
    file = tmp_path / "leeward.toml"
    file.write_text(gateways.configuration(UPSTREAMS), encoding="utf-8")

    settings = load_settings({}, {"HOME": str(tmp_path)}, file).settings

    assert tomllib.loads(file.read_text())["server"]["keys"][0]["scope"] == "chat"
    assert [provider.base_url for provider in settings.gateway.providers] == [UPSTREAMS.primary, UPSTREAMS.secondary]
    assert settings.gateway.retry.max_attempts == 2
    assert settings.gateway.breaker.consecutive_failures == 3


@pytest.mark.parametrize("name", gateways.PEERS)
def test_a_peer_that_is_not_installed_is_named_and_nothing_fails(name, monkeypatch, tmp_path):
    monkeypatch.setattr(gateways, "ROOT", tmp_path)
    monkeypatch.setattr(gateways.Portkey, "home", tmp_path)

    with pytest.raises(Unavailable, match=r"make bench-gateway|no Node"), running(name, UPSTREAMS, 1):
        pass


def test_every_gateway_has_both_providers_and_never_ours_key_alone(tmp_path):
    for kind in GATEWAYS.values():
        gateway = kind(UPSTREAMS)
        told = " ".join(
            [*gateway.arguments(), *gateway._environment().values(), *gateway.door().headers.values()]
            + [file.read_text() for file in gateway.folder.iterdir()]
        )
        assert UPSTREAMS.primary in told, gateway.name
        assert UPSTREAMS.secondary in told, gateway.name


def test_the_gateway_alone_needs_nine_packages_at_most():
    found = installed(Leeward.name)

    assert found is not None
    assert 4 <= found.packages <= 9


def test_ratios_are_taken_within_a_round_and_goals_held_against_their_median():
    table = {
        "leeward": [{"cpu_us": 80.0, "ready_s": 0.3}, {"cpu_us": 200.0, "ready_s": 0.5}, {"cpu_us": 90.0}],
        "ferro": [{"cpu_us": 200.0}, {"cpu_us": 400.0}, {}],
    }
    one = Outcome(20, 20, 0.01, 0.001, 0.02, 3, {"ok": 20})
    outcomes = {("500", False): {"leeward": one, "ferro": one._replace(good=3)}}
    packages = {"leeward": Installed(8, 18.0, "1")}

    lines = list(report.goals(table, packages, outcomes, {}, [{"bare_us": 50.0, "call_us": 260.0}]))

    assert lines[2:] == [
        "| CPU a request : Ferro | 0.45 | ≤ 0.5 | reached |",
        "| start → first answer, s | 0.4 | ≤ 0.4 | reached |",
        "| packages | 8 | ≤ 9 | reached |",
        "| JSON faults with every answer good and in time | 1 | ≥ 1 | reached |",
        "| first answer of a fault that is quick, worst, ms | 10 | ≤ 20 | reached |",
        "| hits on a primary that answers 500 | 3 | ≤ 4 | reached |",
        "| streams that break off without a word | 0 | ≤ 0 | reached |",
        "| in-process call over a bare client (50 µs), µs | 210 | ≤ 150 | **missed** |",
    ]


def test_the_comparison_of_gateways_runs_from_one_command(tmp_path):
    page = tmp_path / "page.md"
    options = ["--quick", "--peers", "none", "--rows", "costs", "storm", "--markdown", str(page)]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gateway", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert page.read_text(encoding="utf-8") == done.stdout
    assert "Not measured" not in done.stdout
    assert "| CPU a token, 8 events a write, µs |" in done.stdout
