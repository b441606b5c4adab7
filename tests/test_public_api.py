"""The public API is this list: whoever changes it changes it here, too, and in the changelog."""

import inspect

import leeward

NAMES = {
    "Client": "(api_key: 'str | None' = None, host: 'str | None' = None, *, disabled: 'bool | None' = None, "
    "spool_dir: 'str | None' = None, mode: 'str' = 'durable', app: 'str | None' = None, **ignored: 'Any') -> 'None'",
    "FlushResult": None,
    "Stats": None,
    "__version__": None,
    "capture": "(name: 'str', properties: 'Mapping[str, Any] | None' = None, *, distinct_id: 'str | None' = None, "
    "timestamp: 'float | str | datetime.datetime | None' = None, uuid: 'object' = None, "
    "session_id: 'str | None' = None, correlation_id: 'str | None' = None, level: 'str | None' = None, "
    "**ignored: 'Any') -> 'str | None'",
    "client": None,
    "flush": "(timeout_s: 'float' = 2.0) -> 'FlushResult'",
    "init": "(api_key: 'str | None' = None, host: 'str | None' = None, *, disabled: 'bool | None' = None, "
    "spool_dir: 'str | None' = None, mode: 'str' = 'durable', app: 'str | None' = None, **ignored: 'Any') -> 'Client'",
    "shutdown": "(timeout_s: 'float' = 2.0) -> 'None'",
    "stats": "() -> 'Stats'",
}
RESULTS = {
    "FlushResult": {"delivered", "spooled", "dropped"},
    "Stats": {
        "captured",
        "delivered",
        "dropped",
        "last_error",
        "quarantined",
        "retries",
        "spooled",
        "stopped",
        "volatile",
    },
}


def test_the_public_names_are_these():
    assert sorted(leeward.__all__) == sorted(NAMES)
    assert all(hasattr(leeward, name) for name in NAMES)


def test_their_signatures_are_these():
    found = {name: str(inspect.signature(getattr(leeward, name))) for name, text in NAMES.items() if text}

    assert found == {name: text for name, text in NAMES.items() if text}


def test_the_results_have_these_fields():
    assert {name: set(getattr(leeward, name).__slots__) for name in RESULTS} == RESULTS


def test_the_module_level_functions_are_the_module_level_clients():
    assert isinstance(leeward.client, leeward.Client)
    for name in ("capture", "flush", "shutdown", "stats"):
        assert getattr(leeward, name).__self__ is leeward.client


def test_the_module_itself_holds_names_only():
    source = inspect.getsource(leeward)

    assert "def " not in source
    assert "class " not in source
