"""How far the log is loaded elsewhere: a small pointer file, and the note that belongs to it.

Pointer first, delete after: the note, then the pointer, is written aside, synced and renamed, and the directory is
synced each time; only then may the caller delete what the checkpoint has passed.

Promises  After any crash the pointer is the old one or the new one, each with its own note.
Limits    Note 64 MiB. A damaged note is given as None; a damaged pointer as no checkpoint at all, and everything that
          is still in the log is read again.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, Final
from zlib import crc32

from leeward.journal import segment
from leeward.journal.files import read_file, write_aside

if TYPE_CHECKING:
    from leeward.journal.files import Files

NAME: Final = "checkpoint"
NOTE_SUFFIX: Final = ".note"
NOTE_BYTES_MAX: Final = 64 * 1024 * 1024

_POINTER = Struct("<8sHH4x16sQQQII")
_CHECKSUM = Struct("<I")


class Checkpoint:
    """A sequence up to which nothing is needed any more, and the note of whoever set it."""

    __slots__ = ("instance", "is_damaged", "note", "note_name", "sequence")

    def __init__(
        self, sequence: int, instance: bytes, note: bytes | None, note_name: str, *, is_damaged: bool = False
    ) -> None:
        self.sequence = sequence
        self.instance = instance
        self.note = note
        self.note_name = note_name
        self.is_damaged = is_damaged


def write_checkpoint(files: Files, directory: str, sequence: int, instance: bytes, note: bytes, tag: int) -> Checkpoint:
    """Make a checkpoint durable. *tag* is random, so that two notes for one sequence do not share a name."""
    name = f"{NAME}-{sequence}-{tag:016x}{NOTE_SUFFIX}" if note else ""
    if note:
        write_aside(files, os.path.join(directory, name), note)
        files.fsync_dir(directory)  # two renames may be made durable in the other order
    head = _POINTER.pack(segment.MAGIC, segment.VERSION, 0, instance, sequence, tag, len(note), crc32(note), bool(note))
    write_aside(files, os.path.join(directory, NAME), head + _CHECKSUM.pack(crc32(head)))
    files.fsync_dir(directory)
    return Checkpoint(sequence, instance, note, name)


def read_checkpoint(files: Files, directory: str) -> Checkpoint | None:
    """Read the checkpoint; None if there never was one.

    Raises:
        ConfigError: It is of a newer format.
    """
    path = os.path.join(directory, NAME)
    try:
        data = read_file(files, path, bytes_max=4096)
    except FileNotFoundError:
        return None
    head, checksum = data[: _POINTER.size], data[_POINTER.size :]
    if checksum != _CHECKSUM.pack(crc32(head)) or not head.startswith(segment.MAGIC):
        return Checkpoint(0, b"", None, "", is_damaged=True)
    _, version, _, instance, sequence, tag, length, note_crc, has_note = _POINTER.unpack(head)
    if version > segment.VERSION:
        raise segment.newer_format(path, version)
    if not has_note:
        return Checkpoint(sequence, instance, b"", "")
    name = f"{NAME}-{sequence}-{tag:016x}{NOTE_SUFFIX}"
    note = _read_note(files, os.path.join(directory, name), length, note_crc)
    return Checkpoint(sequence, instance, note, name, is_damaged=note is None)


def _read_note(files: Files, path: str, length: int, checksum: int) -> bytes | None:
    try:
        note = read_file(files, path, bytes_max=NOTE_BYTES_MAX)
    except FileNotFoundError:
        return None
    return note if len(note) == length and crc32(note) == checksum else None
