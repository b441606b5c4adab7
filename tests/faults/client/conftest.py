"""A strict recorder for the programs: a request that breaks the wire's rules fails the test."""

import os

import pytest

import recorder

# kill -9, forks, signals and limits are those of POSIX.
collect_ignore_glob = [] if hasattr(os, "fork") else ["test_*.py"]


@pytest.fixture
def server():
    with recorder.Recorder() as server:
        yield server
        assert server.broken == []
