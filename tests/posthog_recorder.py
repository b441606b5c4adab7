"""A strict PostHog for the client's tests: `/batch/` and `/capture/` on loopback; see `http_recorder`.

Stricter than the real one: besides what it refuses (no token, no name, no distinct id, a malformed uuid), a field with
another type than its SDKs send, an unknown field, or a time without a zone is an error here.
"""

from __future__ import annotations

import datetime
import gzip
import json
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

import http_recorder
from http_recorder import KEY, Action, Request, hang, larger_than, lost_answer, ok, raw, require, reset, status

__all__ = [
    "KEY",
    "Action",
    "Recorder",
    "Request",
    "hang",
    "larger_than",
    "lost_answer",
    "ok",
    "over_quota",
    "raw",
    "reset",
    "status",
]

ENVELOPE = {"api_key", "sent_at", "batch", "historical_migration"}
EVENT = {"event", "distinct_id", "uuid", "timestamp", "properties"}
# What PostHog's server fills in itself; a client that sends it is told apart from one that forges it by nothing.
SERVER_FILLED = {
    "$exception_types",
    "$exception_values",
    "$exception_sources",
    "$exception_functions",
    "$exception_fingerprint_record",
    "$exception_issue_id",
}


def over_quota(recorder: http_recorder.Recorder, request: Request) -> bool:
    """Store nothing, and say so in a 200, as the real one does."""
    request.answer(200, {"status": 1, "quota_limited": ["events"]})
    return True


class Recorder(http_recorder.Recorder):
    """The PostHog wire."""

    def read(self, request: Request) -> None:
        address = urlsplit(request.path)
        require(request.head.startswith("POST "), request.head)
        require(request.headers.get("content-type") == "application/json", "content type")
        require("authorization" not in request.headers, "the token is in the body")
        body = request.body
        if body[:3] == b"\x1f\x8b\x08":  # the bytes say it; headers may not
            body = gzip.decompress(body)
        request.batch = json.loads(body)
        if address.path == "/batch/":
            require(set(request.batch) <= ENVELOPE, f"envelope {sorted(request.batch)}")
            moment(request.batch["sent_at"])
            events = request.batch["batch"]
            require(isinstance(events, list) and events, "an empty batch")
        else:
            require(address.path == "/capture/", request.path)
            require(int(parse_qs(address.query)["_"][0]) > 1_577_836_800_000, "sent at, in milliseconds after 2020")
            events = [{name: value for name, value in request.batch.items() if name != "api_key"}]
        token(request.batch["api_key"])
        for event in events:
            check(event)
        request.items = [(event["uuid"], event) for event in events]

    def acknowledge(self, request: Request) -> None:
        request.answer(200, {"status": 1})


def token(value: object) -> None:
    require(isinstance(value, str) and 0 < len(value) <= 64 and value.isascii() and "\0" not in value, "token")
    require(not str(value).startswith("phx_"), "a personal key")
    require(value == KEY, "another project's token")


def moment(text: object) -> datetime.datetime:
    require(isinstance(text, str), f"time {text!r}")
    parsed = datetime.datetime.fromisoformat(str(text))
    require(parsed.utcoffset() == datetime.timedelta(0), f"time {text!r} is not UTC")
    return parsed


def check(event: dict[str, Any]) -> None:
    """Raise for what the real one refuses, and for what its SDKs never send."""
    require(set(event) <= EVENT and {"event", "distinct_id", "uuid", "properties"} <= set(event), sorted(event))
    require(isinstance(event["event"], str) and event["event"], "no event name")
    require(isinstance(event["distinct_id"], str) and event["distinct_id"], "no distinct id")
    require(str(uuid.UUID(event["uuid"])) == event["uuid"].lower(), f"uuid {event['uuid']!r}")
    if "timestamp" in event:
        moment(event["timestamp"])
    properties = event["properties"]
    require(isinstance(properties, dict), "properties")
    require(not SERVER_FILLED & set(properties), "what only the server fills in")
    if event["event"] == "$exception":
        listed = properties["$exception_list"]
        require(isinstance(listed, list) and listed, "an empty $exception_list")
        require(
            properties["$exception_level"] in {"fatal", "error", "warning", "info", "debug"},
            properties["$exception_level"],
        )
        for index, one in enumerate(listed):
            check_exception(one, index)


def check_exception(one: dict[str, Any], index: int) -> None:
    require(isinstance(one["type"], str) and isinstance(one["value"], str), one)
    require(one["module"] is None or isinstance(one["module"], str), one)
    mechanism = one["mechanism"]
    require(
        set(mechanism) <= {"type", "handled", "synthetic", "exception_id", "parent_id", "source"}, sorted(mechanism)
    )
    require(type(mechanism["handled"]) is bool and type(mechanism["synthetic"]) is bool, mechanism)
    require(mechanism["exception_id"] == index, mechanism)
    require(index == 0 or mechanism.get("parent_id") in range(index), mechanism)
    require(one["stacktrace"]["type"] == "raw", one["stacktrace"])
    for frame in one["stacktrace"]["frames"]:
        require(frame["platform"] == "python" and type(frame["in_app"]) is bool, frame)
        require(type(frame["lineno"]) is int, frame)
        for name in ("filename", "abs_path", "function", "context_line"):
            require(isinstance(frame[name], str), frame)
