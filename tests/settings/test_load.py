"""File, environment and options: who wins, what is refused, and how it is said."""

import pytest
from hypothesis import given, settings, strategies as st

from leeward.errors import ConfigError
from leeward.settings.load import CLIENT_NAMES, load, variable_of
from leeward.settings.tree import KEYS

HOME = {"HOME": "/home/ada"}
SECRET = "clickhouse://ada:correct-horse-battery-x9Qd@db:8123/leeward"


@pytest.fixture
def file(tmp_path):
    """Writes a configuration file and gives its path."""

    def write(text):
        path = tmp_path / "leeward.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(*, options=None, environ=None, file=None):
    """What a person reads of the error: message, place, cure."""
    with pytest.raises(ConfigError) as caught:
        load(options or {}, {**HOME, **(environ or {})}, file)
    return caught.value.message, caught.value.where, caught.value.fix


def test_without_anything_every_setting_has_its_default():
    loaded = load({}, {**HOME, "XDG_DATA_HOME": "/data"}, None)

    assert loaded.settings.server.port == 5330
    assert loaded.settings.server.host == "127.0.0.1"
    assert loaded.settings.storage.retry_delays_ms == (100, 200, 400)
    assert loaded.settings.server.data_dir.endswith("leeward")
    assert set(loaded.origins) == set(KEYS)
    assert set(loaded.origins.values()) == {"default"}


def test_an_option_wins_over_the_environment_and_that_over_the_file(file):
    path = file("[server]\nport = 1\nhost = 'h'\nconnections_max = 7\n")
    environ = {**HOME, "LEEWARD_SERVER__PORT": "2", "LEEWARD_SERVER__HOST": "e"}

    loaded = load({"server.port": 3, "server.connections_max": None}, environ, path)

    assert (loaded.settings.server.port, loaded.origins["server.port"]) == (3, "--port")
    assert (loaded.settings.server.host, loaded.origins["server.host"]) == ("e", "LEEWARD_SERVER__HOST")
    assert loaded.settings.server.connections_max == 7
    assert loaded.origins["server.connections_max"] == "leeward.toml:4"
    assert loaded.origins["client.disabled"] == "default"


def test_an_origin_is_the_line_that_says_it_in_every_way_to_write_it(file):
    path = file(
        '# comment \u2028\nserver.port = 1\r\nclient = { disabled = true }\n\n["storage"]  # here\n'
        '"url" = "embedded"\nretry_delays_ms = [\n  1,\n  2,\n]\nretention_days = 3 # = 4\n'
    )

    origins = load({}, HOME, path).origins

    assert origins["server.port"] == "leeward.toml:2"
    assert origins["client.disabled"] == "leeward.toml:3"
    assert origins["storage.url"] == "leeward.toml:6"
    assert origins["storage.retry_delays_ms"] == "leeward.toml:7"
    assert origins["storage.retention_days"] == "leeward.toml:11"


def test_a_line_that_cannot_be_found_again_is_the_line_of_its_section(file):
    path = file('\n[server]\n"po\\u0072t" = 1 # a key spelt with an escape and an equals sign follows\n')
    assert load({}, HOME, path).origins["server.port"] == "leeward.toml:3"
    path = file('\n[server]\nallowed_hosts = ["a"]\n\n[storage]\nurl = """embedded"""\n')
    assert load({}, HOME, path).origins["storage.url"] == "leeward.toml:6"


@pytest.mark.parametrize(
    ("text", "size"), [('"2GiB"', 2**31), ('"64MiB"', 2**26), ('" 65536KiB "', 2**26), ("67108864", 2**26)]
)
def test_sizes_are_read_with_their_unit(file, text, size):
    assert load({}, HOME, file(f"[storage]\nlog_bytes_max = {text}\n")).settings.storage.log_bytes_max == size
    environ = {**HOME, "LEEWARD_STORAGE__LOG_BYTES_MAX": text.strip('"')}
    assert load({}, environ, None).settings.storage.log_bytes_max == size


def test_the_environment_s_texts_take_the_setting_s_type():
    environ = {
        **HOME,
        "LEEWARD_CLIENT__DISABLED": "true",
        "LEEWARD_SERVER__SHUTDOWN_TIMEOUT_S": "2.5",
        "LEEWARD_SERVER__ALLOWED_HOSTS": "a.example, b.example",
        "LEEWARD_STORAGE__RETRY_DELAYS_MS": "1,2",
    }

    loaded = load({}, environ, None).settings

    assert loaded.client.disabled is True
    assert loaded.server.shutdown_timeout_s == 2.5
    assert loaded.server.allowed_hosts == ("a.example", "b.example")
    assert loaded.storage.retry_delays_ms == (1, 2)


