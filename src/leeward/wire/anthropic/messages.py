"""The messages of a conversation: Chat Completions → system prompt and turns of Anthropic Messages.

What is another form of the same is translated: text, images, PDF files, tool calls and their results. Messages that
follow one another with one role are one turn, since the results of all of a turn's tool calls must stand together in the
next one. System and developer messages, wherever they stand, are joined at the top, as Anthropic's own translation does.

Not carried over: `name` of a message, which has no place there; what an earlier answer said besides text and tool calls
(`reasoning_content`, `annotations`, `audio`); text of nothing but space, which Anthropic refuses. What else cannot be
said there is refused with the place where it stands.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from leeward.wire.anthropic.reading import UNREADABLE, decode_field, given
from leeward.wire.chat import RequestInvalid

__all__ = ["Conversation", "conversation", "tool_id"]

Block = dict[str, Any]

IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
PDF: Final = "application/pdf"
ID_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class ImageUrl(msgspec.Struct, frozen=True):
    """An image: its address, or itself as a data: URL."""

    url: str


class File(msgspec.Struct, frozen=True):
    """A file in a message."""

    file_data: str = ""
    filename: str = ""


class Part(msgspec.Struct, frozen=True):
    """A piece of a message's content, of whatever type."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: ImageUrl | str = ""
    file: File = File()
    cache_control: msgspec.Raw = msgspec.Raw()


class Function(msgspec.Struct, frozen=True):
    """What an assistant called, and with what."""

    name: str
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """A call by the assistant."""

    id: str
    function: Function
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True):
    """One message, of whatever role."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str = ""
    is_error: bool = False
    function_call: msgspec.Raw = msgspec.Raw()


MESSAGES: Final = msgspec.json.Decoder(list[Message])
OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Conversation(msgspec.Struct):
    """What Anthropic is told of the messages."""

    system: str | list[Block] = ""
    turns: list[Block] = []
    tools_used: list[str] = []  # by their names, each once


def conversation(messages: msgspec.Raw) -> Conversation:
    """Translate the field `messages`.

    Raises:
        RequestInvalid: something in it has no form there; `param` says where it stands.
    """
    system: list[Block] = []
    turns: list[Block] = []
    used: dict[str, None] = {}
    for index, message in enumerate(decode_field("messages", messages, MESSAGES)):
        place = f"messages[{index}]"
        if message.role in ("system", "developer"):
            system += text_blocks(message, place)
            continue
        used.update((call.function.name, None) for call in message.tool_calls or ())
        role, blocks = turn(message, place)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns:
        raise RequestInvalid("Anthropic asks for at least one message of a user with text in it.", param="messages")
    for each in turns:
        each["content"] = plain(each["content"])
    told = system if any("cache_control" in block for block in system) else "\n".join(b["text"] for b in system)
    return Conversation(told, turns, list(used))


def turn(message: Message, place: str) -> tuple[str, list[Block]]:
    """A message as what it adds to a turn of the user or of the assistant."""
    if given(message.function_call):
        raise RequestInvalid("Use `tool_calls` instead of `function_call`.", param=f"{place}.function_call")
    if message.role == "tool":
        return "user", [tool_result(message, place)]
    if message.role == "user":
        return "user", content_blocks(message, place)
    calls = [tool_use(call, f"{place}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or ())]
    return "assistant", text_blocks(message, place) + calls


def plain(blocks: list[Block]) -> str | list[Block]:
    """One block of mere text as its text."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return str(blocks[0]["text"])
    return blocks


def tool_use(call: ToolCall, place: str) -> Block:
    """A call by the assistant."""
    arguments = call.function.arguments.strip() or "{}"
    try:
        OBJECT.decode(arguments)
    except UNREADABLE as error:
        raise RequestInvalid(
            "The arguments of an earlier tool call are not a JSON object, as Anthropic asks for.",
            param=f"{place}.function.arguments",
        ) from error
    return {
        "type": "tool_use",
        "id": tool_id(call.id),
        "name": call.function.name,
        "input": msgspec.Raw(arguments.encode()),
    }


def tool_result(message: Message, place: str) -> Block:
    """What a tool gave back; the mark of an error is not OpenAI's, but some clients send it."""
    if not message.tool_call_id:
        raise RequestInvalid("The result of a tool needs the id of its call.", param=f"{place}.tool_call_id")
    block: Block = {"type": "tool_result", "tool_use_id": tool_id(message.tool_call_id)}
    if content := plain(content_blocks(message, place)):
        block["content"] = content
    if message.is_error:
        block["is_error"] = True
    return block


def tool_id(id: str) -> str:
    """An id as Anthropic takes it; other providers put dots and colons in theirs. The same id gives the same."""
    return "".join(character if character in ID_CHARACTERS else "_" for character in id)


def text_blocks(message: Message, place: str) -> list[Block]:
    """The content where only text can be: of the system and of the assistant."""
    blocks = content_blocks(message, place)
    for index, block in enumerate(blocks):
        if block["type"] != "text":
            raise RequestInvalid(
                f"A message of the role {message.role} can hold only text.", param=f"{place}.content[{index}]"
            )
    return blocks


def content_blocks(message: Message, place: str) -> list[Block]:
    """The content in blocks, without empty text."""
    if message.content is None:
        return []
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}] if message.content.strip() else []
    blocks = []
    for index, part in enumerate(message.content):
        block = part_block(part, f"{place}.content[{index}]")
        if block is None:
            continue
        if given(part.cache_control):
            block["cache_control"] = part.cache_control
        blocks.append(block)
    return blocks


def part_block(part: Part, place: str) -> Block | None:
    """One part of a content; None for empty text."""
    if part.type in ("text", "refusal"):
        text = part.text if part.type == "text" else part.refusal
        return {"type": "text", "text": text} if text.strip() else None
    if part.type == "image_url":
        url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
        return {"type": "image", "source": image_source(url, f"{place}.image_url")}
    if part.type == "file":
        return document(part.file, f"{place}.file")
    raise RequestInvalid(f"Anthropic takes no content of the type {part.type[:40]!r}.", param=f"{place}.type")


def image_source(url: str, place: str) -> Block:
    """Where an image comes from."""
    if url.startswith("data:"):
        media_type, data = split_data_url(url)
        if media_type == "image/jpg":  # an old misspelling that others let pass
            media_type = "image/jpeg"
        if media_type in IMAGE_TYPES:
            return {"type": "base64", "media_type": media_type, "data": data}
        raise RequestInvalid("Anthropic takes images as JPEG, PNG, GIF or WebP, in base64.", param=place)
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    raise RequestInvalid("Anthropic takes images as data: or https:// addresses.", param=place)


def document(file: File, place: str) -> Block:
    """A PDF file."""
    media_type, data = split_data_url(file.file_data)
    if media_type != PDF:
        raise RequestInvalid("Anthropic takes files as data: URLs of PDF, in base64.", param=place)
    block: Block = {"type": "document", "source": {"type": "base64", "media_type": PDF, "data": data}}
    if file.filename:
        block["title"] = file.filename
    return block


def split_data_url(url: str) -> tuple[str, str]:
    """Media type and base64 data of a data: URL; empty if it is none in base64."""
    head, comma, data = url.partition(",")
    scheme, _, about = head.partition(":")
    media_type, _, rest = about.partition(";")
    if comma and scheme == "data" and rest.rpartition(";")[2] == "base64":
        return media_type.lower(), data
    return "", ""
