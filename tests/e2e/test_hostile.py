# SPDX-License-Identifier: MIT
"""
Clients that misbehave and a system that has run out: the server lives, joins work afterwards and no
descriptor is leaked (the `server` fixture counts them when the test ends).
"""

import array
import ctypes
import fcntl
import mmap
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

import wire
from conftest import wait_until

LIBC = ctypes.CDLL(None, use_errno=True)
PUNCH_HOLE_KEEP_SIZE = 3


def connect(target):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(target.socket)  # blocking: waits for room in the backlog
    sock.settimeout(wire.TIMEOUT)
    return sock


def works(target, vectors=1):
    """Two peers can join, ring each other and leave."""
    with wire.Peer(target.socket) as first, wire.Peer(target.socket) as second:
        first.pump(lambda p: len(p.peers.get(second.id, [])) == vectors, "the second peer")
        second.pump(lambda p: len(p.vectors) == vectors, "own vectors")
        first.ring(second.id, vectors - 1)
        return second.rung() == {vectors - 1: 1}


@pytest.mark.ours
def test_connect_and_close_10000_times(server, join):
    target = server(vectors=1)
    keeper = join(target)
    for number in range(10000):
        connect(target).close()
        if number % 100 == 0:
            keeper.drain()
    assert works(target)
    keeper.pump(lambda p: p.is_mesh(0, 1), "all the leaves")
    wire.Model(keeper.id, 1).replay(keeper.history)


@pytest.mark.ours
def test_connect_and_reset_with_unread_data(server, join):
    """Closing with unread messages resets the connection under the server's send."""
    target = server(vectors=64)
    keeper = join(target)
    for _ in range(300):
        with connect(target) as sock:
            sock.recv(1)
        keeper.drain()
    assert works(target, 64)
    keeper.pump(lambda p: p.is_mesh(0, 64), "all the leaves")


def test_garbage_and_half_messages(server, join):
    """Bytes of any number, at any moment, with descriptors attached, then close or just silence."""
    target = server(vectors=2)
    keeper = join(target).pump_mesh(0, 2)
    choose = random.Random(2)
    silent = []
    for number in range(300):
        sock = connect(target)
        data = choose.randbytes(choose.choice([1, 3, 7, 8, 9, 4096]))
        extra = []
        if number % 3 == 0:
            extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", keeper.vectors))]
        try:
            sock.sendmsg([data], extra)
        except (BrokenPipeError, ConnectionResetError):
            pass  # dropped between connect and send
        if number % 2:
            sock.close()
        else:
            silent.append(sock)
        keeper.drain()
    keeper.pump(lambda p: p.is_mesh(0, 2), "all the leaves")
    for sock in silent:
        sock.close()
    assert works(target, 2)


@pytest.mark.ours
def test_peer_that_reads_half_a_message_and_dies(server, join):
    target = server(vectors=8)
    keeper = join(target)
    for size in range(1, 30):
        with connect(target) as sock:
            sock.recv(size, socket.MSG_WAITALL)
    keeper.pump(lambda p: p.history and p.is_mesh(0, 8), "all the leaves")
    assert works(target, 8)


@pytest.mark.ours
def test_peer_that_refuses_to_receive_is_alone_with_it(server, join):
    """shutdown(SHUT_RD): the server's next send fails with EPIPE."""
    target = server(vectors=2)
    first = join(target).pump_mesh(0, 2)
    with connect(target) as sock:
        first.pump_mesh(1, 2)
        sock.shutdown(socket.SHUT_RD)
        second = join(target)
        first.pump(lambda p: second.id in p.peers and p.is_mesh(1, 2), "one in, one out")
    second.pump(lambda p: len(p.vectors) == 2, "own vectors")


# ---- the server runs out of descriptors ----


