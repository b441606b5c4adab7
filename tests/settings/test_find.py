"""Where the configuration file, the data and the spool are."""

import pytest

from leeward.settings import find

UNIX = {"HOME": "/home/ada"}
WINDOWS = {"APPDATA": r"C:\Users\ada\AppData\Roaming", "LOCALAPPDATA": r"C:\Users\ada\AppData\Local"}


@pytest.mark.parametrize(
    ("platform", "environ", "config", "data", "spool"),
    [
        (
            "linux",
            UNIX,
            "/home/ada/.config/leeward",
            "/home/ada/.local/share/leeward",
            "/home/ada/.local/state/leeward/spool",
        ),
        (
            "linux",
            {**UNIX, "XDG_CONFIG_HOME": "/c/", "XDG_DATA_HOME": "/d", "XDG_STATE_HOME": "/s"},
            "/c/leeward",
            "/d/leeward",
            "/s/leeward/spool",
        ),
        (
            "linux",
            {**UNIX, "XDG_CONFIG_HOME": "c", "XDG_DATA_HOME": "", "XDG_STATE_HOME": "./s"},
            "/home/ada/.config/leeward",
            "/home/ada/.local/share/leeward",
            "/home/ada/.local/state/leeward/spool",
        ),
        (
            "darwin",
            {**UNIX, "XDG_CONFIG_HOME": "/c"},
            "/home/ada/Library/Application Support/leeward",
            "/home/ada/Library/Application Support/leeward",
            "/home/ada/Library/Application Support/leeward/spool",
        ),
        (
            "win32",
            WINDOWS,
            r"C:\Users\ada\AppData\Roaming\leeward",
            r"C:\Users\ada\AppData\Local\leeward",
            r"C:\Users\ada\AppData\Local\leeward\spool",
        ),
        ("linux", {}, None, None, None),
        ("linux", {"HOME": "relative"}, None, None, None),
        ("win32", {}, None, None, None),
    ],
)
def test_each_platform_keeps_its_own_places(platform, environ, config, data, spool):
    assert find.config_dir(environ, platform) == config
    assert find.data_dir(environ, platform) == data
    assert find.spool_dir(environ, platform) == spool


def test_the_spool_stands_where_the_variable_says():
    assert find.spool_dir({**UNIX, "LEEWARD_SPOOL_DIR": "/var/spool/mine"}) == "/var/spool/mine"


def test_the_file_is_looked_for_in_order_and_a_named_one_is_never_passed_over(tmp_path, monkeypatch):
    here, home = tmp_path / "here", tmp_path / "home"
    in_home = home / ".config" / "leeward" / "leeward.toml"
    in_home.parent.mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(find.sys, "platform", "linux")
    environ = {"HOME": str(home)}

    assert find.config_file(None, environ) is None
    assert find.config_file(None, {}) is None
    in_home.touch()
    assert find.config_file(None, environ) == str(in_home)
    (here / "leeward.toml").touch()
    assert find.config_file(None, environ) == "leeward.toml"
    assert find.config_file(None, {**environ, "LEEWARD_CONFIG": "missing.toml"}) == "missing.toml"
    assert find.config_file("option.toml", {**environ, "LEEWARD_CONFIG": "missing.toml"}) == "option.toml"
