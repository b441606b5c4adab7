"""Says what to install where the gateway's libraries are missing. Imported before anything that needs them."""

from __future__ import annotations

__all__ = ["msgspec"]

try:
    import httptools  # noqa: F401 - only whether it is there
    import msgspec
except ModuleNotFoundError as error:
    raise ImportError('the gateway needs its extra: pip install "leeward[gateway]"') from error
