"""Imports on demand beside forks: a fork waits for them, and a child that has half of one knows it."""

import os
import threading

import pytest

import sender_helpers
from leeward.sender.loading import LOADING, Loading

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX")


@pytest.fixture
def loading():
    return Loading()


def elsewhere(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_c14_a_fork_waits_until_another_threads_import_is_done(loading):
    order = []
    entered, leave = threading.Event(), threading.Event()

    def load():
        with loading:
            entered.set()
            leave.wait(20)
            order.append("imported")

    def fork():
        loading.wait(20)
        order.append("forked")

    threads = [threading.Thread(target=load), threading.Thread(target=fork)]
    threads[0].start()
    entered.wait(20)
    threads[1].start()
    assert order == []
    leave.set()
    for thread in threads:
        thread.join(20)

    assert order == ["imported", "forked"]


def test_c14_a_fork_that_waits_in_vain_goes_on(loading):
    loading.__enter__()
    elsewhere(lambda: loading.wait(0.01))


def test_c14_what_the_forking_thread_is_importing_itself_it_goes_on_with(loading):
    with loading, loading:
        loading.wait(1e9)
        elsewhere(lambda: loading.wait(0.0))
    loading.wait(1e9)
    assert not loading.is_cut_off()


def test_c14_what_began_before_a_fork_ends_in_the_child_too(loading):
    loading.__enter__()
    (pid, thread) = loading._under_way.pop()
    loading._under_way.append((pid + 1, thread))

    loading.__exit__()

    assert not loading.is_cut_off()


def test_c14_another_thread_that_imports_in_the_same_process_cuts_nobody_off(loading):
    elsewhere(loading.__enter__)

    assert not loading.is_cut_off()


def test_c14_a_child_of_a_process_that_was_importing_is_cut_off():
    assert sender_helpers.cut_off().is_cut_off()
    assert not LOADING.is_cut_off()
