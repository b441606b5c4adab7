# ruff: noqa: INP001 - a script, not a package
"""Writes the reference pages from what they describe: client, settings, commands, routes, error codes.

`python docs/generate.py` writes them, `tests/test_docs.py` compares: a page that is behind fails the tests.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

import leeward as public
from leeward.cli.main import leeward
from leeward.gateway.sentences import SENTENCES
from leeward.recipes import RECIPES
from leeward.sender import api
from leeward.sender.blocks import Span
from leeward.sender.config import HOST_DEFAULT, MODES, WIRES
from leeward.sender.posthog_names import PostHogNames
from leeward.server.openapi import API_VERSION, document
from leeward.server.routes import ROUTES, Route
from leeward.settings.environment import variable_of, variable_of_element
from leeward.settings.keys import REQUIRED, Array, Key, keys_of
from leeward.settings.tree import ARRAYS, KEYS, SECTIONS
from leeward.settings.words import allowed, as_toml

OURS = [route for route in ROUTES if route.wire == "native"]
_LANGUAGES = {"python": "py", "node": "js", "browser": "js"}
_PLACES = {"host": "http://127.0.0.1:5330", "key": "lw_your_key", "dsn": "http://lw_your_key@127.0.0.1:5330/1"}
_HERE = re.compile(r"\{(host|key|dsn)\}")
FOLDER = Path(__file__).parent / "reference"
SOURCE = Path(__file__).parent.parent / "src" / "leeward"
NOTE = "<!-- Generated: python docs/generate.py -->"
VARIABLES = {
    "LEEWARD_API_KEY": "The key: of the client a write key, without which it is off; of the commands, unless `--key` is given.",
    "LEEWARD_HOST": f"The server's address, with http:// or https://; else `{HOST_DEFAULT}`.",
    "LEEWARD_DISABLED": "Switches the client off, unless it is empty, `0`, `false`, `no` or `off`.",
    "DO_NOT_TRACK": "The same, for every program that heeds it.",
    "LEEWARD_SAMPLE_RATE": "Which share of events is kept, 0 to 1, where `sample_rate=` says nothing.",
    "LEEWARD_SPOOL_DIR": "Where the client's events wait on disk; else the user's state directory.",
    "LEEWARD_DEBUG": "`1`: the client's troubles go to stderr, not to the logger `leeward`; keywords that it ignores are named too.",
    "LEEWARD_CONFIG": "The configuration file; of the client only `[client]` in it is read.",
    "TELEMETRY_API_URL": "The client's address, where `LEEWARD_HOST` is not set.",
}
NETWORK_VARIABLES = {
    "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY": "The proxy, by the server's scheme, as curl reads them; in lower case they go before.",
    "NO_PROXY": "Hosts, domains, addresses and ranges that are reached without it.",
    "SSL_CERT_FILE, SSL_CERT_DIR": "The roots to trust instead of the system's.",
    "REQUESTS_CA_BUNDLE": "Roots to trust besides the system's, where neither of those is set.",
}
READ_BY_COMMANDS = ("LEEWARD_API_KEY", "LEEWARD_HOST", "LEEWARD_SPOOL_DIR", "LEEWARD_CONFIG")
MODE_MEANINGS = {
    "durable": "Events wait in files, one folder a process; what `capture` gave an id for survives kill -9.",
    "memory": "No files. Up to 4 MiB wait in memory, and what was not yet sent is lost on SIGKILL.",
    "plain": "No files. A queue of 256 events; what cannot be sent is tried once more after half a second, then dropped.",
}
WIRE_MEANINGS = {
    "native": "leeward's own: each event is stored once, and the server can tell whether one is missing.",
    "posthog": "Any PostHog-compatible host: `/capture/` for one event, `/batch/` for more.",
    "otlp": "OTLP over HTTP: spans, log records and metrics as JSON; what OpenTelemetry's SDK exports, as protobuf.",
}
# What a caller of the gateway may get: the status, what has happened, and what to do about it.
GATEWAY_CODES: dict[str, tuple[str, str, str]] = {
    "all_providers_failed": (
        "502",
        "Every provider that could be asked was asked, and failed.",
        "The gateway's log has each call and its reason under the `request_id`; `GET /api/providers` shows how they are.",
    ),
    "deadline_exceeded": (
        "504",
        "The request's time is over, or every provider that was asked ran into a time-out.",
        "Raise `deadline_s` or `first_token_timeout_s`, or ask for a stream: its first word comes sooner.",
    ),
    "providers_unavailable": (
        "503, Retry-After",
        "Every provider failed lately and is left alone for a while; none was asked.",
        "Ask again when Retry-After says. A further provider in the route, or a step of `fallback`, would have answered.",
    ),
    "rate_limited": (
        "429, Retry-After",
        "Every provider wants fewer calls.",
        "Ask again when Retry-After says; a further provider, or a higher limit there, helps for good.",
    ),
    "stream_interrupted": (
        "in the stream, after 200",
        "The answer had begun and does not go on. What came before is not the whole answer.",
        "Ask again. In process it is `StreamCut`, raised by the loop over the chunks.",
    ),
    "model_not_found": (
        "404",
        "No route has the name in `model`.",
        "Use a name of `GET /v1/models`, or add a route. The message names the closest.",
    ),
    "unsupported": (
        "400",
        "No provider of the route can do what the request needs; `param` names it.",
        "Leave that field out, or add a provider that can; a model's abilities stand in its table under `models`.",
    ),
    "invalid_request": (
        "400; 413 or 422 as the provider says",
        "The request is not as it must be, or the provider found fault with it; `param` names the field.",
        "Change that field. Where a provider refused, the log has its words under the `request_id`.",
    ),
    "context_length_exceeded": (
        "400",
        "The provider says that the conversation does not fit the model.",
        "Shorten it. With `context_tokens` of each model set, long requests go to one where they fit.",
    ),
    "payload_too_large": (
        "413",
        "The body is larger than `request_bytes_max`.",
        "Send less, or raise it under `[gateway]`.",
    ),
    "request_too_large": (
        "413",
        "The same, in process.",
        "Send less, or raise `request_bytes_max` under `[gateway]`.",
    ),
    "invalid_json": ("400", "The body is no JSON object.", "Send one; the message says where it ends to be JSON."),
    "too_deep": ("400", "The JSON is nested deeper than 64 levels.", "Nest less: a tool's schema is often the cause."),
    "too_many_members": (
        "400",
        "A large body has so many lists and objects that reading it would keep all others waiting.",
        "Send images as `data:` texts or by their address, not as lists of numbers.",
    ),
    "forbidden_field": (
        "400",
        "A field of the request says whom to call or with which key; `param` names it.",
        "Leave it out. Who is called is said by `[[gateway.providers]]` alone.",
    ),
    "too_many_choices": ("400", "`n` is larger than `choices_max`.", "Ask for fewer, or raise it under `[gateway]`."),
    "too_many_tokens": (
        "400",
        "`max_tokens` or `max_completion_tokens` is larger than `output_tokens_max`.",
        "Ask for fewer, or raise it under `[gateway]`.",
    ),
    "idempotency_key_invalid": (
        "400",
        "The `Idempotency-Key` is too long or has odd characters.",
        "Use 1 to 255 visible ASCII characters, such as a UUID.",
    ),
    "idempotency_conflict": (
        "409",
        "The `Idempotency-Key` was used for another request.",
        "Use a new key for each request, and the same key only with the same body.",
    ),
    "idempotency_in_progress": (
        "409, Retry-After",
        "The first request with this `Idempotency-Key` is still being answered, or its answer is too large to keep.",
        "Ask again when Retry-After says.",
    ),
    "rate_limit_exceeded": (
        "429, Retry-After",
        "The caller's key has used its requests of this minute.",
        "Wait for the next minute, or raise `requests_per_minute` of the key.",
    ),
    "spend_limit_reached": (
        "429, Retry-After",
        "The caller's key has used its tokens or US dollars of this day (UTC).",
        "Wait for the next day, or raise `tokens_per_day` or `usd_per_day` of the key.",
    ),
    "unauthorized": ("401", "There is no key, or a wrong one.", "Send `Authorization: Bearer lw_…`."),
    "forbidden": ("403", "The key has another scope.", "Use one of scope chat; the message says how it is made."),
    "chaos_off": (
        "409",
        "A fault was asked for at a provider that is not simulated.",
        "Set `chaos = true` under `[gateway]`; its calls then go to a stand-in.",
    ),
    "provider_not_found": ("404", "There is no provider of that name.", "`leeward chaos list` shows the names."),
    "unknown_fault": ("400", "There is no fault of that name.", "`leeward chaos faults` shows them."),
    "bad_fault": ("400", "A number of the fault is out of its range.", "The message says the range."),
}
DROP_IN_MODULES = ("leeward.telemetry", "leeward.testing")
INTEGRATIONS = ("asgi", "logging", "hooks", "providers", "otel", "otel_genai")


def pages() -> dict[str, str]:
    """All pages: file name and text."""
    return {
        "client.md": client_page(),
        "integrations.md": integrations_page(),
        "settings.md": settings_page(),
        "commands.md": commands_page(),
        "http.md": http_page(),
        "errors.md": errors_page(),
        "sdks.md": sdks_page(),
    }


def _page(title: str, intro: str, *blocks: str) -> str:
    return "\n\n".join([f"# {title}", NOTE, intro, *blocks]) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# The client


def client_page() -> str:
    """What `import leeward` gives: every public name, its signature and what it promises."""
    client = public.Client
    functions = [name for name in api.__all__ if name not in {"client", "init"}]
    blocks = [_callable("leeward.init", "init", public.init), _callable("leeward.Client", "Client", client)]
    blocks += [_callable(f"leeward.{name}", name, getattr(client, name)) for name in functions]
    blocks += [_property("Client", name, getattr(client, name)) for name in ("disabled", "device_id")]
    blocks.append(_callable("Client.reset_device_id", "reset_device_id", client.reset_device_id))
    blocks.append(f"## Span\n\n{_docstring(Span)}\n\n{_members(Span)}")
    blocks += [_fields(value) for value in (public.FlushResult, public.Stats)]
    modes = _table(("mode", "meaning"), [(f"`{mode}`", MODE_MEANINGS[mode]) for mode in MODES])
    wires = _table(("wire", "meaning"), [(f"`{wire}`", WIRE_MEANINGS[wire]) for wire in WIRES])
    variables = _table(
        ("variable", "meaning"),
        [(f"`{name}`", meaning) for name, meaning in {**VARIABLES, **NETWORK_VARIABLES}.items()],
    )
    posthog = [
        (f"`{name}`" if isinstance(value, property) else f"`{_signature(name, value)}`", _docstring(value))
        for name, value in vars(PostHogNames).items()
        if name[0] != "_"
    ]
    return _page(
        "Client",
        "`leeward.client` is the client that `init` configures; "
        + ", ".join(f"`{name}`" for name in functions)
        + " are its methods. A `Client` of one's own has the same. An argument wins over the environment, that over the "
        "file. `leeward.__version__` is the version.",
        _module_text(public),
        *blocks,
        f"## Modes\n\n{modes}",
        f"## Wires\n\n{wires}",
        f"## Environment\n\n{variables}",
        "## PostHog's names\n\nMethods of a client, so that a program written for PostHog's SDK runs with its import "
        f"changed.\n\n{_table(('method', 'meaning'), posthog)}",
        *(_module(name) for name in DROP_IN_MODULES),
    )


def integrations_page() -> str:
    """Every integration: what it records and promises, and how it is called."""
    return _page(
        "Integrations",
        "Each is a module of `leeward.integrations`, imported where it is used; none brings a framework with it, and "
        'only those for OpenTelemetry need an extra: `pip install "leeward[otel]"`.',
        *(_module(f"leeward.integrations.{name}") for name in INTEGRATIONS),
    )


def _module(name: str) -> str:
    """A module: what it says of itself, then its public names."""
    module = importlib.import_module(name)
    parts = [f"## {name}", _module_text(module)]
    for public_name in module.__all__:
        value = getattr(module, public_name)
        if inspect.ismethod(value):  # the client's own, which stands there
            parts.append(f"### {public_name}\n\n`leeward.{public_name}`.")
        elif callable(value):
            parts.append(_callable(public_name, public_name, value, heading="###"))
            parts += [_members(value)] if inspect.isclass(value) else []
    return "\n\n".join(part for part in parts if part)


def _module_text(module: Any) -> str:
    return f"```text\n{inspect.cleandoc(module.__doc__ or '')}\n```"


def _members(owner: type) -> str:
    """A class's own public methods and properties: a table, then those whose arguments need one; empty if it has none."""
    own = [
        (name, value)
        for name, value in vars(owner).items()
        if name[0] != "_" and (isinstance(value, property) or inspect.isfunction(value))
    ]
    rows, blocks = [], []
    for name, value in own:
        if "Args:" in (value.__doc__ or ""):
            blocks.append(_callable(f"{owner.__name__}.{name}", name, value, heading="####"))
        else:
            shown = name if isinstance(value, property) else _signature(name, value)
            rows.append((f"`{shown}`", " ".join(_docstring(value).split())))
    return "\n\n".join([*([_table(("member", "meaning"), rows)] if rows else []), *blocks])


