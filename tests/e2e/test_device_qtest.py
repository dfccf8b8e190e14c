# SPDX-License-Identifier: MIT
"""
ivshmem-device as a device of QEMU 11, driven register by register.

The tests up to hotplug_q35 ask what QEMU's test suite asks of its own device, now and in the days
of revision 0 (test_qtest.py asks it of that device itself); the others ask for what users rely on
besides. Unplugging is tested without MSI-X only: with it QEMU 11.1 aborts (docs/vfio-user.md,
section 7).
"""

import os
import re
import time

import pytest

from conftest import wait_until
from qemu import (DOORBELL, INTRMASK, INTRSTATUS, IVPOSITION, MEMORY_CONTROLLER, SUFFIX,
                  doorbell_device, vfio_user_device)
from test_qtest import boot, eject, exchange, shared_file  # pylint: disable=unused-import

MIB = 1 << 20
NO_ID = 0xFFFFFFFF


@pytest.fixture
def attach(boot, tmp):  # pylint: disable=redefined-outer-name
    """
    attach(target, number=0) is a machine's device, served by socket `number` of `target`.
    """

    def start(target, number=0, **arguments):
        return boot(*vfio_user_device(target.sockets[number]), qemu="qemu-11", **arguments).pci()

    return start


@pytest.fixture
def spec(tmp):
    """spec("type=plain", ...) is the argument of --device with a socket of its own."""
    numbers = iter(range(100))
    return lambda *items: ",".join([f"socket={tmp}/d{next(numbers)}", *items])


def with_server(kind, server, *items):
    return f"type={kind},server=unix:{server.socket}", *items


def rung(host):
    return wait_until(host.rung, "the doorbell")


# ---- QEMU's own tests ----


def test_single(device, attach, spec, shared_file):
    path, memory = shared_file
    pci = attach(device(spec(f"type=plain,memdev={path}")))
    assert (pci.register_size, pci.msix_size, pci.memory_size) == (256, 0, MIB)
    assert pci.config_read(0x08) == MEMORY_CONTROLLER << 16 | 1, "class, revision"
    assert pci.vectors == 0

    assert [pci.register(offset) for offset in (INTRMASK, INTRSTATUS, IVPOSITION)] == [0, 0, 0]
    pci.set_register(INTRMASK, 0xFFFFFFFF)
    assert pci.register(INTRMASK) == 0xFFFFFFFF
    pci.set_register(INTRSTATUS, 1)
    assert [pci.register(INTRSTATUS) for _ in range(2)] == [1, 0], "cleared by reading"
    pci.set_register(IVPOSITION, 1)
    assert pci.register(DOORBELL) == 0
    pci.ring(8, 0)

    data = bytes(range(256)) * 16
    pci.machine.write(pci.memory, data)
    assert memory[:len(data)] == data
    assert pci.machine.read(pci.memory, len(data)) == data


def test_memdev(device, attach, spec, tmp):
    """On memory that nobody else has."""
    name = f"e2e-{tmp.name}"
    try:
        pci = attach(device(spec(f"type=plain,shm={name},size=1M")))
        assert (pci.register_size, pci.memory_size) == (256, MIB)
    finally:
        os.unlink(f"/dev/shm/{name}")


def plug(machine, target, slot=6, **more):
    machine.events.clear()
    machine.monitor("device_add", driver="vfio-user-pci", id="iv1", addr=f"{slot:#x}", rombar=0,
                    socket={"type": "unix", "path": target.socket}, **more)


def unplug(machine, target, slot=6):
    machine.monitor("device_del", id="iv1")
    eject(machine, slot)
    wait_until(lambda: target.fds() == target.base_fds, "the device to be free")


def test_hotplug(device, boot, spec, shared_file):
    path, _ = shared_file
    target = device(spec(f"type=plain,memdev={path}"))
    machine = boot(qemu="qemu-11")
    for _ in range(2):
        plug(machine, target)
        assert machine.pci(6).memory_size == MIB
        unplug(machine, target)


