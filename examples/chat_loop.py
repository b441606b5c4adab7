"""A chat in a terminal that reports what it does: spans, errors, and the moments in which to send.

    LEEWARD_API_KEY=lw_… python chat_loop.py

The answers are made up. A question with the word "fail" fails, as a provider does now and then.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import leeward

WORD_S = 0.05


class ProviderError(Exception):
    """The provider did not answer."""


def stream(question: str) -> Iterator[str]:
    """Stands for a provider: the words of an answer, one after the other."""
    if "fail" in question:
        raise ProviderError("the provider hung up")
    for word in f"You said: {question}".split():
        time.sleep(WORD_S)
        yield word


def answer(question: str) -> None:
    """Print the answer as it comes."""
    with leeward.span("chat.answer", {"question_chars": len(question)}) as span:
        words = 0
        with leeward.busy():  # nothing is sent while the answer streams
            for word in stream(question):
                print(word, end=" ", flush=True)
                words += 1
        print()
        span.set("words", words)


def main() -> None:
    leeward.init(app="chat-loop/1.0")  # the key comes from LEEWARD_API_KEY
    leeward.set_context(session_id=str(uuid.uuid4()), distinct_id="tutorial")
    leeward.capture("chat.started")
    while True:
        try:
            with leeward.idle():  # a person types: a good moment to send
                question = input("You: ")
        except (EOFError, KeyboardInterrupt):
            break
        try:
            answer(question)
        except ProviderError as error:
            leeward.capture_exception(error, {"question_chars": len(question)})
            print("Sorry, that did not work. Please try again.")
    leeward.capture("chat.ended")


if __name__ == "__main__":
    main()