def _property(owner: str, name: str, value: Any) -> str:
    return f"## {owner}.{name}\n\n{_docstring(value)}"


def _signature(name: str, value: Any) -> str:
    """A call on one line, without `self`."""
    signature = inspect.signature(value)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    given = inspect.Signature.empty if inspect.isclass(value) else signature.return_annotation
    text = str(signature.replace(parameters=kept, return_annotation=given))
    return name + _unquoted(text)


def _callable(title: str, name: str, value: Any, heading: str = "##") -> str:
    """A heading, the signature without `self`, and the docstring."""
    text = _signature(name, value)
    if len(text) > 100:
        kept = [parameter for parameter in inspect.signature(value).parameters.values() if parameter.name != "self"]
        inner = "".join(f"    {_unquoted(part)},\n" for part in _parts(kept))
        text = f"{name}(\n{inner}){text.rpartition(')')[2]}"
    return f"{heading} {title}\n\n```python\n{text}\n```\n\n{_docstring(value)}"


def _unquoted(text: str) -> str:
    """Annotations are texts in the source, and no less true."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def _fields(value: type) -> str:
    """A heading, the fields of a result with their types, and the docstring."""
    kinds = {name: kind for name, kind in inspect.get_annotations(value).items() if name[0] != "_"}
    fields = "".join(f"{name}: {kind}\n" for name, kind in kinds.items())
    return f"## leeward.{value.__name__}\n\n```python\n{fields}```\n\n{_docstring(value, tuple(kinds))}"


def _parts(parameters: list[inspect.Parameter]) -> Iterator[str]:
    """Each parameter as it is written, and the star before the first that must be named."""
    starred = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield str(parameter)


def _docstring(value: Any, fields: tuple[str, ...] = ()) -> str:
    """A docstring as a page: its paragraphs, and tables of what it lists by name."""
    return "\n\n".join(_paragraph(block, fields) for block in inspect.cleandoc(value.__doc__ or "").split("\n\n"))


def _paragraph(block: str, fields: tuple[str, ...]) -> str:
    head, _, rest = block.partition("\n")
    if head == "Args:":
        return _table(("argument", "meaning"), _listed(rest, re.compile(r"    (\*{0,2}\w+): +(.*)")))
    if head in {"Returns:", "Yields:", "Raises:"}:
        return f"{head} " + " ".join(rest.split())
    if block.startswith("    "):
        return f"```python\n{inspect.cleandoc(block)}\n```"
    columns = re.compile(rf"({'|'.join(fields)}) +(.*)")
    if fields and columns.fullmatch(head):
        return _table(("field", "meaning"), _listed(block, columns))
    return " ".join(block.split())


def _listed(text: str, row: re.Pattern[str]) -> list[tuple[str, ...]]:
    """Names and what is said of them; a line without a name goes on with the one before."""
    rows: list[tuple[str, str]] = []
    for line in text.splitlines():
        found = row.fullmatch(line)
        if found is not None:
            rows.append((f"`{found[1]}`", found[2]))
        else:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {line.strip()}")
    return list(rows)


# Settings


def settings_page() -> str:
    """Every setting: what it is, its default, what it may be, its variable."""
    blocks = []
    for section, struct in SECTIONS.items():
        keys = {variable_of(key.name): key for key in KEYS.values() if key.section == section}
        blocks.append(f"## [{section}]\n\n{_docstring(struct)}" + (f"\n\n{_settings(keys)}" if keys else ""))
        blocks += [_list_of_tables(array) for array in ARRAYS.values() if array.name.rpartition(".")[0] == section]
    others = [
        (f"`{name}`", "client and commands" if name in READ_BY_COMMANDS else "client", meaning)
        for name, meaning in VARIABLES.items()
    ]
    return _page(
        "Settings",
        "An option wins over the environment, that over the file, that over the default. The file is `--config FILE`, "
        "`$LEEWARD_CONFIG`, `./leeward.toml`, or `leeward.toml` in the user's configuration directory. "
        "`leeward serve --print-config` prints one with every default, `leeward config show --origin` what is in force, "
        "`leeward config check` says whether all is right, `leeward config schema` prints the JSON Schema for editors. "
        "A name that is not a setting is refused.",
        *blocks,
        f"## Other variables\n\n{_table(('variable', 'read by', 'meaning'), others)}",
    )


def _settings(keys: Mapping[str, Key]) -> str:
    """A table of settings, by their variables; without one it can be said in the file only."""
    head = ("setting", "default", "may be", "variable", "meaning")
    rows = [
        (
            f"`{key.field}`",
            "required" if key.default is REQUIRED else f"`{as_toml(key.default, size=key.size)}`",
            allowed(key),
            f"`{variable}`" if variable.isupper() else "",
            key.meta.description or "",
        )
        for variable, key in keys.items()
    ]
    return _table(head, rows)


def _list_of_tables(array: Array) -> str:
    """A list of tables: what it is for, what each may say, and what an entry of a table of names may say."""
    keys = {
        field if field == array.label else variable_of_element(array, "NAME", field): key
        for field, key in array.keys.items()
    }
    where = f"In a variable, NAME is the `{array.label}` in capitals, with `_` for what is neither letter nor digit."
    parts = [f"## [[{array.name}]]", _docstring(array.struct), f"{array.description} {where}", _settings(keys)]
    for key in array.keys.values():
        if key.entry is not None:
            inside = {entry.field: entry for entry in keys_of(key.entry, key.name)}
            parts += [f"### An entry of `{key.field}` as a table", _docstring(key.entry), _settings(inside)]
    return "\n\n".join(parts)


# Commands


def every_command(
    command: click.Command = leeward, path: tuple[str, ...] = ("leeward",)
) -> Iterator[tuple[str, click.Command]]:
    """Each command with its whole name, the top first."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from every_command(found, (*path, name))


