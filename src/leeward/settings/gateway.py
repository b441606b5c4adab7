"""The gateway's settings: providers, routes, and how patient it is with them. Times are in seconds.

A provider's time-outs and abilities may be said for all its models, or for one: a model is the provider's own name for
it, or a table of that name and what is particular about it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from leeward.settings.sections import Section, secret, size

__all__ = ["FALLBACKS", "Breaker", "Cache", "Gateway", "Health", "Model", "Provider", "Retry", "Route"]

Fallback = Literal["cache", "stale-cache", "smaller-model", "reduced", "static"]
FALLBACKS: Final[tuple[Fallback, ...]] = ("cache", "stale-cache", "smaller-model", "reduced", "static")

NAME_FORM: Final = "up to 64 letters, digits and . _ -"
Name = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", extra={"form": NAME_FORM})
]
ModelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+\Z",
        extra={"form": "1 to 200 ASCII characters without spaces"},
    ),
]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Money = Annotated[float, Meta(ge=0, le=1_000_000)]


class Model(Section, frozen=True, kw_only=True):
    """What is particular about one model of a provider."""

    name: Annotated[ModelName, Meta(description="The provider's own name for it.")]
    first_token_timeout_s: Annotated[
        Seconds | None, Meta(description="Seconds until its first content, in the place of the gateway's.")
    ] = None
    context_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000)] | None,
        Meta(description="Tokens that fit; larger requests go elsewhere."),
    ] = None
    tools: Annotated[bool, Meta(description="Whether it can call tools.")] = True
    images: Annotated[bool, Meta(description="Whether it can see images.")] = True
    json_schema: Annotated[bool, Meta(description="Whether it can answer in a given JSON schema.")] = True
    input_price: Annotated[Money | None, Meta(description="US dollars for a million tokens in; absent: unknown.")] = (
        None
    )
    output_price: Annotated[Money | None, Meta(description="US dollars for a million tokens out; absent: unknown.")] = (
        None
    )


class Provider(Section, frozen=True, kw_only=True):
    """One provider: where it is, how it is asked, and what it calls the models."""

    name: Annotated[Name, Meta(description="Its name here: in headers, metrics, pages and routes.")]
    kind: Annotated[str, Meta(min_length=1, description="What it is: openai, mistral, anthropic, ollama, simulated, …")]
    base_url: Annotated[str, Meta(description="Its address up to the version; empty: that of its kind.")] = ""
    api_key: Annotated[str, secret("Its key; env:NAME and file:PATH hold it elsewhere.")] = ""
    models: Annotated[
        dict[ModelName, ModelName | Model],
        Meta(description="The names that callers use, and the provider's own name for each, or a table about it."),
    ] = field(default_factory=dict)
    private: Annotated[bool, Meta(description="Whether its name may lead to an address of a private network.")] = False
    repeatable: Annotated[bool, Meta(description="Whether a call whose body has left may be sent to it again.")] = True
    connect_timeout_s: Annotated[Seconds | None, Meta(description="In the place of the gateway's.")] = None
    first_token_timeout_s: Annotated[Seconds | None, Meta(description="In the place of the gateway's.")] = None
    stall_timeout_s: Annotated[Seconds | None, Meta(description="In the place of the gateway's.")] = None
    connections_max: Annotated[int, Meta(ge=1, le=10_000, description="Connections to it at a time.")] = 512


class Route(Section, frozen=True, kw_only=True):
    """A model that callers may ask for: who may answer, in which order, and what is done when nobody can."""

    model: Annotated[ModelName, Meta(description="The name that callers use.")]
    providers: Annotated[
        tuple[Name, ...], Meta(description="Providers by name, the preferred first; empty: all that have the model.")
    ] = ()
    fallback: Annotated[
        tuple[Fallback, ...],
        Meta(description="What is tried, in this order, when no provider answers: " + ", ".join(FALLBACKS) + "."),
    ] = ()
    smaller_model: Annotated[str, Meta(description="Another route's model, for the step smaller-model.")] = ""
    static_answer: Annotated[
        str, Meta(max_length=10_000, description="The answer of the step static; empty: a polite one.")
    ] = ""
    on_cut: Annotated[Literal["error"], Meta(description="A stream that is cut ends in an error event.")] = "error"
    deadline_s: Annotated[Seconds | None, Meta(description="In the place of the gateway's.")] = None


class Retry(Section, frozen=True, kw_only=True):
    """When a provider that failed is asked again."""

    max_attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=20,
            description="Calls to one provider for a request; each is asked once before any is asked twice.",
        ),
    ] = 3
    retry_after_max_s: Annotated[
        float,
        Meta(ge=0, le=86_400, description="Longest Retry-After that is obeyed: so long a provider is left alone."),
    ] = 300.0
    limit_s: Annotated[
        Seconds, Meta(description="How long a provider is left alone after a 429 without a time; doubles each time.")
    ] = 1.0
    limit_max_s: Annotated[Seconds, Meta(description="How long at most, when it says no time.")] = 60.0
    base_s: Annotated[
        float, Meta(ge=0, le=60, description="First delay; it doubles with each try, with full jitter.")
    ] = 0.2
    cap_s: Annotated[
        float,
        Meta(
            ge=0, le=600, description="Longest delay within a request; a longer Retry-After is not waited for but told."
        ),
    ] = 8.0
    budget: Annotated[
        float, Meta(ge=0, le=1, description="Repeats to a provider already asked, as a share of the requests.")
    ] = 0.1


class Breaker(Section, frozen=True, kw_only=True):
    """When a provider is left alone, and for how long."""

    consecutive_failures: Annotated[int, Meta(ge=1, le=1_000, description="Failures in a row that open it.")] = 3
    failure_rate: Annotated[
        float, Meta(gt=0, le=1, description="Share of failed calls in the window that opens it.")
    ] = 0.5
    slow_rate: Annotated[float, Meta(gt=0, le=1, description="Share of slow calls in the window that opens it.")] = 0.8
    slow_s: Annotated[
        Seconds | None, Meta(description="Seconds to the first content that are slow; absent: half of its time-out.")
    ] = None
    window_s: Annotated[float, Meta(gt=0, le=3_600, description="Length of the window.")] = 30.0
    min_calls: Annotated[int, Meta(ge=1, le=100_000, description="Calls in the window before its rates count.")] = 10
    open_s: Annotated[Seconds, Meta(description="How long it stays open first; doubles each time, with jitter.")] = 5.0
    open_max_s: Annotated[Seconds, Meta(description="How long it stays open at most.")] = 300.0
    credentials_open_s: Annotated[
        Seconds, Meta(description="How long it stays open when the provider does not accept the key.")
    ] = 300.0
    probes: Annotated[int, Meta(ge=1, le=100, description="Calls at a time that try a provider again.")] = 1


class Health(Section, frozen=True, kw_only=True):
    """How a provider without traffic is looked at. The look costs nothing: its list of models, or a connection."""

    interval_s: Annotated[
        Seconds, Meta(description="Time without traffic after which it is looked at, with jitter.")
    ] = 15.0
    active: Annotated[bool, Meta(description="Whether providers are looked at without traffic.")] = True
    window_s: Annotated[Seconds, Meta(description="How far back calls count.")] = 10.0
    min_calls: Annotated[int, Meta(ge=1, le=100_000, description="Calls in the window before its rates count.")] = 5
    degraded_rate: Annotated[float, Meta(gt=0, le=1, description="Share of failed calls that is degraded.")] = 0.1
    unhealthy_rate: Annotated[float, Meta(gt=0, le=1, description="Share of failed calls that is unhealthy.")] = 0.5
    slow_rate: Annotated[float, Meta(gt=0, le=1, description="Share of slow calls that is degraded.")] = 0.5
    down_failures: Annotated[int, Meta(ge=1, le=1_000, description="Failures in a row that make it unhealthy.")] = 3
    up_calls: Annotated[int, Meta(ge=1, le=1_000, description="Good signs in a row for a step up.")] = 3
    try_every_s: Annotated[
        Seconds, Meta(description="How often one that others are preferred to is asked first all the same.")
    ] = 10.0


class Cache(Section, frozen=True, kw_only=True):
    """Answers that are kept for the fallback steps cache and stale-cache. In memory only."""

    ttl_s: Annotated[float, Meta(gt=0, le=31_536_000, description="Age up to which an answer is fresh.")] = 300.0
    stale_s: Annotated[
        float, Meta(gt=0, le=31_536_000, description="Age up to which a stale answer is better than none.")
    ] = 86_400.0
    bytes_max: Annotated[int, size(1 << 20, 64 << 30, "Bytes of all kept answers.")] = 64 << 20


class Gateway(Section, frozen=True, kw_only=True):
    """The gateway in front of AI providers."""

    connect_timeout_s: Annotated[Seconds, Meta(description="Seconds to connect to a provider, TLS included.")] = 5.0
    first_token_timeout_s: Annotated[
        Seconds, Meta(description="Seconds to a stream's first content, or to the head of a JSON answer.")
    ] = 30.0
    stall_timeout_s: Annotated[Seconds, Meta(description="Seconds between two reads of an answer.")] = 30.0
    deadline_s: Annotated[Seconds, Meta(description="Seconds for a request, with all its attempts.")] = 120.0
    request_bytes_max: Annotated[int, size(1 << 10, 1 << 30, "Largest request of a caller.")] = 20 << 20
    answer_bytes_max: Annotated[int, size(1 << 10, 1 << 30, "Largest answer of a provider.")] = 32 << 20
    choices_max: Annotated[int, Meta(ge=1, le=1_000, description="Largest `n`: answers for one request.")] = 8
    output_tokens_max: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Largest `max_tokens` that a caller may ask for.")
    ] = 200_000
    idempotency_s: Annotated[
        Seconds, Meta(description="How long an answer is kept for a repeat with the same Idempotency-Key.")
    ] = 600.0
    idempotency_bytes_max: Annotated[int, size(1 << 20, 64 << 30, "Bytes of all answers kept for repeats.")] = 64 << 20
    language: Annotated[Literal["en", "de", "fr", "es"], Meta(description="Language of the sentences for people.")] = (
        "en"
    )
    chaos: Annotated[
        bool, Meta(description="Whether faults may be switched on for providers that are not simulated.")
    ] = False
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    health: Health = Health()
    cache: Cache = Cache()
    providers: Annotated[tuple[Provider, ...], Meta(description="Who can answer.")] = ()
    routes: Annotated[
        tuple[Route, ...], Meta(description="Which models may be asked for; empty: every model of every provider.")
    ] = ()
