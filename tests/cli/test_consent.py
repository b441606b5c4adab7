from __future__ import annotations

import pytest

from leeward.cli.consent import switched_off_by
from leeward.errors import ConfigError


@pytest.mark.parametrize("name", ["LEEWARD_DISABLED", "DO_NOT_TRACK", "LEEWARD_CLIENT__DISABLED"])
def test_the_variable_that_switches_clients_off_is_named(name):
    assert switched_off_by({name: "1"}) == (name, f"unset {name}")
    assert switched_off_by({name: "0"}) is None


def test_the_file_that_switches_clients_off_is_named(tmp_path):
    path = tmp_path / "leeward.toml"
    path.write_text("[client]\ndisabled = true\n")

    assert switched_off_by({"LEEWARD_CONFIG": str(path)}) == (
        f"disabled in [client] of {path}",
        f"take it out of {path}",
    )
    path.write_text("[client]\ndisabled = false\n")
    assert switched_off_by({"LEEWARD_CONFIG": str(path)}) is None


@pytest.mark.parametrize("text", ["[client", "client = 3", None])
def test_a_file_that_cannot_be_read_is_said_to_switch_clients_off(tmp_path, text):
    path = tmp_path / "leeward.toml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(ConfigError, match="clients are off") as raised:
        switched_off_by({"LEEWARD_CONFIG": str(path)})
    assert (raised.value.where, raised.value.fix) == (str(path), "leeward config check says where it is wrong")
