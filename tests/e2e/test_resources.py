# SPDX-License-Identifier: MIT
"""What the server costs while nothing happens."""

import time

import pytest

from conftest import wait_until

PEERS = 500
IDLE_SECONDS = 3


def activity(target):
    """Anything that moves when the server's process runs at all."""
    return (target.status("voluntary_ctxt_switches"), target.status("nonvoluntary_ctxt_switches"),
            target.cpu_time())


def settle(target):
    """Wait until nothing has happened for half a second."""

    def quiet():
        before = activity(target)
        time.sleep(0.5)
        return activity(target) == before

    wait_until(quiet, "the server to settle")


@pytest.mark.ours
def test_idle_server_with_500_peers(server, swarm):
    """No wake-ups, and under 4 KiB of own memory a peer."""
    target = server(vectors=1)
    empty = target.status("RssAnon")
    _, leave = swarm(target, PEERS, 1, hold=True)
    settle(target)
    before = activity(target)
    time.sleep(IDLE_SECONDS)
    assert activity(target) == before, "woke up while idle"
    grown = target.status("RssAnon") - empty
    print(f"own memory: {grown * 1024 / PEERS:.0f} bytes a peer")
    assert grown < 4 * PEERS
    leave()


@pytest.mark.ours
def test_idle_server_without_peers(server):
    target = server()
    settle(target)
    before = activity(target)
    time.sleep(1)
    assert activity(target) == before


def test_descriptors_per_peer(server, swarm):
    """A socket and an eventfd a vector, and all are closed again (the fixture checks that)."""
    target = server(vectors=3)
    _, leave = swarm(target, 50, 3, hold=True)
    assert target.fds() == target.base_fds + 50 * (1 + 3)
    leave()
