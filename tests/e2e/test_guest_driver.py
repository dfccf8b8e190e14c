# SPDX-License-Identifier: MIT
"""
The module uio_ivshmem in Linux guests: on each kernel and both architectures, on QEMU's device and
on ours; what happens to those who use it when it goes away, and when the machine sleeps.
"""

import re

import pytest

from conftest import cases
from qemu import doorbell_device, plain_device, vfio_user_device
from shell_guest import (  # pylint: disable=unused-import # fixtures
    shell_guest, shell_image, wait_for)

SYSFS = "/sys/bus/pci/devices"
VECTORS = 4
SIZE = 1 << 20


@pytest.fixture
def machine(server, device, shell_guest, join, tmp):
    """
    A peer on the host, and a guest with the module, who know each other: machine("built-in",
    "ours") has these devices, in that order. The guest's `where` are their addresses.
    """

    def start(*kinds, kernel="debian12", vectors=VECTORS, ours="type=doorbell", **others):
        target = server(vectors=vectors, size=str(SIZE))
        options = []
        for slot, kind in enumerate(kinds, 4):
            if kind == "built-in":
                options += doorbell_device(target, vectors=vectors, name=f"iv{slot}", slot=slot)
            else:
                path = tmp / f"d{slot}"
                device(f"socket={path},{ours},server=unix:{target.socket},vectors={vectors}")
                options += vfio_user_device(path, name=f"iv{slot}", slot=slot)
        guest = shell_guest(*options, kernel=kernel, qemu="qemu-11", **others)
        guest.load("uio_ivshmem")
        guest.where = guest.devices()
        assert len(guest.where) == len(kinds)
        return join(target).pump_mesh(len(kinds), vectors), guest

    return start


def attribute(guest, bdf, name):
    return int(guest.run(f"cat {SYSFS}/{bdf}/ivshmem/{name}"))


def ring(peer, guest, bdf, vector):
    """Ring a guest's device, from the host."""
    peer.ring(attribute(guest, bdf, "id"), vector)


def waiters(guest, uri, *vectors, seconds=30):
    command = guest.start(f"waiters {uri} {seconds} {' '.join(map(str, vectors))}")
    wait_for(lambda: "ready" in command.output(), "the threads to wait")
    return command


def told(command, vector):
    """How many rings of a vector waiters was told of so far."""
    return sum(map(int, re.findall(rf"^{vector} rung (\d+)$", command.output(), re.M)))


@pytest.mark.parametrize("kernel", cases("debian12", "sid", "arm64", long=["trixie"]))
def test_kernels(machine, kernel):
    """A device is found by what it says of itself, and each vector has its interrupt."""
    peer, guest = machine("built-in", "ours", kernel=kernel)
    names = {}
    for line in guest.run("cd /sys/class/uio; grep . */name").splitlines():
        node, name = line.replace("/name", "").split(":", 1)
        names[name] = node
    assert sorted(names) == sorted(f"ivshmem-{bdf}.{vector}" for bdf in guest.where
                                   for vector in range(VECTORS))
    assert attribute(guest, guest.where[0], "id") != attribute(guest, guest.where[1], "id")

    for bdf in guest.where:
        assert attribute(guest, bdf, "vectors") == VECTORS
        assert attribute(guest, bdf, "region_size") == SIZE
        running = waiters(guest, f"uio:{bdf}", *range(VECTORS))
        for vector in range(VECTORS):
            for number in range(1, vector + 2):
                ring(peer, guest, bdf, vector)
                wait_for(lambda b=bdf, v=vector, n=number:
                           guest.interrupts()[f"ivshmem-{b}.{v}"] == n, "the interrupt")
        counts = guest.interrupts()
        for vector in range(VECTORS):
            count = counts[f"ivshmem-{bdf}.{vector}"]
            wait_for(lambda v=vector, n=count, r=running: told(r, v) == n, "all to be told")
            event = int(guest.run(f"cat /sys/class/uio/{names[f'ivshmem-{bdf}.{vector}']}/event"))
            assert event == count == vector + 1
        running.kill()
        running.wait()
    guest.unload("uio_ivshmem")
    assert guest.run("ls /sys/class/uio") == ""


def test_revision_0(machine):
    """INTx: one interrupt, which says nothing about the vector."""
    peer, guest = machine("ours", ours="type=legacy,msi=off", vectors=1)
    bdf, = guest.where
    assert attribute(guest, bdf, "vectors") == 1
    running = waiters(guest, "auto:", 0)
    for count in range(1, 21):
        ring(peer, guest, bdf, 0)
        wait_for(lambda c=count: guest.interrupts()[f"ivshmem-{bdf}.0"] == c, "the interrupt")
        wait_for(lambda c=count: told(running, 0) == c, "the thread to be told")


