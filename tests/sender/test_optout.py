"""Whether the person at this machine does not want telemetry, and how it is noticed while a program runs."""

import pytest

from leeward.cli.consent import switched_off_by
from leeward.sender.optout import LOOK_EVERY_S, Watch, opted_out


@pytest.fixture(autouse=True)
def _no_file_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["LEEWARD_DISABLED", "DO_NOT_TRACK"])
@pytest.mark.parametrize(("text", "out"), [("1", True), ("TRUE", True), (" yes ", True), ("0", False), ("", False)])
def test_c25_the_environment_says_so(name, text, out):
    assert opted_out({name: text}) is out


def test_c25_the_file_says_so_and_the_environment_wins_over_it(tmp_path):
    file = tmp_path / "leeward.toml"
    file.write_text("[client]\ndisabled = true\n")

    assert opted_out({"LEEWARD_CONFIG": str(file)})
    assert not opted_out({"LEEWARD_CONFIG": str(file), "LEEWARD_CLIENT__DISABLED": "false"})


def test_c25_a_watch_notices_within_a_second_and_looks_no_more_often():
    environ = {}
    watch = Watch(environ)
    assert not watch.says_stop(10.0)

    environ["DO_NOT_TRACK"] = "1"

    assert not watch.says_stop(10.0 + LOOK_EVERY_S / 2)
    assert watch.says_stop(10.0 + LOOK_EVERY_S)


@pytest.mark.parametrize("text", ["[client", "client = 3\n", None])
def test_a_file_that_is_half_written_or_gone_ends_nothing(tmp_path, text):
    file = tmp_path / "leeward.toml"
    if text is not None:
        file.write_text(text)

    assert not Watch({"LEEWARD_CONFIG": str(file)}).says_stop(10.0)


@pytest.mark.parametrize("text", ["y", "2", "t"])
def test_c25_what_is_no_clear_no_switches_off_and_the_commands_name_the_same_variable(text):
    environ = {"LEEWARD_DISABLED": text}

    assert opted_out(environ)
    assert switched_off_by(environ).by == "LEEWARD_DISABLED"