@pytest.mark.ours
def test_emfile_for_a_minute(server, join, pytestconfig):
    """
    A storm of clients while the server may open nothing: those who are in are served, accepting is
    resumed by itself, and waiting does not burn CPU. (4 seconds; a minute with --long.)
    """
    seconds = 60 if pytestconfig.getoption("--long") else 4
    target = server(vectors=4)
    first, second, third = [join(target) for _ in range(3)]
    for peer in (first, second, third):
        peer.pump_mesh(2, 4)
    soft = target.limit_fds(target.fds())
    waiting = [connect(target) for _ in range(20)]
    cpu, start = target.cpu_time(), time.monotonic()
    third.close()
    for peer in (first, second):
        peer.pump_mesh(1, 4)
    # Its descriptors are free again: some of those who wait may come in now.
    while time.monotonic() < start + seconds:
        first.ring(second.id, 1)
        assert wire.select_readable(second.vectors[1], 1)
        second.rung()
        first.drain()
        second.drain()
        connect(target).close()
        assert target.alive()
        time.sleep(0.02)
    assert target.cpu_time() - cpu < 0.3 * seconds, "busy while it waits for descriptors"
    target.limit_fds(soft)
    for sock in waiting:
        sock.close()
    with wire.Peer(target.socket) as late:
        first.pump(lambda p: len(p.peers.get(late.id, [])) == 4, "a join after the shortage")
    for peer in (first, second):
        peer.pump_mesh(1, 4)
        wire.Model(peer.id, 4).replay(peer.history)


@pytest.mark.ours
@pytest.mark.parametrize("room", range(0, 10))
def test_emfile_in_the_middle_of_a_join(server, join, room):
    """A join takes 1 socket and 8 eventfds; with less room nobody hears of it, and it may retry."""
    target = server(vectors=8)
    keeper = join(target).pump_mesh(0, 8)
    soft = target.limit_fds(target.fds() + room)
    with connect(target) as sock:
        if wire.select_readable(sock, 0.2):
            version = sock.recv(8)
            joined = version == bytes(8)
            assert joined or version in (
                b"", struct.pack("<q", wire.REFUSED_RESOURCES)), "neither in nor refused"
        else:
            joined = False
        assert not joined or room >= 9
        keeper.drain()
        assert not keeper.history[8:] or joined, "told of somebody who is not in"
    target.limit_fds(soft)
    with wire.Peer(target.socket) as late:
        keeper.pump(lambda p: len(p.peers.get(late.id, [])) == 8, "a join after the shortage")
    keeper.pump_mesh(0, 8)


# ---- the region ----

READER = """
import mmap, os, sys
fd, size = int(sys.argv[1]), int(sys.argv[2])
memory = mmap.mmap(fd, size)
print("mapped", flush=True)
while not os.read(0, 1) == b"q":
    for offset in range(0, size, 4096):
        memory[offset] = (memory[offset] + 1) % 256
    print("touched", flush=True)
"""


def run_reader(peer):
    """A process that maps the region and touches every page whenever it is told to."""
    size = os.fstat(peer.region).st_size
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(peer.region), str(size)], pass_fds=[peer.region],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"mapped\n"
    return process


def touch_all(process):
    process.stdin.write(b"t")
    process.stdin.flush()
    assert process.stdout.readline() == b"touched\n", f"the reader died: {process.wait()}"


def punch_holes(peer, size):
    assert LIBC.fallocate(peer.region, PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(0),
                          ctypes.c_long(size)) == 0


@pytest.mark.ours
def test_ftruncate_on_the_region_is_refused(server, join):
    """EPERM for smaller and larger, through any descriptor, and no seal can be added."""
    peer = join(server(size="1M"))
    with mmap.mmap(peer.region, 1 << 20):
        pass
    reopened = os.open(f"/proc/self/fd/{peer.region}", os.O_RDWR)
    for fd in (peer.region, reopened):
        for size in (0, 4096, 2 << 20):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
    os.close(reopened)
    assert os.fstat(peer.region).st_size == 1 << 20
    for seal in (fcntl.F_SEAL_WRITE, fcntl.F_SEAL_GROW):
        with pytest.raises(PermissionError):
            fcntl.fcntl(peer.region, fcntl.F_ADD_SEALS, seal)
    reader = run_reader(peer)
    touch_all(reader)
    reader.communicate(b"q")
    assert reader.returncode == 0


