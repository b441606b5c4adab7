"""The API's description, from the route table: an OpenAPI 3.1 document for programs, a reference page for people.

Promises  What is described is what is served: both come from the rows and their Structs, and the page comes from the
          document. Neither loads anything from elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from leeward.server.http import ErrorBody, Request, Response, json_response
from leeward.server.routes import Route

__all__ = ["Reference", "document"]

Json = dict[str, Any]
_SchemaOf = dict[Any, Json]

API_VERSION: Final = "1"  # of the routes; which leeward serves them is nobody's business without a key
_SCHEMA: Final = "#/components/schemas/{name}"
_PARAMETER: Final = "{id}"
_SECURITY_SCHEMES: Final[Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer lw_…"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "X-API-Key: lw_…"},
}
_STATUSES: Final = {
    400: "What was sent cannot be taken; the error says what is wrong with it.",
    401: "No key, or one that is not valid here.",
    403: "The key is valid, but its scope does not allow this.",
    404: "There is nothing of that id.",
    408: "The body did not arrive in time.",
    409: "It contradicts what is already there.",
    413: "The body is too large, as sent or unpacked.",
    415: "The body's encoding is not one that is read here.",
    429: "Too much at once. Nothing was kept; send it again after Retry-After.",
    503: "The server cannot do this now. Nothing was kept; send it again after Retry-After.",
}
_RETRY_AFTER: Final[Json] = {
    "Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}
}
_WHO: Final[Json] = {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}}
_HEADERS: Final[dict[int, Json]] = {401: _WHO, 429: _RETRY_AFTER, 503: _RETRY_AFTER}


def document(routes: Iterable[Route], version: str) -> Json:
    """Describe every row of our own protocol that is not a page; the others have specifications of their own."""
    described = [route for route in routes if not route.page and route.wire == "native"]
    types: list[Any] = [ErrorBody]
    types += [side for route in described for side in (route.takes, route.gives, route.refuses) if side is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_SCHEMA)
    schema_of: _SchemaOf = dict(zip(types, schemas, strict=True))
    paths: Json = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "leeward",
            "version": version,
            "summary": "Send telemetry events, ask what became of them, read them again.",
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY_SCHEMES},
    }


def _operation(route: Route, schema_of: _SchemaOf) -> Json:
    operation: Json = {
        "operationId": route.handler,
        "summary": route.summary,
        "responses": _responses(route, schema_of),
    }
    parameters = _parameters(route)
    if parameters:
        operation["parameters"] = parameters
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": _json(schema_of[route.takes])}
    # An empty list says: no key. The names within a scheme are the scopes that allow it; `admin` allows everything.
    operation["security"] = [] if route.scope == "public" else [{name: [route.scope]} for name in _SECURITY_SCHEMES]
    return operation


def _parameters(route: Route) -> list[Json]:
    parameters: list[Json] = []
    if _PARAMETER in route.path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
    parameters += [
        {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
        for name, meaning in route.parameters
    ]
    return parameters


def _responses(route: Route, schema_of: _SchemaOf) -> Json:
    good: Json = {"description": "Done."}
    if route.gives is not None:
        good["content"] = _json(schema_of[route.gives])
    responses: Json = {"200": good}
    for status in sorted(route.statuses):
        body = schema_of[ErrorBody]
        if status == 400 and route.refuses is not None:
            body = {"anyOf": [body, schema_of[route.refuses]]}
        refusal: Json = {"description": _STATUSES[status], "content": _json(body)}
        if status in _HEADERS:
            refusal["headers"] = _HEADERS[status]
        responses[str(status)] = refusal
    return responses


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


class Reference:
    """The handlers of `/openapi.json` and `/docs`. Both are made at the first request, and kept."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    @functools.cached_property
    def _document(self) -> Json:
        return document(self._routes, API_VERSION)

    @functools.cached_property
    def _page(self) -> Response:
        from leeward.server.dashboard.reference import reference_page  # noqa: PLC0415 - the template engine, for readers

        return reference_page(self._document)

    async def openapi(self, request: Request) -> Response:  # noqa: ARG002 - every handler is given its request
        """The document, for programs."""
        return json_response(self._document)

    async def docs(self, request: Request) -> Response:  # noqa: ARG002 - see openapi
        """The page, for people."""
        return Response(self._page.status, self._page.body, list(self._page.headers))
