"""Which line a name stands on, in every way to write it."""

from leeward.settings.toml_lines import line_of, lines_of

TEXT = """\
[[gateway.providers]]
name = "a"
models.chat = "x"
[gateway.providers.models.small]
name = "y"
[[gateway.providers]]

name = "b"
[gateway.retry]
budget = 0
[[ "gateway" . routes ]] # the first
model = "m"
[[a]]
[[a.b]]
[[a.b]]
c = 1
"""


def test_each_table_of_a_list_has_lines_of_its_own():
    lines = lines_of(TEXT)

    assert lines["gateway", "providers", 0] == 1
    assert lines["gateway", "providers", 0, "name"] == 2
    assert lines["gateway", "providers", 0, "models", "chat"] == 3
    assert lines["gateway", "providers", 0, "models", "small", "name"] == 5
    assert lines["gateway", "providers", 1] == 6
    assert lines["gateway", "providers", 1, "name"] == 8
    assert lines["gateway", "retry", "budget"] == 10
    assert lines["gateway", "routes", 0, "model"] == 12
    assert lines["a", 0, "b", 1, "c"] == 16


def test_what_has_no_line_of_its_own_has_that_of_what_it_stands_in():
    lines = lines_of("x = 1\n[[gateway.providers]]\nmodels = { chat = { name = 'y' } }\n")

    assert line_of(lines, ("gateway", "providers", 0, "models", "chat", "name")) == 3
    assert line_of(lines, ("gateway", "providers", 0, "kind")) == 2
    assert line_of(lines, ("gateway", "providers", 7)) == 2
    assert line_of(lines, ("nowhere",)) == 1
