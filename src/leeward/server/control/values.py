"""What the control database hands out: values without SQLAlchemy, so that a route may name them without loading it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from leeward.server.quotas import UNLIMITED, Quota

__all__ = ["Key", "Project", "Started"]


class Project(msgspec.Struct, frozen=True):
    """A project: whose events and keys are apart from all others."""

    id: int
    name: str
    created_at: int


class Key(msgspec.Struct, frozen=True):
    """A key as a person may see it; the token itself is shown once, when it is made."""

    id: str
    project: int
    name: str
    scope: str
    last4: str
    created_at: int
    revoked_at: int | None
    quota: Quota = UNLIMITED


class Started(msgspec.Struct, frozen=True):
    """What opening the control database did besides opening it: new first keys, a copy before a migration."""

    first_keys: Path | None
    backup: Path | None
