"""docs/reliability.md tells the truth: its rows, the tests that carry numbers, the planted faults and the source agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent
NUMBERS = [
    f"{group}{number}"
    for group, last in zip("CGWIA", (29, 23, 18, 13, 15), strict=True)
    for number in range(1, last + 1)
]
STATES = ("covered", "partly", "open")


class Row(NamedTuple):
    number: str
    state: str
    tests: list[str]
    lines: list[tuple[str, str]]


def rows() -> list[Row]:
    found = []
    for text in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", text)[1:-1]]
        if cells and re.fullmatch(r"[A-Z]\d+", cells[0]):
            number, _, _, state, tests, lines = cells
            pairs = (re.fullmatch(r"`(\S+)` `(.+)`", line) for line in lines.split("<br>") if line)
            found.append(Row(number, state, re.findall(r"`(\w+)`", tests), [(pair[1], pair[2]) for pair in pairs]))
    return found


def numbers_of(name: str) -> set[str]:
    """The faults that a test's name carries: `test_i1_i2_…` is of I1 and I2."""
    found = re.match(r"test_((?:[cgwia]\d+_)+)", name)
    return set(found[1].upper().strip("_").split("_")) if found else set()


def name_of(mutant: Mutant) -> str:
    return mutant.test.rsplit("::", 1)[1].split("[")[0]


def names_of_tests() -> set[str]:
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


ROWS = rows()


def test_every_number_of_every_group_has_exactly_one_row():
    assert sorted(row.number for row in ROWS) == sorted(NUMBERS)


@pytest.mark.parametrize("row", ROWS, ids=[row.number for row in ROWS])
def test_a_row_names_tests_and_lines_that_are_there(row):
    assert row.state.split(":")[0] in STATES
    assert (row.state == "covered") or row.state.split(": ", 1)[1], "what is missing is said"
    assert set(row.tests) <= names_of_tests()
    for file, line in row.lines:
        assert line in (ROOT / "src" / "leeward" / file).read_text(encoding="utf-8"), file


@pytest.mark.parametrize("row", ROWS, ids=[row.number for row in ROWS])
def test_a_row_is_as_good_as_what_proves_it(row):
    proofs = [mutant for mutant in MUTANTS if row.number in numbers_of(name_of(mutant))]
    assert {name_of(mutant) for mutant in proofs} <= set(row.tests), "the page names what is planted"
    assert bool(proofs) == bool(row.lines)
    for file, line in row.lines:
        broken = [mutant.line.splitlines() for mutant in proofs if mutant.file == f"src/leeward/{file}"]
        assert any(part.strip() and part.strip() in line for parts in broken for part in parts), (file, line)
    if row.state == "covered":
        assert proofs
    if row.state.startswith("open"):
        assert not proofs


def test_every_number_in_a_tests_name_is_a_fault_that_is_not_open():
    kept = {row.number for row in ROWS if not row.state.startswith("open")}
    wrong = {name for name in names_of_tests() if numbers_of(name) - kept}
    assert wrong == set()


def test_every_planted_fault_stands_in_the_source_once_and_has_its_test():
    for mutant in MUTANTS:
        assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.line) == 1, mutant
        path = mutant.test.split("::")[0]
        assert f"def {name_of(mutant)}(" in (ROOT / path).read_text(encoding="utf-8"), mutant.test