def help_of(path: str, command: click.Command) -> str:
    """The help as a terminal of 80 columns shows it."""
    context = click.Context(command, info_name=path, terminal_width=80)
    return command.get_help(context)


def commands_page() -> str:
    """Every command's help."""
    blocks = [f"## {path}\n\n```text\n{help_of(path, command)}\n```" for path, command in every_command()]
    return _page(
        "Commands",
        "Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 it failed and says why, 2 wrong usage, "
        "130 broken off with Ctrl+C; `serve` and `demo` end with 0 then.",
        *blocks,
    )


# HTTP


def http_page() -> str:
    """Every route, and every object that goes in or out."""
    described = document(ROUTES, API_VERSION)
    openai = [_route_row(route, described) for route in ROUTES if route.wire == "openai"]
    foreign = [_route_row(route, described) for route in ROUTES if route not in OURS and route.wire != "openai"]
    blocks = [_table(("route", "scope", "what"), [_route_row(route, described) for route in OURS if not route.page])]
    for route in ROUTES:
        if route.parameters:
            rows = [(f"`{name}`", meaning) for name, meaning in route.parameters]
            blocks.append(f"## Parameters of `{route.method} {route.path}`\n\n{_table(('name', 'meaning'), rows)}")
    for name, schema in sorted(described["components"]["schemas"].items()):
        rows = [(f"`{field}`", _type(inner)) for field, inner in schema.get("properties", {}).items()]
        blocks.append(f"## {name}\n\n{schema.get('description', '')}\n\n{_table(('field', 'type'), rows)}")
    blocks.append(
        "## OpenAI's protocol\n\nThe gateway. Requests and answers are those of OpenAI's API; what is particular here is in [the "
        "gateway as a server](../how-to/gateway-server.md), the errors are in [error codes](errors.md#of-the-gateway).\n\n"
        + _table(("route", "scope", "what"), openai)
    )
    blocks.append(
        "## Other protocols\n\nDescribed by their own specifications, and in [wires](wires.md).\n\n"
        + _table(("route", "scope", "what"), foreign)
    )
    rows_of_pages = [_route_row(route, described) for route in ROUTES if route.page]
    blocks.append("## Pages\n\nHTML for people.\n\n" + _table(("route", "scope", "what"), rows_of_pages))
    return _page(
        "HTTP",
        "A key goes into `Authorization: Bearer lw_…` or `X-API-Key: lw_…`. A server shows the same at `/docs`, and "
        "describes itself to programs at `/openapi.json`.",
        *blocks,
    )


