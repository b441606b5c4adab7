"""Is a path on a network file system? Answered from the system's table of mounts alone.

Promises  Never touches the mount itself, which may hang for ever.
Limits    Symbolic links are not followed, for the same reason. Linux only: elsewhere nothing is known of mounts.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["MOUNTS", "is_on_network", "type_of"]

MOUNTS: Final = "/proc/self/mountinfo"
NETWORK: Final = frozenset(
    {
        *("afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
        *("orangefs", "pvfs2", "smb2", "smb3", "smbfs", "fuse.ceph", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs"),
        *("fuse.goofys", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    }
)


def is_on_network(path: str, mounts: str = MOUNTS) -> bool:
    """Whether *path* lies below a mount of a network file system; false if the system does not say."""
    try:
        with open(mounts, "rb") as table:
            return type_of(os.path.abspath(path), table.read().decode("utf-8", "surrogateescape")) in NETWORK
    except OSError:
        return False


def type_of(path: str, table: str) -> str:
    """Give the type of the mount that has the longest prefix of *path*; of two at one place the later is on top."""
    found, found_type = "", ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 10 or "-" not in fields[6:-1]:
            continue
        place = _unescaped(fields[4])
        below = place if place.endswith("/") else place + "/"
        if len(place) >= len(found) and (path + "/").startswith(below):
            found, found_type = place, fields[fields.index("-", 6) + 1]
    return found_type


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
