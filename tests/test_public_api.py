"""The public API is this list: whoever changes it changes it here, too, and in the changelog."""

import importlib
import inspect
import subprocess
import sys

import pytest

import leeward
import leeward.resilience

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


# Fault tolerance for any function: each name with its parameters, and its methods with theirs

_POLICY = "*parts budget clock sleep random"
RESILIENCE = {
    "Breaker": (
        "rules circuit window",
        {
            "admit": "now_s",
            "failed": "permit now_s random",
            "force_close": "now_s",
            "force_open": "now_s for_s",
            "force_probe": "now_s",
            "released": "permit",
            "state": "now_s",
            "succeeded": "permit now_s random slow",
            "with_rules": "rules",
        },
    ),
    "BreakerRules": (
        "consecutive_failures failure_rate slow_rate window_s min_calls open_s open_max_s probes lease_s",
        {"break_s": "breaks random"},
    ),
    "CircuitBreaker": (
        "rules slow_s name when on_change clock random **fields",
        {
            "allow": "last",
            "failed": "permit",
            "force_close": "",
            "force_open": "for_s",
            "guard": "last",
            "now_s": "",
            "released": "permit",
            "statistics": "",
            "succeeded": "permit slow",
            "verdict": "error",
        },
    ),
    "Fallback": (
        "*steps when",
        {"call": "*args **kwargs", "call_sync": "*args **kwargs", "plan": "first steps args kwargs"},
    ),
    "Health": (
        "window_s min_calls degraded_rate unhealthy_rate slow_rate down up forget_s",
        {"is_due": "now_s interval_s random", "probed": "ok now_s", "seen": "ok now_s slow", "state": "now_s"},
    ),
    "Policy": (
        _POLICY,
        dict.fromkeys(["call", "call_sync", "result", "result_sync"], "function *args **kwargs"),
    ),
    "Result": ("value step errors", {}),
    "Retry": (
        "attempts_max base_s cap_s deadline_s statuses retry_after_max_s",
        {"again": "attempts", "delay_s": "attempts retry_after_s random", "within": "elapsed_s delay_s"},
    ),
    "RetryBudget": (
        "ratio floor floor_per_s tokens_max",
        {"give_back": "", "request": "", "statistics": "", "take": "now_s"},
    ),
    "policy": (_POLICY, {}),
}


def _parameters(function):
    names = [str(part.replace(annotation=part.empty, default=part.empty)) for part in _own(function)]
    return " ".join(names)


def _own(function):
    return [part for part in inspect.signature(function).parameters.values() if part.name != "self"]


def test_the_public_names_of_resilience_are_these():
    assert sorted(leeward.resilience.__all__) == sorted(RESILIENCE)
    assert set(leeward.resilience.__all__) <= set(dir(leeward.resilience))
    with pytest.raises(AttributeError, match="no attribute 'Timeout'"):
        leeward.resilience.Timeout  # noqa: B018 - that it is not there is what is looked at


@pytest.mark.parametrize("name", RESILIENCE)
def test_what_resilience_offers_takes_these_parameters(name):
    parameters, methods = RESILIENCE[name]
    thing = getattr(leeward.resilience, name)

    assert _parameters(thing) == parameters
    if inspect.isclass(thing):
        found = {key: _parameters(held) for key, held in vars(thing).items() if key[0] != "_" and callable(held)}
        assert found == methods


def test_a_name_of_resilience_stays_what_it_is_when_all_its_modules_are_loaded():
    for module in ("breaker", "budget", "circuit_breaker", "composition", "fallback", "health", "retry", "running"):
        importlib.import_module(f"leeward.resilience.{module}")

    assert all(getattr(leeward.resilience, name).__name__ == name for name in RESILIENCE)


def test_the_package_resilience_loads_nothing_until_a_name_is_asked_for():
    program = "import sys, leeward.resilience as r; print([m for m in sys.modules if m.startswith(r.__name__ + '.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() in {"[]", "['leeward.resilience.retry']"}  # the client's own
