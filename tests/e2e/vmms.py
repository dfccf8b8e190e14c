# SPDX-License-Identifier: MIT
"""
VMMs for tests. They behave like those in the field, weaknesses included (docs/vfio-user.md,
section 8): Qemu keeps many requests under way and loses the connection on a reply longer than its
buffer; CloudHypervisor reads exactly the bytes of a success and so hangs on anything shorter; Spdk
leaves out whatever the protocol lets it leave out.

Each has boot(), which goes through all that happens until a guest's driver has its interrupts.
"""

import itertools
import os
import socket
from dataclasses import dataclass

import pytest

import wire
from conftest import ended_with_test, wait_until
from vfio_user import (
    ACCESS, BAR2, BARS, CAPABILITIES, COMMAND, CONFIG, DATA_EVENTFD, DATA_NONE, DEVICE_RESET,
    DMA_MAP, DMA_UNMAP, ERR, ERROR, HEADER, INTX, MAPPABLE, MASK, MASTER_ENABLE, MAX_FDS,
    MEMORY_ENABLE, MSIX, MSIX_CAPABILITY, MSIX_ENABLE, NO_REPLY, PIN, REGION_INFO, ROM,
    ROM_BAR, STATUS, TIMEOUT, TRIGGER, UNMASK, Command, Hang, ProtocolError, Region, Vmm)

# What a machine maps for DMA: address, size, flags. The device must take all of it and use none.
GUEST_RAM = [(0, 0xA0000, 3), (0xC0000, 0x20000, 1), (0xE0000, 0x20000, 1),
             (0x100000, 0xFF00000, 3), (0xFFFC0000, 0x40000, 1)]


def device_spec(socket, **keys):  # pylint: disable=redefined-outer-name
    """The argument of --device."""
    keys = {"socket": socket, **keys}
    return ",".join(f"{key.replace('_', '-')}={value}" for key, value in keys.items())


@pytest.fixture
def attach(device):  # pylint: disable=unused-argument
    """Connect a VMM: attach(Qemu, path). It leaves when the test ends, before the devices do."""
    yield from ended_with_test(lambda kind, path, **options: kind(path, **options), Vmm.close)


