"""A road for tests of handlers: the real stages behind a server that is not under pressure."""

from __future__ import annotations

import tempfile
from pathlib import Path

from control_helpers import HeldClock
from leeward.server.access import Access, Failures, Identity, KeyRing, digest
from leeward.server.admission import Admission, AdmissionLimits
from leeward.server.counters import Counters
from leeward.server.http import BodyLimits, ByteBudget
from leeward.server.quotas import Quotas
from leeward.server.refusals import Refusals
from leeward.server.resends import Resends
from leeward.server.road import Road

KEY = "lw_" + "q" * 32
WIRES = ("native", "posthog", "otlp", "sentry")


def quiet_road(
    pipeline, *, counters=None, clock=None, body_bytes_max=1 << 20, pressure=None, quota=None, report=None
) -> Road:
    """One road before this pipeline. `pressure` gives the unstored bytes of a log that may hold 1,000."""
    clock = clock or HeldClock()
    keys = KeyRing()
    keys.replace([(digest(KEY), Identity(1, "write", "k_write", KEY[-4:], quota))])
    budget = ByteBudget(1 << 24)
    return Road(
        pipeline,
        admission=Admission(
            AdmissionLimits(log_bytes_max=1000),
            unstored_bytes=pressure or (lambda: 0),
            waiting_bytes=lambda: 0,
            oldest_wait_s=lambda: 0.0,
            held_bytes=lambda: budget.held,
        ),
        access=Access(keys, Failures(clock)),
        quotas=Quotas(Path(tempfile.mkdtemp()) / "quotas.json", clock=clock, report=lambda name, fields: None),
        refusals=Refusals(clock=clock),
        counters=counters or Counters(),
        budget=budget,
        resends=Resends(clock),
        report=report or (lambda name, fields: None),
        limits={wire: BodyLimits(body_bytes_max, body_bytes_max, 5.0) for wire in WIRES},
    )
