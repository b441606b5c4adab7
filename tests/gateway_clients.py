"""What the SDKs meet: two gateways with providers that answer, and providers that do not; and what each SDK said.

One gateway has a model for each thing that can happen, and patience: its circuits never open, so that no program sees
what another one has done. The other has the settings that everybody begins with, and a failing provider for each SDK.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sdks
from anthropic_provider import anthropic_provider
from gateway_process import KEY, WRITE_KEY, configuration, gateway, listening
from leeward.gateway.simulated import SimulatedProvider
from sdks import Sdk
from server_process import until

CLIENTS: Mapping[str, Sdk] = {
    "openai": Sdk("openai_chat.py"),
    "openai-node": Sdk("openai_chat.mjs"),
    "langchain": Sdk("langchain_chat.py"),
    "pydantic-ai": Sdk("pydantic_chat.py"),
    "ai-sdk": Sdk("ai_sdk_chat.mjs", {"provider": "openai-compatible"}),
    "ai-sdk-openai": Sdk("ai_sdk_chat.mjs", {"provider": "openai"}),
}
FAULTS: Mapping[str, str] = {
    "broken": "500",
    "limited": "429",
    "bad": "400",
    "silent": "hang",
    "cut": "cut",
    "reset-mid": "reset-mid",
    "error-mid": "error-mid",
    "stall": "stall",
}
ROUTES: Mapping[str, str] = {
    "chat": 'providers = ["good"]',
    "claude": 'providers = ["claude"]',
    "failover": 'providers = ["broken", "second"]',
    "failing": 'providers = ["broken"]',
    "static": 'providers = ["broken"]\nfallback = ["static"]',
    "limited": 'providers = ["limited"]',
    "bad": 'providers = ["bad"]',
    "silent": 'providers = ["silent"]',
    "slow": 'providers = ["silent"]\ndeadline_s = 0.3',
    "paced": 'providers = ["paced"]',
    **{model: f'providers = ["{model}"]' for model in ("cut", "reset-mid", "error-mid", "stall")},
}
PATIENT = """
[gateway]
stall_timeout_s = 0.3
[gateway.retry]
base_s = 0.01
budget = 1.0
[gateway.breaker]
consecutive_failures = 1000
min_calls = 100000
"""


class Places(NamedTuple):
    """Where everything is. `providers` are by name; those of `counted-…` stand behind the second gateway."""

    host: str
    default_host: str
    providers: Mapping[str, SimulatedProvider]
    default_log: Path

    def failed(self, model: str) -> int:
        """How many requests for this model failed at the second gateway, by its log."""
        lines = map(json.loads, self.default_log.read_text().splitlines())
        return sum(line["event"] == "request_failed_at_providers" and line["route"] == model for line in lines)


@contextlib.contextmanager
def places(folder: Path) -> Iterator[Places]:
    """Start all of it."""
    counted = [f"counted-{client}" for client in CLIENTS]
    rows = [SimulatedProvider(name) for name in ("good", "second", *FAULTS, *counted)]
    rows.append(SimulatedProvider("paced", words=1000, pace_s=0.05))  # for most of a minute
    providers = {row.name: row for row in rows}
    for name, fault in {**FAULTS, **dict.fromkeys(counted, "500")}.items():
        providers[name].fault = fault
    with listening(rows), anthropic_provider() as (claude, _):
        addresses = {name: row.base_url for name, row in providers.items()}
        ours = {name: address for name, address in addresses.items() if name not in counted}
        config = configuration({**ours, "claude": claude}, ROUTES, PATIENT)
        routes = {name: f'providers = ["{name}"]' for name in counted}
        default_config = configuration(
            {name: addresses[name] for name in counted}, routes, "[gateway.retry]\nbudget = 1.0"
        )
        with (
            gateway(folder / "gateway", config) as host,
            gateway(folder / "default", default_config) as default_host,
        ):
            yield Places(host, default_host, providers, folder / "default" / "log")


class Told:
    """What a program told of its steps; `left`: it was still there when the provider had been left alone."""

    def __init__(self, client: str, lines: str, *, left: bool = False) -> None:
        self.client = client
        self.left = left
        self._steps = {said["step"]: said for said in map(json.loads, lines.splitlines())}

    def has(self, step: str) -> bool:
        """Whether this program has such a step."""
        return step in self._steps

    def value(self, step: str) -> Any:
        """What a step gave."""
        said = self._steps[step]
        assert "value" in said, said
        return said["value"]

    def error(self, step: str) -> dict[str, Any]:
        """The exception in which a step ended."""
        said = self._steps[step]
        assert "error" in said, said
        return said["error"]


def tell(client: str, there: Places) -> Told:
    """Run a client's program to its end, and watch how it leaves a stream that would go on for long."""
    sdk = CLIENTS[client]
    given = {"write_key": WRITE_KEY, "default_host": there.default_host, "counted": f"counted-{client}"}
    sdk = sdk._replace(variant={**sdk.variant, **given})
    paced = there.providers["paced"]
    before = paced.cancelled
    process = sdks.start(sdk, there.host, KEY, run=client, stdin=subprocess.PIPE)
    try:
        until(lambda: paced.cancelled > before or process.poll() is not None, "it leaves", sdks.WATCHDOG_S)
        left = process.poll() is None
    except AssertionError:  # a test says so, beside what the program told
        left = False
    ended = sdks.finish(process)
    assert (ended.code, ended.err) == (0, ""), ended
    return Told(client, ended.out, left=left)


def tell_at(address: str, key: str = KEY) -> Told:
    """Run the program of OpenAI's SDK at a provider itself, or at another server; most of its models are not there."""
    given = {"write_key": key, "default_host": address, "counted": "chat"}
    ended = sdks.finish(sdks.start(CLIENTS["openai"]._replace(variant=given), address, key, run="there"))
    assert (ended.code, ended.err) == (0, ""), ended
    return Told("openai", ended.out)
