"""Do the tests notice? Each planted fault below must turn its test red; a test that stays green proves nothing.

Run by `make mutants`. Two copies of the tree are made in a temporary directory; a fault is planted in one of them, its
test is run there, and the file is put back. Every test is first run without any fault, and must be green.
Words may be given to run only the mutants whose file or test contains one: `python tests/mutants.py door test_w4_`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from mutants_of_client import CLIENT
from mutants_of_gateway import GATEWAY
from mutants_of_parts import PARTS
from mutants_of_wires import WIRES

ROOT = Path(__file__).parent.parent
WATCHDOG_S = 120
GREEN_WATCHDOG_S = 1200
WORKERS = 2
COPIED = ("src", "tests", "docs", "pyproject.toml")


class Mutant(NamedTuple):
    """Replace `line`, which stands exactly once in `file`, by `by`: then `test` must fail."""

    file: str
    line: str
    by: str
    test: str


SERVER = "src/leeward/server"
KILL, AWAY, LIMITS = (
    "tests/faults/test_kill_server.py",
    "tests/faults/test_store_away.py",
    "tests/faults/test_limits.py",
)
BAD, FRAMING, END = (
    "tests/faults/test_bad_input_http.py",
    "tests/faults/test_http_framing.py",
    "tests/faults/test_shutdown.py",
)
WRITER, DAY = "tests/server/test_writer.py", "tests/journeys/test_first_day.py"

MUTANTS = (
    # The road: acknowledged means durable, and once.
    Mutant(f"{SERVER}/pipeline.py", "        await admission.done\n", "        await asyncio.sleep(0)\n",
           f"{LIMITS}::test_w4_a_full_disk_is_a_503_that_heals_by_itself"),
    Mutant(f"{SERVER}/pipeline.py", "        self._door.forget(admission.project, admission.entered)\n", "",
           f"{LIMITS}::test_w4_a_full_disk_is_a_503_that_heals_by_itself"),
    Mutant(f"{SERVER}/app.py", "        if self.pipeline.trouble:\n", "        if False:\n",
           f"{LIMITS}::test_w4_a_full_disk_is_a_503_that_heals_by_itself"),
    Mutant(f"{SERVER}/pipeline.py", "        if batch.digest != digest:\n", "        if False:\n",
           f"{LIMITS}::test_w9_other_events_under_the_same_id_are_a_conflict"),
    Mutant(f"{SERVER}/app.py", "                    self.door.learn(unpack_head(entry.payload))\n", "                    pass\n",
           f"{LIMITS}::test_w9_batches_that_overlap_by_half_store_each_event_once"),
    Mutant(f"{SERVER}/app.py", "            loaded_sequence=self.log.checkpoint_sequence,\n", "",
           f"{KILL}::test_w1_a_restart_without_a_new_event_answers_queries_at_once"),
    Mutant(f"{SERVER}/query.py", "        except StoreUnavailable:\n", "        except ZeroDivisionError:\n",
           f"{AWAY}::test_w14_queries_say_that_the_store_is_behind_until_it_is_back"),
    Mutant(f"{SERVER}/reads.py", "run_in_executor(self._threads, call", "run_in_executor(None, call",
           f"{AWAY}::test_w14_reads_that_wait_for_a_still_store_do_not_keep_large_requests_waiting"),
    Mutant(f"{SERVER}/batches.py", 'return "completed" if self._keeping_up() else "processing"', 'return "completed"',
           f"{AWAY}::test_w13_a_batch_is_processing_while_the_store_is_away_and_completed_after"),
    # The writer.
    Mutant(f"{SERVER}/writer.py", "            if not self._write(seal_record(block)):\n", "            if False:\n",
           f"{WRITER}::test_w10_a_block_that_was_sealed_before_a_crash_is_loaded_byte_for_byte_the_same"),
    Mutant(f"{SERVER}/writer.py", "self._seals.is_dead(block) or self._is_loaded(block, chunks):\n", "self._seals.is_dead(block):\n",
           f"{WRITER}::test_w10_a_block_whose_answer_was_lost_is_found_and_not_loaded_again"),
    Mutant(f"{SERVER}/writer.py", "self._seals.is_dead(block) or self._is_loaded(block, chunks):\n", "self._is_loaded(block, chunks):\n",
           f"{WRITER}::test_w13_a_refused_row_is_not_tried_again_at_the_next_start"),
    Mutant(f"{SERVER}/writer.py", "            if chunks and self._pending[0].day != chunks[0].day:\n", "            if False:\n",
           f"{WRITER}::test_w12_a_block_never_crosses_midnight"),
    Mutant(f"{SERVER}/writer.py", "        if note is None:\n", "        if False:\n",
           f"{WRITER}::test_without_a_sound_snapshot_of_the_door_there_is_no_checkpoint"),
    Mutant(f"{SERVER}/writer.py", " if self._filter_ready else of_kind", "",
           f"{WRITER}::test_w9_until_the_filter_is_there_the_store_is_asked_about_every_id"),
    Mutant(f"{SERVER}/writer.py", "self._pause(next(delays, self._limits.retry_later_s))", "self._pause(self._limits.retry_later_s)",
           f"{WRITER}::test_an_unavailable_store_is_tried_after_100_200_and_400_ms_and_then_in_the_background"),
    Mutant(f"{SERVER}/writer.py", "if may_refuse and isinstance(error, Refused):", "if False:",
           f"{WRITER}::test_w13_a_row_that_the_store_refuses_is_isolated_and_the_others_flow"),
    # The wire.
    Mutant(f"{SERVER}/protocol.py", "        if self._in_head:\n", "        if True:\n",
           f"{FRAMING}::test_i9_trailers_are_no_headers"),
    Mutant(f"{SERVER}/protocol.py", '        if hosts > 1 or (hosts == 0 and version == "1.1"):\n', "        if False:\n",
           f"{FRAMING}::test_i9_what_can_be_read_in_two_ways_is_refused_once_and_the_connection_closed[two hosts]"),
    Mutant(f"{SERVER}/protocol.py", '        if codings and (codings != [b"chunked"] or version == "1.0"):\n', "        if False:\n",
           f"{FRAMING}::test_i9_what_can_be_read_in_two_ways_is_refused_once_and_the_connection_closed[gzip, chunked]"),
    Mutant(f"{SERVER}/protocol.py", '        if version not in {"1.0", "1.1"}:\n', "        if False:\n",
           f"{FRAMING}::test_i9_what_can_be_read_in_two_ways_is_refused_once_and_the_connection_closed[version 2.0]"),
    Mutant(f"{SERVER}/protocol.py", "        if self._fields_bytes > HEAD_BYTES_MAX:\n", "        if False:\n",
           f"{FRAMING}::test_i9_what_can_be_read_in_two_ways_is_refused_once_and_the_connection_closed[10,000 headers]"),
    Mutant(f"{SERVER}/protocol.py", "        if not self._owes_an_answer():\n", "        if True:\n",
           f"{FRAMING}::test_i9_a_refusal_is_never_sent_in_the_place_of_an_earlier_answer"),
    Mutant(f"{SERVER}/protocol.py", "self.loop.call_later(self.head_timeout_s, self._head_late)", "self.loop.call_later(99.0, self._head_late)",
           f"{LIMITS}::test_i8_a_connection_without_a_byte_is_closed"),
    Mutant(f"{SERVER}/protocol.py", "        if len(self.connections) > self.connections_max:\n", "        if False:\n",
           f"{LIMITS}::test_i8_beyond_the_cap_a_connection_gets_503_and_those_within_are_served"),
    Mutant(f"{SERVER}/http.py", "        async with asyncio.timeout(limits.timeout_s):\n", "        async with asyncio.timeout(99.0):\n",
           f"{LIMITS}::test_i8_a_body_that_never_comes_gets_408_and_the_end"),
    Mutant(f"{SERVER}/unpack.py", "        unpacked: bytes = stream.decompress(packed, room + 1)\n", "        unpacked: bytes = stream.decompress(packed)\n",
           f"{BAD}::test_i6_a_bomb_costs_its_limit_and_not_its_size"),
    # Who may do what, and what a query is.
    Mutant(f"{SERVER}/query.py", "not hmac.compare_digest(mac, self._mac(query, place))", "False",
           f"{BAD}::test_a6_a_cursor_holds_for_its_own_query_only"),
    Mutant(f"{SERVER}/access.py", "        if not allows(identity.scope, needed):\n", "        if False:\n",
           f"{BAD}::test_a3_a_key_does_what_its_scope_says_and_nothing_else"),
    Mutant(f"{SERVER}/access.py", "        if key_in_url(query_string):\n", "        if False:\n",
           f"{BAD}::test_a1_a_key_in_the_address_is_refused_and_never_logged"),
    Mutant(f"{SERVER}/logs.py", "        except (OSError, ValueError):\n", "        except ZeroDivisionError:\n",
           f"{END}::test_the_server_lives_on_when_nobody_reads_its_log"),
    Mutant("src/leeward/store/embedded.py", "os.open(path, flags, 0o600)", "os.open(path, flags, 0o644)",
           f"{LIMITS}::test_a13_files_are_the_owners_alone_and_the_address_is_loopback"),
    Mutant("src/leeward/store/events.py", "(received_at {beyond} {{at:Int64}} OR wal_position {beyond} {{position:UInt64}})",
           "received_at {beyond} {{at:Int64}}",
           f"{DAY}::test_w17_pages_never_repeat_or_skip_an_event_while_others_come_in"),
    # The end.
    Mutant(f"{SERVER}/serve.py", "        timeout_graceful_shutdown=max(1, round(settings.shutdown_timeout_s / 2)),\n", "",
           f"{END}::test_i12_a_request_that_never_ends_does_not_keep_the_server[numbers0]"),
    *(Mutant(*row) for row in (*CLIENT, *GATEWAY, *PARTS, *WIRES)),
)  # fmt: skip


def copy_tree(tree: Path) -> None:
    """Copy what the tests need, and see that it is the copy that they import."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    asked = [sys.executable, "-c", "import leeward; print(leeward.__file__)"]
    answer = subprocess.run(asked, cwd=tree, env=environment(tree), capture_output=True, text=True, check=True)
    found = Path(answer.stdout.strip())
    assert found.is_relative_to(tree), f"the tests would import {found}"


