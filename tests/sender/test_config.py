"""What the client is told, from where, and what happens when it makes no sense."""

import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from leeward.sender.config import HOST_DEFAULT, Config, configure
from leeward.settings.load import load
from leeward.version import VERSION

HOME = {"HOME": "/home/someone"}


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_an_argument_wins_over_the_environment_and_the_environment_over_the_default():
    environ = {**HOME, "LEEWARD_API_KEY": "lw_env", "LEEWARD_HOST": "https://env.example"}

    assert configure({**HOME, "LEEWARD_API_KEY": "lw_env"}).host == HOST_DEFAULT
    assert configure(environ).host == "https://env.example"
    assert configure(environ, host="https://argument.example/").host == "https://argument.example"
    assert configure(environ, api_key="lw_argument").api_key == "lw_argument"
    assert configure(environ).api_key == "lw_env"


def test_the_host_may_also_be_named_as_the_telemetry_api_url():
    environ = {**HOME, "LEEWARD_API_KEY": "k", "TELEMETRY_API_URL": "https://other.example"}

    assert configure(environ).host == "https://other.example"


def test_without_a_key_the_client_is_disabled_and_nothing_is_wrong():
    config = configure(HOME)

    assert (config.disabled, config.problem, config.usable) == (True, "", False)


@pytest.mark.parametrize("name", ["LEEWARD_DISABLED", "DO_NOT_TRACK"])
@pytest.mark.parametrize(
    ("value", "disabled"), [("1", True), ("true", True), (" YES ", True), ("0", False), ("", False)]
)
def test_c25_the_environment_opts_out(name, value, disabled):
    assert configure({**HOME, name: value}, api_key="k").disabled is disabled


def test_an_explicit_argument_wins_over_the_opt_out():
    assert configure({**HOME, "DO_NOT_TRACK": "1"}, api_key="k", disabled=False).disabled is False
    assert configure(HOME, api_key="k", disabled=True).disabled is True


@pytest.mark.parametrize(("text", "disabled"), [("[client]\ndisabled = true", True), ("[server]\nport = 1", False)])
def test_c25_the_configuration_file_opts_out(tmp_path, text, disabled):
    (tmp_path / "leeward.toml").write_text(text)

    assert configure(HOME, api_key="k").disabled is disabled


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("said", ["true", "1", "false", "0"])
def test_c25_the_files_switch_can_be_said_in_the_environment_which_wins_as_it_does_for_the_server(
    tmp_path, in_file, said
):
    (tmp_path / "leeward.toml").write_text(f"[client]\ndisabled = {str(in_file).lower()}")
    environ = {**HOME, "LEEWARD_CLIENT__DISABLED": said}

    disabled = configure(environ, api_key="k").disabled

    assert disabled is (said in {"true", "1"})
    assert disabled is load({}, environ, "leeward.toml").settings.client.disabled


def test_c25_what_is_empty_in_the_environment_leaves_it_to_the_file(tmp_path):
    (tmp_path / "leeward.toml").write_text("[client]\ndisabled = true")

    assert configure({**HOME, "LEEWARD_CLIENT__DISABLED": ""}, api_key="k").disabled


def test_c25_a_general_opt_out_is_not_taken_back_by_the_clients_switch():
    assert configure({**HOME, "DO_NOT_TRACK": "1", "LEEWARD_CLIENT__DISABLED": "false"}, api_key="k").disabled


def test_a_configuration_file_that_cannot_be_read_switches_the_client_off(tmp_path):
    (tmp_path / "leeward.toml").write_text("[client\n")

    config = configure(HOME, api_key="k")

    assert config.disabled
    assert "TOMLDecodeError" in config.problem


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"host": "telemetry.example"}, "http://"),
        ({"host": "ftp://x"}, "http://"),
        ({"host": "http://"}, "http://"),
        ({"host": "http://a b"}, "http://"),
        ({"host": "http://x\r\nEvil: 1"}, "http://"),
        ({"host": "https://user:secret@x"}, "api_key"),
        ({"api_key": "lw_\nx"}, "characters"),
        ({"api_key": "k" * 501}, "characters"),
        ({"api_key": "schlüssel"}, "characters"),
        ({"mode": "fast"}, "durable or memory or plain"),
        ({"wire": "smoke"}, "native or posthog or otlp"),
        ({"before_send": "hook"}, "before_send"),
    ],
)
def test_a_setting_that_cannot_work_switches_the_client_off_and_says_why(arguments, words):
    config = configure(HOME, **{"api_key": "k", **arguments})

    assert config.disabled
    assert not config.usable
    assert words in config.problem


@given(
    st.dictionaries(
        st.sampled_from(["api_key", "host", "disabled", "spool_dir", "mode", "app"]),
        st.one_of(st.none(), st.text(), st.integers(), st.binary(), st.lists(st.text()), st.floats(), st.booleans()),
    )
)
def test_no_argument_makes_it_raise(arguments):
    configure(HOME, **arguments)


def test_the_key_is_in_no_repr_and_no_folder_name():
    key = "lw_" + "s3cret" * 5
    config = configure(HOME, api_key=key)

    assert key not in repr(config)
    assert key not in config.folder


def test_each_host_key_and_user_has_a_folder_of_its_own(monkeypatch):
    folders = set()
    for user in (1000, 1001):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        for key in ("a", "b"):
            for host in ("http://one", "http://two", "http://two/"):
                folders.add(configure(HOME, api_key=key, host=host, spool_dir="/spool").folder)

    assert len(folders) == 8
    assert {str(Path(folder).parent) for folder in folders} == {"/spool"}


def test_in_memory_mode_or_without_a_home_there_is_no_folder():
    assert configure(HOME, api_key="k", mode="memory", spool_dir="/spool").folder == ""
    assert configure({}, api_key="k").folder == ""
    assert configure(HOME, api_key="k").folder.startswith("/home/someone/")


def test_the_app_stands_in_a_header_and_cannot_break_out_of_it():
    assert configure(HOME, api_key="k", app="shop/1.2").app == "shop/1.2"
    assert configure(HOME, api_key="k", app="a\r\nb: ü").app == "a--b: -"


def test_a_configuration_is_frozen():
    config = Config(api_key="k")

    with pytest.raises(AttributeError, match="frozen"):
        config.host = "http://other"
    with pytest.raises(AttributeError, match="frozen"):
        del config.host


def test_the_version_is_the_distributions():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())

    assert project["project"]["version"] == VERSION


@pytest.mark.parametrize(
    "host", ["lw_" + "A" * 32, "https://user:hunter2 x@h", "https://user:hunter2@h", "http://h\nlw_x"]
)
def test_c24_what_stands_in_the_hosts_place_by_mistake_is_shown_nowhere(host):
    config = configure(HOME, api_key="k", host=host)

    assert config.problem
    for shown in (config.problem, repr(config)):
        assert "lw_" not in shown
        assert "hunter2" not in shown
