# SPDX-License-Identifier: MIT
"""
Subjects of the conformance suite: devices that do the same things behind one interface, however
they are reached. What the suite asks of them is in test_conformance.py.

A subject is a device with a host next to it: peer 0 of the same server, with PEER_VECTORS vectors,
which rings the device and is rung by it. The device's messages go to memory, where they are seen.
"""

import subprocess
from dataclasses import dataclass

from conftest import wait_until
import wire

MIB = 1 << 20
PEER_VECTORS = 3  # of every peer of a server, unless said otherwise
COMMAND, STATUS, MSIX_CONTROL = 0x04, 0x06, 0x42
MEMORY_ENABLE, MASTER, INTX_DISABLE = 1 << 1, 1 << 2, 1 << 10
MSIX_ENABLE, MSIX_MASK = 1 << 15, 1 << 14
MESSAGES = 0x00400000  # in the guest's memory, 4 bytes for each vector
MESSAGE_VALUE = 0x5A000000  # plus the vector
UNMAPPED = (1 << 64) - 1


@dataclass(frozen=True)
class Kind:
    """What a device is."""

    name: str
    revision: int
    vectors: int  # of MSI-X; 0: none
    size: int = MIB

    @property
    def intx(self):
        return self.revision == 0 and self.vectors == 0


def doorbell(vectors):
    return Kind("doorbell", 1, vectors)


def legacy(vectors):
    return Kind("legacy", 0, vectors)


PLAIN = Kind("plain", 1, 0)


def msix_layout(vectors):
    """Offset of the pending bits, their size, size of BAR1: docs/device.md, section 4.1."""
    offset, size = max(2048, 16 * vectors), (vectors + 63) // 64 * 8
    return offset, size, max(4096, 1 << (offset + size - 1).bit_length())


class Subject:
    """
    The interface. `family` is what the table of differences calls it: "core", "qemu" (the device
    built into QEMU) or "vfio-user" (ours, attached to QEMU).
    """

    family = None

    def __init__(self, kind, peer_vectors):
        self.kind = kind
        self.peer_vectors = peer_vectors
        self.id = 0  # what IVPosition reads

    @property
    def has_host(self):
        return self.kind.name != "plain"

    # ---- to be implemented ----

    def config_read(self, offset, size):
        raise NotImplementedError

    def config_write(self, offset, size, value):
        raise NotImplementedError

    def read(self, bar, offset, size):
        raise NotImplementedError

    def write(self, bar, offset, size, value):
        raise NotImplementedError

    def read_block(self, bar, offset, size):
        """`size` bytes, a multiple of 4."""
        raise NotImplementedError

    def reset(self):
        """The machine's reset."""
        raise NotImplementedError

    def placed(self):
        """Where BARs answer, {bar: address}."""
        raise NotImplementedError

    def interrupt(self, vector):
        """The host rings the device; returns when everything that follows has happened."""
        raise NotImplementedError

    def settle(self):
        """Wait until everything has happened that follows from what was done."""
        raise NotImplementedError

    def rung(self):
        """How often the host was rung by the device since the last call, {vector: count}."""
        raise NotImplementedError

    def messages(self):
        """Vectors whose message was sent since the last call, a sorted list."""
        raise NotImplementedError

    def line(self):
        """Level of INTx."""
        raise NotImplementedError

    # ---- what a driver does ----

    def map(self):
        """Give the BARs addresses and switch on decoding and bus mastering."""
        for bar, address in self.bar_addresses().items():
            self.config_write(0x10 + 4 * bar, 4, address)
        self.config_write(COMMAND, 2, MEMORY_ENABLE | MASTER)

    def bar_addresses(self):
        base = 0xC0000000
        return {0: base, 1: base + MIB, 2: base + 8 * MIB}

    def ring(self, peer, vector):
        self.write(0, 0x0C, 4, peer << 16 | vector)

    def control(self, bits):
        """Set MSI-X' enable and function mask bits."""
        self.config_write(MSIX_CONTROL, 2, bits)

    def program(self, *vectors, masked=False):
        """Fill entries of the MSI-X table."""
        for vector in vectors:
            self.write(1, 16 * vector, 4, MESSAGES + 4 * vector)
            self.write(1, 16 * vector + 4, 4, 0)
            self.write(1, 16 * vector + 8, 4, MESSAGE_VALUE | vector)
            self.mask(vector, masked)

    def mask(self, vector, masked=True):
        self.write(1, 16 * vector + 12, 4, int(masked))

    def pending(self):
        """Vectors whose pending bit is set, a sorted list."""
        offset, size, _ = msix_layout(self.kind.vectors)
        bits = int.from_bytes(self.read_block(1, offset, size), "little")
        return [vector for vector in range(8 * size) if bits >> vector & 1]

    @property
    def registers(self):
        """Mask and status; reading clears the latter."""
        return self.read(0, 0, 4), self.read(0, 4, 4)