def test_hotplug_of_revision_0(server, device, boot, join, spec):
    """It stays the same peer of its server while it is not plugged in."""
    joined = server(vectors=2)
    host = join(joined)
    target = device(spec(*with_server("legacy", joined, "msi=off")))
    host.pump_mesh(1, 2)
    machine = boot(qemu="qemu-11")
    for _ in range(2):
        plug(machine, target)
        pci = machine.pci(6)
        assert pci.id == 1
        host.ring(1, 0)
        wait_until(lambda: pci.register(INTRSTATUS), "the interrupt")
        unplug(machine, target)
    assert host.drain() == 0, "nobody came or left"


def test_hotplug_q35(device, boot, spec, shared_file):
    path, _ = shared_file
    target = device(spec(f"type=plain,memdev={path}"))
    machine = boot("-device", "pcie-root-port,id=p1", "-device", "pcie-pci-bridge,bus=p1,id=b1",
                   qemu="qemu-11", machine="q35")
    plug(machine, target, 1, bus="b1")
    machine.monitor("device_del", id="iv1")


def two_devices(device, spec, kind, *items):
    """Two devices, of one process or of two: [(target, number)] for attach."""
    if kind == "one process":
        target = device(spec(*items), spec(*items))
        return [(target, 0), (target, 1)]
    first, second = (device(spec(*items)) for _ in range(2))
    first.settle()  # it has heard of the second
    return [(first, 0), (second, 0)]


PROCESSES = pytest.mark.parametrize("processes", ["one process", "two processes"])


@PROCESSES
def test_pair(device, attach, spec, shared_file, processes):
    path, memory = shared_file
    first, second = (attach(*one) for one in
                     two_devices(device, spec, processes, f"type=plain,memdev={path}"))
    memory[:] = b"\x42" * MIB
    for pci in (first, second):
        assert pci.machine.read(pci.memory, MIB) == b"\x42" * MIB
    exchange(first, second, MIB)


@PROCESSES
def test_server(server, device, attach, spec, processes):
    target = server(vectors=2)
    items = with_server("doorbell", target, "vectors=2")
    first, second = (attach(*one) for one in two_devices(device, spec, processes, *items))
    talk(first, second)


def talk(first, second):
    """What QEMU's test of that name does."""
    for pci in (first, second):
        assert (pci.register_size, pci.vectors) == (256, 2)
        pci.enable_msix()
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


@pytest.mark.parametrize("qemu", ["qemu-7", "qemu-10", "qemu-11"])
def test_server_with_the_built_in_device(server, device, boot, attach, spec, qemu):
    """The other party is QEMU's own device."""
    target = server(vectors=2)
    ours = attach(device(spec(*with_server("doorbell", target, "vectors=2"))))
    talk(ours, boot(*doorbell_device(target), qemu=qemu).pci())


@PROCESSES
def test_server_irq(server, device, attach, spec, processes):
    """Revision 0 without MSI-X: any vector sets the status."""
    target = server(vectors=2)
    items = with_server("legacy", target, "msi=off,vectors=2")
    first, second = (attach(*one) for one in two_devices(device, spec, processes, *items))
    for pci in (first, second):
        assert (pci.register_size, pci.msix_size, pci.memory_size) == (256, 0, MIB)
        assert pci.config_read(0x08) == MEMORY_CONTROLLER << 16, "class, revision"
        assert pci.config_read(0x3C) >> 8 & 0xFF == 1, "pin"
        assert pci.register(INTRSTATUS) == 0
    for here, there, vector in ((first, second, 0), (second, first, 1)):
        here.ring(there.id, vector)
        assert wait_until(lambda pci=there: pci.register(INTRSTATUS), "the interrupt") == 1
        assert [pci.register(INTRSTATUS) for pci in (here, there)] == [0, 0]


# ---- VMMs come and go ----


