"""What the events of a task have in common."""

import asyncio
import threading

import pytest

from leeward.sender.context import CURRENT, EMPTY, bound, update


@pytest.fixture(autouse=True)
def _fresh():
    """Each test in a context of its own."""
    token = CURRENT.set(EMPTY)
    yield
    CURRENT.reset(token)


def test_ids_and_properties_are_set_added_and_taken_away():
    update({"session_id": "s1", "plan": "pro"})
    update({"distinct_id": "u1", "region": "eu"})
    update({"session_id": None, "plan": None})

    context = CURRENT.get()

    assert (context.distinct_id, context.session_id) == ("u1", "")
    assert context.properties == {"region": "eu"}


def test_values_are_bounded_when_they_are_set():
    update({"session_id": "s" * 1000, "what": object()})

    assert len(CURRENT.get().session_id) == 200
    assert CURRENT.get().properties == {"what": "<object>"}


def test_a_task_sees_what_was_set_where_it_was_started_and_keeps_its_own_to_itself():
    seen = {}

    async def child(name):
        await asyncio.sleep(0)
        seen[name] = CURRENT.get().session_id
        update({"session_id": name})
        await asyncio.sleep(0)
        seen[name + " later"] = await asyncio.to_thread(lambda: CURRENT.get().session_id)

    async def main():
        update({"session_id": "outer"})
        await asyncio.gather(child("a"), child("b"))
        seen["outer"] = CURRENT.get().session_id

    asyncio.run(main())

    assert seen == {"a": "outer", "b": "outer", "a later": "a", "b later": "b", "outer": "outer"}


def test_another_thread_sees_the_context_through_a_bound_function_only():
    update({"session_id": "s1"})
    seen = []

    def look():
        seen.append(CURRENT.get().session_id)
        update({"session_id": "changed"})

    for target in (bound(look), bound(look), look):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()

    assert seen[:2] == ["s1", "s1"]
    assert CURRENT.get().session_id == "s1"


def test_a_bound_function_takes_arguments_returns_and_runs_several_times_at_once():
    update({"session_id": "s1"})

    @bound
    def inner(depth):
        return (CURRENT.get().session_id, inner(depth - 1) if depth else None)

    assert inner(1) == ("s1", ("s1", None))
