# SPDX-License-Identifier: MIT
"""Threads of one host process that each wait for another own vector, on one handle."""

import re

from conftest import find_program, wait_until

VECTORS = 8
QUIET = "10"  # seconds without a ring, after which a thread is done


def test_each_wakes_for_its_own_vector(server, join, spawn, tmp):
    target = server(vectors=VECTORS)
    log = tmp / "waiters"
    with open(log, "wb") as output:
        process = spawn([find_program("waiters"), f"unix:{target.socket}", QUIET,
                         *map(str, range(VECTORS))], stdout=output, stderr=output)
    peer = join(target).pump_mesh(1, VECTORS)
    number = next(iter(peer.peers))
    wait_until(lambda: "ready" in log.read_text(), "the threads to wait")
    sent = [0] * VECTORS
    for turn in range(2000):
        vector = turn * 5 % VECTORS
        peer.ring(number, vector)
        sent[vector] += 1
    assert process.wait(30) == 0, log.read_text()
    totals = dict(re.findall(r"^(\d+) total (\d+) in", log.read_text(), re.M))
    assert totals == {str(vector): str(count) for vector, count in enumerate(sent)}