def test_machine_leaves_and_returns(server, device, attach, join, spec):
    """The device is the same peer for every VMM that comes; what one has set up is gone."""
    joined = server(vectors=2)
    host = join(joined)
    target = device(spec(*with_server("doorbell", joined, "vectors=2")))
    host.pump_mesh(1, 2)
    for turn in range(4):
        pci = attach(target)
        assert pci.id == 1
        assert pci.register(INTRMASK) == 0
        pci.set_register(INTRMASK, 0xFFFFFFFF)
        pci.enable_msix()
        assert pci.pending() == set()
        for vector in (0, 1):
            pci.ring(host.id, vector)
            assert rung(host) == {vector: 1}
            host.ring(pci.id, vector)
            pci.wait_pending(vector)
        pci.machine.close(kill=turn % 2 == 0)
        wait_until(lambda: target.fds() == target.base_fds, "the device to be free")
    assert host.drain() == 0, "nobody came or left"


def test_system_reset(server, device, attach, join, spec):
    joined = server(vectors=2)
    host = join(joined)
    pci = attach(device(spec(*with_server("doorbell", joined, "vectors=2"))))
    host.pump_mesh(1, 2)
    machine = pci.machine
    machine.write(pci.memory, b"stays")
    for _ in range(10):
        pci.enable_msix()
        host.ring(1, 1)
        pci.wait_pending(1)
        machine.reset()
        pci = machine.pci()
        assert (pci.id, pci.register(INTRMASK), pci.pending()) == (1, 0, set())
        assert machine.read(pci.memory, 5) == b"stays"


def test_second_machine_is_refused_at_once(server, device, attach, join, spec):
    joined = server(vectors=2)
    host = join(joined)
    target = device(spec(*with_server("doorbell", joined, "vectors=2")))
    pci = attach(target)
    pci.enable_msix()
    with pytest.raises(AssertionError, match="Device or resource busy"):  # not its own time-out
        attach(target)
    host.pump_mesh(1, 2)
    host.ring(pci.id, 0)
    pci.wait_pending(0)


# ---- doorbells ----


def test_two_devices_of_a_process_in_one_machine(server, device, boot, join, spec):
    """They are two peers, to each other as well."""
    joined = server(vectors=2)
    host = join(joined)
    items = with_server("doorbell", joined, "vectors=2")
    target = device(spec(*items), spec(*items))
    machine = boot(*vfio_user_device(target.sockets[0], "iv0", 4),
                   *vfio_user_device(target.sockets[1], "iv1", 5), qemu="qemu-11")
    first, second = (pci_at(machine, slot) for slot in (4, 5))
    host.pump_mesh(2, 2)
    assert {first.id, second.id} == {1, 2}
    for pci in (first, second):
        pci.enable_msix()
    for here, there, vector in ((first, second, 0), (second, first, 1), (first, first, 0)):
        here.ring(there.id, vector)
        there.wait_pending(vector)
    assert (first.pending(), second.pending()) == ({0, 1}, {0})
    host.ring(second.id, 1)
    second.wait_pending(1)
    second.ring(host.id, 1)
    assert rung(host) == {1: 1}


def pci_at(machine, slot):
    """A device that shares its machine with others."""
    return machine.pci(slot, base=0x80000000 + (slot - 4) * 0x18000000)


def test_devices_of_a_process_with_the_same_id(server, device, boot, spec):
    """Two servers have each given ID 0; a doorbell stays with the peers of its own server."""
    servers = [server(vectors=1) for _ in range(2)]
    target = device(*(spec(*with_server("doorbell", one, "vectors=1"))
                      for one in (servers[0], servers[1], servers[1])))
    machine = boot(*(option for slot, socket in enumerate(target.sockets, 4)
                     for option in vfio_user_device(socket, f"iv{slot}", slot)), qemu="qemu-11")
    alone, first, second = (pci_at(machine, slot) for slot in (4, 5, 6))
    assert (alone.id, {first.id, second.id}) == (0, {0, 1})
    for pci in (alone, first, second):
        pci.enable_msix()
    first.ring(second.id, 0)
    second.wait_pending(0)
    second.ring(first.id, 0)
    first.wait_pending(0)
    assert alone.pending() == set()
    alone.ring(1, 0)
    alone.ring(0, 0)
    alone.wait_pending(0)


