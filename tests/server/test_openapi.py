import asyncio
import json
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from leeward.model import KINDS, LEVELS
from leeward.server.http import ErrorBody
from leeward.server.openapi import document
from leeward.server.routes import QUERY_PARAMETERS, ROUTES, Route
from leeward.server.schemas import ErrorFields, EventIn, KeyCreate
from leeward.wire.native import ErrorIn, NativeEvent
from page_server import Pages

DOCUMENT = document(ROUTES, "1")
SERVED = [route for route in ROUTES if not route.page and route.wire == "native"]


def operation(route: Route) -> dict[str, Any]:
    return DOCUMENT["paths"][route.path][route.method.lower()]


@pytest.mark.parametrize("route", SERVED, ids=lambda route: f"{route.method} {route.path}")
def test_every_row_of_our_own_protocol_is_described_with_its_scope_statuses_and_parameters(route):
    described = operation(route)
    assert described["summary"] == route.summary
    assert set(described["responses"]) == {"200", *map(str, route.statuses)}
    named = {parameter["name"] for parameter in described.get("parameters", []) if parameter["in"] == "query"}
    assert named == {name for name, _ in route.parameters}
    if route.scope == "public":
        assert described["security"] == []
    else:
        assert described["security"] == [{"bearer": [route.scope]}, {"api_key": [route.scope]}]


def test_nothing_is_described_that_is_no_row_of_the_table():
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in SERVED}


def test_operations_have_ids_of_their_own():
    names = [operation(route)["operationId"] for route in SERVED]
    assert len(names) == len(set(names))


def test_a_path_parameter_is_declared_where_the_path_has_one():
    for route in SERVED:
        in_path = [given for given in operation(route).get("parameters", []) if given["in"] == "path"]
        assert [given["name"] for given in in_path] == (["id"] if "{id}" in route.path else [])
        assert all(given["required"] for given in in_path)


def test_every_reference_leads_to_a_schema_and_every_schema_is_valid():
    schemas = DOCUMENT["components"]["schemas"]
    text = json.dumps(DOCUMENT)
    wanted = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert wanted <= set(schemas)
    for schema in schemas.values():
        assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_refusals_have_the_native_form_and_their_headers():
    query = operation(next(route for route in SERVED if route.handler == "query"))
    for status in ("400", "401", "503"):
        content = query["responses"][status]["content"]["application/json"]
        assert content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
    assert "Retry-After" in query["responses"]["503"]["headers"]
    assert "WWW-Authenticate" in query["responses"]["401"]["headers"]
    validator = jsonschema_rs.validator_for(DOCUMENT["components"]["schemas"]["ErrorBody"])
    assert validator.is_valid(msgspec.json.decode(msgspec.json.encode(ErrorBody("No", "no", ["why"]))))


def test_what_a_row_takes_is_its_request_body():
    create = operation(next(route for route in SERVED if route.takes is KeyCreate))
    assert create["requestBody"]["required"]
    assert create["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/KeyCreate"}


@pytest.mark.parametrize(("described", "taken"), [(EventIn, NativeEvent), (ErrorFields, ErrorIn)])
def test_every_field_that_is_read_of_an_event_is_described_and_no_other(described, taken):
    assert {field.name for field in msgspec.structs.fields(described)} == {
        field.name for field in msgspec.structs.fields(taken)
    }


def test_an_events_words_and_lengths_are_described_as_they_are_read():
    described = DOCUMENT["components"]["schemas"]["EventIn"]
    validator = jsonschema_rs.validator_for({"$ref": "#/components/schemas/EventIn", **DOCUMENT})
    for field, words in (("kind", KINDS), ("level", LEVELS)):
        assert {word for part in described["properties"][field]["anyOf"] for word in part.get("enum", ())} - {
            None
        } == set(words)
    decode = msgspec.json.Decoder(NativeEvent).decode
    for field in msgspec.structs.fields(NativeEvent):
        if field.name in {"data", "attributes", "error", "level", "kind"}:
            continue
        for value in ("x", "x" * 128, "x" * 200, "x" * 201, 5, -5, 2.5, 2**63, True, {}):
            event = {"event_type": "a", field.name: value}
            try:
                decode(msgspec.json.encode(event))
            except msgspec.ValidationError:
                assert not validator.is_valid(event), event
            else:
                assert validator.is_valid(event), event


def test_a_row_may_take_one_of_several_types():
    row = Route(method="POST", path="/x", scope="write", handler="x", summary="X", takes=KeyCreate | list[KeyCreate])
    body = document([row], "1")["paths"]["/x"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"$ref": "#/components/schemas/KeyCreate"} in body["anyOf"]


def test_the_document_is_served_without_a_key_and_names_no_version_of_the_software(tmp_path):
    pages = Pages(tmp_path)
    try:
        status, headers, body = asyncio.run(pages.ask("GET", "/openapi.json"))
    finally:
        pages.close()
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == DOCUMENT
    assert DOCUMENT["info"]["version"] == "1"


def test_the_reference_page_names_every_operation_every_parameter_and_loads_nothing_from_elsewhere(tmp_path):
    pages = Pages(tmp_path)
    try:
        status, headers, body = asyncio.run(pages.ask("GET", "/docs"))
        again = asyncio.run(pages.ask("GET", "/docs"))[2]
    finally:
        pages.close()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == again
    assert "default-src 'none'" in headers["content-security-policy"]
    for route in SERVED:
        assert f"{route.method} {route.path}</a>" in body
    for name, _ in QUERY_PARAMETERS:
        assert f"<code>{name}</code>" in body
    assert "http://" not in body
    assert "https://" not in body
    assert "<script" not in body


def test_the_reference_page_shows_types_in_words():
    from leeward.server.dashboard.reference import reference_page

    body = reference_page(DOCUMENT).body.decode()
    assert "array of RefusedEvent" in body
    assert "&#34;completed&#34; or &#34;failed&#34; or &#34;processing&#34;" in body
    assert "string or null" in body
    assert "object of object" in body
