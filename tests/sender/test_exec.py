"""A program that takes another's place by `exec`: the same process id and start time, another memory."""

import programs
import recorder


def test_c16_what_the_former_program_of_a_process_left_is_adopted_by_the_next(tmp_path):
    with recorder.Recorder() as server:
        after = programs.program('leeward.capture("after"); print(leeward.flush(20).spooled)', server.host, tmp_path)
        before = f"""
        for _ in range(10): leeward.capture("before")
        os.execv(sys.executable, [sys.executable, "-c", {after!r}])
        """
        result = programs.run(programs.program(before, server.host, tmp_path))

        assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")
        assert len(server.stored) == 11
        assert set(server.stored.values()) <= {1, 2}  # what was on its way at that moment may come again, under its id