def test_vectors_above_255(server, device, attach, join, spec):
    """The doorbell takes 16 bits of vector."""
    joined = server(vectors=258)
    host = join(joined)
    pci = attach(device(spec(*with_server("doorbell", joined, "vectors=258"))))
    assert pci.vectors == 258
    host.pump_mesh(1, 258)
    pci.enable_msix()
    for vector in (1, 255, 256, 257):
        pci.ring(host.id, vector)
        assert rung(host) == {vector: 1}
        host.ring(pci.id, vector)
        pci.wait_pending(vector)
    assert pci.pending() == {1, 255, 256, 257}


# ---- servers come and go ----


@PROCESSES
def test_devices_survive_the_server(server, device, attach, join, spec, processes):
    joined = server(vectors=2)
    host = join(joined)
    targets = two_devices(device, spec, processes, *with_server("doorbell", joined, "vectors=2"))
    first, second = (attach(*one) for one in targets)
    for pci in (first, second):
        pci.enable_msix()
    host.pump_mesh(2, 2)
    second.ring(first.id, 1)  # both know each other
    first.wait_pending(1)
    joined.kill()
    for target, _ in targets:
        target.wait_log("server is gone")
    second.ring(first.id, 0)
    first.wait_pending(0)
    first.ring(second.id, 1)
    second.wait_pending(1)
    host.ring(second.id, 0)
    second.wait_pending(0)
    first.ring(host.id, 1)
    assert rung(host) == {1: 1}
    exchange(first, second, MIB)

    def lines():
        text = "".join({target.log_path: target.log() for target, _ in targets}.values())
        return len(re.findall("server is gone", text))

    wait_until(lambda: lines() >= 2, "each device to say so")
    assert lines() == 2, "one line for each device"


def test_late_server(server, device, attach, join, spec, tmp):
    """Position -1 and zeros until the server answers, then an ID and the start of its region."""
    path = tmp / "later"
    target = device(spec(f"type=legacy,late-server=on,size=1M,msi=off,server=unix:{path}"))
    pci = attach(target)
    assert (pci.memory_size, pci.id) == (MIB, NO_ID)
    target.wait_log("waits for its server")
    pci.machine.write(pci.memory, b"lost")
    pci.ring(0, 0)
    assert pci.machine.read(pci.memory, 4096) == bytes(4096)

    joined = server(socket=path, vectors=1, size="2M")
    host = join(joined)
    os.pwrite(host.region, b"from the host", MIB - 16)
    wait_until(lambda: pci.id != NO_ID, "the position")
    assert pci.machine.read(pci.memory + MIB - 16, 13) == b"from the host"
    for size in SUFFIX:
        pci.machine.store(pci.memory + 64, size, 0x8877665544332211 & (1 << 8 * size) - 1)
        assert pci.machine.load(pci.memory + 64, size) == \
            int.from_bytes(os.pread(host.region, size, 64), "little")

    host.pump_mesh(1, 1)
    wait_until(target.sleeps, "the device to have heard of the host")
    pci.ring(host.id, 0)
    assert rung(host) == {0: 1}
    own = pci.id
    host.ring(own, 0)
    wait_until(lambda: pci.register(INTRSTATUS), "the interrupt")
    pci.machine.close(kill=True)
    target.wait_log("the VMM is gone")
    target.settle()  # the server's descriptors have come
    assert attach(target).id == own


def test_late_server_with_too_little(server, device, attach, join, spec, tmp):
    path = tmp / "later"
    target = device(spec(f"type=legacy,late-server=on,size=2M,server=unix:{path},vectors=1"))
    pci = attach(target)
    joined = server(socket=path, vectors=1, size="1M")
    target.wait_log("server has come, but")
    assert (pci.memory_size, pci.id) == (2 * MIB, NO_ID)
    pci.machine.write(pci.memory, b"lost")
    assert pci.machine.read(pci.memory, 4096) == bytes(4096)
    time.sleep(1.2)  # it would try again after a second
    assert len(re.findall("server has come", target.log())) == 1
    with join(joined) as host:
        assert host.drain() <= 1, "the device has left"


# ---- memory ----


