"""Rows that the store refuses: set aside where a person can see them and try again. Never thrown away.

One file a row range, `dead-letters/<instance>-<first>-<last>.jsonl`: a first line with the reason, then the rows as
they were to be loaded. A file is written aside, synced and renamed before the log may forget the rows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["DeadLetter", "DeadLetters"]

_SUFFIX: Final = ".jsonl"
_ENCODE = msgspec.json.Encoder().encode


class DeadLetter(msgspec.Struct, frozen=True):
    """Why rows were set aside. `first` and `last` are row positions in the log; `at` is in milliseconds."""

    instance: str
    first: int
    last: int
    count: int
    at: int
    reason: str
    projects: list[int]
    batch_ids: list[str]

    @property
    def id(self) -> str:
        """Its name, for the list and for a replay."""
        return f"{self.instance}-{self.first}-{self.last}"


class _RowHead(msgspec.Struct):
    project: int
    batch_id: str = ""


_DECODE_ROW_HEAD = msgspec.json.Decoder(_RowHead).decode
_DECODE_LETTER = msgspec.json.Decoder(DeadLetter).decode


class DeadLetters:
    """The list, in a directory of its own. Written by the writer's thread, read and replayed by others.

    What is known of the letters is replaced, never changed, so that any thread may go through it at any time.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._letters: dict[str, DeadLetter] = {}
        self.unreadable: list[str] = []
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            try:
                with path.open("rb") as file:
                    letter = _DECODE_LETTER(file.readline())
            except (OSError, msgspec.MsgspecError):
                self.unreadable.append(path.name)
                continue
            self._letters[letter.id] = letter

    def __len__(self) -> int:
        return sum(letter.count for letter in self._letters.values())

    def letters(self, project: int | None = None) -> list[DeadLetter]:
        """All letters, or a project's, oldest first."""
        return [x for x in self._letters.values() if project is None or project in x.projects]

    def holds_batch(self, project: int, batch_id: str) -> bool:
        """Whether events of that batch wait here."""
        return any(batch_id in letter.batch_ids and project in letter.projects for letter in self._letters.values())

    def add(self, *, instance: str, first: int, last: int, rows: list[bytes], reason: str, at: int) -> None:
        """Set rows aside; returns when they are on stable storage."""
        heads = [_DECODE_ROW_HEAD(row) for row in rows]
        letter = DeadLetter(
            instance=instance,
            first=first,
            last=last,
            count=len(rows),
            at=at,
            reason=reason,
            projects=sorted({head.project for head in heads}),
            batch_ids=sorted({head.batch_id for head in heads if head.batch_id}),
        )
        path = self._path(letter.id)
        aside = path.with_suffix(".new")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(b"\n".join([_ENCODE(letter), *rows, b""]))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        self._sync_directory()
        self._letters = {**self._letters, letter.id: letter}

    def rows(self, letter_id: str) -> list[bytes]:
        """The rows of a letter.

        Raises:
            KeyError: there is no such letter.
        """
        letter = self._letters[letter_id]
        return self._path(letter.id).read_bytes().split(b"\n")[1:-1]

    def remove(self, letter_id: str) -> None:
        """Strike a letter off, once its rows are in the log again."""
        letter = self._letters[letter_id]
        self._letters = {key: other for key, other in self._letters.items() if key != letter_id}
        self._path(letter.id).unlink(missing_ok=True)
        self._sync_directory()

    def _path(self, letter_id: str) -> Path:
        return self._directory / f"{letter_id}{_SUFFIX}"

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
