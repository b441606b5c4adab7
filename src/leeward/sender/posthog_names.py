"""The names by which programs written for PostHog's SDK call a client, so that they run with their import changed.

What has no meaning here (feature flags) answers as a server without any flags does. `capture`, `capture_exception`,
`flush` and `shutdown` are the client's own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["PostHogNames", "older_order"]


def older_order(
    name: Any, properties: Any, rest: Sequence[Any], distinct_id: Any, others: dict[str, Any]
) -> tuple[Any, Any, Any]:
    """Name, properties and distinct id of a call: today's order, or `capture("id", "event", {…})`.

    Takes `event` and `groups` out of `others`.
    """
    event = others.pop("event", None)
    groups = others.pop("groups", None)
    if type(properties) is str:
        name, properties, distinct_id = properties, rest[0] if rest else None, name
    elif event is not None:
        name, distinct_id = event, distinct_id or name or None
    if groups is not None:
        properties = {"$groups": groups, **(properties if type(properties) is dict else {})}
    return name, properties, distinct_id


class PostHogNames:
    """Mixed into `Client`."""

    __slots__ = ()

    if TYPE_CHECKING:

        def capture(self, name: str = "", properties: Mapping[str, Any] | str | None = None, **others: Any) -> str | None:
            """The client's own."""
            ...

        def shutdown(self, timeout_s: float = 2.0) -> None:
            """The client's own."""
            ...

    def set(self, properties: Mapping[str, Any] | None = None, **keywords: Any) -> str | None:
        """Set properties of a person: an event `$set`."""
        return self.capture("$set", {"$set": properties}, **keywords)

    def set_once(self, properties: Mapping[str, Any] | None = None, **keywords: Any) -> str | None:
        """Set properties of a person that have no value yet."""
        return self.capture("$set", {"$set_once": properties}, **keywords)

    def identify(
        self, distinct_id: str | None = None, properties: Mapping[str, Any] | None = None, **keywords: Any
    ) -> str | None:
        """Say who a person is: an event `$identify` with the person's properties."""
        return self.capture("$identify", {"$set": properties}, distinct_id=distinct_id, **keywords)

    def alias(self, previous_id: str, distinct_id: str | None = None, **keywords: Any) -> str | None:
        """Say that two ids are one person."""
        properties = {"distinct_id": previous_id, "alias": distinct_id}
        return self.capture("$create_alias", properties, distinct_id=previous_id, **keywords)

    def group_identify(
        self, group_type: str, group_key: str, properties: Mapping[str, Any] | None = None, **keywords: Any
    ) -> str | None:
        """Set properties of a group."""
        group = {"$group_type": group_type, "$group_key": group_key, "$group_set": properties}
        return self.capture("$groupidentify", group, **keywords)

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
