"""What is known of clients whose events are numbered: how many arrived, how many they lost, how many are missing.

A table of sums with a row a process, which a view fills from the batches as they are loaded. So a page costs as much as
there are clients, however many batches they sent; and the sums outlive the batches, else a client that runs for longer
than these are kept would seem to have lost its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from leeward.store.retention import DAY_MS

if TYPE_CHECKING:
    from leeward.store.clickhouse import ClickHouse

__all__ = ["CLIENT_DAYS", "REASONS_MAX", "ClientAccount", "ClientAccounts", "by_reason", "forget", "read"]

CLIENT_DAYS: Final = 90  # so long a machine may sleep and then send on, without seeming to have lost its beginning
REASONS_MAX: Final = 16
OTHER_REASONS: Final = "other"


class ClientAccount(msgspec.Struct, frozen=True):
    """One run of a client: the highest of its event numbers, how many events arrived, what it says that it lost.

    `missing` are all others up to the highest: on their way, or lost without its knowing. Times are receipts of
    batches, in milliseconds. The reasons are the `REASONS_MAX` with most losses; the rest are "other".
    """

    process: str
    first_seen: int
    last_seen: int
    highest: int
    received: int
    lost: dict[str, int]
    missing: int


class ClientAccounts(msgspec.Struct, frozen=True):
    """Some accounts, and of all: how many there are, how many events their clients lost, how many are missing."""

    accounts: Sequence[ClientAccount] = ()
    total: int = 0
    lost: int = 0
    missing: int = 0


_ROW: Final = msgspec.json.Decoder(tuple[str, int, int, int, int, list[tuple[str, int]], int, int, int, int, int])
_READ: Final = f"""SELECT process, since, seen, top, got, most, gone, missing,
    toUInt64(count() OVER ()), toUInt64(sum(gone) OVER ()), toInt64(sum(missing) OVER ())
FROM (
    SELECT process, min(first_seen) AS since, max(last_seen) AS seen, max(highest) AS top, sum(received) AS got,
        sumMap(lost) AS reasons, arraySum(mapValues(reasons)) AS gone,
        arraySlice(arrayReverseSort(reason -> (reason.2, reason.1), arrayZip(mapKeys(reasons), mapValues(reasons))),
            1, {REASONS_MAX}) AS most,
        greatest(0, toInt64(top) - toInt64(got) - toInt64(gone)) AS missing
    FROM clients WHERE project = {{project:UInt32}} GROUP BY process HAVING seen >= {{alive:Int64}}
)
ORDER BY gone > 0 OR missing > 0 DESC, seen DESC, process LIMIT {{limit:UInt32}}"""  # noqa: S608 - a number of ours
_EXPIRED: Final = (
    "SELECT project, process FROM clients GROUP BY project, process HAVING max(last_seen) < {before:Int64}"
)


def read(client: ClickHouse, project: int, alive_from_ms: int, limit: int) -> ClientAccounts:
    """The accounts of clients that were seen since then: first those with losses or gaps, then the latest seen."""
    rows = client.select_bytes(_READ, {"project": project, "alive": alive_from_ms, "limit": limit})
    accounts: list[ClientAccount] = []
    total = all_gone = all_missing = 0
    for process, since, seen, top, got, most, gone, missing, total, all_gone, all_missing in _ROW.decode_lines(rows):  # noqa: B007 - the totals stand in every row
        accounts.append(ClientAccount(process, since, seen, top, got, by_reason(most, gone), missing))
    return ClientAccounts(accounts, total, all_gone, all_missing)


def forget(client: ClickHouse, now_ms: int) -> None:
    """Delete the clients that have not been seen for `CLIENT_DAYS`."""
    before = {"before": now_ms - CLIENT_DAYS * DAY_MS}
    if client.select(f"{_EXPIRED} LIMIT 1", before):
        statement = f"ALTER TABLE clients DELETE WHERE (project, process) IN ({_EXPIRED})"
        client.command(statement, before, {"mutations_sync": "1"})


def by_reason(most: Sequence[tuple[str, int]], total: int) -> dict[str, int]:
    """Losses by reason, from the reasons with most of them and how many there are in all."""
    lost = dict(most)
    rest = total - sum(lost.values())
    if rest:
        lost[OTHER_REASONS] = lost.get(OTHER_REASONS, 0) + rest
    return lost
