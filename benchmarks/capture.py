"""What the client costs its host: python benchmarks/capture.py

Every row is measured in a process of its own, against a recorder on loopback that shares the machine's cores.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parent.parent
COMPILED = Path(tempfile.gettempdir()) / f"leeward-benchmark-{os.getuid()}"
KEY = "lw_" + "k" * 32
EVENTS = 100_000
PROPERTIES = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "latency_ms": 412,
    "input_tokens": 1234,
    "output_tokens": 321,
    "route": "/v1/chat/completions",
    "plan": "pro",
    "region": "eu-central-1",
    "cached": False,
    "note": "The answer was streamed to the browser while the person was reading its first lines. " * 3,
}

PRELUDE = f"""
import gc, json, os, sys, time
import leeward
PROPERTIES = {PROPERTIES!r}
host, spool, mode, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
leeward.init({KEY!r}, host, spool_dir=spool, mode="durable" if mode == "disabled" else mode, disabled=mode == "disabled")
def timed(pause_s=0.0):
    spans = []
    now = time.perf_counter_ns
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        before = now()
        leeward.capture("message_sent", PROPERTIES, distinct_id="user-1")
        spans.append(now() - before)
    spans.sort()
    at = lambda share: spans[min(count - 1, int(count * share))] / 1000
    return [at(0.5), at(0.99), at(0.999), spans[-1] / 1000]
leeward.capture("warm")
"""

TIGHT = PRELUDE + "print(json.dumps(timed())); sys.stdout.flush(); os._exit(0)"
PACED = PRELUDE + "print(json.dumps(timed(0.001))); sys.stdout.flush(); os._exit(0)"
DELIVER = (
    PRELUDE
    + """
started, cpu = time.perf_counter(), time.process_time()
for _ in range(count):
    leeward.capture("message_sent", PROPERTIES, distinct_id="user-1")
captured_s = time.perf_counter() - started
result = leeward.flush(120)
print(json.dumps([count / (time.perf_counter() - started), time.process_time() - cpu, captured_s, leeward.stats().delivered]))
"""
)
EXIT = (
    PRELUDE
    + """
import atexit
for _ in range(count):
    leeward.capture("message_sent", PROPERTIES)
ended = time.perf_counter()
sys.stdout.write("ready\\n"); sys.stdout.flush()
"""
)
IMPORT = """
import sys, time
before = set(sys.modules)
started = time.perf_counter()
import leeward
print((time.perf_counter() - started) * 1000, len(set(sys.modules) - before))
"""


def serve(mode: str, port: multiprocessing.connection.Connection) -> None:
    """A sink: acknowledges each batch, or (blackhole) accepts and says nothing."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                if mode == "blackhole":
                    await asyncio.sleep(60)
                if b"content-encoding: gzip" in head.lower():
                    body = gzip.decompress(body)
                name = json.loads(body[: body.index(b",")] + b"}")["batch_id"]
                answer = json.dumps({"batch_id": name, "status": "completed", "errors": []}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=8 * 1024 * 1024)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class Sink:
    """A sink in a process of its own; `refuse` is a port where nobody listens."""

    def __init__(self, mode: str) -> None:
        ours, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=serve, args=(mode, theirs), daemon=True)
        self.process.start()
        self.host = f"http://127.0.0.1:{ours.recv()}"
        if mode == "refuse":
            self.__exit__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.join()


def run(program: str, host: str, mode: str, count: int) -> tuple[str, float]:
    """Run a program in a fresh interpreter; its output, and how long it lived after it was `ready`."""
    with tempfile.TemporaryDirectory() as spool:
        # Compiled files as an installed package has them, but not among the sources.
        environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONPYCACHEPREFIX": str(COMPILED)}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        arguments = [sys.executable, "-c", program, host, spool, mode, str(count)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environ) as process:
            line = process.stdout.readline()
            ready = time.perf_counter()
            process.wait(180)
            return line, time.perf_counter() - ready


def row(name: str, *cells: str) -> None:
    print(f"| {name:<34} | " + " | ".join(f"{cell:>14}" for cell in cells) + " |", flush=True)


def main() -> None:
    imports = [run(IMPORT, "", "", 0)[0].split() for _ in range(8)][1:]
    row("import", f"{sorted(float(ms) for ms, _ in imports)[3]:.1f} ms", f"{imports[0][1]} modules")
    row("capture, us", "p50", "p99", "p99.9", "max")
    with Sink("ok") as sink:
        for mode in ("durable", "memory", "disabled"):
            spans = json.loads(run(TIGHT, sink.host, mode, EVENTS)[0])
            row(f"tight, {mode}", *(f"{span:.2f}" for span in spans))
        spans = json.loads(run(PACED, sink.host, "durable", 3000)[0])
        row("1 kHz, durable", *(f"{span:.2f}" for span in spans))
        rate, cpu_s, captured_s, delivered = json.loads(run(DELIVER, sink.host, "durable", EVENTS)[0])
        row("delivered/s; CPU s per 100k", f"{rate:,.0f}", f"{cpu_s * 100_000 / EVENTS:.2f}")
        row("burst of 100k: us each; delivered", f"{captured_s / EVENTS * 1e6:.1f}", f"{delivered:,.0f}")
    for mode in ("ok", "refuse", "blackhole"):
        with Sink(mode) as sink:
            times = sorted(run(EXIT, sink.host, "durable", 100)[1] for _ in range(5))
        row(f"exit with 100 pending, {mode}", f"{times[2]:.3f} s", f"worst {times[-1]:.3f} s")


if __name__ == "__main__":
    main()
