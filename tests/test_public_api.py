"""The public API is this list: whoever changes it changes it here, too, and in the changelog."""

import inspect

import leeward

_SETTINGS = (
    "(api_key: 'str | None' = None, host: 'str | None' = None, *, wire: 'str | None' = None, "
    "sample_rate: 'float | None' = None, sample_rules: 'Mapping[str, float] | None' = None, "
    "disabled: 'bool | None' = None, spool_dir: 'str | None' = None, mode: 'str' = 'durable', app: 'str | None' = None, "
    "device_id: 'str | bool | None' = None, "
    "before_send: 'Callable[[dict[str, Any]], dict[str, Any] | None] | None' = None, **ignored: 'Any') -> "
)
_PROPERTIES = "properties: 'Mapping[str, Any] | None' = None"
_OLDER_PROPERTIES = "*rest: 'Any', properties: 'Mapping[str, Any] | None' = None"
NAMES = {
    "Client": _SETTINGS.replace("*,", "*older: 'Any',") + "'None'",
    "FlushResult": None,
    "Stats": None,
    "__version__": None,
    "busy": "() -> 'Moment'",
    "capture": f"(name: 'str' = '', {_OLDER_PROPERTIES}, distinct_id: 'str | None' = None, "
    "timestamp: 'float | str | datetime.datetime | None' = None, uuid: 'object' = None, "
    "session_id: 'str | None' = None, correlation_id: 'str | None' = None, level: 'str | None' = None, "
    "**others: 'Any') -> 'str | None'",
    "capture_exception": f"(exception: 'BaseException | None' = None, {_OLDER_PROPERTIES}, handled: 'bool' = True, "
    "level: 'str | None' = None, **keywords: 'Any') -> 'str | None'",
    "client": None,
    "delete_pending": "(timeout_s: 'float' = 2.0) -> 'int'",
    "flush": "(timeout_s: 'float' = 2.0, *, timeout_seconds: 'float | None' = None) -> 'FlushResult'",
    "flush_soon": "(hint_s: 'float | None' = None) -> 'None'",
    "idle": "() -> 'Moment'",
    "in_context": "(function: 'Callable[P, R]') -> 'Callable[P, R]'",
    "init": _SETTINGS + "'Client'",
    "log": f"(level: 'str', message: 'str', {_PROPERTIES}, **keywords: 'Any') -> 'str | None'",
    "metric": f"(name: 'str', value: 'float', *, unit: 'str | None' = None, {_PROPERTIES}, **keywords: 'Any') "
    "-> 'str | None'",
    "set_context": "(**fields: 'Any') -> 'None'",
    "shutdown": "(timeout_s: 'float' = 2.0) -> 'None'",
    "span": f"(name: 'str', {_PROPERTIES}, **keywords: 'Any') -> 'Span'",
    "stats": "() -> 'Stats'",
    "timed": f"(event_start: 'str', event_end: 'str', {_PROPERTIES}, **keywords: 'Any') -> 'Timed'",
}
RESULTS = {
    "FlushResult": {"delivered", "spooled", "dropped"},
    "Stats": {
        "captured",
        "delivered",
        "dropped",
        "flush_last_s",
        "flush_s",
        "flushes",
        "flushes_ok",
        "last_error",
        "quarantined",
        "retries",
        "sampled_out",
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
    functions = {name for name, text in NAMES.items() if text} - {"Client", "init"}
    for name in functions:
        assert getattr(leeward, name).__self__ is leeward.client


def test_the_module_itself_holds_names_only():
    source = inspect.getsource(leeward)

    assert "def " not in source
    assert "class " not in source
