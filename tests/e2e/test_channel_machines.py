# SPDX-License-Identifier: MIT
"""
Messages that go round through machines of several kinds by the channels of one region: a host
process (x86-64), a Cortex-M on our board, an aarch64 Linux, a Cortex-M3 in QEMU, and back. Each
link waits by doorbells, so one that is lost stops the chain.
"""

import subprocess

from conftest import find_program
from flat import OURS, board  # pylint: disable=unused-import # a fixture
from shell_guest import shell_guest, shell_image  # pylint: disable=unused-import # fixtures
from test_flat import linux  # pylint: disable=unused-import # a fixture

MESSAGES = 3000
LENGTH = 4
TIMEOUT = 200


def test_round_through_three_architectures(server, board, linux):
    target = server(vectors=1)
    guest = linux(target)
    boards = [board(OURS, target, "chain", **{"in": 0, "out": 1}, messages=MESSAGES, deadline=TIMEOUT),
              board("qemu-11", target, "chain", **{"in": 2, "out": 3}, messages=MESSAGES,
                    deadline=TIMEOUT)]
    for one in boards:
        one.wait_id()
    middle = guest.start(f"chain auto: {LENGTH} 1 2 {MESSAGES}")
    first = subprocess.run(
        [find_program("chain"), f"unix:{target.socket}", str(LENGTH), str(LENGTH - 1), "0",
         str(MESSAGES)], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    print(first.stdout, first.stderr)
    assert first.returncode == 0 and f"passed messages={MESSAGES}" in first.stdout
    status, output = middle.wait()
    assert status == 0 and f"passed messages={MESSAGES}" in output, output
    for one in boards:
        one.wait()
