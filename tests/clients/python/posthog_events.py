"""posthog: events, a person's properties, an exception."""

from given import HOST, KEY, RUN, VARIANT, fail, numbers
from posthog import Posthog

posthog = Posthog(KEY, host=HOST, **VARIANT)
for n in numbers():
    posthog.capture("step", distinct_id=RUN, properties={"n": n, "plan": "pro", "nested": {"list": [1, None, "é"]}})
    try:
        fail(n)
    except ValueError as error:
        posthog.capture_exception(error, distinct_id=RUN, properties={"n": n})
posthog.set(distinct_id=RUN, properties={"name": "Ada"})
posthog.shutdown()
