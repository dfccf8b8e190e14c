# SPDX-License-Identifier: MIT
"""
Many peers at once: whole meshes, and peers that stop reading.

swarm.c rings every single descriptor of a mesh and checks that exactly the right vector of the
right peer counted it, so "whole" below means order and index too, not a number of messages.
"""

import resource
import time

import pytest

import wire

pytestmark = pytest.mark.crowd

ORDINARY_USER = "nobody"


@pytest.mark.parametrize("peers, vectors", [(100, 8), (480, 1)])
def test_mesh_of_processes(server, swarm, peers, vectors):
    """100 x 8 and 480 x 1, one process a peer: QEMU's contrib server loses messages in both."""
    summary = swarm(server(vectors=vectors), peers, vectors, "-f")
    assert summary["rung"] == peers * peers * vectors


def test_mesh_of_1000_peers_4_vectors_drained_by_one_process(server, swarm):
    summary = swarm(server(vectors=4), 1000, 4)
    assert summary["rung"] == 1000 * 1000 * 4


def test_burst_larger_than_a_socket_holds(server, join):
    """A newcomer that reads late: 278 messages fit a socket, its burst has 7 * 64 + 3."""
    target = server(vectors=64)
    peers = [join(target) for _ in range(6)]
    late = join(target)
    for peer in peers:
        peer.pump_mesh(6, 64)
    late.pump_mesh(6, 64)
    late.ring(peers[0].id, 63)
    assert peers[0].rung() == {63: 1}


def churn(target, watchers, vectors, joins=200, window=20):
    """
    200 others join and leave, up to 20 at a time, while `watchers` read: each sees each join and
    leave whole, in a time that a peer which blocks the server would not allow.
    """
    present = []
    base = len(watchers[0].peers)
    for number in range(joins):
        present.append(wire.Peer(target.socket))
        for watcher in watchers:
            watcher.pump_mesh(base + len(present), vectors)
        if len(present) == window or number == joins - 1:
            while present:
                present.pop(0).close()
            for watcher in watchers:
                watcher.pump_mesh(base, vectors)


def test_peer_that_stops_reading_while_200_join_and_leave_catches_up_whole(server, join):
    vectors = 4
    target = server(vectors=vectors)
    sleeper = join(target)
    watchers = [join(target), join(target)]
    for watcher in watchers:
        watcher.pump_mesh(2, vectors)
    churn(target, watchers, vectors)
    late = join(target)
    for watcher in watchers:
        watcher.pump_mesh(3, vectors)
        assert wire.Model(watcher.id, vectors).replay(watcher.history) == watcher.peers.keys()
        assert len({event.peer for event in watcher.history}) == 200 + 4
    sleeper.pump(lambda p: late.id in p.peers and p.is_mesh(3, vectors), "all that it missed")
    assert wire.Model(sleeper.id, vectors).replay(sleeper.history) == {
        late.id, *(watcher.id for watcher in watchers)}
    sleeper.ring(late.id, vectors - 1)
    late.pump_mesh(3, vectors)
    assert late.rung() == {vectors - 1: 1}


@pytest.mark.ours
def test_peer_that_stops_reading_is_evicted_at_max_queue(server, join):
    """The log says why, the others are told, and what it was sent ends at a message boundary."""
    target = server("--max-queue", 100, vectors=1)
    sleeper = join(target)
    watcher = join(target).pump_mesh(1, 1)
    present = []
    for _ in range(420):  # 278 messages fit its socket, 100 the queue
        present.append(join(target, keep=False))
        watcher.pump(lambda p: present[-1].id in p.peers, "the newcomer")
        for peer in present:
            peer.drain()
    watcher.pump(lambda p: sleeper.id not in p.peers, "the sleeper's eviction")
    assert target.wait_log(rf"peer {sleeper.id} left: evicted.*--max-queue")
    assert sleeper.at_end()
    assert all(event.what == "vector" for event in sleeper.history)
    assert len(sleeper.history) > 100
    assert not any(wire.Event("left", peer.id) in watcher.history for peer in present)


@pytest.mark.ours
def test_peer_that_stops_reading_is_evicted_at_stall_timeout(server, join):
    target = server("--stall-timeout", 1, vectors=4)
    sleeper = join(target)
    watcher = join(target).pump_mesh(1, 4)
    churn(target, [watcher], 4, joins=100, window=2)
    watcher.pump_mesh(0, 4)
    assert target.wait_log(rf"peer {sleeper.id} left: .*--stall-timeout")
    assert sleeper.at_end()


@pytest.mark.ours
def test_peer_that_reads_slowly_is_not_evicted(server, join):
    """
    The stall timeout is for those who read nothing. This one takes 33 messages a second, so it
    needs 6 seconds until the kernel calls its socket writable again, which is at a quarter.
    """
    target = server("--stall-timeout", 2, vectors=8)
    slow = join(target)
    present = []
    for _ in range(60):
        present.append(join(target, keep=False))
        for peer in present:
            peer.drain()
        slow.step()
    for peer in present:
        peer.pump_mesh(60, 8)
    for _ in range(25):
        # A fixed pause is the subject here, not a way to wait for something.
        time.sleep(0.15)
        for _ in range(5):
            slow.step()
    slow.pump_mesh(60, 8)


@pytest.mark.ours
@pytest.mark.parametrize("hard", [None, 1024], ids=["soft-1024", "hard-1024"])
def test_tenth_of_200_peers_stalled_as_ordinary_user(server, swarm, hard):
    """
    The kernel lets an ordinary user have only RLIMIT_NOFILE descriptors in flight, over all
    sockets: 20 peers that do not read could use them up and starve the other 180 (ETOOMANYREFS).
    The others must get all; when the 20 read at last, so must they.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if hard is None else hard
    target = server(vectors=1, user=ORDINARY_USER,
                    rlimit={resource.RLIMIT_NOFILE: (1024, limit)})
    summary = swarm(target, 200, 1, "-s", "20", timeout=30)
    assert summary["rung"] == 200 * 200
