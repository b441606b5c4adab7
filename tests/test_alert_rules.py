"""The alert rules ask for what a server tells: each name, label and value; and each is explained."""

from __future__ import annotations

import asyncio
import re

import pytest

import alert_rules
from gateways import settings_of
from leeward.gateway.circuits import ModelStatus, ProviderStatus
from leeward.gateway.exposition import exposition
from leeward.gateway.metrics import GatewayMetrics
from leeward.gateway.targets import routes_of
from leeward.resilience.budget import RetryBudget
from leeward.server.counters import Counters
from leeward.server.operations import Operations, PartState, event_metrics, request_metrics
from leeward.server.sentry_report import OUTCOMES

ALERTS = alert_rules.FILE.parents[2] / "docs" / "how-to" / "alerts.md"
# What a server's parts are called, and the figures that the rules ask for; the real server is asked in its own test.
PARTS = {
    "log": PartState("healthy", "", {"unstored_bytes": 0.0}),
    "store": PartState("healthy"),
    "writer": PartState("healthy", "", {"dead_letters": 0.0}),
    "disk": PartState("healthy", "", {"free_bytes": 1e12}),
    "providers": PartState("healthy", "", {"count": 1.0}),
}


def exposed() -> str:
    row = {"name": "a", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "models": {"chat": "m"}}
    metrics = GatewayMetrics()
    metrics.know(routes_of(settings_of(row, routes=[{"model": "chat", "fallback": ["static"]}])))
    providers = [ProviderStatus("a", "openai", "healthy", "closed", [ModelStatus("m", "closed", "healthy")])]
    counters = Counters()
    counters.count_client_lost({"no_room": 1})
    reports = dict.fromkeys(OUTCOMES, 0)
    operations = Operations(
        parts=lambda: PARTS,
        ready=lambda: True,
        collectors=(
            lambda: event_metrics(counters),
            lambda: request_metrics(counters),
            lambda: exposition(metrics, providers, RetryBudget().statistics(), reports=reports),
        ),
        provider=lambda _: PartState("healthy"),
    )
    return asyncio.run(operations.metrics(None)).body.decode()


def test_every_name_label_and_value_that_a_rule_asks_for_is_told_by_a_server():
    assert alert_rules.problems(exposed()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("leeward_gateway_retry_budget_refused_total", "leeward_gateway_retry_budget_gone_total"),
        ('outcome="rate_limited"', 'outcome="limited"'),
        ("by (route, step)", "by (path, step)"),
    ],
)
def test_a_rule_that_asks_for_something_else_is_found(old, new, tmp_path, monkeypatch):
    changed = tmp_path / "rules.yml"
    changed.write_text(alert_rules.FILE.read_text().replace(old, new))
    monkeypatch.setattr(alert_rules, "FILE", changed)

    assert alert_rules.problems(exposed())


def test_every_rule_has_a_severity_a_sentence_and_a_paragraph_that_says_what_to_do():
    explained = ALERTS.read_text()
    for rule in alert_rules.rules():
        assert re.fullmatch(r"Leeward[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in explained
    assert set(re.findall(r"`(Leeward[A-Za-z]+)`", explained)) == {rule["alert"] for rule in alert_rules.rules()}
