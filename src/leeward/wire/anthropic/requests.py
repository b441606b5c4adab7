"""A request: Chat Completions → Anthropic Messages.

Every field that the caller wrote is either translated, or listed here as one that changes nothing that a caller relies
on (`IGNORED`), or refused by its name; none is lost without that. What decides it: an answer that has another form than
was asked for (no log probabilities, one choice in the place of three) is refused, one that was sampled a little
differently is not.

| field | becomes |
|---|---|
| `max_completion_tokens`, `max_tokens` | `max_tokens`; absent: `OUTPUT_TOKENS` |
| `temperature`, `top_p` | themselves, a temperature over 1 as 1; models that take but one get the temperature, models that take none get none |
| `stop` | `stop_sequences` |
| `user`, `safety_identifier` | `metadata.user_id` |
| `response_format` of `json_schema` | `output_config.format`; of `json_object`: refused |
| `reasoning_effort` | `output_config.effort`; `none`: no thinking; whether a model thinks is otherwise left to it |
| `tools`, `tool_choice`, `parallel_tool_calls` | their counterparts |
| `thinking`, `top_k`, `cache_control` | themselves: Anthropic's own names, for callers who know them |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from leeward.wire.anthropic.messages import conversation
from leeward.wire.anthropic.models import OUTPUT_TOKENS, Abilities, abilities
from leeward.wire.anthropic.reading import decode_field, given
from leeward.wire.chat import ChatRequest, RequestInvalid

__all__ = ["IGNORED", "encode_request"]

IGNORED: Final = frozenset(
    {
        *("model", "messages", "stream", "stream_options"),  # told elsewhere
        *("seed", "frequency_penalty", "presence_penalty", "prediction", "verbosity"),  # hints to the sampling
        *("store", "metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention"),  # of OpenAI's own house
    }
)
HARMLESS: Final[dict[str, tuple[object, ...]]] = {  # values that ask for nothing
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
}
EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh"}
CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}

Fields = Mapping[str, msgspec.Raw]
Body = dict[str, Any]


class ToolFunction(msgspec.Struct, frozen=True):
    """What a tool is called with."""

    name: str
    description: str = ""
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class Tool(msgspec.Struct, frozen=True):
    """A tool that the model may call."""

    type: str
    function: ToolFunction | None = None
    cache_control: msgspec.Raw = msgspec.Raw()


class NamedFunction(msgspec.Struct, frozen=True):
    """The one tool that is to be called."""

    name: str


class NamedTool(msgspec.Struct, frozen=True):
    """A choice of one tool."""

    type: str
    function: NamedFunction | None = None


class JsonSchema(msgspec.Struct, frozen=True):
    """The schema that an answer follows."""

    schema: msgspec.Raw = msgspec.Raw()


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form of the answer's text."""

    type: str
    json_schema: JsonSchema | None = None


TEXT: Final = msgspec.json.Decoder(str)
COUNT: Final = msgspec.json.Decoder(int)
NUMBER: Final = msgspec.json.Decoder(float)
FLAG: Final = msgspec.json.Decoder(bool)
STOP: Final = msgspec.json.Decoder(str | list[str])
TOOLS: Final = msgspec.json.Decoder(list[Tool])
TOOL_CHOICE: Final = msgspec.json.Decoder(str | NamedTool)
RESPONSE_FORMAT: Final = msgspec.json.Decoder(ResponseFormat)
ANYTHING: Final = msgspec.json.Decoder()


def encode_request(request: ChatRequest, model: str, fields: Fields) -> bytes:
    """The body for Anthropic.

    Args:
        request: of the caller.
        model: Anthropic's name for it.
        fields: of the request, without those that are not to be sent.

    Raises:
        RequestInvalid: a field cannot be translated; `param` names it.
    """
    if request.operation != "chat":
        raise RequestInvalid("Anthropic has no embeddings.", param="model", code="unsupported")
    fields = {name: raw for name, raw in fields.items() if given(raw)}
    for name, raw in fields.items():
        if name not in TRANSLATED and name not in IGNORED:
            refuse_unless_harmless(name, raw)
    able = abilities(model)
    talk = conversation(fields.get("messages", msgspec.Raw(b"[]")))
    body: Body = {"model": model, "max_tokens": OUTPUT_TOKENS, "messages": talk.turns}
    if talk.system:
        body["system"] = talk.system
    for name, translate in TRANSLATED.items():
        if name in fields:
            translate(body, name, fields[name], able)
    settle_tools(body, talk.tools_used)
    settle_prefill(body, able)
    if request.stream:
        body["stream"] = True
    return msgspec.json.encode(body)


def refuse_unless_harmless(name: str, raw: msgspec.Raw) -> None:
    """A field without a counterpart may be there if it asks for nothing."""
    if name not in HARMLESS or decode_field(name, raw, ANYTHING) not in HARMLESS[name]:
        raise RequestInvalid(f"The field {name[:60]!r} has no counterpart at Anthropic.", param=name)


def put_max_tokens(body: Body, name: str, raw: msgspec.Raw, _: Abilities) -> None:
    """How long an answer may be."""
    tokens = decode_field(name, raw, COUNT)
    if tokens < 1:
        raise RequestInvalid(f"{name} is at least 1.", param=name)
    body["max_tokens"] = tokens


def put_sampling(body: Body, name: str, raw: msgspec.Raw, able: Abilities) -> None:
    """The temperature comes first; top_p beside it only where both may be."""
    number = decode_field(name, raw, NUMBER)
    most = 2.0 if name == "temperature" else 1.0
    if not 0.0 <= number <= most:
        raise RequestInvalid(f"{name} is between 0 and {most:g}.", param=name)
    if able.sampling == "none" or (able.sampling == "one" and "temperature" in body):
        return
    body[name] = min(number, 1.0)


