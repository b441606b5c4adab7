"""The file for what the server refused as a whole."""

import base64
import json
import os
import stat

from leeward.sender import quarantine

EVENTS = [b'{"event_type":"a"}', b'{"event_type":"b"}']


def test_c4_each_event_is_a_line_with_the_cause(tmp_path):
    assert quarantine.set_aside(str(tmp_path), EVENTS, "http_400")
    assert quarantine.set_aside(str(tmp_path), EVENTS[:1], "http_413")

    path = tmp_path / quarantine.QUARANTINE_NAME
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"cause": "http_400", "event": {"event_type": "a"}},
        {"cause": "http_400", "event": {"event_type": "b"}},
        {"cause": "http_413", "event": {"event_type": "a"}},
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_c4_what_is_no_json_is_written_as_base64_and_the_file_stays_lines_of_json(tmp_path):
    export = b'\n\x12\x00}\n"\xff'
    assert quarantine.set_aside(str(tmp_path), [export, EVENTS[0]], "http_400")

    lines = (tmp_path / quarantine.QUARANTINE_NAME).read_bytes().split(b"\n")
    binary, text = map(json.loads, lines[:-1])
    assert base64.b64decode(binary.pop("base64")) == export
    assert binary == {"cause": "http_400"}
    assert text == {"cause": "http_400", "event": {"event_type": "a"}}
    assert quarantine.clear(str(tmp_path)) == 2


def test_c19_it_does_not_grow_beyond_its_limit(tmp_path):
    assert quarantine.set_aside(str(tmp_path), EVENTS, "http_400", bytes_max=150)
    assert not quarantine.set_aside(str(tmp_path), EVENTS, "http_400", bytes_max=150)
    assert (tmp_path / quarantine.QUARANTINE_NAME).stat().st_size <= 150


def test_c17_no_symbolic_link_is_followed_and_a_missing_folder_is_no_error(tmp_path):
    (tmp_path / quarantine.QUARANTINE_NAME).symlink_to(tmp_path / "elsewhere")

    assert not quarantine.set_aside(str(tmp_path), EVENTS, "http_400")
    assert not quarantine.set_aside(str(tmp_path / "missing"), EVENTS, "http_400")
    assert not (tmp_path / "elsewhere").exists()


def test_c17_a_disk_that_does_not_take_it_is_no_error(tmp_path, monkeypatch):
    def fail(descriptor, data):
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "write", fail)

    assert not quarantine.set_aside(str(tmp_path), EVENTS, "http_400")


def test_c17_a_line_that_the_disk_cut_short_does_not_count(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:10]))

    assert not quarantine.set_aside(str(tmp_path), EVENTS, "http_400")


def test_c25_what_was_set_aside_is_deleted_and_counted(tmp_path):
    quarantine.set_aside(str(tmp_path), EVENTS, "http_400")
    quarantine.set_aside(str(tmp_path), EVENTS[:1], "http_400")

    assert quarantine.clear(str(tmp_path)) == 3
    assert list(tmp_path.iterdir()) == []
    assert quarantine.clear(str(tmp_path)) == 0


def test_c17_what_cannot_be_deleted_is_not_counted(tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(30, "read-only file system")

    quarantine.set_aside(str(tmp_path), EVENTS, "http_400")
    monkeypatch.setattr(os, "unlink", refuse)

    assert quarantine.clear(str(tmp_path)) == 0