class QemuSubject(Subject):
    """A device of a qemu.Machine; `host` is the wire.Peer next to it, if it has a server."""

    def __init__(self, family, kind, machine, slot, host=None, peer_vectors=0, ioeventfd=False):
        super().__init__(kind, peer_vectors)
        self.ioeventfd = ioeventfd
        self.family, self.machine, self.slot, self.host = family, machine, slot, host
        self.reset()
        self.map()
        self.id = self.read(0, 8, 4)

    def config_read(self, offset, size):
        return self.machine.config_load(self.slot, offset, size)

    def config_write(self, offset, size, value):
        self.machine.config_store(self.slot, offset, size, value)

    def bar_addresses(self):
        base = 0xC0000000 + self.slot * 16 * MIB
        return {0: base, 1: base + MIB, 2: base + 8 * MIB}

    def read(self, bar, offset, size):
        return self.machine.load(self.bar_addresses()[bar] + offset, size)

    def write(self, bar, offset, size, value):
        self.machine.store(self.bar_addresses()[bar] + offset, size, value)

    def read_block(self, bar, offset, size):
        return self.machine.read(self.bar_addresses()[bar] + offset, size)

    def reset(self):
        self.machine.reset()
        self.machine.route_intx(self.slot)
        self.settle()
        self.messages()
        self.rung()

    def placed(self):
        return {bar: address for bar, address in self.machine.pci_regions(self.slot).items()
                if address != UNMAPPED}

    def interrupt(self, vector):
        self.host.ring(self.id, vector)
        self.settle()

    def settle(self):
        """
        Wait until doorbells have got through. They are eventfds, whose counters are seen here: at 0
        the device has taken notice, or with ours the process behind it, which rings QEMU's eventfd
        before it answers the next access. QEMU's loop looks at its eventfds once a round at least,
        and a round is the most that one qtest command takes.
        """
        if self.host is not None:
            self.host.drain()
            fds = self.host.peers.get(self.id, [])[:self.kind.vectors or None]
            wait_until(lambda: not any(wire.select_readable(fd, 0) for fd in fds),
                       "the device to take its doorbells")
        for _ in range(3):
            self.config_read(0, 4)

    def rung(self):
        if self.host is None:
            return {}
        self.settle()
        return self.host.rung()

    def messages(self):
        size = 4 * max(self.kind.vectors, 1)
        memory = self.machine.read(MESSAGES, size)
        self.machine.fill(MESSAGES, size, 0)
        values = [int.from_bytes(memory[at:at + 4], "little") for at in range(0, size, 4)]
        found = [vector for vector, value in enumerate(values) if value]
        assert all(values[vector] == MESSAGE_VALUE | vector for vector in found), values
        return found

    def line(self):
        self.settle()
        return self.machine.intx_level()


class CoreSubject(Subject):
    """The device core alone; we play VMM, server and host. See tests/device/subject.c."""

    family = "core"

    def __init__(self, kind, program):
        super().__init__(kind, max(PEER_VECTORS, kind.vectors))
        self.id = 1 if self.has_host else 0
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [str(program), "--revision", str(kind.revision), "--vectors", str(kind.vectors),
             "--size", str(kind.size), "--position", str(self.id)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.level, self.bars, self.sent, self.host_rung, self.loopback = 0, {}, [], {}, []

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.process.stdout.close()

    def command(self, *words):
        text = " ".join(word if isinstance(word, str) else hex(word) for word in words)
        print(text, file=self.process.stdin, flush=True)
        while True:
            reply = self.process.stdout.readline().split()
            assert reply, f"{text}: no answer"
            assert reply[0] != "error", text
            if reply[0] == "ok":
                break
            if reply[0] == "=":
                return int(reply[1], 16)
            self.callback(reply[0], *(int(word, 16) for word in reply[1:]))
        while self.loopback:
            self.interrupt(self.loopback.pop())
        return None

    def callback(self, name, *values):
        if name == "line":
            self.level, = values
        elif name == "place":
            self.bars[values[0]] = values[1]
        elif name == "message":
            vector, address, value = values
            assert (address, value) == (MESSAGES + 4 * vector, MESSAGE_VALUE | vector)
            self.sent.append(vector)
        else:
            assert name == "ring", name
            self.deliver(*values)

    def deliver(self, peer, vector):
        """A doorbell, as a VMM passes it on: to who is there, else nowhere."""
        if peer == self.id and vector < min(self.peer_vectors, self.kind.vectors):
            self.loopback.append(vector)
        elif peer == 0 and self.has_host and vector < self.peer_vectors:
            self.host_rung[vector] = self.host_rung.get(vector, 0) + 1

    def config_read(self, offset, size):
        return self.command("cr", offset, size)

    def config_write(self, offset, size, value):
        self.command("cw", offset, size, value)

    def read(self, bar, offset, size):
        return self.command("br", bar, offset, size)

    def write(self, bar, offset, size, value):
        self.command("bw", bar, offset, size, value)

    def read_block(self, bar, offset, size):
        return b"".join(self.read(bar, at, 4).to_bytes(4, "little")
                        for at in range(offset, offset + size, 4))

    def reset(self):
        self.command("reset")
        self.messages()
        self.rung()

    def placed(self):
        return {bar: address for bar, address in self.bars.items() if address != UNMAPPED}

    def interrupt(self, vector):
        self.command("int", vector)

    def settle(self):
        pass

    def rung(self):
        rung, self.host_rung = self.host_rung, {}
        return rung

    def messages(self):
        sent, self.sent = self.sent, []
        assert len(set(sent)) == len(sent), f"sent twice: {sent}"
        return sorted(sent)

    def line(self):
        return self.level
