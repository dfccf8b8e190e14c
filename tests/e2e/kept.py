# SPDX-License-Identifier: MIT
"""A keeper with the server below it, for tests, and who kills that."""

import contextlib
import os
import random
import re
import signal
import threading
import time

import pytest

from conftest import Daemon, is_listening, wait_until
from procs import children_of
from regions import regions_of

PATIENCE = 120  # seconds: a busy machine starts a process slowly


class Kept(Daemon):
    """A keeper, and the server below it."""

    what = "keeper"

    def workers(self):
        return children_of(self.pid)

    def kill_worker(self):
        """Kill the server in whatever it is doing; its PID, 0 if there is none just now."""
        for pid in self.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return pid
        return 0

    def replace_worker(self):
        """Kill it, and wait until another one serves."""
        old = self.workers()
        starts = len(re.findall(r"ivshmem.conf: \d+ regions", self.log()))
        self.kill_worker()
        wait_until(lambda: self.workers() not in ([], old) and len(
            re.findall(r"ivshmem.conf: \d+ regions", self.log())) > starts, "another server",
            PATIENCE)
        if os.path.basename(self.sockets[-1]) == "control":
            persist(regions_of, self.sockets[-1])  # which comes after the line

    def settle(self):
        """Once the server serves, the keeper has been told all that it is to hold."""
        self.wait_log(r"ivshmem.conf: (\d+ regions|not used)|server: listening on", PATIENCE)
        if os.path.basename(self.sockets[-1]) == "control" and is_listening(self.sockets[-1]):
            persist(regions_of, self.sockets[-1])  # this is the last that comes to be held
        wait_until(lambda: self.sleeps() and self.workers(), "the keeper to be idle")
        self.base_fds = self.fds()


@pytest.fixture
def kills(pytestconfig):
    return 500 if pytestconfig.getoption("--long") else 60


def persist(function, *arguments, **named):
    """Call the control socket until a server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return function(*arguments, **named)
        except (AssertionError, OSError):
            assert time.monotonic() < deadline
            time.sleep(0.01)


class Killer(threading.Thread):
    """Kills the server `times` times, after pauses that a seed decides."""

    def __init__(self, one, times, seed):
        super().__init__()
        self.one, self.times, self.random = one, times, random.Random(seed)
        self.start()

    def run(self):
        for _ in range(self.times):
            time.sleep(self.random.choice((0, 0.001, 0.005, 0.02, 0.05, 0.1)))
            while self.one.alive() and not self.one.kill_worker():
                time.sleep(0.0005)