def _route_row(route: Route, described: Mapping[str, Any]) -> tuple[str, str, str]:
    """A row of the route table: how it is called, who may, what it does and what goes in and out."""
    operation = described["paths"].get(route.path, {}).get(route.method.lower(), {})
    sides = [("takes", operation.get("requestBody", {})), ("gives", operation.get("responses", {}).get("200", {}))]
    more = ", ".join(
        f"{word} {_type(side['content']['application/json']['schema'])}" for word, side in sides if "content" in side
    )
    return f"`{route.method} {route.path}`", route.scope, route.summary + (f" ({more})" if more else "")


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return ", ".join(f'"{value}"' for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "anything"))


# Errors


def sdks_page() -> str:
    """The rows of `leeward connect`."""
    rows = [
        (f"`{row.name}`", row.title, f"{row.package} {row.version_tested}".strip(), f"`{row.first}`") for row in RECIPES
    ]
    intro = (
        "Which lines point an SDK at a leeward server. `leeward connect NAME` prints them with your address and a key of "
        "yours, and waits for the first event. The lines of every row are run by a test, in the version named here."
    )
    parts = [_table(("`connect`", "SDK", "version tested", "its first event is named"), rows)]
    for row in RECIPES:
        lines = _HERE.sub(lambda place: _PLACES[place[1]], row.lines).rstrip("\n")
        event = row.event.rstrip("\n")
        blocks = [f"## {row.title}"]
        if row.install:
            blocks.append(f"```sh\n{row.install}\n```")
        if row.language == "shell":  # the lines run what stands in the file
            blocks += [f"`{row.file}`:\n\n```\n{event}\n```", f"```sh\n{lines}\n```"]
        else:
            blocks.append(f"`{row.file}`:\n\n```{_LANGUAGES[row.language]}\n{lines}\n\n{event}\n```")
        parts.append("\n\n".join(blocks))
    return _page("SDKs", intro, *parts)


