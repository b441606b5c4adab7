"""The reference says what the program says: every setting, command, route and error code, and nothing that is gone."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import leeward
from leeward.gateway import failures
from leeward.gateway.idempotency import StillRunning
from leeward.gateway.providers import KINDS
from leeward.gateway.sentences import SENTENCES
from leeward.sender.config import MODES, WIRES
from leeward.sender.posthog_names import PostHogNames
from leeward.server.routes import ROUTES
from leeward.settings.load import CLIENT_NAMES, variable_of
from leeward.settings.tree import KEYS

DOCS = Path(__file__).parent.parent / "docs"


def _generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _generator()


@pytest.mark.parametrize(
    "name", ["client.md", "integrations.md", "settings.md", "commands.md", "http.md", "errors.md", "sdks.md"]
)
def test_a_reference_page_is_what_the_program_says_now(name):
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == GENERATE.pages()[name], "python docs/generate.py"


def test_every_setting_is_documented_with_its_variable():
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")

    for name, key in KEYS.items():
        assert f"`{key.field}`" in page
        assert f"`{variable_of(name)}`" in page


def test_every_command_is_documented():
    page = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")

    paths = [path for path, _ in GENERATE.every_command()]
    assert len(paths) > 10
    for path in paths:
        assert f"## {path}\n" in page


def test_every_route_is_documented():
    page = (DOCS / "reference" / "http.md").read_text(encoding="utf-8")

    for route in ROUTES:
        assert f"`{route.method} {route.path}`" in page


def test_every_public_name_mode_and_wire_of_the_client_is_documented():
    page = (DOCS / "reference" / "client.md").read_text(encoding="utf-8")

    for name in leeward.__all__:
        assert f"## leeward.{name}\n" in page or f"`leeward.{name}`" in page
    for name in vars(leeward.Client) | vars(PostHogNames):
        assert name.startswith("_") or f"`{name}" in page or f".{name}\n" in page
    assert set(GENERATE.MODE_MEANINGS) == set(MODES)
    assert set(GENERATE.WIRE_MEANINGS) == set(WIRES)


def test_every_integration_is_documented_with_all_its_names():
    page = (DOCS / "reference" / "integrations.md").read_text(encoding="utf-8")
    folder = DOCS.parent / "src" / "leeward" / "integrations"

    inner = {"__init__", "spans", "otel_export", "otel_logging", "otel_messages", "otel_protobuf", "otel_providers"}
    assert {path.stem for path in folder.glob("*.py")} == {*GENERATE.INTEGRATIONS, *inner}
    for name in GENERATE.INTEGRATIONS:
        module = importlib.import_module(f"leeward.integrations.{name}")
        assert f"## {module.__name__}\n" in page
        for public in module.__all__:
            assert f"### {public}\n" in page or not callable(getattr(module, public))


def test_no_page_has_a_line_that_is_only_half_rendered():
    for name, text in GENERATE.pages().items():
        assert "Args:" not in text, name
        assert "'str" not in text, name


def test_every_variable_that_the_source_reads_is_documented_and_no_other():
    settings, client = (
        (DOCS / "reference" / name).read_text(encoding="utf-8") for name in ("settings.md", "client.md")
    )
    source = "".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "src").rglob("*.py"))

    read = {name for name in CLIENT_NAMES if f'environ.get("{name}"' in source}
    assert {name for name in GENERATE.VARIABLES if name.startswith("LEEWARD_")} == read
    for name in GENERATE.VARIABLES:
        assert f'environ.get("{name}")' in source or f'environ.get("{name}", ' in source
        assert f"`{name}`" in settings
        assert f"`{name}`" in client
    assert "LEEWARD_TEST_" not in settings


def test_every_code_of_the_gateway_is_documented_with_its_status():
    table = GENERATE.GATEWAY_CODES
    for name in failures.__all__:
        failure = getattr(failures, name)
        if issubclass(failure, failures.GatewayError) and failure is not failures.StreamCut:
            assert table[failure.code][0].startswith(str(failure.status)), name
    assert table[StillRunning.code][0].startswith(str(StillRunning.status))
    assert set(SENTENCES) - {"static"} <= set(table)
    source = DOCS.parent / "src" / "leeward"
    for name in ("gateway/chaos", "gateway/failures", "gateway/faults", "gateway/idempotency", "wire/openai_requests"):
        text = (source / f"{name}.py").read_text(encoding="utf-8")
        assert set(re.findall(r'\bcode ?= ?"(\w+)"', text)) <= set(table), name
    spend = (source / "server" / "spend.py").read_text(encoding="utf-8")
    assert set(re.findall(r'_exceeded\("(\w+)"', spend)) == {"rate_limit_exceeded", "spend_limit_reached"} <= set(table)


def test_every_kind_of_provider_is_on_its_page_with_its_address_and_what_it_cannot_do():
    page = (DOCS / "how-to" / "providers.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| `([\w-]+)` \| (.*) \|$", page.partition("## Kinds")[2].partition("\n## ")[0], re.MULTILINE)
    )

    del rows["kind"]  # the head of the table
    assert set(rows) == set(KINDS)
    for name, kind in KINDS.items():
        address, key, lacks = (cell.strip() for cell in f"{rows[name]} ".split("|"))
        assert f"`{kind.base_url}`" == address or not kind.base_url
        assert (key == "needed") == kind.needs_key
        assert ("embeddings" in lacks) == (not kind.embeddings)
        assert ("images" in lacks) == (not kind.images)
        assert ("JSON schemas" in lacks) == (not kind.json_schema)
        assert ("more than one choice" in lacks) == (not kind.choices)
        assert ("`logit_bias`" in lacks) == ("logit_bias" in kind.cannot)
        assert ("log probabilities" in lacks) == ("logprobs" in kind.cannot)
