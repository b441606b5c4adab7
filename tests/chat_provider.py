"""A provider of chat completions on this machine, for what calls one with a real client: whole, streamed, and failing."""

import contextlib
import http.server
import json
import threading
import time


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
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