def test_plain(shell_guest, tmp):
    """Memory alone: waits are timed, and say so by their count."""
    (tmp / "region").write_bytes(b"from the host".ljust(SIZE, b"\0"))
    guest = shell_guest(*plain_device(tmp / "region", SIZE))
    guest.load("uio_ivshmem")
    bdf, = guest.devices()
    assert attribute(guest, bdf, "id") == -1 and attribute(guest, bdf, "vectors") == 0
    output = guest.run("timeout 50 waiters auto: 60 0 | head -n 2")
    assert "0 rung 0" in output
    assert guest.run("dd if=/dev/uio0 bs=4 count=1 2>&1 || :").count("error") == 1


@pytest.mark.parametrize("kernel", cases("debian12", long=["trixie", "sid", "arm64"]))
def test_driver_taken_away(machine, kernel):
    """Who waits hears of it; who has the memory mapped keeps it; then everything works again."""
    _, guest = machine("built-in", "ours", kernel=kernel)
    # With a limit of time and without: the library waits in another way.
    running = [waiters(guest, f"uio:{bdf}", 0, 1, seconds=seconds)
               for bdf, seconds in zip(guest.where, (30, -1))]
    assert "Resource temporarily unavailable" in guest.run("rmmod uio_ivshmem", check=False)

    words = []
    for bdf, command in zip(guest.where, running):
        guest.unbind(bdf)
        status, output = command.wait()
        assert status == 1 and output.count("failed: No such device") == 2, output
        words.append(int(re.search(r"^memory (\d+)$", output, re.M)[1]))
    assert words == [1, 2]  # both devices are of one server
    guest.unload("uio_ivshmem")
    assert guest.interrupts() == {}
    guest.load("uio_ivshmem")
    for bdf in guest.where:
        output = guest.run(f"waiters uio:{bdf} 0.1 0 1")
        assert "0 total 0 in 0" in output, output


@pytest.mark.parametrize("qemu", cases("qemu-11", long=["qemu-7"]))
def test_unplugged(server, shell_guest, qemu):
    """
    Hot-unplug while a process waits. On QEMU's own device: where vfio-user-pci is unplugged, QEMU
    11.0 dies of an assertion.
    """
    guest = shell_guest(*doorbell_device(server(vectors=2)), qemu=qemu)
    guest.load("uio_ivshmem")
    running = waiters(guest, "auto:", 0, 1, seconds=-1 if qemu == "qemu-7" else 30)
    guest.monitor("device_del", id="iv0")
    status, output = running.wait()
    assert status == 1 and output.count("failed: No such device") == 2, output
    wait_for(lambda: guest.devices() == [], "the device to be gone")
    assert guest.interrupts() == {}


def test_suspend(machine):
    """A ring that comes while the machine sleeps is not lost, and those after it are not either."""
    peer, guest = machine("built-in", "ours")
    ids = [attribute(guest, bdf, "id") for bdf in guest.where]
    running = [waiters(guest, f"uio:{bdf}", 0, seconds=-1) for bdf in guest.where]
    sleep = guest.start("sh -c 'echo deep >/sys/power/mem_sleep; echo mem >/sys/power/state'")
    guest.wait_event("SUSPEND")
    for number in ids:
        peer.ring(number, 0)
    guest.monitor("system_wakeup")
    assert sleep.wait()[0] == 0
    for number, command in zip(ids, running):
        wait_for(lambda c=command: "0 rung" in c.output(), "the ring that came meanwhile")
        before = command.output().count("rung")
        peer.ring(number, 0)
        wait_for(lambda c=command, n=before: c.output().count("rung") > n, "a ring after it")
        command.kill()


def test_reset(server, shell_guest, join):
    """Reset by its bus, for which it has to be the only device there."""
    target = server(vectors=2)
    bridge = ["-device", "pci-bridge,id=bridge,chassis_nr=1,addr=5"]
    options = [word + ",bus=bridge" if word.startswith("ivshmem-doorbell") else word
               for word in doorbell_device(target)]
    guest = shell_guest(*bridge, *options)
    guest.load("uio_ivshmem")
    bdf, = guest.devices()
    peer = join(target).pump_mesh(1, 2)
    running = waiters(guest, "auto:", 0, 1)
    guest.run(f"echo 1 >{SYSFS}/{bdf}/reset")
    for vector in range(2):
        wait_for(lambda v=vector: f"{v} rung" in running.output(), "to be told of the reset")
        before = running.output().count(f"{vector} rung")
        ring(peer, guest, bdf, vector)
        wait_for(lambda v=vector, n=before: running.output().count(f"{v} rung") > n, "a ring")
    assert attribute(guest, bdf, "id") == 0
