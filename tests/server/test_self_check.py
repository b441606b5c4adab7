"""Before it serves, the server knocks at each of its doors without a key: one that opens ends the start."""

from __future__ import annotations

import asyncio
import re

import pytest

from control_helpers import HeldClock
from leeward.errors import ConfigError, ProtocolError
from leeward.server.access import Access, Failures, KeyRing, Sessions
from leeward.server.counters import Counters
from leeward.server.dispatch import Dispatch
from leeward.server.http import Response
from leeward.server.routes import ROUTES
from leeward.server.self_check import check_refusals
from leeward.server.wires import otlp, posthog, sentry


async def opens(_request):
    return Response(200)


async def refuses(_request):
    raise ProtocolError("The key is missing", code="unauthorized", status=401)


def a_dispatch(routes, handler):
    return Dispatch(
        routes,
        {route.handler: handler for route in routes},
        access=Access(KeyRing(), Failures(HeldClock())),
        sessions=Sessions(HeldClock()),
        counters=Counters(),
        allowed_hosts=lambda host: host == b"localhost",
        report=lambda name, fields: pytest.fail(f"{name}: {fields['error']!r}"),
        refusals={"posthog": posthog.refusal, "otlp": otlp.refusal, "sentry": sentry.refusal},
    )


def test_a3_where_every_door_refuses_in_its_protocols_form_the_server_starts():
    asyncio.run(check_refusals(a_dispatch(ROUTES, refuses)))


LEFT_TO_HANDLERS = [pytest.param(row, id=f"{row.method} {row.path}") for row in ROUTES if row.key_in == "wire"]


@pytest.mark.parametrize("route", LEFT_TO_HANDLERS)
def test_a3_a_door_whose_handler_forgets_to_look_at_the_key_ends_the_start(route):
    with pytest.raises(ConfigError, match=re.escape(f"{route.path} answered 200 to a request without a key")) as error:
        asyncio.run(check_refusals(a_dispatch([route], opens)))

    assert error.value.code == "open_door"
