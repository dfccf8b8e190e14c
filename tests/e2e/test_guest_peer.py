# SPDX-License-Identifier: MIT
"""
libivshmem in Linux guests: the same programs as on the host, through each driver, on QEMU's device
and on ours. What the driver itself promises: test_guest_driver.py.
"""

import os
import re
import subprocess
import time

import pytest

from conftest import cases, ended_with_test, find_program, kill
from qemu import doorbell_device, vfio_user_device
from shell_guest import (  # pylint: disable=unused-import # fixtures
    shell_guest, shell_image, wait_for)

SIZE = 1 << 20
ROUNDS = 200


@pytest.fixture
def boot(device, shell_guest, tmp):
    """
    A guest on a server: boot(server, "built-in" or "ours", driver, kernel=..., vectors=2). A driver
    of None leaves the device to sysfs. Its address is `where`.
    """
    sockets = iter(tmp / f"d{number}" for number in range(99))

    def start(target, kind, driver, vectors=2, **others):
        options, qemu = doorbell_device(target, vectors=vectors), "qemu-7"
        if kind == "ours":
            ours = device(f"socket={next(sockets)},type=doorbell,server=unix:{target.socket},"
                          f"vectors={vectors}")
            options, qemu = vfio_user_device(ours.socket), "qemu-11"
        guest = shell_guest(*options, qemu=qemu, iommu=driver == "vfio-pci", **others)
        guest.driver_wanted = driver
        return guest

    return start


def bound(guest):
    """The guest, once its device has its driver."""
    guest.where, = guest.devices()
    if guest.driver_wanted:
        guest.load(guest.driver_wanted)
        guest.bind(guest.where, guest.driver_wanted)
    return guest


class HostProgram:
    """A program of ours on the host, with the interface of a guest's command."""

    def __init__(self, *command):
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [find_program(command[0]), *command[1:]], stdout=subprocess.PIPE, text=True)

    def wait(self, timeout=60):
        output = self.process.communicate(timeout=timeout)[0]
        return self.process.returncode, output

    def close(self):
        kill(self.process)


@pytest.fixture
def on_host(launch):  # pylint: disable=unused-argument # ends before servers do
    yield from ended_with_test(HostProgram, HostProgram.close)


# Who talks with whom: on the host, or in a guest by the way into a device.
PAIRS = [
    ("host", "host"),
    ("host", "built-in uio_ivshmem debian12"),
    ("ours uio_ivshmem trixie", "host"),
    ("built-in uio_ivshmem sid", "ours vfio-pci debian12"),
    ("ours vfio-pci debian12", "ours uio_ivshmem debian12"),
    ("built-in None debian12", "built-in uio_ivshmem debian12"),
    ("built-in uio_ivshmem arm64", "host"),
    ("built-in uio_ivshmem arm64", "ours uio_ivshmem arm64"),
    ("built-in vfio-pci arm64", "ours vfio-pci debian12"),
    ("ours None arm64", "host"),
]


@pytest.mark.parametrize("pair, first", cases(
    *((pair, number % 2) for number, pair in enumerate(PAIRS)),
    long=[(pair, 1 - number % 2) for number, pair in enumerate(PAIRS)]),
    ids=lambda value: "-and-".join(value) if isinstance(value, tuple) else value)
def test_same_program_everywhere(server, boot, on_host, pair, first):
    """The example greets, whoever of the two starts first."""
    target = server(vectors=2)
    parties = []
    for what in pair:
        kind, *rest = what.split()
        parties.append(None if kind == "host" else boot(
            target, kind, None if rest[0] == "None" else rest[0], kernel=rest[1]))
    for guest in filter(None, parties):
        bound(guest)

    def start(seat):
        command = ["hello-guest", "auto:", str(seat), str(ROUNDS)]
        if parties[seat]:
            return parties[seat].start(" ".join(command))
        command[1] = f"unix:{target.socket}"
        return on_host(*command)

    running = {first: start(first)}
    time.sleep(0.3)  # it meets nobody meanwhile
    running[1 - first] = start(1 - first)
    for seat, command in running.items():
        status, output = command.wait()
        assert status == 0 and f"passed rounds={ROUNDS}" in output, output
        assert "hello 5 from peer" in output
        # A host process can answer before the guest has looked, which then need not wait.
        if all(party and party.driver_wanted for party in parties):
            assert int(re.search(r"rings=(\d+)", output)[1]) > 0