def environment(tree: Path) -> dict[str, str]:
    """No bytecode is kept: a file that is put back within a second would be taken for the planted one."""
    return {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}


def run(tree: Path, *arguments: str, watchdog_s: float = WATCHDOG_S) -> tuple[int | None, str]:
    """Run tests in a tree: pytest's exit code (None: it hung) and what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=tree,
        env=environment(tree),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=watchdog_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # and the servers that its tests started
        process.communicate()
        return None, ""
    return process.returncode, output


def survives(mutant: Mutant, tree: Path) -> str:
    """Why the mutant survives in this tree; empty when its test found it."""
    target = tree / mutant.file
    text = target.read_text()
    if text.count(mutant.line) != 1:
        return f"the line stands {text.count(mutant.line)} times in the file"
    target.write_text(text.replace(mutant.line, mutant.by))
    try:
        code, output = run(tree, "-x", mutant.test)
    finally:
        target.write_text(text)
    if code in {None, 1}:  # a test that hangs is not green
        return ""
    return "its test stays green" if code == 0 else f"its test cannot run: {output[-600:]}"


def main(words: list[str]) -> int:
    """Run the mutants; 1 if any survives."""
    chosen = [one for one in MUTANTS if not words or any(word in one.file or word in one.test for word in words)]
    began_s = time.monotonic()
    trees: SimpleQueue[Path] = SimpleQueue()

    def tried(mutant: Mutant) -> str:
        tree = trees.get()
        try:
            return survives(mutant, tree)
        finally:
            trees.put(tree)

    with tempfile.TemporaryDirectory(prefix="leeward-mutants-") as name, ThreadPoolExecutor(WORKERS) as pool:
        for number in range(WORKERS):
            tree = Path(name, str(number)).resolve()
            tree.mkdir()
            copy_tree(tree)
            trees.put(tree)
        tests = sorted({mutant.test for mutant in chosen})
        code, output = run(tree, f"-n{WORKERS}", "--dist=worksteal", *tests, watchdog_s=GREEN_WATCHDOG_S)
        if code != 0:
            print(f"the tests are not green before any fault is planted:\n{output[-3000:]}")
            return 1
        print(f"{len(tests)} tests are green without a fault, {time.monotonic() - began_s:.0f} s", flush=True)
        survivors = 0
        for mutant, why in zip(chosen, pool.map(tried, chosen), strict=True):
            survivors += bool(why)
            verdict = "SURVIVES" if why else "killed"
            print(
                f"{verdict:8}  {mutant.file}: {mutant.line.strip().splitlines()[0][:60]}  {mutant.test.rsplit('::', 1)[1]}",
                flush=True,
            )
            if why:
                print(f"          {why}", flush=True)
    print(f"{len(chosen) - survivors} killed, {survivors} survived, {time.monotonic() - began_s:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
