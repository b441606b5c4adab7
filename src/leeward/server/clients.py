"""`GET /api/telemetry/clients`: what became of the events that clients have numbered, client by client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from leeward.server.http import Request, Response, json_response
from leeward.server.query import LIMIT_MAX, WAIT_MS_MAX, behind, check_names, whole_number
from leeward.server.routes import CLIENTS_PARAMETERS
from leeward.server.schemas import ClientInfo, ClientList
from leeward.store.clickhouse import StoreUnavailable

if TYPE_CHECKING:
    from leeward.server.query import ReadBarrier
    from leeward.server.reads import Run
    from leeward.store.clients import ClientAccount, ClientAccounts
    from leeward.store.events import EventStore

__all__ = ["Clients", "clients_out"]

_PARAMETERS: Final = frozenset(name for name, _ in CLIENTS_PARAMETERS)


class Clients:
    """The handler. It counts everything that was acknowledged before it was asked."""

    def __init__(self, store: EventStore, *, barrier: ReadBarrier, run: Run) -> None:
        self._store = store
        self._barrier = barrier
        self._run = run

    async def clients(self, request: Request) -> Response:
        """The project's clients, those with losses or gaps first."""
        parameters = request.query()
        check_names(parameters, _PARAMETERS)
        limit = whole_number(parameters, "limit", 100, 1, LIMIT_MAX)
        wait_s = whole_number(parameters, "wait_ms", WAIT_MS_MAX, 0, WAIT_MS_MAX) / 1000
        if wait_s and not await self._barrier.wait_loaded(wait_s):
            raise behind(self._barrier, "Ask again, or with wait_ms=0 for what is there")
        try:
            found: ClientAccounts = await self._run(self._store.clients, request.project, limit)
        except StoreUnavailable:
            raise behind(self._barrier, "It does not answer just now. Ask again") from None
        listed = clients_out(found.accounts)
        return json_response(ClientList(len(listed), listed, found.total, found.lost, found.missing))


def clients_out(accounts: Sequence[ClientAccount]) -> list[ClientInfo]:
    """Accounts as the API gives them."""
    return [
        ClientInfo(one.process, one.first_seen, one.last_seen, one.highest, one.received, one.lost, one.missing)
        for one in accounts
    ]
