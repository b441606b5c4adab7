"""What an answer cost, by the prices in the configuration. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from leeward.wire.chat import Usage

__all__ = ["cost"]

TOKENS_PER_PRICE: Final = 1_000_000


def cost(input_price: float | None, output_price: float | None, usage: Usage | None) -> float | None:
    """US dollars for the tokens of an answer, at prices for a million; None where that is not known.

    Tokens read from a provider's cache count in full: no provider bills them higher, so the figure is never too low.
    """
    if usage is None:
        return None
    dollars = 0.0
    for price, tokens in ((input_price, usage.input_tokens), (output_price, usage.output_tokens)):
        if tokens:
            if price is None:
                return None
            dollars += price * tokens / TOKENS_PER_PRICE
    return dollars
