"""The dialect of OpenAI's API, which most providers speak: Chat Completions, Embeddings and the list of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from leeward.wire.chat import Answer, BadAnswer, ChatRequest, Operation, ProviderError
from leeward.wire.dialect import AnswerReader, Dialect
from leeward.wire.openai_answers import read_answer
from leeward.wire.openai_errors import read_error
from leeward.wire.openai_requests import encode_request
from leeward.wire.openai_stream import StreamReader

__all__ = ["OPENAI", "model_object", "models_list", "read_models"]

PATHS: Final[dict[Operation, str]] = {"chat": "/chat/completions", "embeddings": "/embeddings"}


class _Model(Struct):
    id: str


class _Models(Struct):
    data: list[_Model]


_DECODE_MODELS = msgspec.json.Decoder(_Models | list[_Model]).decode
_ENCODE = msgspec.json.Encoder().encode


class _OpenAI:
    """See `Dialect`; every method is a function of the modules beside this one."""

    def path(self, operation: Operation) -> str:
        return PATHS[operation]

    def encode(
        self,
        request: ChatRequest,
        model: str,
        *,
        add_usage: bool = False,
        drop: frozenset[str] = frozenset(),
        rename: Mapping[str, str] | None = None,
    ) -> bytes:
        return encode_request(request, model, add_usage=add_usage, drop=drop, rename=rename)

    def read_answer(self, body: bytes, operation: Operation, request: ChatRequest) -> Answer:
        del request  # other dialects need it to name what they translate
        return read_answer(body, operation)

    def reader(self, request: ChatRequest, *, withhold_usage: bool = False, collect: bool = False) -> AnswerReader:
        del request
        return StreamReader(withhold_usage=withhold_usage, collect=collect)

    def read_error(self, status: int, body: bytes) -> ProviderError:
        return read_error(status, body)

    def read_models(self, body: bytes) -> list[str]:
        return read_models(body)


OPENAI: Final[Dialect] = _OpenAI()


def read_models(body: bytes) -> list[str]:
    """The names in a list of models, which some providers send without the object around it.

    Raises:
        BadAnswer: it is no such list.
    """
    try:
        models = _DECODE_MODELS(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"no list of models: {error}") from error
    return [model.id for model in (models.data if isinstance(models, _Models) else models)]


def _model(name: str, created: int) -> dict[str, object]:
    """One model as the API describes it."""
    return {"id": name, "object": "model", "created": created, "owned_by": "leeward"}


def model_object(name: str, created: int) -> bytes:
    """One model, as the answer to a question for it alone."""
    return _ENCODE(_model(name, created))


def models_list(names: Iterable[str], created: int) -> bytes:
    """The list of the models that callers may ask for."""
    return _ENCODE({"object": "list", "data": [_model(name, created) for name in names]})
