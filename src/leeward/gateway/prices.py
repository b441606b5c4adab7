"""What an answer cost, by the prices in the configuration. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from leeward.wire.chat import Usage

__all__ = ["cost"]

TOKENS_PER_PRICE: Final = 1_000_000
TOKENS_MAX: Final = 2**53  # of an answer


def cost(input_price: float | None, output_price: float | None, usage: Usage | None) -> float | None:
    """US dollars for the tokens of an answer, at prices for a million; None where that is not known.

    Tokens that a provider reads from its cache, or writes there, count as any others: the first cost less in truth, the
    second up to twice as much. What a provider says is bounded, so that a count of nonsense stays a number.
    """
    if usage is None:
        return None
    dollars = 0.0
    for price, tokens in ((input_price, usage.input_tokens), (output_price, usage.output_tokens)):
        if tokens > 0:
            if price is None:
                return None
            dollars += price * min(tokens, TOKENS_MAX) / TOKENS_PER_PRICE
    return dollars
