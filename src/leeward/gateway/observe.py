"""Who is told of requests, calls and changes: several at a time, and who is told where nobody was named."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leeward.gateway.records import AttemptRecord, Observer, RequestRecord

__all__ = ["Observers", "default_observer"]


class Observers:
    """Tells each of them, in order."""

    __slots__ = ("_each",)

    def __init__(self, *each: Observer) -> None:
        self._each = each

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:
        """A call has ended."""
        for observer in self._each:
            observer.attempted(request, attempt, why)

    def ended(self, request: RequestRecord) -> None:
        """A request has ended."""
        for observer in self._each:
            observer.ended(request)

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:
        """Something about a provider changed."""
        for observer in self._each:
            observer.changed(provider, model, what, state, why)


def default_observer() -> Observer:
    """Inside a program: its own log, and its telemetry client, if it has one."""
    from leeward.gateway.log import AttemptLog, standard_report  # noqa: PLC0415 - only who gives no observer needs them
    from leeward.gateway.telemetry import Telemetry, to_client  # noqa: PLC0415 - see above
    from leeward.sender.api import client  # noqa: PLC0415 - see above

    return Observers(AttemptLog(standard_report), Telemetry(to_client(client), age_s=0.0))
