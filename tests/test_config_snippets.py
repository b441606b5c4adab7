"""Every configuration that a page shows is one: it loads, as `leeward config check` loads it, without an error or a warning.

Keys that stand elsewhere (`env:`, `file:`) are there, with some value.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands import Terminal

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = re.compile(r'"(env|file):([^"]+)"')
SHOWN = [
    pytest.param(found[1], id=f"{page.relative_to(ROOT)}:{page.read_text().count(chr(10), 0, found.start(1)) + 1}")
    for page in PAGES
    for found in FENCE.finditer(page.read_text(encoding="utf-8"))
]


def test_there_are_pages_with_configurations():
    assert SHOWN


@pytest.mark.parametrize("shown", SHOWN)
def test_a_configuration_on_a_page_is_right_and_nothing_in_it_is_odd(shown, tmp_path, monkeypatch, capsys):
    terminal = Terminal(tmp_path, monkeypatch, capsys)
    for kind, place in REFERENCE.findall(shown):
        if kind == "env":
            monkeypatch.setenv(place, "sk-0123456789")
        else:
            (tmp_path / Path(place).name).write_text("sk-0123456789", encoding="utf-8")
            shown = shown.replace(place, str(tmp_path / Path(place).name))
    (tmp_path / "leeward.toml").write_text(shown, encoding="utf-8")

    checked = terminal("config", "check", "--json")

    assert checked.code == 0, checked.err
    assert checked.json()["warnings"] == []