@pytest.mark.ours
def test_punching_holes_loses_content_but_kills_nobody(server, join):
    target = server(size="1M")
    attacker, victim = join(target), join(target)
    reader = run_reader(victim)
    touch_all(reader)
    assert os.pread(victim.region, 1, 4096) == b"\x01"
    for _ in range(20):
        punch_holes(attacker, 1 << 20)
        assert os.pread(victim.region, 1, 4096) == b"\x00"
        touch_all(reader)
        assert os.pread(victim.region, 1, 4096) == b"\x01"
    reader.communicate(b"q")
    assert reader.returncode != -signal.SIGBUS
    assert reader.returncode == 0


HUGE_PAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
HUGE = 2 << 20


def huge_pages(field):
    text = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
    return int(re.search(rf"HugePages_{field}:\s+(\d+)", text).group(1))


@pytest.fixture
def four_huge_pages():
    """At least four free huge pages of 2 MiB for the time of a test."""
    before = int(HUGE_PAGES.read_text(encoding="ascii"))
    wanted = before + max(0, 4 - huge_pages("Free"))
    try:
        HUGE_PAGES.write_text(str(wanted), encoding="ascii")
    except OSError:
        pass
    if huge_pages("Free") < 4:
        pytest.skip("cannot reserve four huge pages of 2 MiB (needs root and free memory)")
    yield
    HUGE_PAGES.write_text(str(before), encoding="ascii")


@pytest.mark.ours
@pytest.mark.usefixtures("four_huge_pages")
def test_holes_in_huge_pages_kill_only_while_no_huge_page_is_free(server, join):
    """
    What happens, measured: a hole goes back to the system's pool, and a touch takes a page from
    there. If others have taken them all meanwhile it is SIGBUS. The server warns of that at start.
    """
    target = server("--huge-pages", "2M", size="8M")
    assert target.wait_log("warning: .*hole.*SIGBUS")
    attacker, victim = join(target), join(target)
    with pytest.raises(PermissionError):
        os.ftruncate(attacker.region, 0)
    reader = run_reader(victim)
    touch_all(reader)
    punch_holes(attacker, 4 * HUGE)
    touch_all(reader)
    assert os.pread(victim.region, 1, 4096) == b"\x01", "the content is lost"
    punch_holes(attacker, 4 * HUGE)
    thief = LIBC.memfd_create(b"thief", 4)  # MFD_HUGETLB
    free = huge_pages("Free")
    os.ftruncate(thief, free * HUGE)
    assert LIBC.fallocate(thief, 0, ctypes.c_long(0), ctypes.c_long(free * HUGE)) == 0
    reader.communicate(b"t")
    os.close(thief)
    assert reader.returncode == -signal.SIGBUS


@pytest.mark.ours
def test_region_is_allocated_before_the_first_peer(server, join):
    peer = join(server(size="8M"))
    stat = os.fstat(peer.region)
    assert stat.st_blocks * 512 >= 8 << 20
    assert stat.st_mode & 0o777 == 0o600


# ---- admission ----


def refusal(target):
    """What a refused client reads: one number in place of the version, then the end."""
    with connect(target) as sock:
        data = sock.recv(8, socket.MSG_WAITALL)
        assert sock.recv(1) == b"", "open after a refusal"
    return struct.unpack("<q", data)[0]


@pytest.mark.ours
def test_max_peers_refuses_with_a_number_and_takes_the_next_when_one_leaves(server, join):
    target = server("--max-peers", 2)
    first, second = join(target), join(target)
    for _ in range(10):
        assert refusal(target) == wire.REFUSED_FULL
    assert target.wait_log(r"refus")
    first.pump_mesh(1, 1)
    second.close()
    first.pump_mesh(0, 1)
    third = join(target)
    first.pump_mesh(1, 1)
    assert third.id in first.peers


@pytest.mark.ours
def test_max_peers_per_uid(server, join):
    target = server("--max-peers-per-uid", 2)
    join(target)
    second = join(target)
    assert refusal(target) == wire.REFUSED_UID_FULL
    if os.geteuid() == 0:
        os.chmod(target.socket, 0o666)
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            os._exit(0 if wire.Peer(target.socket).id is not None else 1)
        assert os.waitpid(child, 0)[1] == 0, "another user has a limit of its own"
    second.close()
    wait_until(lambda: try_join(target, join), "a place of this user")


def try_join(target, join):
    try:
        return join(target)
    except wire.ProtocolError:
        return None
