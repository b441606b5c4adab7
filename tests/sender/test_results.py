"""The values that a program gets back."""

import pytest

from leeward.sender.results import Counts, FlushResult


def test_a_result_is_a_frozen_value_that_shows_its_fields():
    result = FlushResult(delivered=1, spooled=2, dropped=3)

    assert repr(result) == "FlushResult(delivered=1, spooled=2, dropped=3)"
    assert result == FlushResult(delivered=1, spooled=2, dropped=3)
    assert result != FlushResult(delivered=1, spooled=2, dropped=4)
    assert result != 1
    with pytest.raises(AttributeError, match="frozen"):
        result.delivered = 5
    with pytest.raises(AttributeError, match="frozen"):
        del result.delivered
    with pytest.raises(TypeError, match="unknown"):
        FlushResult(delivered=1, spooled=2, dropped=3, unknown=4)


def test_a_snapshot_does_not_change_when_the_counts_go_on():
    counts = Counts()
    counts.drop("no_room", 2)
    before = counts.snapshot(spooled=1, stopped=False)

    counts.drop("no_room")
    counts.drop("http_400", 4)

    assert before.dropped == {"no_room": 2}
    assert counts.lost() == 7
    assert counts.snapshot(spooled=0, stopped=True).stopped
