"""The names by which programs written for PostHog's SDK call a client, so that they run with their import changed.

What has no meaning here (feature flags) answers as a server without any flags does. `capture`, `capture_exception`,
`flush` and `shutdown` are the client's own.
"""

from __future__ import annotations

from leeward.scrub.values import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Final

__all__ = ["PostHogNames", "is_text", "older_order", "with_more"]

# What stood behind a person's id in the SDK's calls when they had an order.
_OLDER_NAMES: Final = ("properties", "context", "timestamp", "uuid")


def older_order(
    name: Any, rest: Sequence[Any], properties: Any, distinct_id: Any, others: dict[str, Any]
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Name, properties, distinct id and what else is said in today's order, or in `capture("id", "event", {…}, …)`.

    Takes `event`, `groups` and `context` out of `others`.
    """
    event = others.pop("event", None)
    groups = others.pop("groups", None)
    context = others.pop("context", None)
    said: dict[str, Any] = {}
    if rest and is_text(rest[0]):
        name, distinct_id, rest = rest[0], name, rest[1:]
        said = {key: value for key, value in zip(_OLDER_NAMES[2:], rest[2:4], strict=False) if value is not None}
        context = rest[1] if context is None and len(rest) > 1 else context
        groups = rest[4] if groups is None and len(rest) > 4 else groups
    elif event is not None:
        name, distinct_id = event, distinct_id or name or None
    if properties is None and rest:
        properties = rest[0]
    return name, with_more(properties, {"$groups": groups, "context": context}), distinct_id, said


def is_text(value: Any) -> bool:
    """Whether it is a str, of a subclass too (events are often members of a StrEnum); nothing of it is asked."""
    return issubclass(type(value), str)


def with_more(properties: Any, more: Mapping[str, Any]) -> Any:
    """Properties with what else is said of an event, such as its groups; the caller's own win."""
    said = {key: value for key, value in more.items() if value is not None}
    if not said:
        return properties
    data = bounded({} if properties is None else properties)
    return {**said, **(data if type(data) is dict else {"value": data})}


def _of_person(older: Sequence[Any], keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Properties and keywords of a call about a person: today keywords only, before `set("id", {…}, …)`."""
    names = _OLDER_NAMES if older and type(older[0]) is dict else ("distinct_id", *_OLDER_NAMES)
    said = _said(names, older, keywords)
    return said.pop("properties", None), said


def _said(names: Sequence[str], older: Sequence[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """What stood at these places, and keywords; the place of the SDK's own context means nothing here."""
    said = {name: value for name, value in zip(names, older, strict=False) if value is not None} | keywords
    said.pop("context", None)
    return said


class PostHogNames:
    """Mixed into `Client`."""

    __slots__ = ()

    if TYPE_CHECKING:

        def capture(self, name: str = "", *rest: Any, **others: Any) -> str | None:
            """The client's own."""
            ...

        def shutdown(self, timeout_s: float = 2.0) -> None:
            """The client's own."""
            ...

    @property
    def debug(self) -> bool:
        """Nothing is printed by setting it; LEEWARD_DEBUG=1 is the switch."""
        return False

    @debug.setter
    def debug(self, _value: bool) -> None:
        return

    def set(self, *older: Any, **keywords: Any) -> str | None:
        """Set properties of a person: an event `$set`."""
        properties, said = _of_person(older, keywords)
        return self.capture("$set", {"$set": properties}, **said)

    def set_once(self, *older: Any, **keywords: Any) -> str | None:
        """Set properties of a person that have no value yet."""
        properties, said = _of_person(older, keywords)
        return self.capture("$set", {"$set_once": properties}, **said)

    def identify(self, *older: Any, **keywords: Any) -> str | None:
        """Say who a person is: an event `$identify` with the person's properties."""
        properties, said = _of_person(older, keywords)
        return self.capture("$identify", {"$set": properties}, **said)

    def alias(self, previous_id: str, distinct_id: str | None = None, *older: Any, **keywords: Any) -> str | None:
        """Say that two ids are one person."""
        said = _said(_OLDER_NAMES[1:], older, keywords)
        properties = {"distinct_id": previous_id, "alias": distinct_id}
        return self.capture("$create_alias", properties, distinct_id=previous_id, **said)

    def group_identify(
        self,
        group_type: str,
        group_key: str,
        properties: Mapping[str, Any] | None = None,
        *older: Any,
        **keywords: Any,
    ) -> str | None:
        """Set properties of a group."""
        group = {"$group_type": group_type, "$group_key": group_key, "$group_set": properties}
        said = _said((*_OLDER_NAMES[1:], "disable_geoip", "distinct_id"), older, keywords)
        said.pop("disable_geoip", None)
        return self.capture("$groupidentify", group, **said)

    def join(self) -> None:
        """Send what waits and end the thread, as `shutdown` does."""
        self.shutdown()

    def feature_enabled(self, *_key_and_person: Any, **_keywords: Any) -> bool | None:
        """Nothing is known of flags here."""
        return None

    def get_feature_flag(self, *_key_and_person: Any, **_keywords: Any) -> Any:
        """Nothing is known of flags here."""
        return None

    def get_feature_flag_payload(self, *_key_and_person: Any, **_keywords: Any) -> Any:
        """Nothing is known of flags here."""
        return None

    def get_all_flags(self, *_person: Any, **_keywords: Any) -> dict[str, Any]:
        """Nothing is known of flags here."""
        return {}
