"""Network file systems, told from the table of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from leeward.journal.mounts import MOUNTS, is_on_network, type_of

TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
25 22 0:30 / /home rw,nosuid shared:5 - nfs4 server:/home rw,vers=4.2
26 25 0:31 / /home/ann/local rw - tmpfs tmpfs rw
27 22 0:32 / /mnt/shared\040disk rw,relatime master:1 propagate_from:2 - cifs //server/share rw
28 22 0:33 / /place rw - ext4 /dev/vdb rw
29 22 0:34 / /place rw - fuse.sshfs ann@server: rw
30 22 0:35 / /a\134b rw - nfs server:/a rw
too short - nfs
""".strip()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/tmp", "ext4"),
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/home/ann/.local/state/leeward", "nfs4"),
        ("/homes/ann", "ext4"),  # not below /home
        ("/home/ann/local/x", "tmpfs"),  # the longest wins
        ("/mnt/shared disk/x", "cifs"),
        ("/mnt/shared", "ext4"),
        ("/place/x", "fuse.sshfs"),  # what was mounted later is on top
        ("/a\\b/c", "nfs"),
    ],
)
def test_c17_the_mount_with_the_longest_prefix_says_the_type(path, expected):
    assert type_of(path, TABLE) == expected


def test_c17_network_file_systems_are_told_from_the_others_without_touching_them(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)

    assert is_on_network("/home/ann", str(table))
    assert is_on_network("/place", str(table))
    assert not is_on_network("/var", str(table))
    assert not is_on_network("/home/ann", str(tmp_path / "nowhere"))


def test_this_systems_own_table_can_be_read():
    assert type_of("/proc", Path(MOUNTS).read_text(encoding="utf-8", errors="surrogateescape")) == "proc"
