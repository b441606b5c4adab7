"""Keys, projects and the dead-letter list over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import asdict, replace

from leeward.errors import ProtocolError
from leeward.server.http import ByteBudget, Request, Response, json_response, read_document
from leeward.server.quotas import Quota
from leeward.server.record import event_of
from leeward.server.schemas import (
    DeadLetterInfo,
    DeadLetterList,
    KeyCreate,
    KeyInfo,
    KeyList,
    KeyQuota,
    NewKey,
    ProjectCreate,
    ProjectInfo,
    ProjectList,
    Replayed,
)

if TYPE_CHECKING:
    from leeward.server.control.database import Control
    from leeward.server.control.values import Key
    from leeward.server.dead_letters import DeadLetters
    from leeward.server.pipeline import Pipeline

__all__ = ["Manage"]


class _RowHead(msgspec.Struct):
    answer: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # a batch's; events have no such field


_DECODE_ROW_HEAD = msgspec.json.Decoder(_RowHead).decode


class Manage:
    """The handlers."""

    def __init__(self, control: Control, *, dead_letters: DeadLetters, pipeline: Pipeline, budget: ByteBudget) -> None:
        self._control = control
        self._dead_letters = dead_letters
        self._pipeline = pipeline
        self._budget = budget

    async def keys_list(self, request: Request) -> Response:  # noqa: ARG002 - every handler is given its request
        """List the keys."""
        names = await self._project_names()
        keys = [_key_info(key, names) for key in await self._control.list_keys()]
        return json_response(KeyList(len(keys), keys))

    async def keys_create(self, request: Request) -> Response:
        """Make a key."""
        wanted = await read_document(request, KeyCreate, self._budget)
        projects = {project.name: project.id for project in await self._control.list_projects()}
        if wanted.project not in projects:
            raise ProtocolError(f"There is no project {wanted.project!r}", code="project_not_found", status=404)
        key, token = await self._control.create_key(
            projects[wanted.project],
            wanted.scope,
            wanted.name or wanted.scope,
            Quota(**{field: getattr(wanted, field) for field in Quota.__struct_fields__}),
        )
        return json_response(NewKey(key.id, token, wanted.project, key.name, key.scope))

    async def keys_revoke(self, request: Request) -> Response:
        """Revoke a key."""
        key = await self._control.revoke_key(request.path_parameter)
        if key is None:
            raise ProtocolError("There is no such key", code="key_not_found", status=404)
        return json_response(_key_info(key, await self._project_names()))

    async def keys_set_quota(self, request: Request) -> Response:
        """Set how much a key may do; what the request leaves out stays."""
        wanted = await read_document(request, KeyQuota, self._budget)
        given = {name: limit for name, limit in asdict(wanted).items() if limit is not msgspec.UNSET}
        key = await self._control.set_quota(request.path_parameter, lambda quota: replace(quota, **given))
        if key is None:
            raise ProtocolError("There is no such key", code="key_not_found", status=404)
        return json_response(_key_info(key, await self._project_names()))

    async def projects_list(self, request: Request) -> Response:  # noqa: ARG002 - see keys_list
        """List the projects."""
        projects = [ProjectInfo(x.id, x.name, x.created_at) for x in await self._control.list_projects()]
        return json_response(ProjectList(len(projects), projects))

    async def projects_create(self, request: Request) -> Response:
        """Make a project."""
        wanted = await read_document(request, ProjectCreate, self._budget)
        project = await self._control.create_project(wanted.name)
        return json_response(ProjectInfo(project.id, project.name, project.created_at))

    async def dead_letters_list(self, request: Request) -> Response:
        """List the events that the store refuses."""
        letters = [
            DeadLetterInfo(letter.id, letter.count, letter.at, letter.reason, letter.batch_ids)
            for letter in self._dead_letters.letters(request.project)
        ]
        count = sum(letter.count for letter in letters)
        return json_response(DeadLetterList(count, letters, self._dead_letters.unreadable))

    async def dead_letters_replay(self, request: Request) -> Response:
        """Put a letter's events back into the log; the letter goes once they are on stable storage there.

        A batch's row is no event and is left out: what it would say is lost, the batch's events are not.
        """
        letter_id = request.path_parameter
        if not any(letter.id == letter_id for letter in self._dead_letters.letters(request.project)):
            raise ProtocolError("There is no such dead letter", code="dead_letter_not_found", status=404)
        rows = await asyncio.to_thread(self._dead_letters.rows, letter_id)
        events = [event_of(row) for row in rows if not _is_batch(row)]
        for project in {event.project for event in events}:
            await self._pipeline.replay([event for event in events if event.project == project], project=project)
        await asyncio.to_thread(self._dead_letters.remove, letter_id)
        return json_response(Replayed(len(events)))

    async def _project_names(self) -> dict[int, str]:
        return {project.id: project.name for project in await self._control.list_projects()}


def _is_batch(row: bytes) -> bool:
    return _DECODE_ROW_HEAD(row).answer is not msgspec.UNSET


def _key_info(key: Key, names: dict[int, str]) -> KeyInfo:
    return KeyInfo(
        key.id,
        names.get(key.project, ""),
        key.name,
        key.scope,
        key.last4,
        key.created_at,
        key.revoked_at,
        **asdict(key.quota),
    )
