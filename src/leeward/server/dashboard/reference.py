"""The OpenAPI document → the reference page: every operation with its fields, in one page that needs no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from leeward.server.dashboard.render import page
from leeward.server.http import Response

__all__ = ["reference_page"]

Schema = Mapping[str, Any]


class Field(msgspec.Struct, frozen=True):
    """A field of an object, a parameter or a header: its name, its type in words, what is said about it."""

    name: str
    type: str
    note: str
    required: bool


class Body(msgspec.Struct, frozen=True):
    """What goes in or out: its type in words, what it means, and the fields of all objects in it, by object."""

    type: str
    note: str
    objects: tuple[tuple[str, str, tuple[Field, ...]], ...]


class Operation(msgspec.Struct, frozen=True):
    """One row of the route table, ready to be shown."""

    anchor: str
    method: str
    path: str
    summary: str
    scope: str
    parameters: tuple[Field, ...]
    takes: Body | None
    gives: Body | None
    refusals: tuple[tuple[str, str], ...]


def reference_page(document: Mapping[str, Any]) -> Response:
    """Show the whole document."""
    schemas = document["components"]["schemas"]
    operations = [
        _operation(method, path, operation, schemas)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return page("reference.html", operations=operations)


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Schema) -> Operation:
    responses = operation["responses"]
    scopes = [scope for scheme in operation["security"] for names in scheme.values() for scope in names]
    return Operation(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        scope=scopes[0] if scopes else "",
        parameters=tuple(
            Field(given["name"], given["schema"]["type"], given.get("description", "in the path"), "required" in given)
            for given in operation.get("parameters", ())
        ),
        takes=_body(operation.get("requestBody", {}), schemas),
        gives=_body(responses["200"], schemas),
        refusals=tuple((status, answer["description"]) for status, answer in responses.items() if status != "200"),
    )


def _body(holder: Mapping[str, Any], schemas: Schema) -> Body | None:
    content = holder.get("content")
    if content is None:
        return None
    schema = content["application/json"]["schema"]
    names = list(dict.fromkeys(_objects(schema, schemas, set())))
    return Body(
        _type(schema),
        "" if names else schema.get("description", ""),
        tuple((name, schemas[name].get("description", ""), _fields(schemas[name])) for name in names),
    )


def _objects(schema: Any, schemas: Schema, seen: set[str]) -> Iterator[str]:
    """The names of all objects in a schema, outermost first."""
    if isinstance(schema, Mapping):
        name = schema.get("$ref", "").rpartition("/")[2]
        if name and name not in seen:
            seen.add(name)
            yield name
            yield from _objects(schemas[name], schemas, seen)
        for value in schema.values():
            yield from _objects(value, schemas, seen)
    elif isinstance(schema, list):
        for value in schema:
            yield from _objects(value, schemas, seen)


def _fields(schema: Schema) -> tuple[Field, ...]:
    required = set(schema.get("required", ()))
    return tuple(
        Field(name, _type(field), field.get("description", ""), name in required)
        for name, field in schema.get("properties", {}).items()
    )


def _type(schema: Schema) -> str:
    """A schema in words: `integer`, `array of RefusedEvent`, `"a" or "b"`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(f'"{value}"' for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "anything"))
