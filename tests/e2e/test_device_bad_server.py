# SPDX-License-Identifier: MIT
"""
Servers that are out to harm ivshmem-device, or just broken: it fails to start with one line that
says why, or goes on with what it has got.
"""

import fcntl
import os
import random
import resource
import socket
import struct
import sys
import termios

import pytest

import wire
from clienttool import Replay, replay  # pylint: disable=unused-import
from conftest import TIMEOUT, as_user, wait_until
from vfio_user import BAR2
from vmms import (  # pylint: disable=unused-import
    Qemu, attach, device_spec)


def number_message(number):
    return struct.pack("<q", number)


def memory_of(size):
    fd = os.memfd_create("region")
    os.truncate(fd, size)
    return fd


def eof_after(*numbers, half=b""):
    def run(server):
        for number in numbers:
            server.send(number)
        server.sock.sendall(half)
        server.sock.close()
    return run


def region_of(make):
    def run(server):
        server.send(0)
        server.send(0)
        fd = make()
        server.send(-1, fd)
        if fd is not None:
            os.close(fd)
    return run


def sends(*messages):
    """(number, whether a descriptor comes with it)"""
    def run(server):
        for number, has_fd in messages:
            server.send(number, server.region if has_fd else None)
    return run


def two_descriptors(server):
    socket.send_fds(server.sock, [number_message(0)], [server.region, server.region])


@pytest.mark.parametrize("script, reason", [
    (eof_after(), "hung up"), (eof_after(0), "hung up"), (eof_after(0, 7), "hung up"),
    (eof_after(half=b"\0\0\0"), "hung up"), (eof_after(0, half=b"\0"), "hung up"),
    (sends((1, False)), "pre-2.5"), (sends((1 << 40, False)), "version"),
    (sends((-1, False)), "version"), (sends((0, True)), ""),
    (sends((0, False), (65536, False)), ""), (sends((0, False), (-1, False)), ""),
    (sends((0, False), (0, True)), ""), (sends((0, False), (0, False), (-1, False)), ""),
    (sends((0, False), (0, False), (-7, False)), ""), (two_descriptors, ""),
    (region_of(lambda: os.pipe()[0]), ""), (region_of(lambda: memory_of(0)), ""),
    (region_of(lambda: memory_of(12288)), "power of two"),
    (region_of(lambda: memory_of(100)), "power of two"),
    (region_of(lambda: os.open("/dev/null", os.O_RDWR)), ""),
    (lambda server: None, "time")])
def test_server_that_makes_the_start_fail(device_command, replay, spawn, tmp, script, reason):
    """Exit code 1, and one line that says what is wrong: not the time, unless it is the time."""
    patience = "0.5" if reason == "time" else str(TIMEOUT)
    process = spawn([*device_command, "--join-timeout", patience, "--device", device_spec(
        tmp / "d0", type="doorbell", server=replay.path)], stderr=-1, text=True)
    replay.sock = replay.listener.accept()[0]
    script(replay)
    said = process.communicate(timeout=2 * TIMEOUT)[1]
    assert process.returncode == 1
    lines = said.splitlines()
    assert len(lines) == 1 and "device0" in lines[0] and reason in lines[0], said
    assert not (tmp / "d0").exists()


@pytest.fixture
def scripted(device_command, replay, spawn, tmp, attach):  # pylint: disable=too-many-arguments
    """
    A device that has joined a scripted server: scripted(own=7, others=(5,), vectors=2, rlimit=None)
    is (vmm, process, log); the process must still live at the end.
    """
    started = []

    def start(own=7, others=(5,), vectors=2, rlimit=None):
        log = tmp / "log"
        with open(log, "wb") as out:
            process = spawn([*device_command, "--device", device_spec(
                tmp / "d0", type="doorbell", server=replay.path, vectors=vectors)], stderr=out,
                            preexec_fn=as_user(None, rlimit))
        replay.accept(own, others, vectors)
        wait_until(lambda: "listening" in log.read_text(), "the device to listen")
        started.append(process)
        vmm = attach(Qemu, tmp / "d0").boot(vectors)
        return vmm, process, log

    yield start
    for process in started:
        assert process.poll() is None, f"it died: {process.returncode}"
        process.terminate()
        assert process.wait(TIMEOUT) == 0


