"""The alert rules that are shipped, read, and what their expressions ask for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parent.parent / "examples" / "prometheus" / "leeward.rules.yml"
# A number belongs to a name only behind a letter; `up` is Prometheus's own, the rest are words of its language.
_NAME = re.compile(r"\b(leeward_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_BY = re.compile(r"\bby \(([^)]*)\)")


def rules() -> list[dict[str, Any]]:
    """Every rule of the file."""
    return [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]


def asked(expression: str) -> list[tuple[str, dict[str, set[str]]]]:
    """Each series that an expression asks for: its name, and the values of its labels that the matchers name."""
    found = []
    for name, inside in _NAME.findall(expression):
        matchers = _MATCHER.findall(inside)
        assert inside.count('"') == 2 * len(matchers), expression
        found.append((name, {label: set(value.split("|")) for label, _, value in matchers}))
    return found


def grouped(expression: str) -> set[str]:
    """The labels that it groups by."""
    return {label.strip() for labels in _BY.findall(expression) for label in labels.split(",")}


def problems(text: str) -> list[str]:
    """What the rules ask for that an exposition does not have: names, labels, values of labels."""
    from prometheus_client.parser import text_string_to_metric_families

    labels: dict[str, dict[str, set[str]]] = {"up": {"job": {"leeward"}}}
    for family in text_string_to_metric_families(text):
        labels.setdefault(family.name, {})
        for sample in family.samples:
            known = labels.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                known.setdefault(label, set()).add(value)
    wrong = []
    for rule in rules():
        expression = rule["expr"]
        series = asked(expression)
        for name, matchers in series:
            known = labels.get(name)
            if known is None:
                wrong.append(f"{rule['alert']}: there is no {name}")
                continue
            for label, values in matchers.items():
                missing = values - known.get(label, set())
                wrong += [f"{rule['alert']}: {name} has no {label}={value}" for value in sorted(missing)]
        has = {label for name, _ in series for label in labels.get(name, {})} | {"instance"}
        wrong += [f"{rule['alert']}: nothing has the label {label}" for label in sorted(grouped(expression) - has)]
    return wrong
