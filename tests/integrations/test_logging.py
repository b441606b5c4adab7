"""The `logging` handler: what a program logs becomes events, and what it prints stays the same."""

from __future__ import annotations

import logging
import sys
import threading

import pytest

import programs
import recorder
from leeward.integrations.logging import LeewardHandler, setup
from leeward.sender.client import Client
from leeward.testing import capture_events

LEVELS = [
    (5, "DEBUG"),
    (10, "DEBUG"),
    (20, "INFO"),
    (25, "INFO"),
    (30, "WARN"),
    (40, "ERROR"),
    (50, "FATAL"),
    (99, "FATAL"),
]


def record_of(**fields):
    return logging.makeLogRecord({"name": "shop", "levelno": logging.INFO, "msg": "x", **fields})


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def events(client):
    with capture_events(client) as events:
        yield events


@pytest.fixture
def logger(client):
    """A logger of its own that hands nothing on."""
    logger = logging.Logger("shop.orders", logging.DEBUG)  # noqa: LOG001 - one that no other test sees
    logger.addHandler(LeewardHandler(client=client))
    logger.addHandler(logging.NullHandler())
    return logger


def test_a_record_is_a_log_event_with_where_it_was_logged_and_when(events, logger):
    logger.warning("no stock of %s", "rope")

    (event,) = events
    assert (event["kind"], event["level"]) == ("log", "WARN")
    properties = event["properties"]
    assert isinstance(properties.pop("line"), int)
    assert properties == {
        "message": "no stock of rope",
        "logger": "shop.orders",
        "module": "test_logging",
        "function": "test_a_record_is_a_log_event_with_where_it_was_logged_and_when",
    }


def test_the_time_is_the_records_own(events, client):
    LeewardHandler(client=client).handle(record_of(created=1_700_000_000.25))

    assert events[0]["timestamp"] == 1_700_000_000_250


@pytest.mark.parametrize(("number", "level"), LEVELS)
def test_every_level_is_on_a_step(events, client, number, level):
    LeewardHandler(client=client).handle(record_of(levelno=number))

    assert events[0]["level"] == level


def test_records_below_the_handlers_level_are_left_out(events, logger):
    logger.handlers[0].setLevel("ERROR")

    logger.warning("unheard")
    logger.error("heard")

    assert [event["properties"]["message"] for event in events] == ["heard"]


def test_extra_fields_are_properties_bounded_and_scrubbed(events, logger):
    logger.info(
        "x", extra={"order": 7, "password": "correct horse battery", "deep": [[1]], "blob": b"\x00" * 10_000_000}
    )

    properties = events[0]["properties"]
    assert (properties["order"], properties["password"], properties["deep"]) == (7, "<redacted>", [[1]])
    assert len(str(properties["blob"])) < 100_000


def test_a_record_with_an_exception_is_captured_as_that_exception(events, logger):
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logger.exception("the sum failed for %s", "ada", extra={"order": 7})

    (event,) = events
    assert (event["kind"], event["level"], event["error"]["type"]) == ("exception", "ERROR", "ZeroDivisionError")
    assert event["properties"]["message"] == "the sum failed for ada"
    assert (event["properties"]["logger"], event["properties"]["order"]) == ("shop.orders", 7)


def test_an_exception_that_was_captured_before_is_a_log_line(events, logger, client):
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        client.capture_exception(error)
        logger.exception("again")

    assert [event["kind"] for event in events] == ["exception", "log"]


def test_exc_info_without_an_exception_is_a_log_line(events, logger):
    logger.error("none", exc_info=True)  # noqa: LOG014 - what is tested

    assert [event["kind"] for event in events] == ["log"]


def test_the_stack_that_a_record_asks_for_is_kept(events, logger):
    logger.info("here", stack_info=True)

    assert "test_the_stack_that_a_record_asks_for_is_kept" in events[0]["properties"]["stack_info"]


@pytest.mark.parametrize(
    ("message", "arguments", "expected"), [("%d pieces", ("x",), "%d pieces"), (["%d", 1], ("x",), "list")]
)
def test_c22_arguments_that_do_not_fit_cost_only_themselves(events, client, message, arguments, expected):
    LeewardHandler(client=client).handle(record_of(msg=message, args=arguments))

    assert events[0]["properties"]["message"] == expected


def test_c22_an_argument_that_fails_to_print_itself_does_not_reach_the_program(events, logger, capsys):
    class Hostile:
        def __str__(self):
            raise RuntimeError

    logger.info("x %s", Hostile())
    logger.info(Hostile())

    assert [event["properties"]["message"] for event in events] == ["x %s", "Hostile"]
    assert capsys.readouterr().err == ""


def test_an_error_of_our_own_is_counted_and_nothing_else(events, client, capsys):
    record = record_of()
    del record.funcName

    LeewardHandler(client=client).handle(record)

    assert events == []
    assert client.stats().dropped == {"internal": 1}
    assert capsys.readouterr().err == ""