def test_legacy_on_a_shared_memory_object(device, attach, spec, tmp):
    """shm=, size=: no server, position 0, nobody to ring. Of a larger object, the start."""
    name = f"e2e-{tmp.name}"
    path = f"/dev/shm/{name}"
    target = device(spec(f"type=legacy,shm={name},size=1M"))
    try:
        assert os.stat(path).st_size == MIB
        pci = attach(target)
        assert (pci.memory_size, pci.id) == (MIB, 0)
        pci.ring(0, 0)
        pci.machine.write(pci.memory + MIB - 8, b"shared")
        with open(path, "r+b") as file:
            file.seek(MIB - 8)
            assert file.read(6) == b"shared"
            file.truncate(4 * MIB)
        larger = attach(device(spec(f"type=legacy,shm={name},size=2M,msi=off")))
        assert larger.memory_size == 2 * MIB
        assert larger.machine.read(larger.memory + MIB - 8, 6) == b"shared"
    finally:
        os.unlink(path)


def test_readonly(server, device, attach, join, spec):
    """The guest's stores change nothing; doorbells work."""
    joined = server(vectors=2)
    host = join(joined)
    pci = attach(device(spec(*with_server("doorbell", joined, "vectors=2", "readonly=on"))))
    host.pump_mesh(1, 2)
    os.pwrite(host.region, b"from the host", 4096)
    assert pci.machine.read(pci.memory + 4096, 13) == b"from the host"
    for size in SUFFIX:
        pci.machine.store(pci.memory + 4096, size, 0)
    pci.machine.write(pci.memory, b"x" * 4096)
    assert os.pread(host.region, 13, 4096) == b"from the host"
    assert os.pread(host.region, 4096, 0) == bytes(4096)
    pci.enable_msix()
    pci.ring(host.id, 1)
    assert rung(host) == {1: 1}
    host.ring(pci.id, 1)
    pci.wait_pending(1)


def test_truncated_file_kills_nobody(device, attach, spec, shared_file):
    """Trapped accesses behind the end of a file that somebody has cut."""
    path, _ = shared_file
    pci = attach(device(spec(f"type=plain,memdev={path},readonly=on")))
    os.truncate(path, 4096)
    assert pci.machine.read(pci.memory + 8192, 8) == bytes(8)
    assert pci.register(IVPOSITION) == 0


# ---- migration: docs/device.md, section 10 ----


def test_migration(server, device, boot, join, spec, tmp):
    """
    QEMU 11.1 migrates the machine and tells the device nothing. The target's device is a new one:
    its own ID, its own server's memory, nothing set up; and its process says so.
    """
    hosts, devices = [], []
    for _ in range(2):
        joined = server(vectors=2)
        hosts.append(join(joined))
        if devices:
            join(joined)  # so that the IDs differ
        devices.append(device(spec(*with_server("doorbell", joined, "vectors=2"))))
    source, target = devices

    here = boot(*vfio_user_device(source.socket), qemu="qemu-11")
    pci = here.pci()
    pci.enable_msix()
    here.write(pci.memory, b"memory of the source")
    here.write(0x100000, b"guest")
    there = boot(*vfio_user_device(target.socket), "-incoming", "defer", qemu="qemu-11")
    there.monitor("migrate-incoming", uri=f"unix:{tmp}/migration")
    here.monitor("migrate", uri=f"unix:{tmp}/migration")
    for machine in (here, there):
        wait_until(lambda one=machine: one.monitor("query-migrate").get("status") == "completed",
                   "the migration")

    assert there.read(0x100000, 5) == b"guest"
    assert there.config_load(4, 4, 2) == 0, "as after reset"
    assert there.pci_regions(4)[0] == (1 << 64) - 1
    target.wait_log("migrated here")
    assert "migrated here" not in source.log(), "set up, if not used"

    pci = there.pci()  # the driver is loaded again
    assert (pci.id, pci.register(INTRMASK)) == (2, 0)
    assert there.read(pci.memory, 20) == bytes(20)
    pci.enable_msix()
    hosts[1].drain()
    hosts[1].ring(pci.id, 0)
    pci.wait_pending(0)
