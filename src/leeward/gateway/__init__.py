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
        RequestRefused,
        StreamCut,
        Unsupported,
    )
    from leeward.gateway.gateway import Gateway
    from leeward.gateway.replies import Chunk, Reply
    from leeward.wire.chat import RequestInvalid

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
    "Chunk": "leeward.gateway.replies",
    "Gateway": "leeward.gateway.gateway",
    "Reply": "leeward.gateway.replies",
    "RequestInvalid": "leeward.wire.chat",
}
_FAILURES = "leeward.gateway.failures"


def __getattr__(name: str) -> "Any":
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only for who asks for a name

    try:
        module = import_module(_HOMES.get(name, _FAILURES))
    except ModuleNotFoundError as error:
        if error.name in {"msgspec", "httptools"}:
            raise ImportError('the gateway needs an extra: pip install "leeward[gateway]"') from error
        raise
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