def test_several_values_of_an_option_are_a_list():
    assert load({"server.allowed_hosts": ("a", "b")}, HOME, None).settings.server.allowed_hosts == ("a", "b")


def test_names_that_the_client_reads_are_not_refused():
    load({}, {**HOME, **dict.fromkeys(CLIENT_NAMES, "1"), "DO_NOT_TRACK": "1", "leeward_x": "1"}, None)


def test_a_home_in_the_data_directory_is_the_user_s(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")

    assert load({"server.data_dir": "~/mine"}, HOME, None).settings.server.data_dir == "/home/ada/mine"
    assert load({"server.data_dir": "~no-such-user/x"}, HOME, None).settings.server.data_dir == "~no-such-user/x"


def test_without_a_home_the_data_directory_must_be_said():
    with pytest.raises(ConfigError) as caught:
        load({}, {}, None)

    assert caught.value.message == "there is no home directory to keep the data in"
    assert "--data-dir" in caught.value.fix
    assert load({"server.data_dir": "/d"}, {}, None).settings.server.data_dir == "/d"


@pytest.mark.parametrize(
    ("text", "name", "line", "near"),
    [
        ("[server]\nprot = 1\n", "server.prot", 2, "port"),
        ("[server]\n\nretention_days = 1\n", "server.retention_days", 3, "storage.retention_days"),
        ("[servr]\nport = 1\n", "servr", 1, "server"),
        ("port = 1\n", "port", 1, "server.port"),
        ("[server]\nretention_day = 1\n", "server.retention_day", 2, "storage.retention_days"),
        ("[storage]\nretry_delay_ms = [1]\n", "storage.retry_delay_ms", 2, "retry_delays_ms"),
        ("[server]\nzzz = 1\n", "server.zzz", 2, ""),
        ("[gateway]\nzzz = 1\n", "gateway.zzz", 2, ""),
        ("[gateway.retry]\n\nmax_atempts = 1\n", "gateway.retry.max_atempts", 3, "max_attempts"),
        ("[gateway.retyr]\nmax_attempts = 1\n", "gateway.retyr", 1, "retry"),
        ("[gateway]\napi_key = 'x'\n", "gateway.api_key", 2, "api_key in [[gateway.providers]]"),
        ('"server.port" = 1\n', "server.port", 1, "port"),
    ],
)
def test_an_unknown_name_in_the_file_is_refused_with_the_nearest(file, text, name, line, near):
    fix = f"did you mean {near}? (leeward config show lists all)" if near else "leeward config show lists all"

    assert refusal(file=file(text)) == (f"unknown setting {name}", f"leeward.toml:{line}", fix)


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("LEEWARD_SERVR__PORT", "LEEWARD_SERVER__PORT"),
        ("LEEWARD_SERVER_PORT", "LEEWARD_SERVER__PORT"),
        ("LEEWARD_API_KEYS", "LEEWARD_API_KEY"),
        ("LEEWARD_SERVR__PROT", "LEEWARD_SERVER__PORT"),
        ("LEEWARD_GATEWAY__PORT", "LEEWARD_SERVER__PORT"),
        ("LEEWARD_PORT", "LEEWARD_SERVER__PORT"),
        ("LEEWARD_SERVER__prot", "LEEWARD_SERVER__PORT"),
        ("LEEWARD_GATWAY__RETRY__MAX_ATTEMPTS", "LEEWARD_GATEWAY__RETRY__MAX_ATTEMPTS"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(variable, near):
    assert refusal(environ={variable: "1"}) == (
        f"{variable} is not a setting",
        "",
        f"did you mean {near}? (leeward config show lists all)",
    )


@pytest.mark.parametrize("variable", ["LEEWARD_", "LEEWARD_SERVER__ZZZ", "LEEWARD_ZZZ"])
def test_an_unknown_variable_without_a_near_one_names_the_list(variable):
    assert refusal(environ={variable: "1"})[2] == "leeward config show lists all"


def test_an_unknown_option_is_refused_too():
    message, where, fix = refusal(options={"server.prot": 1})

    assert (message, where) == ("unknown setting server.prot", "--prot")
    assert "did you mean port?" in fix


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("[server]\nport = 70000", "server.port is 70000, but must be a whole number from 0 to 65535", "port = 5330"),
        ('[server]\nport = "80"', 'server.port is "80", but must be a whole number from 0 to 65535', "port = 5330"),
        ("[server]\nport = true", "server.port is true, but must be a whole number from 0 to 65535", "port = 5330"),
        (
            "[server]\nhead_timeout_s = nan",
            "server.head_timeout_s is nan, but must be a number from 0.1 to 3600",
            "head_timeout_s = 10",
        ),
        ("[server]\nhost = ''", 'server.host is "", but must be a text that is not empty', 'host = "127.0.0.1"'),
        ("[server]\ndata_dir = 1", "server.data_dir is 1, but must be a text", 'data_dir = ""'),
        (
            "[server]\nallowed_hosts = [1, 2.0]",
            "server.allowed_hosts is [1, 2], but must be a list of texts",
            "allowed_hosts = []",
        ),
        (
            "[storage]\nretry_delays_ms = [0]",
            "storage.retry_delays_ms is [0], but must be a list of whole numbers from 1 to 60000",
            "retry_delays_ms = [100, 200, 400]",
        ),
        (
            '[storage]\nlog_bytes_max = "2 gigs"',
            'storage.log_bytes_max is "2 gigs", but must be a size such as "64MiB", from 64MiB to 1TiB',
            'log_bytes_max = "2GiB"',
        ),
        (
            '[storage]\nlog_bytes_max = "1KiB"',
            'storage.log_bytes_max is "1KiB", but must be a size such as "64MiB", from 64MiB to 1TiB',
            'log_bytes_max = "2GiB"',
        ),
        (
            "[gateway]\nstall_timeout_s = 0",
            "gateway.stall_timeout_s is 0, but must be a number above 0 and up to 86400",
            "stall_timeout_s = 30",
        ),
        (
            '[gateway]\nlanguage = "it"',
            'gateway.language is "it", but must be "en" or "de" or "fr" or "es"',
            'language = "en"',
        ),
        (
            "[gateway]\nlanguage = {x = 2024-01-01}",
            'gateway.language is { x = 2024-01-01 }, but must be "en" or "de" or "fr" or "es"',
            'language = "en"',
        ),
        ("[client]\ndisabled = 'no'", 'client.disabled is "no", but must be true or false', "disabled = false"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_seen_and_what_is_allowed(file, text, message, fix):
    assert refusal(file=file(text)) == (message, "leeward.toml:2", f"{fix} is the default")


@pytest.mark.parametrize(
    ("variable", "text", "message", "fix"),
    [
        (
            "LEEWARD_SERVER__PORT",
            "http",
            'LEEWARD_SERVER__PORT is "http", but must be a whole number from 0 to 65535',
            "LEEWARD_SERVER__PORT=5330",
        ),
        (
            "LEEWARD_STORAGE__RETRY_DELAYS_MS",
            "1,x",
            'LEEWARD_STORAGE__RETRY_DELAYS_MS is "1,x", but must be a list of whole numbers from 1 to 60000',
            "LEEWARD_STORAGE__RETRY_DELAYS_MS=100,200,400",
        ),
        (
            "LEEWARD_STORAGE__LOG_BYTES_MAX",
            "\udcff",
            'LEEWARD_STORAGE__LOG_BYTES_MAX is "?", but must be a size such as "64MiB", from 64MiB to 1TiB',
            "LEEWARD_STORAGE__LOG_BYTES_MAX=2GiB",
        ),
    ],
)
def test_a_wrong_value_of_a_variable_is_said_in_the_environment_s_words(variable, text, message, fix):
    assert refusal(environ={variable: text}) == (message, variable, f"{fix} is the default")


def test_a_long_wrong_value_is_cut(file):
    message, _, _ = refusal(file=file(f"[server]\nport = '{'x' * 1000}'"))

    assert len(message) < 200


def test_a_value_that_lies_deep_or_is_huge_is_refused_as_every_other(file):
    assert "port is { a = { a = { a = {" in refusal(file=file(f"[server]\nport.{'.'.join('a' * 1_500)} = 1"))[0]
    assert "is 0xfff" in refusal(file=file(f"[server]\nport = 0x{'f' * 5_000}"))[0]
    assert "is 0xfff" in refusal(file=file(f"[gateway]\ndeadline_s = 0x{'f' * 5_000}"))[0]


def test_a_section_given_a_value_is_refused(file):
    assert refusal(file=file("\nserver = 3")) == (
        "server is a section, not a value",
        "leeward.toml:2",
        "write [server] on its own line",
    )
    assert refusal(file=file("[[gateway.retry]]\n"))[0] == "gateway.retry is a section, not a list"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[server]\nport 5330\n", 2),
        ("[server]\nport = \n", 2),
        ("[server]\nport = 1\nport = 2\n", 3),
        ("[server\n", 1),
        ('[server]\n\nhost = "a', 3),
        ("a = " + "[" * 5_000, 1),
        ("a = " + "9" * 5_000, 1),
    ],
)
def test_broken_toml_is_refused_with_its_line(file, text, line):
    message, where, fix = refusal(file=file(text))

    assert message.startswith("leeward.toml is not valid TOML: ")
    assert "(at " not in message
    assert where == f"leeward.toml:{line}"
    assert fix


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path):
    message, where, fix = refusal(file=tmp_path / "missing.toml")
    assert message == "missing.toml cannot be read: no such file or directory"
    assert where == str(tmp_path / "missing.toml")
    assert "--print-config" in fix
    assert "cannot be read: is a directory" in refusal(file=tmp_path)[0]


