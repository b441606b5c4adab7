"""What every program is given, and what several need: numbers at a pace, an application that is called, a provider.

HOST and KEY name the server, RUN tells this run's events from others', COUNT says how many, PAUSE_S how long to rest
between two; VARIANT is a JSON object of the SDK's own settings.
"""

import contextlib
import http.server
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


class _Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = f"echo of {asked['messages'][-1]['content']}"
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        about = {"id": "chatcmpl-1", "created": int(time.time()), "model": "gpt-4o-mini-2024-07-18"}
        if asked["model"] == "gone":
            self._answer(404, "application/json", {"error": {"message": "there is no model gone", "type": "not_found"}})
        elif asked.get("stream"):
            piece = {**about, "object": "chat.completion.chunk"}
            chunks = [
                {**piece, "choices": [{"index": 0, "delta": {"role": "assistant", "content": said}}]},
                {**piece, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                {**piece, "choices": [], "usage": usage},
            ]
            text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
            self._answer(200, "text/event-stream", text)
        else:
            message = {"role": "assistant", "content": said}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**about, "object": "chat.completion", "choices": [choice], "usage": usage}
            self._answer(200, "application/json", whole)

    def _answer(self, status, content_type, document):
        body = (document if isinstance(document, str) else json.dumps(document)).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def provider():
    """A provider of chat completions on this machine; the base URL for `openai`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()


def otlp_environment(path="", **more):
    """Point the exporters of OpenTelemetry at the server, as its own variables do."""
    os.environ.update(
        OTEL_EXPORTER_OTLP_ENDPOINT=HOST + path,
        OTEL_EXPORTER_OTLP_HEADERS="Authorization=" + urllib.parse.quote(f"Bearer {KEY}"),
        OTEL_SERVICE_NAME=RUN,
        **more,
    )