class Qemu(Vmm):
    """QEMU 11: `-device vfio-user-pci`."""

    capabilities = {
        "pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576,
        "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": True}

    def __init__(self, path, timeout=TIMEOUT):
        super().__init__(path, timeout)
        self.err = self.eventfd()
        self.control = 0  # place of the MSI-X control register
        self.resample = -1
        self.pin = 0

    def boot(self, vectors=0):
        self.realize()
        self.machine_reset()
        self.enable()
        return self.msix_enable(vectors) if vectors else self

    def realize(self):
        """All that happens before the guest runs."""
        self.version()
        for address, size, flags in GUEST_RAM:
            self.send(Command.DMA_MAP, DMA_MAP.pack(32, flags, 0, address, size), exact=16)
        self.flush()
        _, regions, interrupts = self.get_info()
        if not (8 <= regions <= 100 and 3 <= interrupts <= 50):
            raise ProtocolError(f"{regions} regions, {interrupts} kinds of interrupts")
        for index in (0, 1, 2, 3, 4, 5, CONFIG):
            region = self.get_region_info(index)
            if index < ROM and region.size & (region.size - 1):
                raise ProtocolError(f"QEMU aborts on a BAR of {region.size} bytes")
        self.get_irq_info(ERR)
        config = self.read(CONFIG, 0, self.regions[CONFIG].size)
        rom = self.load(CONFIG, ROM_BAR)
        self.store(CONFIG, ROM_BAR, 0xFFFFF800)
        self.load(CONFIG, ROM_BAR)
        self.store(CONFIG, ROM_BAR, rom)
        for bar in range(6):
            if self.regions[bar].size:
                self.load(CONFIG, BARS + 4 * bar)
        if config[STATUS] & 0x10 and config[config[CAPABILITIES]] == MSIX_CAPABILITY:
            place = config[CAPABILITIES]
            self.control = place + 2
            for offset, size in ((2, 2), (4, 4), (8, 4)):
                self.load(CONFIG, place + offset, size)
            self.get_irq_info(MSIX)
        self.pin = self.load(CONFIG, PIN, 1)
        if self.pin:
            self.intx_on()
        self.set_irqs(ERR, DATA_EVENTFD | TRIGGER, 0, 1, [self.err])
        if self.regions[BAR2].flags & MAPPABLE:
            self.map_memory()
        return self

    def machine_reset(self):
        """Before each boot."""
        if self.vectors:
            self.set_irqs(MSIX, DATA_NONE | TRIGGER)
        if self.intx >= 0:
            self.set_irqs(INTX, DATA_NONE | TRIGGER)
        self.store(CONFIG, COMMAND, self.load(CONFIG, COMMAND, 2) & ~7, 2)
        if self.info[0] & DEVICE_RESET:
            self.reset()
        self.load(CONFIG, PIN, 1)
        for bar in range(6):
            self.store(CONFIG, BARS + 4 * bar, 0)
        if self.pin:
            self.intx_on()
        self.vectors = {}

    def enable(self, address=0xFE0000000):
        """Firmware and guest: addresses, command register. BAR2 comes back as memory for DMA."""
        self.store(CONFIG, BARS, 0xFEBD0000)
        self.store(CONFIG, BARS + 4, 0xFEBD1000)
        self.store(CONFIG, BARS + 8, address & 0xFFFFFFFF)
        self.store(CONFIG, BARS + 12, address >> 32)
        command = self.load(CONFIG, COMMAND, 2)
        self.store(CONFIG, COMMAND, command | MEMORY_ENABLE | MASTER_ENABLE, 2)
        self.send(Command.DMA_MAP, DMA_MAP.pack(32, 3, 0, address, self.regions[BAR2].size),
                  exact=16)
        # A burst of what was never mapped, as an emulated IOMMU makes it.
        self.send(Command.DMA_UNMAP, DMA_UNMAP.pack(24, 0, 0xFEF00000, 0xFFFFFFFF01100000),
                  exact=40)
        self.flush()
        return self

    def write(self, region, offset, data):
        """Guest writes are posted once no region can be mapped."""
        if region <= BAR2 and not any(r.flags & MAPPABLE for r in self.regions.values()):
            self.send(Command.REGION_WRITE, ACCESS.pack(offset, region, len(data)) + data,
                      flags=NO_REPLY)
        else:
            super().write(region, offset, data)

    # ---- MSI-X: the table is QEMU's own ----

    def msix_enable(self, vectors=0, used=None):
        """
        The guest enables MSI-X: with all vectors still masked, then unmasking 0..vectors-1 one by
        one; or, with a set `used`, with these unmasked before.
        """
        self.msix_control(MSIX_ENABLE)
        if used is None:
            self.assign(0, [], 1)
            for vector in range(vectors):
                self.unmask(vector)
            return self
        for vector in used:
            self.vectors[vector] = self.eventfd()
        for assigned, run in itertools.groupby(range(vectors), lambda v: v in used):
            run = list(run)
            for first in range(0, len(run), MAX_FDS):
                part = run[first:first + MAX_FDS]
                self.assign(part[0], [self.vectors[v] for v in part] if assigned else [], len(part))
        return self

    def msix_control(self, value):
        self.store(CONFIG, self.control, value, 2)

    def unmask(self, vector):
        """The first unmasking makes the eventfd; later ones assign the same again."""
        if vector not in self.vectors:
            self.vectors[vector] = self.eventfd()
        self.assign(vector, [self.vectors[vector]])

    def msix_disable(self):
        self.msix_control(0)
        self.set_irqs(MSIX, DATA_NONE | TRIGGER)
        self.vectors = {}

    # ---- INTx ----

    def intx_on(self, kvm=False):
        """Without KVM each access to a BAR unmasks; with it the write of a resample eventfd."""
        self.intx = self.eventfd()
        self.set_irqs(INTX, DATA_EVENTFD | TRIGGER, 0, 1, [self.intx])
        if kvm:
            self.resample = self.eventfd()
            self.set_irqs(INTX, DATA_NONE | MASK, 0, 1)
            self.set_irqs(INTX, DATA_EVENTFD | UNMASK, 0, 1, [self.resample])
            self.intx_unmask()

    def intx_unmask(self):
        self.set_irqs(INTX, DATA_NONE | UNMASK, 0, 1)

    def unplug(self):
        """device_del."""
        self.set_irqs(ERR, DATA_EVENTFD | TRIGGER, 0, 1)
        if self.intx >= 0:
            self.set_irqs(INTX, DATA_NONE | TRIGGER)
        for address, size, _ in GUEST_RAM:
            self.send(Command.DMA_UNMAP, DMA_UNMAP.pack(24, 0, address, size), exact=40)
        self.flush()
        self.close()


