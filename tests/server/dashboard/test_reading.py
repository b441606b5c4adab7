import asyncio

from leeward.errors import Unavailable
from leeward.server.dashboard.reading import Reader
from leeward.store.clients import ClientAccount, ClientAccounts
from page_server import FakeOverview, event


def test_what_the_store_gives_is_what_is_read():
    overview = FakeOverview()
    overview.minutes_held = [(60_000, 3, 1)]
    overview.events = [event(number, 5) for number in range(80)]
    overview.held_clients = ClientAccounts([ClientAccount("p", 1, 2, 3, 3, {}, 0)] * 20, total=20)
    reading = asyncio.run(Reader(overview, wait_s=5).read(1))
    assert (reading.minutes, len(reading.events), reading.trouble) == ([(60_000, 3, 1)], 50, "")
    assert (len(reading.clients.accounts), reading.clients.total) == (10, 20)


def test_a_store_that_refuses_becomes_its_sentence():
    overview = FakeOverview()
    overview.raises = Unavailable("The store is away.")
    assert asyncio.run(Reader(overview, wait_s=5).read(1)).trouble == "The store is away."


def test_a_store_that_hangs_holds_no_page_and_is_asked_once_however_often_pages_are_wanted():
    async def wanted_often():
        overview = FakeOverview()
        overview.gate = asyncio.Event()
        reader = Reader(overview, wait_s=0.01)
        late = [await reader.read(1) for _ in range(5)]
        other = await reader.read(2)
        asked = overview.reads
        overview.gate.set()
        there = await reader.read(1)
        return late, other, asked, there

    late, other, asked, there = asyncio.run(wanted_often())
    assert {reading.trouble for reading in (*late, other)} == {"The store has not answered within 0.01 s."}
    assert asked == 2, "once for each project"
    assert there.trouble == ""


def test_the_next_page_after_an_answer_reads_anew():
    async def twice():
        overview = FakeOverview()
        reader = Reader(overview, wait_s=5)
        await reader.read(1)
        await reader.read(1)
        return overview.reads

    assert asyncio.run(twice()) == 2
