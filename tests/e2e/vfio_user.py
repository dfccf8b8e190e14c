# SPDX-License-Identifier: MIT
"""
The client side of vfio-user for tests: messages, descriptors, regions, interrupts. Strict, and
written against docs/vfio-user.md only; it shares no code with the device. vmms.py has the VMMs that
are made of it.
"""

import collections
import enum
import itertools
import json
import mmap
import os
import socket
import struct
from dataclasses import dataclass, field

import wire

TIMEOUT = 20
MAX_FDS = 16

HEADER = struct.Struct("=HHIII")  # ID, command, size, flags, errno
INFO = struct.Struct("=IIII")  # argsz, flags and two more: of device and interrupts
REGION_INFO = struct.Struct("=IIIIQQ")  # argsz, flags, index, capabilities, size, offset
SET_IRQS = struct.Struct("=IIIII")  # argsz, flags, index, start, count
ACCESS = struct.Struct("=QII")  # offset, region, count
DMA_MAP = struct.Struct("=IIQQQ")  # argsz, flags, offset, address, size
DMA_UNMAP = struct.Struct("=IIQQ")  # argsz, flags, address, size

TYPE_REPLY, NO_REPLY, ERROR = 1, 0x10, 0x20
DEVICE_RESET, DEVICE_PCI = 1, 2
READABLE, WRITABLE, MAPPABLE = 1, 2, 4
DATA_NONE, DATA_BOOL, DATA_EVENTFD = 1, 2, 4
MASK, UNMASK, TRIGGER = 8, 0x10, 0x20
BAR0, BAR1, BAR2, ROM, CONFIG, VGA = 0, 1, 2, 6, 7, 8
INTX, MSI, MSIX, ERR = 0, 1, 2, 3

INTRMASK, INTRSTATUS, IVPOSITION, DOORBELL = 0, 4, 8, 12
COMMAND, STATUS, BARS, ROM_BAR, CAPABILITIES, PIN = 4, 6, 0x10, 0x30, 0x34, 0x3D
MEMORY_ENABLE, MASTER_ENABLE, INTX_DISABLE = 2, 4, 0x400
MSIX_CAPABILITY, MSIX_ENABLE, MSIX_MASK = 0x11, 0x8000, 0x4000


class Command(enum.IntEnum):
    """Numbers of the messages."""

    VERSION = 1
    DMA_MAP = 2
    DMA_UNMAP = 3
    GET_INFO = 4
    GET_REGION_INFO = 5
    GET_REGION_IO_FDS = 6
    GET_IRQ_INFO = 7
    SET_IRQS = 8
    REGION_READ = 9
    REGION_WRITE = 10
    DMA_READ = 11
    DMA_WRITE = 12
    RESET = 13
    WRITE_MULTI = 15
    FEATURE = 16
    MIG_READ = 17
    MIG_WRITE = 18


class ProtocolError(Exception):
    """The device broke the protocol, or a VMM of this kind could not live with what it said."""


class Hang(ProtocolError):
    """A VMM of this kind would now wait for bytes that never come, and its guest with it."""


@dataclass
class Reply:
    """An answer. Whoever takes it owns the descriptors."""

    number: int
    command: int
    size: int
    flags: int
    error: int
    payload: bytes = b""
    fds: list = field(default_factory=list)


@dataclass
class Region:
    """What GET_REGION_INFO says."""

    flags: int
    size: int
    offset: int
    fd: int = -1


