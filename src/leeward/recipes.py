"""Which lines point an SDK at a leeward server: one table, for `leeward connect`, the pages and the docs.

Promises  the lines of every row are run as they stand by a test, with a real address and key, in the version named
          here; what `event` says arrives under the name in `first`.
Limits    names and texts only: nothing is imported, and nothing here knows whether an SDK is installed.
"""

from __future__ import annotations

import difflib
import functools
import urllib.parse
from typing import Final, Literal, NamedTuple

__all__ = ["RECIPES", "Recipe", "filled", "find", "nearest"]


class Recipe(NamedTuple):
    """One SDK: what to install, the lines to change, one event to try them with, and the name under which it arrives.

    `language` is python, node, browser or shell. Lines for a shell run a program, whose text `event` is, in `file`;
    any other lines stand in `file` themselves, and `event` goes below them. In `lines`, {host} is the server's
    address, {key} a key of this `scope`, and {dsn} both in Sentry's form.
    """

    name: str
    title: str
    language: str
    package: str
    version_tested: str
    install: str
    lines: str
    event: str
    file: str
    first: str
    scope: Literal["write", "chat"] = "write"


_OTEL_VARIABLES: Final = """\
export OTEL_EXPORTER_OTLP_ENDPOINT="{host}"
export OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20{key}"
export OTEL_SERVICE_NAME="my-app"
"""
_OTEL_PYTHON: Final = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"


def _openai(name: str, title: str, package: str, version: str, module: str, first: str) -> Recipe:
    """An instrumentation of the package `openai`: they differ in their name alone."""
    lines = f"""\
from {module} import OpenAIInstrumentor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

exporter = OTLPSpanExporter("{{host}}/v1/traces", headers={{"Authorization": "Bearer {{key}}"}})
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter))
OpenAIInstrumentor().instrument(tracer_provider=provider)
"""
    event = """\
from openai import OpenAI

OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
"""
    install = f"pip install {package} {_OTEL_PYTHON}"
    return Recipe(name, title, "python", package, version, install, lines, event, "app.py", first)


RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe(
        "python",
        "leeward's own client for Python",
        "python",
        "leeward",
        "0.1.0",
        "pip install leeward",
        'import leeward\n\nleeward.init("{key}", "{host}")\n',
        'leeward.capture("hello")\n',
        "app.py",
        "hello",
    ),
    Recipe(
        "posthog",
        "PostHog for Python",
        "python",
        "posthog",
        "7.91.1",
        "pip install posthog",
        'from posthog import Posthog\n\nposthog = Posthog("{key}", host="{host}")\n',
        'posthog.capture("hello", distinct_id="you")\nposthog.shutdown()\n',
        "app.py",
        "hello",
    ),
    Recipe(
        "posthog-node",
        "PostHog for Node",
        "node",
        "posthog-node",
        "5.70.0",
        "npm install posthog-node",
        'import { PostHog } from "posthog-node";\n\nconst posthog = new PostHog("{key}", { host: "{host}" });\n',
        'posthog.capture({ distinctId: "you", event: "hello" });\nawait posthog.shutdown();\n',
        "app.mjs",
        "hello",
    ),
    Recipe(
        "posthog-js",
        "PostHog in a page",
        "browser",
        "posthog-js",
        "1.449.2",
        "npm install posthog-js",
        'import posthog from "posthog-js";\n\nposthog.init("{key}", { api_host: "{host}", defaults: "2025-05-24" });\n',
        'posthog.capture("hello");\n',
        "page.mjs",
        "hello",
    ),
    Recipe(
        "sentry",
        "Sentry for Python",
        "python",
        "sentry-sdk",
        "2.75.0",
        "pip install sentry-sdk",
        'import sentry_sdk\n\nsentry_sdk.init("{dsn}", traces_sample_rate=1.0, enable_logs=True)\n',
        'sentry_sdk.capture_message("hello")\n',
        "app.py",
        "$exception",
    ),
    Recipe(
        "sentry-node",
        "Sentry for Node",
        "node",
        "@sentry/node",
        "11.12.0",
        "npm install @sentry/node",
        'import * as Sentry from "@sentry/node";\n\n'
        'Sentry.init({ dsn: "{dsn}", tracesSampleRate: 1, enableLogs: true });\n',
        'Sentry.captureMessage("hello");\nawait Sentry.flush();\n',
        "app.mjs",
        "$exception",
    ),
    Recipe(
        "sentry-browser",
        "Sentry in a page",
        "browser",
        "@sentry/browser",
        "11.12.0",
        "npm install @sentry/browser",
        'import * as Sentry from "@sentry/browser";\n\n'
        'Sentry.init({ dsn: "{dsn}", tracesSampleRate: 1, enableLogs: true });\n',
        'Sentry.captureMessage("hello");\n',
        "page.mjs",
        "$exception",
    ),
    Recipe(
        "otel",
        "OpenTelemetry for Python",
        "shell",
        "opentelemetry-distro",
        "0.66b2",
        "pip install opentelemetry-distro opentelemetry-exporter-otlp-proto-http",
        f'{_OTEL_VARIABLES}export OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"\nopentelemetry-instrument python app.py\n',
        'from opentelemetry import trace\n\nwith trace.get_tracer("app").start_as_current_span("hello"):\n    pass\n',
        "app.py",
        "hello",
    ),
    Recipe(
        "otel-node",
        "OpenTelemetry for Node",
        "shell",
        "@opentelemetry/sdk-node",
        "0.223.0",
        "npm install @opentelemetry/api @opentelemetry/sdk-node",
        f"{_OTEL_VARIABLES}node app.mjs\n",
        """\
import { trace } from "@opentelemetry/api";
import { NodeSDK } from "@opentelemetry/sdk-node";

const sdk = new NodeSDK();
sdk.start();
trace.getTracer("app").startSpan("hello").end();
await sdk.shutdown();
""",
        "app.mjs",
        "hello",
    ),
    Recipe(
        "langfuse",
        "Langfuse for Python",
        "shell",
        "langfuse",
        "5.0.4",
        "pip install langfuse",
        'export LANGFUSE_BASE_URL="{host}"\n'
        'export LANGFUSE_PUBLIC_KEY="pk-lf-any"\n'
        'export LANGFUSE_SECRET_KEY="{key}"\n'
        "python app.py\n",
        """\
from langfuse import get_client

with get_client().start_as_current_observation(name="hello"):
    pass
get_client().flush()
""",
        "app.py",
        "hello",
    ),
    Recipe(
        "fastapi",
        "FastAPI's own telemetry",
        "shell",
        "fastapi",
        "0.165.0",
        'pip install "fastapi[standard]"',
        f'{_OTEL_VARIABLES}export FASTAPI_OTEL_AUTO_CONFIGURE="true"\nuvicorn app:app\n',
        """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/hello")
def hello() -> str:
    return "hello"
""",
        "app.py",
        "GET /hello",
    ),
    _openai(
        "genai",
        "OpenAI calls, as OpenTelemetry sees them",
        "opentelemetry-instrumentation-genai-openai",
        "1.3b0",
        "opentelemetry.instrumentation.genai.openai",
        "chat gpt-4o-mini",
    ),
    _openai(
        "traceloop",
        "OpenAI calls, as Traceloop sees them",
        "opentelemetry-instrumentation-openai",
        "0.62.4",
        "opentelemetry.instrumentation.openai",
        "openai.chat",
    ),
    _openai(
        "openinference",
        "OpenAI calls, as OpenInference sees them",
        "openinference-instrumentation-openai",
        "0.1.66",
        "openinference.instrumentation.openai",
        "ChatCompletion",
    ),
    Recipe(
        "openai",
        "OpenAI for Python, through the gateway",
        "python",
        "openai",
        "3.54.0",
        "pip install openai",
        'from openai import OpenAI\n\nclient = OpenAI(base_url="{host}/v1", api_key="{key}")\n',
        """\
messages = [{"role": "user", "content": "hello"}]
print(client.chat.completions.create(model="chat", messages=messages).choices[0].message.content)
""",
        "app.py",
        "gateway chat",
        "chat",
    ),
    Recipe(
        "openai-node",
        "OpenAI for Node, through the gateway",
        "node",
        "openai",
        "7.57.0",
        "npm install openai",
        'import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "{host}/v1", apiKey: "{key}" });\n',
        """\
const messages = [{ role: "user", content: "hello" }];
const answer = await client.chat.completions.create({ model: "chat", messages });
console.log(answer.choices[0].message.content);
""",
        "app.mjs",
        "gateway chat",
        "chat",
    ),
    Recipe(
        "curl",
        "One event by hand",
        "shell",
        "curl",
        "",
        "",
        """\
curl "{host}/api/telemetry/ingest" \\
  -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d @event.json
""",
        '{"event_type": "hello", "data": {"from": "curl"}}\n',
        "event.json",
        "hello",
    ),
)
_BY_NAME: Final = {recipe.name: recipe for recipe in RECIPES}


def find(name: str) -> Recipe | None:
    """The row of that name."""
    return _BY_NAME.get(name)


def nearest(name: str) -> str:
    """The name that was meant, or nothing: of a row, or of the package of one."""
    packages = {recipe.package.casefold(): recipe.name for recipe in reversed(RECIPES)}
    wanted = name.casefold()
    if wanted in packages:
        return packages[wanted]
    return next(iter(difflib.get_close_matches(wanted, _BY_NAME, 1)), "")


def filled(recipe: Recipe, host: str, key: str, project: int = 1) -> Recipe:
    """The row with address, key and the number of its project in their places."""
    parts = urllib.parse.urlsplit(host)
    dsn = f"{parts.scheme}://{key}@{parts.netloc}{parts.path.rstrip('/')}/{project}"
    places = {"{host}": host.rstrip("/"), "{key}": key, "{dsn}": dsn}
    text = functools.reduce(lambda text, place: text.replace(place, places[place]), places, recipe.lines)
    return recipe._replace(lines=text)