def test_a_record_that_no_logger_made_is_taken_with_what_it_has(events, client):
    LeewardHandler(client=client).handle(logging.makeLogRecord({"msg": "from elsewhere"}))

    assert (events[0]["level"], events[0]["properties"]["message"]) == ("DEBUG", "from elsewhere")


def test_what_leeward_itself_logs_is_left_out(events, client):
    for name in ("leeward", "leeward.worker"):
        LeewardHandler(client=client).handle(record_of(name=name))
    LeewardHandler(client=client).handle(record_of(name="leewardish"))

    assert len(events) == 1


def test_what_is_logged_while_a_record_is_captured_makes_no_circle():
    logger = logging.Logger("shop", logging.DEBUG)  # noqa: LOG001 - as above

    def hook(event):
        logger.info("within the hook")
        return event

    client = Client(recorder.KEY, "http://127.0.0.1:9", before_send=hook)
    logger.addHandler(LeewardHandler(client=client))

    with capture_events(client) as events:
        logger.info("one")
        logger.info("two")

    assert [event["properties"]["message"] for event in events] == ["one", "two"]


def test_c14_the_handler_has_no_lock_so_nobody_waits_for_another_thread(events, logger):
    handler = logger.handlers[0]
    assert handler.lock is None
    handler.acquire()  # as `logging` does it for handlers that have one
    thread = threading.Thread(target=logger.info, args=("from a thread",))
    thread.start()
    thread.join(5)
    handler.release()

    assert not thread.is_alive()
    assert len(events) == 1


def test_a_client_that_is_off_does_not_even_format():
    client = Client(recorder.KEY, "http://127.0.0.1:9", disabled=True)

    formatted = []

    class Expensive:
        def __str__(self):
            formatted.append(self)
            return "x"

    LeewardHandler(client=client).handle(record_of(msg="%s", args=(Expensive(),)))

    assert formatted == []


def test_a_filter_may_leave_out_or_replace_a_record(events, logger):
    handler = logger.handlers[0]
    handler.addFilter(lambda record: "secret" not in record.msg)
    logger.info("secret")
    logger.info("open")
    if sys.version_info >= (3, 12):
        handler.addFilter(lambda record: record_of(msg="replaced"))
        logger.info("x")

    messages = [event["properties"]["message"] for event in events]
    assert messages == ["open"] + ["replaced"] * (sys.version_info >= (3, 12))


# --- setup, and what the program prints


def test_setup_installs_once_and_sets_the_level():
    name = "leeward-test-setup"
    logger = logging.getLogger(name)
    try:
        handler = setup("ERROR", name)
        assert setup(logging.INFO, logger) is handler
        assert logger.handlers == [handler]
        assert handler.level == logging.INFO
        assert logger.level == logging.NOTSET

        other = setup("INFO", logger, client=Client())
        assert logger.handlers == [handler, other]
    finally:
        logger.handlers.clear()


PRINTING = """
import logging
{configure}
if {with_leeward}:
    from leeward.integrations.logging import LeewardHandler, setup
    setup("DEBUG")
    logging.getLogger("a.b").addHandler(LeewardHandler())
log = logging.getLogger("a.b")
log.info("quiet")
log.warning("loud %s", "one")
try:
    raise ValueError("x")
except ValueError:
    log.exception("louder")
"""


@pytest.mark.parametrize(
    "configure", ["", "logging.basicConfig()", "logging.getLogger('a').addHandler(logging.NullHandler())"]
)
def test_c10_what_a_program_prints_is_the_same_with_and_without_the_handler(configure, tmp_path):
    with recorder.Recorder() as server:
        results = [
            programs.run(
                programs.program(
                    PRINTING.format(configure=configure, with_leeward=with_leeward), server.host, tmp_path / "spool"
                )
            )
            for with_leeward in (False, True)
        ]

        printed = [(result.returncode, result.stdout, result.stderr) for result in results]
        assert printed[0] == printed[1]
        assert sorted(event["data"]["message"] for event in server.events.values()) == ["loud one"] * 2 + ["louder"] * 2


def test_what_is_logged_arrives_and_an_outage_is_noted_without_a_circle(tmp_path):
    body = """
    import logging
    from leeward.integrations.logging import setup
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger().setLevel(logging.DEBUG)
    setup("DEBUG")
    for number in range(20):
        logging.getLogger("shop").info("line %d", number)
    leeward.flush(5)
    """
    with recorder.Recorder() as server:
        server.script.extend([recorder.status(503, "Retry-After: 0\r\n")] * 2)
        result = programs.run(programs.program(body, server.host, tmp_path / "spool"))

        assert (result.returncode, result.stderr) == (0, "")
        assert sorted(event["data"]["message"] for event in server.events.values()) == sorted(
            f"line {number}" for number in range(20)
        )
        assert server.broken == []
