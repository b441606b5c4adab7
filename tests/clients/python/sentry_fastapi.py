"""sentry-sdk beside FastAPI: an endpoint that fails."""

import contextlib
import urllib.error
import urllib.request

import fastapi
import sentry_sdk
from given import DSN, RUN, fail, numbers, served

sentry_sdk.init(DSN, traces_sample_rate=1.0, shutdown_timeout=10)
app = fastapi.FastAPI()


@app.get("/fail/{n}")
def failing(n: int):
    """Fail."""
    sentry_sdk.set_tag("correlation_id", RUN)
    fail(n)


with served(app) as address:
    for n in numbers():
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/fail/{n}")
sentry_sdk.flush(10)