def errors_page() -> str:
    """Every error code, with the sentences that it comes with."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for code, sentence in _codes(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(code, set()).update({sentence} if sentence else ())
    for code in GATEWAY_CODES:
        found.setdefault(code, set()).update({SENTENCES[code]["en"]} if code in SENTENCES else ())
    gateway = [
        (f"[`{code}`](#{code})", status, meaning, cure) for code, (status, meaning, cure) in GATEWAY_CODES.items()
    ]
    blocks = [
        f"## {code}\n\n" + ("\n".join(f"- {sentence}" for sentence in sorted(sentences)) or "- (no fixed sentence)")
        for code, sentences in sorted(found.items())
    ]
    return _page(
        "Error codes",
        "The `code` of an answer, or of a command's error (`--debug` shows it).",
        "## Of the gateway\n\nOn `/v1` they stand in OpenAI's shape: `error` with `message`, `type`, `param`, `code` and "
        "`request_id`. In process, `GatewayError` and `RequestInvalid` have `code`, `status` and `param`; a `GatewayError` "
        "also has `request_id` and `retry_after_s`.\n\n"
        + _table(("code", "status", "what has happened", "what to do"), gateway),
        *blocks,
    )


def _codes(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Where an error is made: its code, and its sentence with … for what is filled in."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        code = named.get("code")
        if isinstance(code, ast.Constant) and isinstance(code.value, str) and node.args:
            yield code.value, _sentence(node.args[0])
        elif node.func.id == "Dropped" and len(node.args) == 2 and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value), _sentence(node.args[1])


def _sentence(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    sys.stderr.write(f"wrote {len(pages())} pages to {FOLDER}\n")