def put_stop(body: Body, name: str, raw: msgspec.Raw, _: Abilities) -> None:
    """Where an answer ends."""
    told = decode_field(name, raw, STOP)
    stops = [told] if isinstance(told, str) else told
    if not all(stop.strip() for stop in stops):
        raise RequestInvalid("Anthropic takes no stop sequence of nothing but space.", param=name)
    if stops:
        body["stop_sequences"] = stops


def put_user(body: Body, name: str, raw: msgspec.Raw, _: Abilities) -> None:
    """Whose request it is."""
    if user := decode_field(name, raw, TEXT):
        body["metadata"] = {"user_id": user}


def put_response_format(body: Body, name: str, raw: msgspec.Raw, _: Abilities) -> None:
    """The form of the answer's text."""
    form = decode_field(name, raw, RESPONSE_FORMAT)
    if form.type == "text":
        return
    if form.type != "json_schema" or form.json_schema is None or not given(form.json_schema.schema):
        raise RequestInvalid(
            "Anthropic answers in JSON only by a schema: give response_format a json_schema.", param=name
        )
    schema = {"type": "json_schema", "schema": form.json_schema.schema}
    body.setdefault("output_config", {})["format"] = schema


def put_effort(body: Body, name: str, raw: msgspec.Raw, able: Abilities) -> None:
    """How much a model should think, as far as it can be told."""
    effort = decode_field(name, raw, TEXT)
    if effort == "none" and not able.thinks_always:
        body["thinking"] = {"type": "disabled"}
        return
    word = "low" if effort == "none" else EFFORTS.get(effort)
    if word is None:
        raise RequestInvalid(f"{name} is one of none, {', '.join(EFFORTS)}.", param=name)
    if able.effort:
        word = able.effort_max if word == "xhigh" else word
        body.setdefault("output_config", {})["effort"] = word


def put_as_it_is(body: Body, name: str, raw: msgspec.Raw, _: Abilities) -> None:
    """Anthropic's own field."""
    body[name] = raw


def put_tools(body: Body, name: str, raw: msgspec.Raw, _: Abilities) -> None:
    """What the model may call."""
    tools = []
    for index, tool in enumerate(decode_field(name, raw, TOOLS)):
        if tool.type != "function" or tool.function is None:
            raise RequestInvalid("Only tools of the type function can be translated.", param=f"tools[{index}].type")
        function = tool.function
        schema = function.parameters if given(function.parameters) else {"type": "object", "properties": {}}
        told: Body = {"name": function.name, "input_schema": schema}
        if function.description:
            told["description"] = function.description
        if function.strict:
            told["strict"] = True
        if given(tool.cache_control):
            told["cache_control"] = tool.cache_control
        tools.append(told)
    if tools:
        body["tools"] = tools


def put_tool_choice(body: Body, name: str, raw: msgspec.Raw, _: Abilities) -> None:
    """Whether and which tool is called."""
    choice = decode_field(name, raw, TOOL_CHOICE)
    if isinstance(choice, str) and choice in CHOICES:
        body["tool_choice"] = {"type": CHOICES[choice]}
    elif isinstance(choice, NamedTool) and choice.type == "function" and choice.function is not None:
        body["tool_choice"] = {"type": "tool", "name": choice.function.name}
    else:
        raise RequestInvalid("tool_choice is auto, none, required or the name of a function.", param=name)


def put_parallel(body: Body, name: str, raw: msgspec.Raw, _: Abilities) -> None:
    """Whether several tools may be called at once; it hangs on the choice of a tool."""
    if decode_field(name, raw, FLAG):
        return
    choice = body.setdefault("tool_choice", {"type": "auto"})
    if choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True


TRANSLATED: Final[dict[str, Callable[[Body, str, msgspec.Raw, Abilities], None]]] = {  # in the order of their say
    "max_tokens": put_max_tokens,
    "max_completion_tokens": put_max_tokens,
    "temperature": put_sampling,
    "top_p": put_sampling,
    "stop": put_stop,
    "user": put_user,
    "safety_identifier": put_user,
    "response_format": put_response_format,
    "reasoning_effort": put_effort,
    "thinking": put_as_it_is,
    "top_k": put_as_it_is,
    "cache_control": put_as_it_is,
    "tools": put_tools,
    "tool_choice": put_tool_choice,
    "parallel_tool_calls": put_parallel,
}


def settle_tools(body: Body, used: list[str]) -> None:
    """A choice needs tools; and a conversation in which tools were called needs them told, though none may be called."""
    if "tools" in body:
        return
    if body.pop("tool_choice", {"type": "none"})["type"] in ("any", "tool"):
        raise RequestInvalid("tool_choice asks for a tool, but there are none.", param="tool_choice")
    if used:
        body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in used]
        body["tool_choice"] = {"type": "none"}


def settle_prefill(body: Body, able: Abilities) -> None:
    """A conversation that ends with the assistant is to be continued, where the model can, and without space at its end."""
    last = body["messages"][-1]
    if last["role"] != "assistant":
        return
    if not able.prefill:
        raise RequestInvalid(
            "This model does not continue an assistant's message: end with a user's.", param="messages"
        )
    if isinstance(last["content"], str):
        last["content"] = last["content"].rstrip()
    elif last["content"][-1]["type"] == "text":
        last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()
