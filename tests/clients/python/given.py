"""What every program is given, and what several need: numbers at a pace, an application that is called.

HOST and KEY name the server, RUN tells this run's events from others', COUNT says how many, PAUSE_S how long to rest
between two; VARIANT is a JSON object of the SDK's own settings.
"""

import contextlib
import json
import os
import threading
import time
import urllib.parse

HOST = os.environ["HOST"]
KEY = os.environ["KEY"]
RUN = os.environ["RUN"]
COUNT = int(os.environ["COUNT"])
PAUSE_S = float(os.environ.get("PAUSE_S", "0"))
VARIANT = json.loads(os.environ.get("VARIANT", "{}"))
DSN = HOST.replace("://", f"://{KEY}@") + "/1"


def numbers():
    """0, 1, 2 …, with a rest between; each is said when it is given out, so that whoever watches knows where we are."""
    for n in range(COUNT):
        print(n, flush=True)
        yield n
        time.sleep(PAUSE_S)


def fail(n):
    """Raise, three calls deep."""
    raise ValueError(f"{RUN} {n}")


@contextlib.contextmanager
def served(app):
    """An ASGI application behind a real uvicorn; its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def otlp_environment(path="", **more):
    """Point the exporters of OpenTelemetry at the server, as its own variables do."""
    os.environ.update(
        OTEL_EXPORTER_OTLP_ENDPOINT=HOST + path,
        OTEL_EXPORTER_OTLP_HEADERS="Authorization=" + urllib.parse.quote(f"Bearer {KEY}"),
        OTEL_SERVICE_NAME=RUN,
        **more,
    )