class CloudHypervisor(Vmm):
    """
    Cloud Hypervisor: `--user-device`. One request at a time; it takes the bytes of a success and
    looks at no error flag.
    """

    minor = 1
    capabilities = {"max_msg_fds": 1, "max_data_xfer_size": 1048576, "migration": {"pgsize": 4096}}

    def __init__(self, path, timeout=TIMEOUT):
        super().__init__(path, timeout)
        self.bar_sizes = {}
        self.uses_intx = False

    def read_reply(self, room, exact):
        """The header is read like QEMU's only to name what would hang."""
        reply = super().read_reply(1 << 20, exact)
        if exact is not None and reply.size < exact:
            wire.close_all(reply.fds)
            raise Hang(f"waits for {exact} bytes and got {reply}")
        return reply

    @staticmethod
    def expect_success(reply):
        if reply.flags & ERROR and reply.command == Command.VERSION:
            raise OSError(reply.error, "refused, if the connection ends now")
        return reply  # an error of a header's size is taken for the success

    def get_region_info(self, index, argsz=REGION_INFO.size, extra=0):
        """Its reply is read by a single call."""
        self.send(Command.GET_REGION_INFO, REGION_INFO.pack(argsz, 0, index, 0, 0, 0))
        self.under_way.clear()
        data, fds, _, _ = socket.recv_fds(self.sock, 48, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        if len(data) < 48:
            raise Hang(f"region {index}: {data!r} in one read")
        _, flags, _, _, size, offset = REGION_INFO.unpack(data[HEADER.size:])
        self.regions[index] = Region(flags, size, offset, *fds)
        return self.regions[index]

    def boot(self, vectors=0):
        ram = os.memfd_create("ram")
        try:
            self.create(ram)
        finally:
            os.close(ram)
        self.store(CONFIG, COMMAND, MEMORY_ENABLE | MASTER_ENABLE, 2)
        return self.msix_enable(vectors) if vectors else self

    def create(self, ram):
        """Creation of the device. `ram` is the guest's memory."""
        self.version()
        flags, regions, _ = self.get_info(argsz=32)
        for index in range(regions):
            self.get_region_info(index)
        if not flags & DEVICE_RESET:  # the test is the wrong way round in its code
            self.reset()
        self.load(CONFIG, STATUS, 2)
        if self.find_capability(MSIX_CAPABILITY):
            self.get_irq_info(MSIX)
        if self.get_irq_info(INTX)[1]:
            self.intx_on()
        for address, size, flags in GUEST_RAM:
            if flags & 2:
                self.dma_map(address, size, fd=ram)
        self.size_bars()
        if self.regions[BAR2].flags & MAPPABLE:
            self.map_memory()

    def size_bars(self):
        """It takes the sizes from the registers, not from GET_REGION_INFO."""
        bar = 0
        while bar < 6:
            place = BARS + 4 * bar
            kind = self.load(CONFIG, place)
            self.store(CONFIG, place, 0xFFFFFFFF)
            low = self.load(CONFIG, place)
            if kind & 6 == 4:
                self.store(CONFIG, place + 4, 0xFFFFFFFF)
                high = self.load(CONFIG, place + 4)
                self.bar_sizes[bar] = (~(high << 32 | low & ~0xF) & (1 << 64) - 1) + 1
                bar += 1
            elif low:
                self.bar_sizes[bar] = (~(low & ~0xF) & 0xFFFFFFFF) + 1
            bar += 1
        self.store(CONFIG, ROM_BAR, 0xFFFFF800)
        if self.load(CONFIG, ROM_BAR):
            raise ProtocolError("there is no expansion ROM")

    def guest_config_read(self, offset):
        """Each comes with a walk along the capabilities."""
        self.find_capability(0xFF)
        return self.load(CONFIG, offset & ~3)

    def read(self, region, offset, count):
        data = super().read(region, offset, count)
        self._after_access(region)
        return data

    def write(self, region, offset, data):
        super().write(region, offset, data)
        self._after_access(region)

    def _after_access(self, region):
        if self.uses_intx and region < ROM:
            self.set_irqs(INTX, DATA_NONE | UNMASK, 0, 1)

    def msix_enable(self, vectors):
        """All vectors at once, 16 in a message, before the configuration space hears of it."""
        self.vectors = {vector: self.eventfd() for vector in range(vectors)}
        fds = list(self.vectors.values())
        for first in range(0, vectors, MAX_FDS):
            self.assign(first, fds[first:first + MAX_FDS])
        self.msix_control(MSIX_ENABLE)
        return self

    def msix_disable(self):
        self.set_irqs(MSIX, DATA_NONE | TRIGGER)
        self.msix_control(0)
        self.vectors = {}

    def intx_on(self):
        self.intx, self.uses_intx = self.eventfd(), True
        self.set_irqs(INTX, DATA_EVENTFD | TRIGGER, 0, 1, [self.intx])


class Spdk(Vmm):
    """SPDK's host library: no JSON, the same ID always, no interrupts."""

    def next_number(self):
        return 0

    def read_reply(self, room, exact):
        """It has one buffer for all replies but to long reads."""
        return super().read_reply(max(room, HEADER.size + 4096), exact)

    def boot(self, vectors=0):
        if vectors:
            raise ValueError("it sets up no interrupts")
        self.version()
        _, regions, _ = self.get_info()
        for index in range(regions):
            self.get_region_info(index, argsz=REGION_INFO.size + 4000, extra=4000)
        with os.fdopen(os.memfd_create("ram"), "rb") as ram:
            self.dma_map(0, 0x200000, fd=ram.fileno())
            self.dma_unmap(0, 0x200000, [ram.fileno()])
        self.load(CONFIG, 0)
        self.store(CONFIG, COMMAND, MEMORY_ENABLE | MASTER_ENABLE, 2)
        self.map_memory()
        return self


@dataclass
class Stage:
    """A server, a process with devices that have joined it, and a host process that has too."""

    server: object
    process: object
    host: wire.Peer

    def kill_server(self):
        """Peers that are known when the server dies stay known, with their descriptors."""
        self.process.base_fds += len(self.host.vectors)
        self.server.kill()

    def ring(self, vector, device=0):
        """Ring a device, and wait until its process has taken it and done what follows."""
        fd = self.host.peers[device][vector]
        wire.ring(fd)
        wait_until(lambda: wire.eventfd_info(fd)["count"] == 0 and self.process.sleeps(),
                   "the device to take a doorbell")


@pytest.fixture
def stage(server, device, join, tmp):
    """
    stage(vectors=2, devices=1, server_vectors=vectors, **keys of --device). The devices join first:
    their IDs are 0, 1..
    """

    def start(vectors=2, devices=1, server_vectors=None, options=(), **keys):
        target = server(vectors=server_vectors or vectors)
        keys = {"type": "doorbell", "server": target.socket, "vectors": vectors, **keys}
        process = device(*[device_spec(tmp / f"d{number}", **keys) for number in range(devices)],
                         options=options)
        host = join(target).pump_mesh(devices, server_vectors or vectors)
        return Stage(target, process, host)

    return start
