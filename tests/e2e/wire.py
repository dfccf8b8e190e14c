# SPDX-License-Identifier: MIT
"""
A peer for tests: raw sockets, byte-exact, strict.

It shares no code with the library or the server, so that a mistake in their common codec cannot
hide. It checks what every server must do (docs/protocol.md, section 2) and raises ProtocolError.
"""

import array
import fcntl
import os
import re
import select
import socket
import struct
import time
from dataclasses import dataclass, field

TIMEOUT = 20
REGION = -1
REFUSED_FULL = -2
REFUSED_UID_FULL = -3
REFUSED_RESOURCES = -4
REFUSED_RULES = -5


class ProtocolError(Exception):
    """The server broke the protocol."""


@dataclass
class Generation:
    """How numbers look on the wire (docs/protocol.md, sections 2.1 and 2.7)."""

    code: str  # of the struct module
    has_version: bool

    @property
    def width(self):
        return struct.calcsize(self.code)


GENERATIONS = {"current": Generation("<q", True), "pre-2.5": Generation("@l", False)}


@dataclass
class Message:
    number: int
    fd: int = -1  # -1: none; whoever takes the message owns it


@dataclass
class Event:
    """One entry of a peer's history: "vector" (of own or other ID) or "left"."""

    what: str
    peer: int


