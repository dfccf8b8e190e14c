# SPDX-License-Identifier: MIT
"""
The server is killed again and again below unmodified QEMUs: their guests play on, and not a doorbell
of theirs is lost, while others join and leave.
"""

import random
import struct
import time

import pytest

import bare
import wire
from conftest import find_program, wait_until
from kept import PATIENCE, Kept, Killer, kills  # pylint: disable=unused-import # fixture
from regions import memory_of
from test_bare import (  # pylint: disable=unused-import # fixtures
    DISMISS_OFFSET, DISMISSED, TURN_OFFSET, boot, pair, play, serve)

pytestmark = pytest.mark.ours

ROUNDS = 100  # at least
LIVES = 60000  # then IDs come back, and QEMU's device uses memory that it has freed


@pytest.mark.parametrize("kind", ["builtin-builtin", "ours-builtin"])
def test_guests_do_not_notice(launch, server_command, boot, pair, kills, tmp, kind):
    path = str(tmp / "kept")
    target = launch(Kept, [path], [find_program("ivshmem-keeper"), *server_command, "-F", "-S",
                                   path, "-l", "1M", "-n", "2"], ready_fd=False)
    devices = pair(kind, target)
    with wire.Peer(path, timeout=PATIENCE) as host:
        memory = memory_of(host)
        guests = play(boot, devices, rounds=ROUNDS, linger=1)

        def turn():
            return struct.unpack_from("<I", memory, TURN_OFFSET)[0]

        wait_until(lambda: turn() > ROUNDS, "the game to begin", bare.TIMEOUT)
        killer = Killer(target, kills, seed=kills)
        chance = random.Random(kills)
        came = 0
        while killer.is_alive():
            if came < LIVES:
                with wire.Peer(path, timeout=PATIENCE, handshake=chance.random() < 0.5):
                    came += 1
            time.sleep(0.0003)
        killer.join()
        before = turn()
        with wire.Peer(path, timeout=PATIENCE) as last:
            last.pump_mesh(3, 2)
        wait_until(lambda: turn() > before + ROUNDS, "turns after the last kill", bare.TIMEOUT)
        struct.pack_into("<I", memory, DISMISS_OFFSET, DISMISSED)
        # Each guest ends with status 0 only if it took as many doorbells as it was rung.
        results = [guest.wait() for guest in guests]
    assert results[0]["rounds"] == results[1]["rounds"] > before + ROUNDS
    print(f"{kills} kills, {came} others came and went, {results[0]['rounds']} rounds")
    assert came > 0