def test_a_file_in_another_encoding_is_refused_and_a_byte_order_mark_is_not(tmp_path):
    path = tmp_path / "leeward.toml"

    path.write_bytes("[server]\nhost = 'ü'".encode("latin-1"))
    assert refusal(file=path)[0] == "leeward.toml is not UTF-8 text"

    path.write_bytes(b"\xef\xbb\xbf[server]\nport = 1")
    assert load({}, HOME, path).settings.server.port == 1


def test_a_secret_is_read_from_where_it_says_that_it_is(file, tmp_path):
    (tmp_path / "url").write_text(SECRET + "\n", encoding="utf-8")
    by_env = file('[storage]\nurl = "env:STORE_URL"')

    loaded = load({}, {**HOME, "STORE_URL": SECRET}, by_env)

    assert loaded.settings.storage.url == SECRET
    assert loaded.origins["storage.url"] == "leeward.toml:2"
    by_file = {**HOME, "LEEWARD_STORAGE__URL": f"file:{tmp_path / 'url'}"}
    assert load({}, by_file, None).settings.storage.url == SECRET
    assert load({"storage.url": SECRET}, HOME, None).settings.storage.url == SECRET


def test_only_a_secret_is_looked_for_elsewhere(file):
    assert load({}, HOME, file('[server]\nhost = "env:HOST"')).settings.server.host == "env:HOST"