class Peer:
    """
    A connection to a server. The handshake (version, ID, region) is done on construction unless
    handshake=False; everything after it arrives when the test calls pump() or drain(). With
    keep=False the descriptors of other peers are closed as they come and -1 stands for each.
    """

    def __init__(self, path, protocol="current", handshake=True, timeout=TIMEOUT, keep=True):
        self.keep = keep
        self.generation = GENERATIONS[protocol]
        self.timeout = timeout
        self.id = None
        self.region = -1
        self.vectors = []  # own eventfds
        self.peers = {}  # ID -> eventfds of that peer
        self.history = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.sock.connect(path)  # blocking: waits for room in the backlog
            self.sock.settimeout(timeout)
            if handshake:
                self.handshake()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.sock.close()
        close_all([*self.vectors, *(fd for fds in self.peers.values() for fd in fds), self.region])
        self.vectors, self.peers, self.region = [], {}, -1

    # ---- messages ----

    def message(self, timeout=None):
        """
        The next message. ConnectionResetError at the end of the stream, TimeoutError if none comes.
        Never asks for more bytes than the message lacks: they could be the next one's, which would
        come under this one's descriptor.
        """
        data, fds = b"", []
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        try:
            while len(data) < self.generation.width:
                wait = max(0, deadline - time.monotonic())
                if not select_readable(self.sock, wait):
                    raise TimeoutError(f"no message; {len(data)} bytes of it have come")
                part, more = recv_with_fds(self.sock, self.generation.width - len(data))
                fds += more
                if more and data:
                    raise ProtocolError("descriptor did not come with the first byte")
                if not part:
                    if data:
                        raise ProtocolError(f"stream ends within a message: {data!r}")
                    raise ConnectionResetError("the server has closed the connection")
                data += part
            if len(fds) > 1:
                raise ProtocolError(f"{len(fds)} descriptors in one message")
        except BaseException:
            close_all(fds)
            raise
        (number,) = struct.unpack(self.generation.code, data)
        return Message(number, fds[0] if fds else -1)

    def handshake(self):
        """Version, own ID, region: docs/protocol.md, section 2.2."""
        if self.generation.has_version:
            version = self.message()
            if version.number != 0 or version.fd >= 0:
                raise ProtocolError(f"version {version}")
        own = self.message()
        if not 0 <= own.number <= 65535 or own.fd >= 0:
            raise ProtocolError(f"own ID {own}")
        self.id = own.number
        region = self.message()
        if region.number != REGION or region.fd < 0:
            raise ProtocolError(f"region {region}")
        self.region = region.fd

    # ---- after the handshake ----

    def step(self, timeout=None):
        """Take one message and note what it says."""
        message = self.message(timeout)
        number, fd = message.number, message.fd
        if not 0 <= number <= 65535:
            raise ProtocolError(f"number {number} after the handshake")
        if fd < 0:
            if number == self.id:
                raise ProtocolError("told that it has left itself")
            close_all(self.peers.pop(number, []))
        elif number == self.id:
            self.vectors.append(fd)
        elif self.keep:
            self.peers.setdefault(number, []).append(fd)
        else:
            os.close(fd)
            self.peers.setdefault(number, []).append(-1)
        self.history.append(Event("left" if fd < 0 else "vector", number))

    def pump(self, until, what="the messages", timeout=None):
        """Take messages until until(self) is true."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not until(self):
            try:
                self.step(max(0, deadline - time.monotonic()))
            except TimeoutError:
                known = {peer: len(fds) for peer, fds in self.peers.items()}
                raise TimeoutError(f"peer {self.id} waited for {what}; it has {len(self.vectors)}"
                                   f" own vectors and knows {known}") from None

    def pump_mesh(self, others, vectors, timeout=None):
        """Take messages until exactly `others` other peers and all vectors are known."""
        self.pump(lambda p: p.is_mesh(others, vectors), f"{others} others with {vectors} vectors",
                  timeout)
        return self

    def is_mesh(self, others, vectors):
        return (len(self.vectors) == vectors and len(self.peers) == others
                and all(len(fds) == vectors for fds in self.peers.values()))

    def drain(self):
        """Take what is there now; returns the number of messages."""
        count = 0
        while select_readable(self.sock, 0):
            self.step()
            count += 1
        return count

    def at_end(self, timeout=None):
        """Read to the end of the stream, noting what comes; True once the server has closed."""
        try:
            self.pump(lambda p: False, "the end of the stream", timeout)
        except (ConnectionResetError, BrokenPipeError):
            return True
        except TimeoutError:
            return False

    def ring(self, peer, vector):
        fds = self.vectors if peer == self.id else self.peers[peer]
        ring(fds[vector])

    def rung(self):
        """Own vectors that were rung since the last call, {vector: count}."""
        counts = {}
        for vector, fd in enumerate(self.vectors):
            if select_readable(fd, 0):
                counts[vector] = struct.unpack("=Q", os.read(fd, 8))[0]
        return counts


@dataclass
class Model:
    """
    The reference: what the history of a peer must look like whatever the timing. A peer appears
    with its first vector, has exactly `vectors` of them before it leaves, and leaves once.
    """

    own: int
    vectors: int
    present: dict = field(default_factory=dict)

    def replay(self, history):
        """Follow `history`; returns the IDs present at its end."""
        for place, event in enumerate(history):
            if event.what == "vector":
                count = self.present.get(event.peer, 0) + 1
                if count > self.vectors:
                    raise ProtocolError(f"event {place}: {count} vectors for peer {event.peer}")
                self.present[event.peer] = count
            elif self.present.pop(event.peer, None) != self.vectors:
                raise ProtocolError(f"event {place}: peer {event.peer} left but was not all there")
        for peer, count in self.present.items():
            if count != self.vectors:
                raise ProtocolError(f"peer {peer} ends with {count} of {self.vectors} vectors")
        return set(self.present) - {self.own}


def recv_with_fds(sock, size):
    """Receive up to `size` bytes, and the descriptors that came with them: (bytes, [fd, ...])."""
    part, control, flags, _ = sock.recvmsg(size, socket.CMSG_SPACE(64 * 4), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
    if flags & socket.MSG_CTRUNC:
        close_all(fds)
        raise ProtocolError("descriptors were cut off")
    return part, list(fds)


def close_all(fds):
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def select_readable(what, timeout):
    """poll(2), which unlike select(2) knows descriptors above 1023."""
    poller = select.poll()
    poller.register(what, select.POLLIN)
    return bool(poller.poll(timeout * 1000))


def ring(fd):
    """What a doorbell is: the 8-byte integer 1 in host order (docs/protocol.md, section 3.1)."""
    os.write(fd, struct.pack("=Q", 1))


def eventfd_info(fd, pid="self"):
    """{"count": ..., "id": ..., "semaphore": ...} of an eventfd; None for any other descriptor."""
    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as lines:
        found = dict(re.findall(r"eventfd-(\w+):\s*(\w+)", lines.read()))
    if "count" not in found:
        return None
    return {"count": int(found["count"], 16), "id": found.get("id"),
            "semaphore": int(found.get("semaphore", "0"))}


def is_nonblocking(fd):
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)
