"""FastAPI's own telemetry, switched on by its variable alone: requests, their parts, and what failed."""

import contextlib
import os
import urllib.error
import urllib.request

import fastapi
from given import fail, numbers, otlp_environment, served

otlp_environment()
os.environ["FASTAPI_OTEL_AUTO_CONFIGURE"] = "true"
app = fastapi.FastAPI()


@app.get("/step/{n}")
def step(n: int):
    """Answer."""
    return {"n": n}


@app.get("/fail/{n}")
def failing(n: int):
    """Fail."""
    fail(n)


with served(app) as address:
    for n in numbers():
        urllib.request.urlopen(f"{address}/step/{n}").read()
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}/fail/{n}")
