"""The server does what its description says: schemathesis asks every road in `/openapi.json`, with a key that may all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from server_process import HEAVY, ServerProcess

EXAMPLES = 50 if HEAVY else 4
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
RUN_S = 900 if HEAVY else 120


def test_no_answer_differs_from_the_description(tmp_path: Path):
    with ServerProcess(tmp_path / "d") as server:
        server.wait_store()
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json"),
                *("--header", f"Authorization: Bearer {server.key('admin')}", f"--checks={CHECKS}", "--seed=1"),
                *(f"--max-examples={EXAMPLES}", "--phases=coverage,fuzzing", "--continue-on-failure"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
        assert (
            server.ask("GET", "/readyz").status == 200
        )  # no key of ours is sure to be left: it revokes those it finds
        assert server.reported("request_failed") == []
