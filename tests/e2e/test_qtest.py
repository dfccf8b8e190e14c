# SPDX-License-Identifier: MIT
"""
QEMU's own ivshmem devices as our clients and neighbours, driven register by register.

What QEMU's test suite asserts of its device with the contrib server must hold with ours: the tests
named single, hotplug, memdev, pair, server and hotplug_q35 are those of its
tests/qtest/ivshmem-test.c; the others ask for what users rely on besides. Its server-irq needs the
device of revision 0, which no QEMU has had since 4.0. The registers are those of
include/ivshmem/abi.h.
"""

import mmap
import os
import re

import pytest

from conftest import wait_until
from qemu import (DOORBELL, INTRMASK, INTRSTATUS, IVPOSITION, MEMORY_CONTROLLER, Machine,
                  doorbell_device, plain_device)

MIB = 1 << 20
EACH_QEMU = pytest.mark.parametrize("qemu", ["qemu-7", "qemu-10", "qemu-11"])


@pytest.fixture
def boot(server):  # pylint: disable=unused-argument # machines leave before servers are judged
    machines = []

    def start(*options, **arguments):
        machines.append(Machine(*options, **arguments))
        return machines[-1]

    yield start
    for machine in machines:
        machine.close(kill=True)


@pytest.fixture
def shared_file(tmp):
    """A file of 1 MiB and its mapping."""
    path = tmp / "region"
    with open(path, "w+b") as file:
        file.truncate(MIB)
        with mmap.mmap(file.fileno(), MIB) as memory:
            yield path, memory


def doorbell_pci(machine, vectors=2):
    device = machine.pci()
    assert device.register_size == 256
    assert device.vectors == vectors
    device.enable_msix()
    return device


# ---- QEMU's own tests ----


def test_single(boot, shared_file):
    path, memory = shared_file
    device = boot(*plain_device(path, "1M")).pci()
    assert (device.register_size, device.msix_size, device.memory_size) == (256, 0, MIB)
    assert device.config_read(0x08) == MEMORY_CONTROLLER << 16 | 1, "class, revision"
    assert device.vectors == 0

    assert [device.register(offset) for offset in (INTRMASK, INTRSTATUS, IVPOSITION)] == [0, 0, 0]
    device.set_register(INTRMASK, 0xFFFFFFFF)
    assert device.register(INTRMASK) == 0xFFFFFFFF
    device.set_register(INTRSTATUS, 1)
    assert [device.register(INTRSTATUS) for _ in range(2)] == [1, 0], "cleared by reading"
    device.set_register(IVPOSITION, 1)
    assert device.register(DOORBELL) == 0
    device.ring(8, 0)

    data = bytes(range(256)) * 16
    device.machine.write(device.memory, data)
    assert memory[:len(data)] == data
    assert device.machine.read(device.memory, len(data)) == data


def test_memdev(boot):
    device = boot("-object", "memory-backend-ram,id=memory,size=1M",
                  "-device", "ivshmem-plain,memdev=memory,addr=4").pci()
    assert (device.register_size, device.memory_size) == (256, MIB)


def test_hotplug(boot):
    machine = boot("-object", "memory-backend-ram,id=memory,size=1M")
    machine.monitor("device_add", driver="ivshmem-plain", id="iv1", addr="6", memdev="memory")
    assert machine.pci(6).memory_size == MIB
    machine.monitor("device_del", id="iv1")
    eject(machine, 6)


def test_hotplug_q35(boot):
    machine = boot("-object", "memory-backend-ram,size=1M,id=memory",
                   "-device", "pcie-root-port,id=p1", "-device", "pcie-pci-bridge,bus=p1,id=b1",
                   machine="q35")
    machine.monitor("device_add", driver="ivshmem-plain", id="iv1", memdev="memory", bus="b1")
    machine.monitor("device_del", id="iv1")


def eject(machine, slot):
    """What a guest's ACPI code does: write the slot's bit to the pc machine's eject register."""
    machine.command("outl", "0xae08", hex(1 << slot))
    machine.wait_event("DEVICE_DELETED")


def exchange(first, second, size):
    """VM 1 writes, VM 2 reads, and the other way round, the whole region."""
    first.machine.fill(first.memory, size, 0x43)
    assert second.machine.read(second.memory, size) == b"\x43" * size
    second.machine.fill(second.memory, size, 0x44)
    assert first.machine.read(first.memory, size) == b"\x44" * size


def test_pair(boot, shared_file):
    path, memory = shared_file
    first, second = (boot(*plain_device(path, "1M")).pci() for _ in range(2))
    memory[:] = b"\x42" * MIB
    for device in (first, second):
        assert device.machine.read(device.memory, MIB) == b"\x42" * MIB
    exchange(first, second, MIB)


@EACH_QEMU
def test_server(server, boot, qemu):
    target = server(vectors=2)
    first, second = (doorbell_pci(boot(*doorbell_device(target), qemu=qemu)) for _ in range(2))
    assert {first.id, second.id} == {0, 1}
    assert first.memory_size == MIB

    assert first.pending() == set()
    second.ring(first.id, 0)
    first.wait_pending(0)
    assert second.pending() == set()
    first.ring(second.id, 1)
    second.wait_pending(1)
    assert (first.pending(), second.pending()) == ({0}, {1}), "a doorbell went astray"
    exchange(first, second, MIB)


# ---- what users rely on besides ----