class Vmm:
    """
    A connection to a device, and what all VMMs do with it. `exact` below is the size of a complete
    success reply, which section 2 fixes for each command.
    """

    minor = 0
    capabilities = None  # offered in VERSION; None: no JSON at all
    numbers = itertools.count()

    def __init__(self, path, timeout=TIMEOUT):
        self.timeout = timeout
        self.under_way = collections.deque()  # (ID, command, room for the reply, exact)
        self.server_minor, self.server_capabilities = None, None
        self.info = None  # flags, regions, interrupts
        self.regions = {}
        self.vectors = {}  # MSI-X vector -> its eventfd
        self.intx = -1
        self.memory = None
        self._owned = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(str(path))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        """Leave, as a VMM does that ends: without a word."""
        self.sock.close()
        if self.memory is not None:
            self.memory.close()
            self.memory = None
        wire.close_all([*self._owned, *(region.fd for region in self.regions.values())])
        self._owned, self.regions, self.vectors = [], {}, {}

    def eventfd(self):
        """A new eventfd as VMMs make them; closed with the connection."""
        self._owned.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        return self._owned[-1]

    # ---- messages ----

    def next_number(self):
        return next(Vmm.numbers) & 0xFFFF

    def message(self, command, payload=b"", flags=0, exact=None):
        """The bytes of a request, whose reply is waited for from now on."""
        number, size = self.next_number(), HEADER.size + len(payload)
        if not flags & NO_REPLY:
            self.under_way.append((number, command, max(size, exact or 0), exact))
        return HEADER.pack(number, command, size, flags, 0) + payload

    def send(self, command, payload=b"", fds=(), flags=0, exact=None):
        """Send a request and do not wait for its reply."""
        message = self.message(command, payload, flags, exact)
        sent = socket.send_fds(self.sock, [message], fds)
        if sent < len(message):  # an empty send would see that a refusal has closed the socket
            self.sock.sendall(message[sent:])

    def read_reply(self, room, exact):  # pylint: disable=unused-argument
        """
        Read one reply as QEMU does: the header, which must come whole, and then the body, for which
        there is room for `room` bytes with the header.
        """
        part, fds, flags, _ = socket.recv_fds(self.sock, HEADER.size, MAX_FDS,
                                              socket.MSG_CMSG_CLOEXEC)
        try:
            if not part:
                raise ConnectionResetError("the device has closed the connection")
            if len(part) < HEADER.size:
                raise ProtocolError(f"header in pieces: {part!r}")
            if flags & socket.MSG_CTRUNC:
                raise ProtocolError("descriptors were cut off")
            reply = Reply(*HEADER.unpack(part), fds=list(fds))
            if not HEADER.size <= reply.size <= room:
                raise ProtocolError(f"reply of {reply.size} bytes for a buffer of {room}: {reply}")
            reply.payload = self.read_bytes(reply.size - HEADER.size)
        except BaseException:
            wire.close_all(fds)
            raise
        return reply

    def read_bytes(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the device has closed the connection in a message")
            data += part
        return data

    def take(self):
        """The reply to the oldest request under way, checked for what every reply must be."""
        number, command, room, exact = self.under_way.popleft()
        reply = self.read_reply(room, exact)
        try:
            if (reply.number, reply.command) != (number, command):
                raise ProtocolError(f"reply {reply} to request {number}, command {command}")
            if reply.flags == TYPE_REPLY | ERROR:
                if reply.size != HEADER.size or not 0 < reply.error < 4096 or reply.fds:
                    raise ProtocolError(f"error reply {reply}")
            elif reply.flags != TYPE_REPLY or reply.error:
                raise ProtocolError(f"flags and errno of {reply}")
            elif exact is not None and reply.size != exact:
                raise ProtocolError(f"size of {reply}, which should be {exact}")
        except BaseException:
            wire.close_all(reply.fds)
            raise
        return reply

    def ask(self, command, payload=b"", fds=(), flags=0, exact=None):
        """Send a request, wait for its reply; an error in it is a value here."""
        self.send(command, payload, fds, flags, exact)
        while len(self.under_way) > 1:
            self.expect_success(self.take())
        return self.take()

    def request(self, command, payload=b"", fds=(), exact=None):
        """The same, and an error in the reply raises OSError."""
        return self.expect_success(self.ask(command, payload, fds, exact=exact))

    def flush(self):
        """Wait for all that is under way."""
        while self.under_way:
            self.expect_success(self.take())

    @staticmethod
    def expect_success(reply):
        if reply.flags & ERROR:
            raise OSError(reply.error, f"{os.strerror(reply.error)} from the device, command "
                                       f"{reply.command}")
        return reply

    # ---- what the commands are for ----

    def version(self):
        """Agree on a version: section 3."""
        text = b"" if self.capabilities is None else json.dumps(
            {"capabilities": self.capabilities}).encode() + b"\0"
        reply = self.request(Command.VERSION, struct.pack("=HH", 0, self.minor) + text)
        major, self.server_minor = struct.unpack_from("=HH", reply.payload)
        text = reply.payload[4:]
        if major != 0 or self.server_minor > self.minor:
            raise ProtocolError(f"version {major}.{self.server_minor}")
        if text[-1:] != b"\0" or b"\0" in text[:-1]:
            raise ProtocolError(f"JSON without its end: {text!r}")
        self.server_capabilities = json.loads(text[:-1])["capabilities"]
        if self.server_capabilities.get("max_msg_fds", 8) > MAX_FDS:
            raise ProtocolError("malformed max_msg_fds")
        if not 256 <= self.server_capabilities.get("max_data_xfer_size", 1 << 20) <= 64 << 20:
            raise ProtocolError("malformed max_data_xfer_size")

    def get_info(self, argsz=16):
        reply = self.request(Command.GET_INFO, INFO.pack(argsz, 0, 0, 0), exact=32)
        _, *self.info = INFO.unpack(reply.payload)
        return self.info

    def get_region_info(self, index, argsz=REGION_INFO.size, extra=0):
        """Ask for a region and remember it; `extra` bytes of nothing are sent with the request."""
        reply = self.request(Command.GET_REGION_INFO,
                             REGION_INFO.pack(argsz, 0, index, 0, 0, 0) + bytes(extra), exact=48)
        wanted, flags, answered, capabilities, size, offset = REGION_INFO.unpack(reply.payload)
        if (wanted, answered, capabilities) != (REGION_INFO.size, index, 0) or len(reply.fds) > 1:
            wire.close_all(reply.fds)
            raise ProtocolError(f"region {index}: {reply}")
        if index in self.regions:
            wire.close_all([self.regions[index].fd])
        self.regions[index] = Region(flags, size, offset, *reply.fds)
        return self.regions[index]

    def get_irq_info(self, index):
        """(flags, count) of a kind of interrupt."""
        reply = self.request(Command.GET_IRQ_INFO, INFO.pack(16, 0, index, 0), exact=32)
        _, flags, answered, count = INFO.unpack(reply.payload)
        if answered != index:
            raise ProtocolError(f"interrupt {index}: {reply}")
        return flags, count

    def set_irqs(self, index, flags, start=0, count=0, fds=(), data=b""):
        # argsz is that of the structure with its data; descriptors are not in it.
        self.request(Command.SET_IRQS, SET_IRQS.pack(SET_IRQS.size + len(data), flags, index, start,
                                                     count) + data, fds, exact=16)

    def dma_map(self, address, size, flags=3, fd=None):
        self.request(Command.DMA_MAP, DMA_MAP.pack(32, flags, 0, address, size),
                     [] if fd is None else [fd], exact=16)

    def dma_unmap(self, address, size, fds=(), flags=0):
        payload = DMA_UNMAP.pack(24, flags, address, size)
        reply = self.request(Command.DMA_UNMAP, payload, fds, exact=40)
        if reply.payload != payload:
            raise ProtocolError(f"unmap of {payload} answered with {reply}")

    def reset(self):
        self.request(Command.RESET, exact=16)

    def read(self, region, offset, count):
        wanted = ACCESS.pack(offset, region, count)
        reply = self.request(Command.REGION_READ, wanted, exact=32 + count)
        if reply.payload[:16] != wanted:
            raise ProtocolError(f"read of {wanted} answered with {reply}")
        return reply.payload[16:]

    def write(self, region, offset, data):
        wanted = ACCESS.pack(offset, region, len(data))
        reply = self.request(Command.REGION_WRITE, wanted + data, exact=32)
        if reply.payload != wanted:
            raise ProtocolError(f"write of {wanted} answered with {reply}")

    # ---- what the guest does ----

    def load(self, region, offset, size=4):
        return int.from_bytes(self.read(region, offset, size), "little")

    def store(self, region, offset, value, size=4):
        self.write(region, offset, value.to_bytes(size, "little"))

    def position(self):
        return self.load(BAR0, IVPOSITION)

    def ring(self, peer, vector):
        """Ring the doorbell of a peer."""
        self.store(BAR0, DOORBELL, peer << 16 | vector)

    def find_capability(self, wanted):
        """Offset of a capability, or 0, found as software finds it: byte by byte."""
        if not self.load(CONFIG, STATUS, 2) & 0x10:
            return 0
        place = self.load(CONFIG, CAPABILITIES, 1)
        for _ in range(48):
            if not place or self.load(CONFIG, place, 1) == wanted:
                return place
            place = self.load(CONFIG, place + 1, 1)
        raise ProtocolError("the list of capabilities has no end")

    def msix_control(self, value):
        self.store(CONFIG, self.find_capability(MSIX_CAPABILITY) + 2, value, 2)

    def map_memory(self):
        """Map BAR2 as a VMM does for its guest."""
        region = self.regions[BAR2]
        if not region.flags & MAPPABLE or region.fd < 0 or region.offset % mmap.PAGESIZE:
            raise ProtocolError(f"BAR2 cannot be mapped: {region}")
        access = mmap.PROT_READ | (mmap.PROT_WRITE if region.flags & WRITABLE else 0)
        self.memory = mmap.mmap(region.fd, region.size, mmap.MAP_SHARED, access,
                                offset=region.offset)
        return self.memory

    # ---- interrupts ----

    def rung(self):
        """Which vectors have come since the last call, {vector: count}."""
        return {vector: taken(fd) for vector, fd in self.vectors.items()
                if wire.select_readable(fd, 0)}

    def wait_rung(self, vector):
        """Wait for a vector; the count of merged interrupts."""
        return wait_taken(self.vectors[vector])

    def wait_total(self, vector, total):
        """Wait until a vector has come `total` times in all; more of them are an error."""
        got = 0
        while got < total:
            got += self.wait_rung(vector)
        if got > total:
            raise ProtocolError(f"vector {vector} came {got} times instead of {total}")

    def assign(self, start, fds, count=None):
        """Give eventfds to a run of vectors, or take them away: section 4."""
        self.set_irqs(MSIX, DATA_EVENTFD | TRIGGER, start, len(fds) if count is None else count,
                      fds)


def taken(fd):
    return struct.unpack("=Q", os.read(fd, 8))[0]


def wait_taken(fd, timeout=TIMEOUT):
    """Wait until an eventfd is written; its count."""
    if not wire.select_readable(fd, timeout):
        raise TimeoutError(f"no interrupt within {timeout} s")
    return taken(fd)


def is_quiet(fd, seconds=0.05):
    """Whether an eventfd stays unwritten for so long."""
    return not wire.select_readable(fd, seconds)
