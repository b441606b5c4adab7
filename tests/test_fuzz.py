"""The fuzz driver finds what is there to be found, says how to see it again, and gives the same inputs for a seed."""

from __future__ import annotations

import json

import pytest

import fuzz
import fuzz_targets_core
from fuzz import Finding, Mutator, run, shrink

SEEDS = [b'{"a": [1, 2, 3], "b": "text"}', b"[]", b""]


def fails_on_quotes(data):
    if data.count(b'"') > 5:
        raise KeyError("too many quotes")


def collected(seed, name="x", inputs=500):
    seen = []
    run(name, seen.append, SEEDS, inputs, seed)
    return seen


def test_a_seed_gives_the_same_inputs_and_another_seed_or_name_gives_others():
    assert collected(1) == collected(1)
    assert collected(1) != collected(2)
    assert collected(1) != collected(1, "y")


def test_the_seeds_come_first_and_nearly_all_inputs_differ():
    seen = collected(1)

    assert seen[:3] == SEEDS
    assert len(set(seen)) > 350
    assert max(map(len, seen)) <= fuzz.INPUT_BYTES_MAX


def test_what_is_raised_is_a_finding_and_ends_the_run():
    result = run("x", fails_on_quotes, SEEDS, 100_000, 1)

    assert result.finding is not None
    assert result.inputs < 100_000
    assert "too many quotes" in result.finding.why
    with pytest.raises(KeyError):
        fails_on_quotes(result.finding.data)


def test_a_finding_becomes_small_and_stays_a_finding():
    data = b"x" * 500 + b'"' * 6 + b"y" * 500

    small = shrink(fails_on_quotes, Finding(data, "Traceback …\nKeyError: 'too many quotes'\n"))

    assert small == b'"' * 6


def test_an_input_that_takes_longer_than_a_second_is_a_finding():
    times = iter([0.0, 0.0, 0.1, 0.1, 1.4, 1.4])

    result = run("x", lambda data: None, SEEDS, 10, 1, clock=lambda: next(times))

    assert result.finding == Finding(SEEDS[1], "took 1.3 s")
    assert result.slowest == SEEDS[1]


def test_the_run_ends_with_its_time():
    times = iter(range(1_000))

    result = run("x", lambda data: None, SEEDS, None, 1, seconds=10, clock=lambda: next(times) / 2)

    assert result.finding is None
    assert 0 < result.inputs < 20
    assert result.per_second > 0


def test_no_input_grows_without_end():
    mutator = Mutator(fuzz.random.Random(1), [b"[" * fuzz.INPUT_BYTES_MAX * 2])

    for _ in range(300):
        assert len(mutator.next()) <= fuzz.INPUT_BYTES_MAX
    assert len(mutator.pool) <= fuzz.POOL_SIZE_MAX
    assert Mutator(fuzz.random.Random(1), []).next() is not None


def test_the_command_keeps_a_finding_and_runs_it_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fuzz, "targets", lambda: {"bad": (fails_on_quotes, SEEDS), "good": (len, SEEDS)})
    monkeypatch.setattr(fuzz.tempfile, "gettempdir", lambda: str(tmp_path))

    assert fuzz.main(["--inputs", "50000", "--seed", "3"]) == 1

    said = capsys.readouterr().out
    (kept,) = tmp_path.iterdir()
    assert f"python tests/fuzz.py --again {kept} bad" in said
    assert "good" in said
    with pytest.raises(KeyError, match="too many quotes"):
        fuzz.main(["--again", str(kept), "bad"])
    assert fuzz.main(["--again", str(kept), "good"]) == 0
    assert fuzz.main(["--inputs", "10", "good"]) == 0


def test_the_command_knows_its_targets(capsys):
    with pytest.raises(SystemExit):
        fuzz.main(["nonsense"])

    assert "clean" in capsys.readouterr().err
    assert set(fuzz_targets_core.TARGETS) <= set(fuzz.targets())


def test_an_input_that_hangs_is_told(monkeypatch):
    monkeypatch.setattr(fuzz.signal, "alarm", lambda seconds: seconds and fuzz._hang(0, None))

    result = run("x", fuzz._watched(len), SEEDS, 10, 1)

    assert result.finding is not None
    assert "still at it after" in result.finding.why


@pytest.mark.parametrize("name", fuzz_targets_core.TARGETS)
def test_the_core_takes_whatever_comes(name):
    target, seeds = fuzz_targets_core.TARGETS[name]

    result = run(name, target, seeds, 1_500, 1)

    assert result.finding is None, json.dumps(result.finding.why)
    assert result.inputs == 1_500
