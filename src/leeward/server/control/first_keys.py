"""The file in which the first start leaves its keys for the owner: whole or not there, 0600, on stable storage.

The name appears only after the bytes are synced, and this returns only after the name is. So whoever commits the keys
afterwards knows that a crash cannot leave a server whose keys nobody has.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["FIRST_KEYS", "sync_directory", "write_first_keys"]

FIRST_KEYS: Final = "first-keys.json"

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)  # Windows has none


def write_first_keys(data_dir: Path, project: str, tokens: dict[str, str]) -> Path:
    """Write the project's name and its tokens by scope, replacing what an interrupted start left."""
    path = data_dir / FIRST_KEYS
    aside = path.with_suffix(".json.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps({"project": project, **tokens}, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_directory(data_dir)
    return path


def sync_directory(path: Path) -> None:
    """Put a directory's names on stable storage. Windows does so by itself and cannot be asked."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