def test_a_reference_that_leads_nowhere_is_refused(file, tmp_path):
    assert refusal(file=file('[storage]\nurl = "env:STORE_URL"')) == (
        "storage.url is env:STORE_URL, but STORE_URL is not set",
        "leeward.toml:2",
        "export STORE_URL=…",
    )
    missing = tmp_path / "missing"
    assert refusal(environ={"LEEWARD_STORAGE__URL": f"file:{missing}"}) == (
        f"storage.url is file:{missing}, which cannot be read as text",
        "LEEWARD_STORAGE__URL",
        f"look at {missing}",
    )
    assert "cannot be read" in refusal(options={"storage.url": "file:~no-such-user/url"})[0]
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "cannot be read" in refusal(options={"storage.url": f"file:{tmp_path / 'binary'}"})[0]


def test_a12_a_wrong_secret_is_not_shown(file):
    message, where, _ = refusal(file=file('[storage]\nurl = ["hunter2"]'))

    assert message == "storage.url is of another type, but must be a text"
    assert where == "leeward.toml:2"


def test_a12_no_secret_is_in_a_repr():
    loaded = load({"storage.url": SECRET}, HOME, None)

    assert "correct-horse" not in repr(loaded)
    assert "clickhouse://ada:…x9Qd@db:8123/leeward" in repr(loaded.settings)


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        load({}, HOME, None).settings.server.port = 1


@pytest.mark.parametrize("name", KEYS)
def test_every_setting_has_a_variable_that_leads_to_it(name):
    assert (
        load({}, {**HOME, variable_of(name): ""}, None) if name.endswith(("data_dir", "hosts", "ms", "url")) else True
    )
    with pytest.raises(ConfigError) as caught:
        load({}, {**HOME, variable_of(name) + "X": ""}, None)
    assert variable_of(name) in caught.value.fix


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=80) | st.text("[]=.'\"#{},\n abserv1port", max_size=40))
def test_any_text_is_a_configuration_or_a_clear_refusal(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", newline="")

    try:
        load({}, HOME, path)
    except ConfigError as error:
        refused = error
    else:
        return

    assert refused.where.startswith("any.toml:")
    assert refused.fix


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LEEWARD_PORT", "tcp://10.0.0.1:5330"),
        ("LEEWARD_SERVICE_HOST", "10.0.0.1"),
        ("LEEWARD_SERVICE_PORT_HTTP", "5330"),
        ("LEEWARD_PORT_5330_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_what_kubernetes_puts_into_a_pod_is_nobodys_mistake(variable, value):
    assert load({}, {**HOME, variable: value}, None).settings == load({}, HOME, None).settings