def is_read(sock):
    """Whether the other side has read all that was sent."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder) == 0


def rung_by(vmm, server, peer, vector):
    vmm.ring(peer, vector)
    return not server.silent(peer, vector) and server.rung(peer, vector)


def test_largest_id(scripted, replay):
    vmm, _, _ = scripted(own=65535, others=(0, 65534))
    assert vmm.position() == 65535
    wait_until(lambda: rung_by(vmm, replay, 65534, 1), "its doorbell")
    vmm.ring(65535, 1)
    assert vmm.wait_rung(1) == 1
    replay.ring(65535, 0)
    assert vmm.wait_rung(0) == 1


def test_id_that_is_used_again(scripted, replay):
    """It leaves, leaves again, comes back as somebody else; and unknown ones leave."""
    vmm, _, log = scripted()
    wait_until(lambda: rung_by(vmm, replay, 5, 1), "its doorbell")
    old = replay.eventfds[5]
    for number in (5, 5, 9, 65535):
        replay.send(number)
    replay.send_vectors(5, 2)
    wait_until(lambda: rung_by(vmm, replay, 5, 1), "the newcomer's doorbell")
    before = [wire.eventfd_info(fd)["count"] for fd in old]  # rung until the device had heard it
    for vector in (0, 1):
        vmm.ring(5, vector)
        assert replay.rung(5, vector) == 1
    assert [wire.eventfd_info(fd)["count"] for fd in old] == before and before[0] == 0
    wire.close_all(old)
    assert "server is gone" not in log.read_text()


def send_garbage(server):
    server.sock.sendall(random.Random(4).randbytes(4096))


def send_half(server):
    server.sock.sendall(b"\5\0\0")
    server.sock.close()


@pytest.mark.parametrize("script", [
    sends((-1, True)), sends((-1, False)), sends((-5, False)),
    sends((65536, True)), sends((7, False)), send_garbage, send_half,
    two_descriptors])
def test_server_that_breaks_the_protocol_later(scripted, replay, script):
    """It is taken for lost, with one line in the log. What has been there remains."""
    vmm, _, log = scripted()
    wait_until(lambda: rung_by(vmm, replay, 5, 1), "its doorbell")
    before = len(log.read_text().splitlines())
    script(replay)
    wait_until(lambda: len(log.read_text().splitlines()) > before, "a line in the log")
    vmm.ring(5, 0)
    assert replay.rung(5, 0) == 1
    replay.ring(7, 1)
    assert vmm.wait_rung(1) == 1
    vmm.memory[:2] = b"ok"
    assert vmm.read(BAR2, 0, 2) == b"ok"
    lines = log.read_text().splitlines()[before:]
    assert len(lines) == 1 and "server is gone" in lines[0], lines


def test_server_with_thousands_of_descriptors(scripted, replay):
    """Vectors of one peer, then peers without end: it holds what its limit allows, and goes on."""
    vmm, process, _ = scripted(rlimit={resource.RLIMIT_NOFILE: (1024, 1024)})
    wait_until(lambda: rung_by(vmm, replay, 5, 1), "its doorbell")
    for number in range(3000):
        replay.send(5, replay.eventfds[5][0])
        replay.send(7, replay.eventfds[7][0])
        replay.send(100 + number, replay.eventfds[5][0])
    replay.send_vectors(6, 2)
    replay.sock.sendall(b"\0")
    wait_until(lambda: is_read(replay.sock), "the device to have read all that")
    assert len(os.listdir(f"/proc/{process.pid}/fd")) < 900
    vmm.ring(5, 1)
    assert replay.rung(5, 1) == 1
    replay.ring(7, 1)
    assert vmm.wait_rung(1) == 1
