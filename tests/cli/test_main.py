from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from commands import command, started, variables
from leeward import model
from leeward.cli import form, main
from leeward.settings.load import CLIENT_NAMES, variable_of
from leeward.settings.tree import KEYS

_SPEC = importlib.util.spec_from_file_location("generate", Path(__file__).parents[2] / "docs" / "generate.py")
GENERATE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(GENERATE)
EVERY = dict(GENERATE.every_command())
HEAVY = ("msgspec", "uvicorn", "uvloop", "httptools", "starlette", "sqlalchemy", "alembic", "structlog", "chdb", "rich")
OURS_HEAVY = ("leeward.server", "leeward.store", "leeward.gateway", "leeward.model", "leeward.settings.load")
OTHER_HEAVY = ("asyncio", "ssl", "http.client", "json", "dataclasses", "logging", "difflib", "urllib.request")


def _imported_by(*arguments: str) -> set[str]:
    program = (
        f"import sys; from leeward.cli.main import run; run({list(arguments)!r}); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables(Path.home()), capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ()])
def test_help_and_version_import_nothing_of_server_or_store(arguments):
    modules = _imported_by(*arguments)

    for name in (*HEAVY, *OURS_HEAVY, *OTHER_HEAVY):
        assert not {module for module in modules if module == name or module.startswith(name + ".")}
    own = {name.removeprefix("leeward.cli.") for name in modules if name.startswith("leeward.cli.")}
    assert own == {"main", "form", "terminal"}


@pytest.mark.parametrize("arguments", [("spool", "flush", "--help"), ("doctor", "--help")])
def test_the_help_of_a_command_loads_nothing_of_its_work(arguments):
    work = {"http.client", "ssl", "socket", "leeward.sender.pipeline", "leeward.sender.spool", "leeward.settings.load"}

    assert not _imported_by(*arguments) & work


def test_the_list_of_commands_says_what_each_command_says_itself():
    top = EVERY["leeward"]
    for name, sentence in top.rows.items():
        assert EVERY[f"leeward {name}"].help == sentence


@pytest.mark.parametrize("path", EVERY)
def test_every_help_is_one_sentence_two_examples_and_options_in_80_columns_and_40_lines(path):
    shown = GENERATE.help_of(path, EVERY[path]).splitlines()

    assert len(shown) <= 40
    assert max(map(len, shown)) <= 80
    sentence = " ".join(shown[: shown.index("")])
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
    examples = shown[shown.index("") + 1 : shown.index("", shown.index("") + 1)]
    assert len(examples) == 2
    assert all("leeward" in example for example in examples)
    assert any(line.startswith("Usage: ") for line in shown)


@pytest.mark.parametrize("path", EVERY)
def test_every_variable_that_a_help_names_is_read_and_its_default_is_the_settings_default(path):
    defaults = {variable_of(name): str(key.default) for name, key in KEYS.items()}
    shown = " ".join(GENERATE.help_of(path, EVERY[path]).split())

    for default, variable in re.findall(r"(?:\[([^\]]*)\] )?\((LEEWARD_\w+)\)", shown):
        assert variable in defaults or variable in CLIENT_NAMES
        if default and defaults.get(variable):
            assert default == defaults[variable]


def test_the_words_of_the_model_are_the_models():
    assert form.LEVELS == model.LEVELS
    assert form.KINDS == model.KINDS


def test_alone_it_shows_the_six_things_that_most_people_want(terminal):
    shown = terminal()

    assert shown.code == 0
    assert len([line for line in shown.out.splitlines() if line.startswith("  leeward ")]) == 6


def test_what_it_shows_alone_can_be_typed():
    for line in main.START.splitlines():
        if line.startswith("  leeward "):
            words = line.strip().split("  ")[0].split()
            path = next(" ".join(words[:n]) for n in (3, 2) if " ".join(words[:n]) in EVERY)
            options = {word for option in EVERY[path].get_params(click.Context(EVERY[path])) for word in option.opts}
            assert {word for word in words if word.startswith("-")} <= options


@pytest.mark.parametrize(
    ("arguments", "error", "fix"),
    [
        (("srve",), "srve is not a command of leeward", "did you mean serve? (leeward --help lists all)"),
        (("qury",), "qury is not a command of leeward", "did you mean query? (leeward --help lists all)"),
        (("frobnicate",), "frobnicate is not a command of leeward", "leeward --help lists all"),
        (("keys", "lst"), "lst is not a command of leeward keys", "did you mean list? (leeward keys --help lists all)"),
        (
            ("query", "--evnt-type", "x"),
            "--evnt-type is not an option of leeward query",
            "did you mean --event-type? (leeward query --help lists all)",
        ),
        (
            ("serve", "--port", "x"),
            "--port is 'x', but must be a whole number from 0 to 65535",
            "leeward serve --help",
        ),
        (
            ("query", "--limit", "0"),
            "--limit is '0', but must be a whole number from 1 to 1000",
            "leeward query --help",
        ),
        (("query", "--limit", "5000"), "--limit is '5000', but must be a whole number from 1 to 1000", None),
        (("serve", "--port", "99999"), "--port is '99999', but must be a whole number from 0 to 65535", None),
        (("serve", "--port", "80x"), "--port is '80x', but must be a whole number from 0 to 65535", None),
        (("query", "--wait-ms", "-1"), "--wait-ms is '-1', but must be a whole number from 0 to 5000", None),
        (("send",), "missing argument 'EVENT'", "leeward send --help"),
        (("--colour",), "--colour is not an option of leeward", None),
    ],
)
def test_wrong_usage_ends_with_2_and_names_what_is_near(terminal, arguments, error, fix):
    shown = terminal(*arguments)

    assert shown.code == 2
    assert shown.out == ""
    assert shown.err.splitlines()[0] == f"error: {error}"
    if fix is not None:
        assert shown.err.splitlines()[1] == f"fix: {fix}"


def test_an_error_is_three_lines_without_a_traceback_and_debug_shows_the_rest(terminal):
    (terminal.home / "leeward.toml").write_text("[server]\nprt = 1\n")

    plain = terminal("config", "check")
    assert (plain.code, plain.out) == (1, "")
    assert plain.err.splitlines() == [
        "error: unknown setting server.prt",
        "where: leeward.toml:2",
        "fix: did you mean port? (leeward config show lists all)",
    ]
    debug = terminal("config", "check", "--debug")
    assert "Traceback" in debug.err
    assert "code: config" in debug.err


def test_an_error_that_nobody_expected_is_said_as_such(terminal, monkeypatch):
    monkeypatch.setattr("leeward.cli.config.load_settings", lambda *_: {}["nothing"])

    shown = terminal("config", "check")

    assert shown.code == 1
    assert shown.err.startswith(
        "error: leeward did not expect this: KeyError: 'nothing'\nfix: run it again with --debug"
    )


def test_a_system_error_is_said_with_its_file(terminal, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied", "/x/leeward.toml")

    monkeypatch.setattr("leeward.cli.config.load_settings", fail)

    assert terminal("config", "check").err == "error: Permission denied\nwhere: /x/leeward.toml\n"


def test_an_extra_that_is_missing_is_named(terminal, monkeypatch):
    def fail(*_):
        raise ModuleNotFoundError("No module named 'msgspec'", name="msgspec")

    monkeypatch.setattr("leeward.cli.config.load_settings", fail)

    assert terminal("config", "check") == (
        1,
        "",
        'error: this command needs msgspec, which is not installed\nfix: pip install "leeward[server]"\n',
    )


def test_with_the_base_package_alone_it_says_which_extra_to_install(tmp_path):
    program = "import sys; sys.modules['click'] = None; from leeward.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables(tmp_path), capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert 'fix: pip install "leeward[server]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_another_module_that_is_missing_is_not_taken_for_click(tmp_path):
    program = "import sys; sys.modules['leeward.cli.main'] = None; from leeward.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables(tmp_path), capture_output=True, text=True, check=False
    )

    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path, unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "leeward", "serve", "--print-config"],
        env=variables(tmp_path, PYTHONUNBUFFERED=unbuffered),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()

    with process:
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_full_disk_behind_stdout_is_an_error(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "leeward", "serve", "--print-config"],
            env=variables(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode != 0
    assert "No space left on device" in done.stderr


def test_a_narrow_locale_turns_no_answer_into_a_traceback(tmp_path):
    shown = command(tmp_path, "config", "check", LEEWARD_CONFIG="caf\u00e9\u2026.toml", PYTHONIOENCODING="ascii:strict")

    assert shown.code == 1
    assert "Traceback" not in shown.err
    assert "cannot be read" in shown.err


def test_ctrl_c_breaks_a_command_off_with_130_and_no_traceback(tmp_path, server):
    arguments = ("query", "--follow", "--json", "--host", server.url, "--data-dir", str(server.data_dir))
    command(server.home, "send", "first")
    with started(server.home, *arguments) as following:
        time.sleep(0.1)
        ended = following.stop(signal.SIGINT)

    assert ended.code == 130
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_data(terminal, shell):
    shown = terminal("completion", shell)

    assert shown.code == 0
    assert shown.err == ""
    assert "_LEEWARD_COMPLETE" in shown.out


def test_the_shell_completes_commands_and_options(tmp_path):
    shown = command(tmp_path, COMP_WORDS="leeward que", COMP_CWORD="1", _LEEWARD_COMPLETE="bash_complete")
    assert shown.out.split() == ["plain,query"]

    shown = command(tmp_path, COMP_WORDS="leeward query --ev", COMP_CWORD="2", _LEEWARD_COMPLETE="bash_complete")
    assert shown.out.split() == ["plain,--event-type"]


@pytest.mark.parametrize("name", ["keys", "config", "spool", "chaos"])
def test_a_group_alone_shows_its_help_like_the_top(terminal, name):
    shown = terminal(name)

    assert shown == terminal(name, "--help")
    assert shown.code == 0
    assert "Usage: leeward" in shown.out
    assert shown.out.count("\n") > 10