@EACH_QEMU
def test_machine_and_host_peer_ring_each_other(server, boot, join, qemu):
    target = server(vectors=2)
    host = join(target)
    device = doorbell_pci(boot(*doorbell_device(target), qemu=qemu))
    host.pump_mesh(1, 2)
    assert (host.id, device.id) == (0, 1)

    for vector in (1, 0):
        host.ring(device.id, vector)
        device.wait_pending(vector)
        device.take_pending(vector)
        assert device.pending() == set()
        device.ring(host.id, vector)
        assert wait_until(host.rung, "the doorbell") == {vector: 1}

    device.machine.write(device.memory + 4096, b"from the machine")
    assert os.pread(host.region, 16, 4096) == b"from the machine"


def test_registers_of_the_doorbell_device(server, boot, join):
    target = server(vectors=2)
    host = join(target)
    device = doorbell_pci(boot(*doorbell_device(target)))
    host.pump_mesh(1, 2)
    assert device.config_read(0x08) == MEMORY_CONTROLLER << 16 | 1, "class, revision"
    assert device.id == 1, "final before the first instruction"
    device.set_register(IVPOSITION, 7)
    assert device.id == 1
    assert device.register(DOORBELL) == 0

    device.ring(device.id, 1)  # to itself: loops back through the own eventfd
    device.wait_pending(1)
    for peer, vector in ((5, 0), (65535, 0), (host.id, 2), (host.id, 255)):  # nobody there
        device.ring(peer, vector)
    device.ring(host.id, 0)
    assert wait_until(host.rung, "the doorbell") == {0: 1}


def test_machines_come_and_go(server, boot, join):
    """A host peer and a machine that stays see every other machine arrive and leave, also by -9."""
    target = server(vectors=2)
    host = join(target)
    staying = doorbell_pci(boot(*doorbell_device(target)))
    for turn in range(4):
        machine = boot(*doorbell_device(target))
        guest = doorbell_pci(machine)
        host.pump_mesh(2, 2)
        own = guest.id
        assert own == 2 + turn, "IDs are not reused while there are unused ones"
        guest.ring(staying.id, 0)
        staying.wait_pending(0)
        staying.take_pending(0)
        staying.ring(own, 1)
        guest.wait_pending(1)

        machine.close(kill=turn % 2 == 0)
        host.pump_mesh(1, 2)
        staying.ring(own, 0)  # harmless
    host.ring(staying.id, 1)
    staying.wait_pending(1)


def test_device_survives_the_server(server, boot, join):
    """Region and doorbells keep working between those who are there."""
    target = server(vectors=2)
    host = join(target)
    device = doorbell_pci(boot(*doorbell_device(target)))
    host.pump_mesh(1, 2)
    target.kill()
    host.ring(device.id, 0)
    device.wait_pending(0)
    device.ring(host.id, 1)
    assert wait_until(host.rung, "the doorbell") == {1: 1}
    assert device.id == 1
    device.machine.fill(device.memory, MIB, 0x55)
    assert os.pread(host.region, MIB, 0) == b"\x55" * MIB


@pytest.mark.parametrize("of_server, of_device", [(1, 4), (4, 1), (64, 64)])
def test_number_of_vectors_differs(server, boot, join, of_server, of_device):
    """The smaller number is usable; QEMU says so of surplus ones and lives."""
    target = server(vectors=of_server)
    host = join(target)
    machine = boot(*doorbell_device(target, vectors=of_device))
    device = doorbell_pci(machine, of_device)
    host.pump_mesh(1, of_server)
    usable = min(of_server, of_device)
    for vector in range(of_server):
        host.ring(device.id, vector)
    for vector in range(usable):
        device.wait_pending(vector)
    assert device.pending() == set(range(usable))
    for vector in range(of_server):
        device.ring(host.id, vector)
    wait_until(lambda: host.rung() if usable else True, "a doorbell")

    said = machine.close()
    surplus = re.findall(r"Too many eventfd", said)
    assert bool(surplus) == (of_server > of_device)


def test_hotplug_of_the_doorbell_device(server, boot, join):
    """Plugging in joins, taking out and dropping the socket leaves; and once more."""
    target = server(vectors=2)
    host = join(target)
    machine = boot()
    for turn in range(2):
        machine.events.clear()
        machine.monitor("chardev-add", id="s", backend={"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": target.socket}}, "server": False}})
        machine.monitor("device_add", driver="ivshmem-doorbell", id="iv1", addr="6", chardev="s",
                        vectors=2)
        device = machine.pci(6)
        device.enable_msix()
        host.pump_mesh(1, 2)
        assert device.id == 1 + turn
        host.ring(device.id, 0)
        device.wait_pending(0)
        machine.monitor("device_del", id="iv1")
        eject(machine, 6)
        machine.monitor("chardev-remove", id="s")
        host.pump_mesh(0, 2)


def test_plain_device_on_the_region_of_a_server(server, boot, join):
    """ivshmem-plain on the server's memory, which is sealed and has no name, by its descriptor."""
    target = server(vectors=1)
    host = join(target)
    device = boot(*plain_device(f"/proc/{os.getpid()}/fd/{host.region}", "1M")).pci()
    assert device.memory_size == MIB
    device.machine.fill(device.memory, MIB, 0x66)
    assert os.pread(host.region, MIB, 0) == b"\x66" * MIB
    assert device.id == 0


def test_full_server_is_an_error_of_that_machine_alone(server, boot, join):
    target = server("--max-peers", 1)
    host = join(target)
    with pytest.raises(AssertionError, match="ivshmem"):
        boot(*doorbell_device(target, vectors=1))
    host.pump_mesh(0, 1)
