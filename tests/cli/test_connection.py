from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from leeward.cli import running
from leeward.cli.connection import first_keys, loopback, target_of
from leeward.cli.running import Running
from leeward.errors import ConfigError, LeewardError

KEYS = {"project": "default", "write": "lw_w", "read": "lw_r", "chat": "lw_c", "admin": "lw_a"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _target(home: Path, *, host=None, key=None, data_dir=None, **environ: str):
    return target_of(host=host, key=key, data_dir=data_dir, config=None, environ={"HOME": str(home), **environ})


def _default_dir(home: Path) -> Path:
    return home / ".local" / "share" / "leeward"


def _run(home: Path, port: int, data_dir: Path) -> None:
    here = Running.this_process(port, f"http://127.0.0.1:{port}", data_dir)
    running.note(here, {"HOME": str(home)})


def test_by_itself_it_is_the_address_and_the_data_of_the_settings(home):
    target = _target(home)

    assert (target.url, target.data_dir, target.named) == ("http://127.0.0.1:5330", _default_dir(home), False)


def test_a_server_on_all_addresses_is_asked_on_this_machine(home):
    assert _target(home, LEEWARD_SERVER__HOST="0.0.0.0").url == "http://127.0.0.1:5330"
    assert _target(home, LEEWARD_SERVER__HOST="::").url == "http://[::1]:5330"


def test_the_running_server_of_the_data_directory_is_found_on_whatever_port(home):
    _run(home, 6001, home / "d")

    assert _target(home, data_dir=str(home / "d")).url == "http://127.0.0.1:6001"
    assert _target(home, LEEWARD_SERVER__DATA_DIR=str(home / "d")).url == "http://127.0.0.1:6001"


def test_the_server_on_the_default_port_brings_its_own_data_directory(home):
    _run(home, 5330, home / "demo")

    assert _target(home).data_dir == home / "demo"
    assert _target(home, host="http://127.0.0.1:5330").data_dir == home / "demo"
    assert _target(home, LEEWARD_HOST="http://localhost:5330").data_dir == home / "demo"


def test_a_data_directory_that_was_named_is_not_replaced_by_another_servers(home):
    _run(home, 5330, home / "demo")

    assert _target(home, data_dir=str(home / "d")).data_dir == home / "d"
    assert _target(home, data_dir=str(home / "d"), host="http://127.0.0.1:5330").data_dir == home / "d"


def test_keys_of_this_machine_are_never_given_to_another_address(home):
    directory = _default_dir(home)
    directory.mkdir(parents=True)
    (directory / "first-keys.json").write_text(json.dumps(KEYS))

    for host in ("https://telemetry.example.com", "http://10.0.0.7:5330", "http://127.0.0.1.example.com:5330"):
        with pytest.raises(LeewardError) as refused:
            _target(home, host=host, data_dir=str(directory)).api("read")
        assert refused.value.code == "no_key"
    with pytest.raises(LeewardError):
        _target(home, host="http://127.0.0.1:7777").api("read")  # some other program of this machine


def test_the_key_for_the_scope_is_taken_from_the_first_keys(home):
    directory = _default_dir(home)
    directory.mkdir(parents=True)
    (directory / "first-keys.json").write_text(json.dumps(KEYS))

    assert _target(home).api("read").key_origin == str(directory / "first-keys.json")
    assert first_keys(directory) == {name: key for name, key in KEYS.items() if name != "project"}


def test_a_key_that_was_given_wins(home):
    assert _target(home, LEEWARD_API_KEY="k").api("read").key_origin == "LEEWARD_API_KEY"
    assert _target(home, key="k", LEEWARD_API_KEY="l").api("read").key_origin == "--key"


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_damaged_first_keys_are_named(home, text):
    (home / "first-keys.json").write_text(text, encoding="latin-1")

    with pytest.raises(ConfigError) as refused:
        first_keys(home)
    assert refused.value.where == str(home / "first-keys.json")


def test_deleted_first_keys_are_no_error_until_a_key_is_needed(home):
    assert first_keys(home) == {}
    with pytest.raises(LeewardError) as refused:
        _target(home).api("admin")
    assert refused.value.fix == (
        "leeward serve starts a server here and makes keys; "
        "or give one of scope admin with --key KEY or LEEWARD_API_KEY=KEY"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.9.9.9", True),
        ("http://localhost:5330", True),
        ("http://[::1]:5330", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("127.0.0.1.evil.com", False),
        ("http://localhost.evil.com", False),
        ("http://[::1", False),
        ("127.0.0.999", False),
    ],
)
def test_what_stays_on_this_machine(url, expected):
    assert loopback(url) is expected


def test_who_only_sends_and_asks_needs_no_more_than_click(home, monkeypatch):
    """The settings need msgspec; with address and key given they are not needed."""
    monkeypatch.setitem(sys.modules, "leeward.settings.load", None)

    target = _target(home, host="http://127.0.0.1:1", LEEWARD_API_KEY="k")
    assert (target.url, target.key) == ("http://127.0.0.1:1", "k")
    with pytest.raises(ModuleNotFoundError):
        _target(home)


def test_a_setting_that_is_none_is_refused_by_every_command(home):
    with pytest.raises(ConfigError, match="LEEWARD_HOTS is not a setting"):
        _target(home, LEEWARD_HOTS="x")


def test_a_port_that_is_none_is_left_to_the_address_check(home):
    target = _target(home, host="http://127.0.0.1:port", key="k")

    with pytest.raises(LeewardError, match="is not a server's address"):
        target.api("read")


def test_the_address_is_looked_at_before_a_key_is_missed(home):
    with pytest.raises(LeewardError, match=r"'127\.0\.0\.1:5330' is not a server's address"):
        _target(home, host="127.0.0.1:5330").api("read")


def test_a_spare_key_is_only_for_the_clients_variable_and_for_servers_of_this_machine(home):
    directory = _default_dir(home)
    directory.mkdir(parents=True)
    (directory / "first-keys.json").write_text(json.dumps(KEYS))

    assert _target(home, LEEWARD_API_KEY="k").api("read")._spare == ("lw_r", str(directory / "first-keys.json"))
    assert _target(home, key="k").api("read")._spare is None
    assert _target(home, LEEWARD_API_KEY="k", host="https://telemetry.example.com").api("read")._spare is None
    (directory / "first-keys.json").write_text("{")
    assert _target(home, LEEWARD_API_KEY="k").api("read")._spare is None
