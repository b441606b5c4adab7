"""Chat with AI providers that fail: retries, circuit breakers, fallbacks, health; in process or as a server.

Names only; each is loaded when it is first asked for. Needs the `gateway` extra.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from leeward.gateway.failures import (
        AllCircuitsOpen,
        AllFailed,
        AllLimited,
        DeadlineExceeded,
        GatewayError,
        ModelNotFound,
        RequestInvalid,
        RequestRefused,
        StreamCut,
        Unsupported,
    )
    from leeward.gateway.gateway import Gateway
    from leeward.gateway.replies import Chunk, Reply

__all__ = [
    "AllCircuitsOpen",
    "AllFailed",
    "AllLimited",
    "Chunk",
    "DeadlineExceeded",
    "Gateway",
    "GatewayError",
    "ModelNotFound",
    "Reply",
    "RequestInvalid",
    "RequestRefused",
    "StreamCut",
    "Unsupported",
]

_HOMES = {
    "AllCircuitsOpen": "failures",
    "AllFailed": "failures",
    "AllLimited": "failures",
    "Chunk": "replies",
    "DeadlineExceeded": "failures",
    "Gateway": "gateway",
    "GatewayError": "failures",
    "ModelNotFound": "failures",
    "Reply": "replies",
    "RequestInvalid": "failures",
    "RequestRefused": "failures",
    "StreamCut": "failures",
    "Unsupported": "failures",
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only for who asks for a name

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