@pytest.mark.parametrize("one, other", cases(("built-in", "ours"), long=[("built-in", "built-in")]))
def test_round_trips(server, boot, join, one, other, pytestconfig):
    """
    5000 round trips again and again, none lost: whoever is not woken waits for ever. A doorbell is an
    interrupt of the guest's kernel, unless it comes while one before it is still on its way: those
    are one, and how many there are depends on how busy the machine is.
    """
    target = server(vectors=2, size=str(SIZE))
    guests = [boot(target, kind, "uio_ivshmem") for kind in (one, other)]
    for guest in guests:
        bound(guest)
    peer = join(target)
    for _ in range(10 if pytestconfig.getoption("--long") else 3):
        os.pwrite(peer.region, bytes(1 << 14), 0)  # the last conversation
        before = [sum(guest.interrupts().values()) for guest in guests]
        running = [guest.start(f"talk-host auto: {seat} 2 5000")
                   for seat, guest in enumerate(guests)]
        results = [command.wait() for command in running]
        for guest, counted, (status, output), (_, others) in zip(
                guests, before, results, reversed(results)):
            assert status == 0 and "received=5000" in output, output
            total = sum(guest.interrupts().values())
            assert 0 < total - counted <= int(re.search(r"rings=(\d+)", others)[1])
            # Who opens a vector hears of all rings since the driver took it.
            assert total == int(re.search(r"doorbells=(\d+)", output)[1])

    # The same by ivshmem_wait(), which waits in another way than the loop.
    running = [guest.start(f"hello-guest auto: {seat} 5000") for seat, guest in enumerate(guests)]
    for command in running:
        status, output = command.wait()
        assert status == 0 and "passed rounds=5000" in output, output


def waiters(guest, uri, *vectors, seconds=600):
    command = guest.start(f"waiters {uri} {seconds} {' '.join(map(str, vectors))}")
    wait_for(lambda: "ready" in command.output() or command.ended(), "the threads to wait")
    return command


def rings(command, vector):
    """How often the program was told of a vector so far."""
    found = re.findall(rf"^{vector} rung (\d+)$", command.output(), re.M)
    return sum(map(int, found))


@pytest.mark.parametrize("kind, driver", cases(
    ("ours", "uio_ivshmem"), ("ours", "vfio-pci"), long=[("built-in", "uio_ivshmem")]))
def test_sixteen_threads(server, boot, join, kind, driver):
    """One device, a thread for each vector: the right one wakes and no other does."""
    target = server(vectors=16)
    guest = bound(boot(target, kind, driver, vectors=16))
    peer = join(target).pump_mesh(1, 16)
    running = waiters(guest, "auto:", *range(16))
    expected = [0] * 16
    for vector in (3, 15, 0, 3, 8, 7, 1, 15, 15, 12):
        peer.ring(next(iter(peer.peers)), vector)
        expected[vector] += 1
        wait_for(lambda v=vector: rings(running, v) == expected[v], f"vector {vector}")
        assert [rings(running, vector) for vector in range(16)] == expected
    assert guest.cpu_time(running.pid) < 1


@pytest.mark.parametrize("driver, seconds", [
    ("uio_ivshmem", 60), ("uio_ivshmem", -1), ("vfio-pci", -1)])
def test_idle(server, boot, driver, seconds):
    """Who waits costs nothing."""
    guest = bound(boot(server(vectors=2), "ours", driver))
    running = waiters(guest, "auto:", 0, 1, seconds=seconds)
    spent = []

    def sleeps():  # "ready" comes just before
        spent.append(guest.cpu_time(running.pid))
        time.sleep(1)
        return spent[-2:-1] == spent[-1:]

    wait_for(sleeps, "the threads to sleep")
    before = guest.cpu_time(running.pid)
    time.sleep(5)
    assert guest.cpu_time(running.pid) == before
    assert not running.ended()


def test_rung_before_it_was_opened(server, boot, join):
    """The kernel counts for those who come later."""
    target = server(vectors=2)
    guest = bound(boot(target, "built-in", "uio_ivshmem"))
    peer = join(target).pump_mesh(1, 2)
    for count in range(1, 4):
        peer.ring(0, 1)
        wait_for(lambda c=count: guest.interrupts()[f"ivshmem-{guest.where}.1"] == c, "the ring")
    running = waiters(guest, "auto:", 0, 1)
    wait_for(lambda: rings(running, 1) == 3, "the rings")
    assert rings(running, 0) == 0


def test_processes_share_by_vector(server, boot, join):
    """Over UIO. What each does leaves the other alone, its end included."""
    target = server(vectors=2)
    guest = bound(boot(target, "ours", "uio_ivshmem"))
    number = join(target).pump_mesh(1, 2)
    one, other = (waiters(guest, f"uio:ivshmem-{guest.where}.{vector}", vector)
                  for vector in (0, 1))
    peer_id = next(iter(number.peers))
    for vector, mine, theirs in ((0, one, other), (1, other, one)):
        before = rings(theirs, 1 - vector)
        number.ring(peer_id, vector)
        wait_for(lambda v=vector, m=mine: rings(m, v) == 1, "the ring")
        assert rings(theirs, 1 - vector) == before
    one.kill("KILL")
    number.ring(peer_id, 1)
    wait_for(lambda: rings(other, 1) == 2, "the ring")
    status, output = guest.start(f"waiters uio:ivshmem-{guest.where}.1 1 0").wait()
    assert status != 0 and "0 failed: Invalid argument" in output


