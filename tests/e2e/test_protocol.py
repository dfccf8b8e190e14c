# SPDX-License-Identifier: MIT
"""
Conformance to docs/protocol.md, section 2: what every server owes its clients.

Needs no option beyond -F, -S, -l and -n, so it judges any server; what only ours promises is
marked.
"""

import os
import random
import signal
import socket
import struct

import pytest

import wire
from conftest import wait_until


def members(server, join, count, vectors):
    """Join `count` peers and let all of them see the whole mesh."""
    peers = [join(server) for _ in range(count)]
    for peer in peers:
        peer.pump_mesh(count - 1, vectors)
    return peers


# ---- joining ----


@pytest.mark.parametrize("vectors", [0, 1, 2, 64])
def test_first_peer_gets_id_0_region_and_own_vectors(server, join, vectors):
    peer = join(server(vectors=vectors))
    assert peer.id == 0
    peer.pump_mesh(0, vectors)
    assert not wire.select_readable(peer.sock, 0.05), "a message too many"


def test_messages_on_the_wire_byte_for_byte(server):
    """Numbers are 8 bytes, little-endian; a descriptor comes with the first one."""
    target = server(vectors=1)
    expected = struct.pack("<4q", 0, 0, -1, 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(target.socket)
        sock.settimeout(wire.TIMEOUT)
        data, descriptor_at = b"", []
        while len(data) < len(expected):
            # 3 + 5 bytes: never over the end of a message, where descriptors of two could mix.
            want = 3 if len(data) % 8 == 0 else 8 - len(data) % 8
            part, fds, _, _ = socket.recv_fds(sock, want, 4)
            descriptor_at += [len(data)] * len(fds)
            for fd in fds:
                os.close(fd)
            assert part
            data += part
    assert data == expected
    assert descriptor_at == [16, 24], "the region's and the vector's, each at its first byte"


@pytest.mark.parametrize("vectors", [1, 3, 64])
def test_newcomer_gets_existing_peers_then_own_vectors(server, join, vectors):
    target = server(vectors=vectors)
    existing = members(target, join, 3, vectors)
    newcomer = join(target).pump_mesh(3, vectors)
    own = [place for place, event in enumerate(newcomer.history) if event.peer == newcomer.id]
    assert own == list(range(3 * vectors, 4 * vectors)), "own vectors are the last of the burst"
    assert newcomer.peers.keys() == {peer.id for peer in existing}


def test_existing_peers_get_each_vector_of_a_newcomer(server, join):
    target = server(vectors=5)
    first, second = members(target, join, 2, 5)
    newcomer = join(target)
    for peer in (first, second):
        seen = len(peer.history)
        peer.pump_mesh(2, 5)
        assert [event.peer for event in peer.history[seen:]] == [newcomer.id] * 5


def test_without_vectors_a_join_cannot_be_seen(server, join):
    """Whether the leave of a peer that was never announced is told is the server's choice."""
    target = server(vectors=0)
    first = join(target)
    second = join(target)
    second.close()
    third = join(target)
    for peer in (first, third):
        peer.drain()
        assert peer.history in ([], [wire.Event("left", second.id)])


def test_peers_that_do_not_read_are_told_everything_later(server, join):
    """Joins and leaves went by meanwhile: the stream is a possible history with the right end."""
    target = server(vectors=2)
    early = join(target)
    for _ in range(10):
        wire.Peer(target.socket).close()
    late = join(target)
    early.pump(lambda p: late.id in p.peers and p.is_mesh(1, 2), "the end of the storm")
    assert wire.Model(early.id, 2).replay(early.history) == {late.id}


# ---- descriptors ----


def test_each_descriptor_rings_its_own_vector_of_its_own_peer(server, join):
    """Every descriptor that anybody holds, own ones included, one after the other."""
    vectors = 4
    peers = members(server(vectors=vectors), join, 4, vectors)
    for source in peers:
        for target in peers:
            for vector in range(vectors):
                source.ring(target.id, vector)
                rung = {peer.id: peer.rung() for peer in peers if peer.id != target.id}
                assert target.rung() == {vector: 1}
                assert not any(rung.values()), f"{source.id} rang {target.id}/{vector}: {rung}"


def test_sampled_descriptors_with_64_vectors(server, join):
    vectors = 64
    peers = members(server(vectors=vectors), join, 3, vectors)
    choose = random.Random(1)
    for _ in range(100):
        source, target = choose.choices(peers, k=2)
        vector = choose.randrange(vectors)
        source.ring(target.id, vector)
        assert {peer.id: peer.rung() for peer in peers} == {
            peer.id: {vector: 1} if peer is target else {} for peer in peers}


def test_vectors_are_fresh_eventfds(server, join):
    """Genuine eventfds (QEMU needs that), counter 0, no semaphores, and reading never blocks."""
    peers = members(server(vectors=3), join, 2, 3)
    for peer in peers:
        for fd in [*peer.vectors, *(fd for fds in peer.peers.values() for fd in fds)]:
            info = wire.eventfd_info(fd)
            assert info, "not an eventfd"
            assert (info["count"], info["semaphore"]) == (0, 0)
            assert wire.is_nonblocking(fd)


def test_rings_before_the_newcomer_reads_are_kept(server, join):
    target = server(vectors=2)
    first = join(target)
    second = join(target)
    first.pump_mesh(1, 2)
    first.ring(second.id, 1)
    second.pump_mesh(1, 2)
    assert second.rung() == {1: 1}


@pytest.mark.ours
def test_descriptors_of_the_server_are_close_on_exec(server, join):
    target = server(vectors=2)
    members(target, join, 2, 2)
    for name in os.listdir(f"/proc/{target.pid}/fdinfo"):
        with open(f"/proc/{target.pid}/fdinfo/{name}", encoding="ascii") as lines:
            flags = int(lines.read().split("flags:")[1].split()[0], 8)
        assert int(name) <= 2 or flags & os.O_CLOEXEC, os.readlink(f"/proc/{target.pid}/fd/{name}")


def test_all_peers_get_the_same_region(server, join):
    target = server(size="1M")
    first, second = members(target, join, 2, 1)
    stats = [os.fstat(peer.region) for peer in (first, second)]
    assert (stats[0].st_dev, stats[0].st_ino) == (stats[1].st_dev, stats[1].st_ino)
    assert stats[0].st_size == 1 << 20
    os.pwrite(first.region, b"hello", 4096)
    assert os.pread(second.region, 5, 4096) == b"hello"


# ---- leaving ----


def test_leave_is_told_once_and_without_descriptor(server, join):
    target = server(vectors=4)
    first, second, third = members(target, join, 3, 4)
    second.close()
    for peer in (first, third):
        seen = len(peer.history)
        peer.pump(lambda p: second.id not in p.peers, "the leave")
        assert peer.history[seen:] == [wire.Event("left", second.id)]
        assert not wire.select_readable(peer.sock, 0.05)


def test_peer_that_is_killed_has_left(server, join):
    target = server()
    first = join(target)
    child = os.fork()
    if child == 0:
        wire.Peer(target.socket)
        signal.pause()
    first.pump_mesh(1, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    first.pump_mesh(0, 1)


@pytest.mark.parametrize("data", [b"x", bytes(8), bytes(100000)], ids=["byte", "message", "flood"])
def test_client_that_sends_is_dropped(server, join, data):
    """The protocol has one direction only."""
    target = server(vectors=2)
    first, second = members(target, join, 2, 2)
    second.sock.setblocking(False)
    second.sock.send(data)
    second.sock.setblocking(True)
    first.pump_mesh(0, 2)
    assert second.at_end()


def test_client_that_shuts_its_side_down_has_left(server, join):
    target = server()
    first, second = members(target, join, 2, 1)
    second.sock.shutdown(socket.SHUT_WR)
    first.pump_mesh(0, 1)
    assert second.at_end()


def test_doorbells_and_region_outlive_the_server(server, join):
    target = server(vectors=2)
    first, second = members(target, join, 2, 2)
    target.kill()
    assert first.at_end() and second.at_end()
    first.ring(second.id, 1)
    assert second.rung() == {1: 1}
    os.pwrite(first.region, b"still here", 0)
    assert os.pread(second.region, 10, 0) == b"still here"


def test_a_peer_is_never_told_about_itself_or_of_unknown_ones(server, join):
    """SIGTERM: whatever notices are sent, they fit what was announced; then the stream ends."""
    target = server(vectors=2)
    peers = members(target, join, 3, 2)
    assert target.stop() == 0
    for peer in peers:
        assert peer.at_end()
        wire.Model(peer.id, 2).replay(peer.history)


@pytest.mark.ours
def test_on_exit_everyone_is_told_that_all_others_left(server, join):
    target = server(vectors=2)
    peers = members(target, join, 5, 2)
    assert target.stop() == 0
    for peer in peers:
        assert peer.at_end()
        assert wire.Model(peer.id, 2).replay(peer.history) == set()


# ---- IDs ----


def test_ids_count_up_and_a_freed_one_does_not_come_back_soon(server, join):
    target = server()
    keeper = join(target)
    for expected in range(1, 200):
        with wire.Peer(target.socket) as peer:
            assert peer.id == expected
        keeper.pump(lambda p: wire.Event("left", expected) in p.history[-2:], "the leave")


@pytest.mark.ours
def test_ids_wrap_and_those_in_quarantine_are_left_out(server, join):
    """
    After 65536 joins the IDs come back, longest unused first, but none that is in use, and none
    whose leave somebody has not been told yet: `sleeper` holds hundreds of those notices back.
    """
    target = server("--stall-timeout", 0, vectors=1)
    sleeper = join(target)
    early = [wire.Peer(target.socket) for _ in range(300)]  # 278 messages fill its socket
    assert [peer.id for peer in early] == list(range(1, 301))
    for peer in early:
        peer.close()
    wait_until(lambda: target.fds() <= target.base_fds + 2, "the early ones to be gone")
    for expected in range(301, 65536):
        with wire.Peer(target.socket) as peer:
            assert peer.id == expected
    again = []
    for _ in range(1000):
        with wire.Peer(target.socket) as peer:
            again.append(peer.id)
    assert len(set(again)) == len(again)
    late = join(target)
    sleeper.pump(lambda p: late.id in p.peers and p.is_mesh(1, 1), "the leaves held back")
    held_back = {event.peer for event in sleeper.history[:250]} - {sleeper.id}
    assert len(held_back) > 200
    assert not held_back & {sleeper.id, late.id, *again}
    wire.Model(sleeper.id, 1).replay(sleeper.history)


# ---- the generation before QEMU 2.5 ----


@pytest.mark.ours
def test_protocol_before_2_5_has_no_version_and_host_longs(server, join):
    target = server("--protocol", "pre-2.5", vectors=2)
    first = join(target, protocol="pre-2.5")
    second = join(target, protocol="pre-2.5")
    first.pump_mesh(1, 2)
    second.pump_mesh(1, 2)
    assert (first.id, second.id) == (0, 1)
    first.ring(1, 1)
    assert second.rung() == {1: 1}
    second.close()
    first.pump_mesh(0, 2)
