"""What an answer cost: prices for a million tokens; what is not known is not nothing."""

from __future__ import annotations

import pytest

from leeward.gateway.prices import cost
from leeward.wire.chat import Usage


def test_input_and_output_have_their_own_price():
    assert cost(3.0, 15.0, Usage(input_tokens=1_000_000, output_tokens=200_000)) == pytest.approx(6.0)


def test_a_provider_that_costs_nothing_costs_nothing():
    assert cost(0.0, 0.0, Usage(input_tokens=10, output_tokens=10)) == 0.0


@pytest.mark.parametrize("prices", [(None, None), (None, 1.0), (1.0, None)])
def test_an_unknown_price_is_an_unknown_cost(prices):
    assert cost(*prices, Usage(input_tokens=1, output_tokens=1)) is None


def test_a_price_for_tokens_that_were_not_used_need_not_be_known():
    assert cost(2.0, None, Usage(input_tokens=500_000)) == pytest.approx(1.0)  # embeddings have no output


def test_without_a_count_of_tokens_the_cost_is_unknown():
    assert cost(1.0, 1.0, None) is None


def test_tokens_read_from_a_providers_cache_count_in_full():
    assert cost(2.0, 2.0, Usage(input_tokens=500_000, cached_tokens=500_000)) == pytest.approx(1.0)


def test_g10_a_count_of_nonsense_is_no_refund_and_no_crash():
    assert cost(1.0, 1.0, Usage(input_tokens=-1_000_000, output_tokens=1_000_000)) == pytest.approx(1.0)
    assert cost(1.0, 1.0, Usage(input_tokens=10**400)) < float("inf")
