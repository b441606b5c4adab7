"""A strict server for the client's tests: it takes the native batch route on loopback, and notes what came.

See `http_recorder`, whose actions can be had from here, too.
"""

from __future__ import annotations

import json
import re

import http_recorder
from http_recorder import KEY, Action, Request, hang, larger_than, lost_answer, ok, raw, reset, status

__all__ = [
    "KEY",
    "Action",
    "Recorder",
    "Request",
    "acknowledgement",
    "hang",
    "larger_than",
    "lost_answer",
    "ok",
    "raw",
    "refuse",
    "reset",
    "status",
]

BATCH_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def acknowledgement(request: Request, refused: dict[int, str] | None = None) -> dict[str, object]:
    errors = [{"index": index, "code": code, "error": "no"} for index, code in (refused or {}).items()]
    events = request.batch["events"]
    return {
        "batch_id": request.batch["batch_id"],
        "status": "completed",
        "accepted": len(events) - len(errors),
        "total": len(events),
        "errors": errors,
    }


def refuse(refused: dict[int, str]) -> Action:
    """Store the batch but for the events with these indexes."""

    def act(recorder: http_recorder.Recorder, request: Request) -> bool:
        recorder.store(request, without=refused)
        request.answer(200, acknowledgement(request, refused))
        return True

    return act


class Recorder(http_recorder.Recorder):
    """The native wire."""

    def read(self, request: Request) -> None:
        problem = _check(request)
        http_recorder.require(not problem, problem)
        request.items = [(event["id"], event) for event in request.batch["events"]]

    def acknowledge(self, request: Request) -> None:
        request.answer(200, acknowledgement(request))


def _check(request: Request) -> str:
    """What is wrong with a request, or empty."""
    if request.head != "POST /api/telemetry/batch HTTP/1.1":
        return f"request line {request.head!r}"
    if request.headers.get("authorization") != f"Bearer {KEY}":
        return "the key"
    if request.headers.get("content-type") != "application/json":
        return "content type"
    request.batch = json.loads(request.unpacked())
    events = request.batch["events"]
    if not BATCH_ID.fullmatch(request.batch["batch_id"]) or not 1 <= len(events) <= 1000:
        return f"batch id {request.batch['batch_id']!r} with {len(events)} events"
    for event in events:
        if not UUID7.fullmatch(event["id"]) or not 1 <= len(event["event_type"]) <= 200:
            return f"event {event}"
        if not isinstance(event["timestamp"], int) or not isinstance(event.get("data", {}), dict):
            return f"event {event}"
    return ""
