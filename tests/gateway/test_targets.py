"""From settings to what a request needs: routes, order, abilities, addresses, what a circuit is kept by."""

from __future__ import annotations

import pytest

from gateways import request_of, settings_of
from leeward.errors import ConfigError
from leeward.gateway.targets import BYTES_PER_TOKEN_HIGH, routes_of


def row(name="a", **more):
    return {
        "name": name,
        "kind": "openai",
        "base_url": f"https://{name}.example.com/v1",
        "api_key": f"sk-{name}",
        "models": {"chat": "large"},
        **more,
    }


def target_of(**more):
    return routes_of(settings_of(row(**more))).by_model["chat"].targets[0]


def names_of(routes, model):
    return [target.provider.name for target in routes.by_model[model].targets]


def test_without_routes_each_model_of_any_provider_is_one():
    routes = routes_of(settings_of(row("a"), row("b", models={"chat": "x", "small": "y"})))
    assert set(routes.by_model) == {"chat", "small"}
    assert names_of(routes, "chat") == ["a", "b"]
    assert names_of(routes, "small") == ["b"]


def test_a_route_has_its_own_order_and_leaves_out_who_does_not_have_the_model():
    routes = routes_of(
        settings_of(
            row("a"),
            row("b"),
            row("c", models={"other": "x"}),
            routes=[{"model": "chat", "providers": ["c", "b", "a"]}, {"model": "unknown"}],
        )
    )
    assert names_of(routes, "chat") == ["b", "a"]
    assert names_of(routes, "unknown") == []
    assert "other" not in routes.by_model


def test_the_most_particular_time_out_counts():
    routes = routes_of(
        settings_of(
            row(first_token_timeout_s=5.0, models={"chat": "x", "slow": {"name": "y", "first_token_timeout_s": 50.0}}),
            row("b"),
            first_token_timeout_s=7.0,
            stall_timeout_s=3.0,
            deadline_s=60.0,
            routes=[{"model": "chat"}, {"model": "slow", "deadline_s": 600.0}],
        )
    )
    chat, slow = routes.by_model["chat"], routes.by_model["slow"]
    assert [target.first_token_s for target in chat.targets] == [5.0, 7.0]
    assert [target.first_token_s for target in slow.targets] == [50.0]
    assert (chat.deadline_s, slow.deadline_s) == (60.0, 600.0)
    assert chat.targets[0].provider.stall_timeout_s == 3.0


def test_paths_headers_and_addresses_are_ready():
    target = target_of()
    assert target.paths == {"chat": b"/v1/chat/completions", "embeddings": b"/v1/embeddings"}
    assert b"authorization: Bearer sk-a\r\n" in target.provider.headers
    simulated = settings_of(row(kind="simulated", base_url=""))
    assert routes_of(simulated, {"a": "http://127.0.0.1:9/v1"}).providers["a"].endpoint.origin.port == 9


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "nobody"}, "unknown kind"),
        ({"base_url": "http://169.254.169.254/"}, "link-local"),
        ({"base_url": "file:///etc/passwd"}, "https://"),
        ({"api_key": "sk\r\nx: y"}, "api_key"),
    ],
)
def test_g12_what_cannot_be_called_is_refused_when_it_is_read(change, problem):
    with pytest.raises(ConfigError, match=problem):
        routes_of(settings_of(row(**change)))


TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}]}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}


@pytest.mark.parametrize(
    ("ability", "fields", "word"),
    [
        ({"tools": False}, {"tools": TOOLS}, "tools"),
        ({"images": False}, {"messages": IMAGE}, "images"),
        ({"json_schema": False}, {"response_format": SCHEMA}, "response_format"),
    ],
)
def test_g16_what_a_model_cannot_do_is_named_by_its_field(ability, fields, word):
    request = request_of(**fields)
    assert target_of(models={"chat": {"name": "x", **ability}}).lacks(request) == word
    assert target_of().lacks(request) == ""
    assert target_of(models={"chat": {"name": "x", **ability}}).lacks(request_of()) == ""


def test_g16_a_prompt_is_too_long_only_where_it_surely_is():
    target = target_of(models={"chat": {"name": "x", "context_tokens": 100}})
    assert target.lacks(request_of(text="x" * 100 * BYTES_PER_TOKEN_HIGH)) == "messages"
    assert target.lacks(request_of(text="x" * 100 * (BYTES_PER_TOKEN_HIGH - 1))) == ""


def test_g16_a_kind_that_has_no_embeddings_is_not_asked_for_them():
    assert target_of(kind="groq").lacks(request_of(operation="embeddings")) == "model"


def test_g17_a_circuit_is_kept_by_provider_address_key_and_model():
    key = target_of().circuit_key
    assert target_of(connections_max=3).circuit_key == key
    changes = [
        {"name": "b"},
        {"base_url": "https://a.example.com/v2"},
        {"base_url": "http://a.example.com/v1"},
        {"api_key": "sk-2"},
        {"models": {"chat": "small"}},
    ]
    keys = {target_of(**change).circuit_key for change in changes}
    assert len(keys | {key}) == len(changes) + 1


def test_g17_an_unchanged_provider_keeps_its_endpoint_and_with_it_its_connections():
    before = routes_of(settings_of(row("a"), row("b")))
    after = routes_of(settings_of(row("a", api_key="sk-2"), row("b", connections_max=7)), None, before)
    assert after.providers["a"].endpoint is before.providers["a"].endpoint
    assert after.providers["b"].endpoint is not before.providers["b"].endpoint


def test_kept_answers_are_wanted_only_where_a_step_could_use_them():
    def keeps(*steps):
        route = {"model": "chat", "fallback": steps}
        return routes_of(settings_of(row(), routes=[route])).by_model["chat"].keeps_answers

    assert keeps("static", "cache")
    assert keeps("stale-cache")
    assert not keeps("static", "reduced")


def test_its_names_stand_in_logs_and_its_key_does_not():
    target = target_of()
    assert (repr(target), repr(target.provider)) == ("Target(a, large)", "Provider('a')")
