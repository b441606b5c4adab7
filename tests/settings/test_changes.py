"""What a reload says: each change in a line, and no secret whole."""

import pytest

from leeward.settings.changes import changes
from leeward.settings.load import load

HOME = {"HOME": "/home/ada"}
OLD = """\
[gateway.retry]
max_attempts = 3
[[gateway.providers]]
name = "primary"
kind = "openai"
api_key = "sk-0123456789abcdefghijkl-x9Qd"
models = { chat = "gpt-4o-mini" }
[[gateway.providers]]
name = "local"
kind = "ollama"
"""


@pytest.fixture
def settings(tmp_path):
    """Writes a configuration file and reads it."""

    def read(text):
        path = tmp_path / "leeward.toml"
        path.write_text(text, encoding="utf-8")
        return load({}, HOME, path).settings

    return read


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("", "", []),
        ("max_attempts = 3", "max_attempts = 5", ["gateway.retry.max_attempts 3 → 5"]),
        (
            "[gateway.retry]",
            "[storage]\nlog_bytes_max = '1GiB'\n[gateway.retry]",
            ['storage.log_bytes_max "2GiB" → "1GiB"'],
        ),
        (
            '{ chat = "gpt-4o-mini" }',
            '{ chat = { name = "gpt-4.1", tools = false } }',
            [
                (
                    'gateway.providers.primary.models { chat = "gpt-4o-mini" } → '
                    '{ chat = { name = "gpt-4.1", tools = false } }'
                )
            ],
        ),
        (
            'kind = "ollama"',
            'kind = "ollama"\nstall_timeout_s = 3',
            ["gateway.providers.local.stall_timeout_s none → 3"],
        ),
        ('"local"', '"backup"', ["gateway.providers.backup is new", "gateway.providers.local is gone"]),
        ('kind = "ollama"', 'kind = "ollama"\n[[gateway.routes]]\nmodel = "m"', ["gateway.routes.m is new"]),
    ],
)
def test_every_change_is_one_line(settings, before, after, lines):
    assert changes(settings(OLD), settings(OLD.replace(before, after, 1))) == lines


def test_another_order_of_a_list_is_a_change(settings):
    head, first, second = OLD.split("[[gateway.providers]]\n")
    turned = f"{head}[[gateway.providers]]\n{second}[[gateway.providers]]\n{first}"

    assert changes(settings(OLD), settings(turned)) == ["gateway.providers has another order: local, primary"]


def test_a12_a_changed_secret_is_told_by_its_end_only(settings):
    other, alike = OLD.replace("x9Qd", "y0Re"), OLD.replace("abcdef", "fedcba")

    assert changes(settings(OLD), settings(other)) == ['gateway.providers.primary.api_key "…x9Qd" → "…y0Re"']
    assert changes(settings(OLD), settings(alike)) == ['gateway.providers.primary.api_key is another "…x9Qd"']