def test_vfio_is_exclusive(server, boot):
    guest = bound(boot(server(vectors=2), "built-in", "vfio-pci"))
    running = waiters(guest, "auto:", 0)
    status, output = guest.start("waiters auto: 1 0").wait()
    assert status == 1 and "busy" in output and "another program has" in output
    running.kill()
    running.wait()
    assert guest.start("waiters auto: 0.1 0").wait()[0] == 0


@pytest.mark.parametrize("how", ["30 0 1", "-1 0 1", "look 0 1"])
def test_vfio_unbound(server, boot, how):
    """The kernel waits until who has the device has let go of it, and so that one is told."""
    guest = bound(boot(server(vectors=2), "built-in", "vfio-pci"))
    running = guest.start(f"waiters auto: {how}")
    wait_for(lambda: "ready" in running.output(), "the threads to wait")
    guest.unbind(guest.where)
    status, output = running.wait()
    assert status == 1 and output.count("failed: No such device") == 2, output


def test_registers_in_one_page(server, shell_guest):
    """Two devices whose registers share a page, as without a firmware, are not taken for another."""
    target = server(vectors=2)
    guest = shell_guest(*doorbell_device(target, name="iv0", slot=4),
                        *doorbell_device(target, name="iv1", slot=5), kernel="arm64", pages="")
    bars = [int(guest.run(f"head -n 1 /sys/bus/pci/devices/{bdf}/resource").split()[0], 16)
            for bdf in guest.devices()]
    assert bars[0] // 4096 == bars[1] // 4096
    ids = [guest.run(f"ivshmem-client --uri pci:{bdf} info").splitlines()[0]
           for bdf in guest.devices()]
    assert sorted(ids) == ["id = 0", "id = 1"]
    guest.load("uio_ivshmem")
    assert [guest.driver(bdf) for bdf in guest.devices()] == [None, None]
    assert "boot with pci=resource_alignment=pci:1af4:1110" in guest.run("dmesg")


def test_timed_waits(server, boot):
    """Without a driver nobody tells of rings: each wait ends early, with a count of 0."""
    guest = bound(boot(server(vectors=2), "built-in", None))
    output = guest.run("timeout 50 waiters auto: 60 0 | head -n 12")
    assert output.count("0 rung 0") > 10
    guest.load("uio_ivshmem")
    status, output = guest.start(f"waiters pci:{guest.where} 1 0").wait()
    assert status == 1 and f"uio:{guest.where}" in output


def test_other_dies(server, boot, join):
    """One of two is killed with its machine: the other goes on, and meets the next."""
    target = server(vectors=2)
    guests = [boot(target, kind, "uio_ivshmem") for kind in ("built-in", "ours")]
    for guest in guests:
        bound(guest)
    running = [guest.start(f"hello-guest auto: {seat} 1000000")
               for seat, guest in enumerate(guests)]
    wait_for(lambda: sum(guests[0].interrupts().values()) > 10, "them to talk")
    idle = waiters(guests[0], "auto:", 1)
    guests[1].close()
    assert not running[0].ended()
    running[0].kill()

    peer = join(target)
    wait_for(lambda: peer.drain() or 0 in peer.peers, "the survivor")
    peer.pump(lambda p: len(p.peers.get(0, ())) == 2)
    peer.ring(0, 1)
    wait_for(lambda: rings(idle, 1) == 1, "the ring")
    successor = bound(boot(target, "ours", "uio_ivshmem"))
    running = [guest.start(f"hello-guest auto: {seat} 100")
               for seat, guest in enumerate((guests[0], successor))]
    for command in running:
        status, output = command.wait()
        assert status == 0, output


def test_storm(server, boot, on_host, join):
    """A vector is rung as fast as it goes: no ring is made up, and the other vector still works."""
    target = server(vectors=2)
    guest = bound(boot(target, "ours", "uio_ivshmem"))
    uio = guest.run(f"cd /sys/class/uio; grep -lx ivshmem-{guest.where}.1 */name").split("/")[0]
    peer = join(target).pump_mesh(1, 2)
    number = next(iter(peer.peers))
    command = guest.start("hello-guest auto: 0 100")
    other = on_host("hello-guest", f"unix:{target.socket}", "1", "100")
    sent = 0
    stop = time.monotonic() + 3
    while time.monotonic() < stop:
        for _ in range(1000):
            peer.ring(number, 1)
            sent += 1
    for party in (command, other):
        status, output = party.wait()
        assert status == 0, output
    counts = []

    def all_has_come():  # the last of the storm is on its way a moment longer
        counts[:] = [int(guest.run(f"cat /sys/class/uio/{uio}/event")),
                     guest.interrupts()[f"ivshmem-{guest.where}.1"]]
        return counts[0] == counts[1]

    wait_for(all_has_come, "the driver to count what the kernel does")
    assert 0 < counts[0] <= sent
