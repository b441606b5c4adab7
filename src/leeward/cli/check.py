"""A finding of `leeward doctor`, as a value."""

from __future__ import annotations

from typing import Literal, NamedTuple

from leeward.errors import LeewardError

__all__ = ["Check", "failed"]


class Check(NamedTuple):
    """One verdict: ok, warn or fail; what was seen; what to do about it."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def failed(name: str, error: LeewardError) -> Check:
    """A check that ended with an error."""
    return Check(name, "fail", error.message + (f" ({error.where})" if error.where else ""), error.fix)
