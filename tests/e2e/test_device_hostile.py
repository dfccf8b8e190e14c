# SPDX-License-Identifier: MIT
"""
VMMs, guests and peers that are out to harm ivshmem-device. Whatever one of them does,
another device of the same process goes on, and no descriptor is leaked (the `device` fixture counts
them when the test ends).
"""

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import random
import re
import resource
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

import wire
from conftest import TIMEOUT, as_user, wait_until
from vfio_user import (
    ACCESS, BAR0, BAR1, BAR2, CONFIG, DATA_EVENTFD, DATA_NONE, DMA_MAP, DMA_UNMAP, DOORBELL, HEADER,
    INFO, INTRMASK, INTX, MSIX, MSIX_ENABLE, NO_REPLY, REGION_INFO, SET_IRQS, TRIGGER, UNMASK,
    Command, Vmm, wait_taken)
from vmms import (  # pylint: disable=unused-import
    CloudHypervisor, Qemu, Spdk, attach, device_spec)

LIBC = ctypes.CDLL(None, use_errno=True)
ALMOST_FULL = struct.pack("=Q", (1 << 64) - 2)  # the largest count: the next write has to wait
GOES_ON = 5  # seconds that another device may at most be kept waiting, on a busy machine


class Arena:
    """
    A process with two devices: `path` leads to the one that is maltreated, and `witness` is a
    virtual machine on the other one.
    """

    def __init__(self, server, process, host, witness):
        self.server, self.process, self.host, self.witness = server, process, host, witness
        self.path = process.sockets[0]
        self.own = witness.position()

    def check(self):
        """The other device works: registers, memory, doorbells both ways."""
        witness = self.witness
        witness.rung()
        witness.store(BAR0, INTRMASK, 0x1234)
        assert witness.load(BAR0, INTRMASK) == 0x1234
        witness.write(BAR2, 4096, b"still here")
        assert witness.memory[4096:4106] == b"still here"
        self.host.rung()
        witness.ring(self.host.id, 0)
        assert self.host.rung() == {0: 1}
        self.host.ring(self.own, 1)
        assert witness.wait_rung(1) >= 1

    def check_still(self, seconds=0.5):
        """It does not spin, however small its share of a busy machine may be."""
        wait_until(self.process.sleeps, "it to have done what was asked of it")
        before = self.process.cpu_time()
        time.sleep(seconds)
        assert self.process.cpu_time() - before < seconds / 10, "it spins"


@pytest.fixture
def arena(server, device, join, attach, tmp):
    """arena(vectors=2, **keys of --device for the first one); checked once more at the end."""
    started = []

    def start(vectors=2, options=(), **keys):
        target = server(vectors=vectors)
        others = {"type": "doorbell", "server": target.socket}
        process = device(device_spec(tmp / "d0", **{**others, "vectors": vectors, **keys}),
                         device_spec(tmp / "d1", **others, vectors=2), options=options)
        host = join(target).pump_mesh(2, vectors)
        witness = attach(Qemu, process.sockets[1], timeout=GOES_ON).boot(2)
        started.append(Arena(target, process, host, witness))
        started[-1].check()
        return started[-1]

    yield start
    for one in started:
        one.check()


def drain(vmm, seconds=0):
    """Take and drop what the device has sent; whether it has closed the connection."""
    while wire.select_readable(vmm.sock, seconds):
        try:
            data, fds, _, _ = socket.recv_fds(vmm.sock, 1 << 16, 16)
        except ConnectionResetError:
            return True
        wire.close_all(fds)
        if not data:
            return True
    return False


def is_closed(vmm):
    return drain(vmm, TIMEOUT)


# ---- messages ----


class Attacker:
    """Random requests: sensible ones, some of whose bytes are then changed."""

    def __init__(self, seed):
        self.choose = random.Random(seed)
        self.reader, self.writer = os.pipe()
        self.socks = socket.socketpair()
        self.fds = [self.reader, self.writer, self.socks[0].fileno(), os.memfd_create("ram"),
                    os.open("/dev/null", os.O_RDWR), os.open("/", os.O_RDONLY)]
        self.eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(6)]

    def close(self):
        for sock in self.socks:
            sock.close()
        wire.close_all([*self.fds[:2], *self.fds[3:], *self.eventfds])

    def number(self):
        return self.choose.choice([0, 1, 2, 3, 4, 12, 15, 16, 17, 31, 255, 256, 4095, 16384, 16385,
                                   0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, self.choose.getrandbits(32)])

    def request(self):
        """Command and payload."""
        choose, number = self.choose, self.number
        region = choose.choice([BAR0, BAR0, BAR1, BAR2, CONFIG, CONFIG, number()])
        offset = choose.choice([0, 4, 12, 0x40, 0x42, number(), choose.getrandbits(64)])
        size = choose.choice([0, 1, 2, 4, 4, 4, 8, 100, 4096, number()])
        flags = choose.choice([1, 2, 4]) | choose.choice([8, 0x10, 0x20, 0x20])
        count = choose.choice([0, 1, 2, 2, 16, number()])
        return choose.choice([
            (Command.DMA_MAP, DMA_MAP.pack(32, 3, 0, offset, 4096)),
            (Command.DMA_UNMAP, DMA_UNMAP.pack(24, 0, offset, 4096)),
            (Command.GET_INFO, INFO.pack(16, 0, 0, 0)),
            (Command.GET_REGION_INFO, REGION_INFO.pack(32, 0, choose.randrange(10), 0, 0, 0)),
            (Command.GET_IRQ_INFO, INFO.pack(16, 0, choose.randrange(6), 0)),
            (Command.SET_IRQS, SET_IRQS.pack(20, flags, choose.choice([0, 2, 3, number()]),
                                             choose.choice([0, 1, number()]), count)),
            (Command.SET_IRQS, SET_IRQS.pack(20, DATA_EVENTFD | TRIGGER, MSIX, 0, 2)),
            (Command.SET_IRQS, SET_IRQS.pack(20, DATA_EVENTFD | UNMASK, INTX, 0, 1)),
            (Command.REGION_READ, ACCESS.pack(offset, region, size)),
            (Command.REGION_WRITE, ACCESS.pack(offset, region, min(size, 4096))
             + choose.randbytes(min(size, 4096))),
            (Command.REGION_WRITE, ACCESS.pack(12, BAR0, 4) + struct.pack("=I", number())),
            (Command.REGION_WRITE, ACCESS.pack(0x42, CONFIG, 2) + b"\0\x80"),
            (Command.RESET, b""), (number() & 0xFFFF, choose.randbytes(choose.randrange(100)))])

    def message(self):
        """Bytes and descriptors."""
        choose = self.choose
        command, payload = self.request()
        flags = choose.choice([0] * 10 + [NO_REPLY, 1, 0x21, self.number()])
        size = choose.choice([HEADER.size + len(payload)] * 40 + [self.number()])
        message = bytearray(HEADER.pack(choose.getrandbits(16), command, size, flags, 0) + payload)
        if choose.random() < 0.3:
            for _ in range(choose.randrange(1, 4)):
                message[choose.randrange(len(message))] = choose.choice([0, 1, 0x7F, 0xFF])
        fds = [choose.choice(self.eventfds) for _ in range(choose.choice([0, 0, 1, 2, 2, 16]))]
        if fds and choose.random() < 0.3:
            fds[choose.randrange(len(fds))] = choose.choice(self.fds)
        if choose.random() < 0.01:
            fds *= 17
        return bytes(message), fds[:200]

    def attack(self, path):
        """One connection, until it ends by itself or 40 messages have gone out."""
        with Vmm(path) as vmm:
            if self.choose.random() < 0.9:
                vmm.send(Command.VERSION, bytes(4))
            vmm.sock.setblocking(False)
            for _ in range(40):
                message, fds = self.message()
                half = self.choose.choice([len(message)] * 8 + [1, 15, 16, 20])
                try:
                    socket.send_fds(vmm.sock, [message[:half]], fds)
                    vmm.sock.send(message[half:])
                except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                    pass
                if drain(vmm):
                    return


@pytest.mark.parametrize("keys", [{}, {"type": "legacy", "msi": "off"}])
def test_random_and_mutated_messages(arena, pytestconfig, keys):
    one = arena(**keys)
    first = time.time_ns() if pytestconfig.getoption("--long") else 1
    for seed in range(first, first + (500 if pytestconfig.getoption("--long") else 8)):
        print(f"seed {seed}")
        attacker = Attacker(seed)
        try:
            for _ in range(20):
                attacker.attack(one.path)
        finally:
            attacker.close()
        one.check()
    with Qemu(one.path) as vmm:
        vmm.boot(0 if keys else 2)


def test_descriptors_where_none_belong(arena, attach):
    one = arena()
    vmm = attach(Qemu, one.path).boot(2)
    before = one.process.fds()
    eventfd, ram = vmm.eventfd(), vmm.eventfd()
    requests = [
        (Command.GET_INFO, INFO.pack(16, 0, 0, 0), 32), (Command.RESET, b"", 16), (99, b"", 16),
        (Command.GET_REGION_INFO, REGION_INFO.pack(32, 0, 0, 0, 0, 0), 48),
        (Command.GET_IRQ_INFO, INFO.pack(16, 0, 2, 0), 32), (Command.VERSION, b"", 16),
        (Command.SET_IRQS, SET_IRQS.pack(20, DATA_NONE | TRIGGER, MSIX, 0, 1), 16),
        (Command.SET_IRQS, SET_IRQS.pack(20, DATA_EVENTFD | TRIGGER, MSIX, 0, 0), 16),
        (Command.SET_IRQS, SET_IRQS.pack(20, DATA_EVENTFD | TRIGGER, MSIX, 7, 1), 16),
        (Command.REGION_READ, ACCESS.pack(0, BAR0, 4), 36), (Command.FEATURE, bytes(8), 16),
        (Command.REGION_WRITE, ACCESS.pack(0, BAR0, 4) + bytes(4), 32), (Command.GET_INFO, b"", 16)]
    for command, payload, size in requests:
        for fds in ([eventfd], [ram] * 16):
            assert vmm.ask(command, payload, fds, exact=size).size == size
    vmm.send(Command.RESET, fds=[ram] * 16, flags=NO_REPLY)
    vmm.reset()
    assert one.process.fds() == before
    # On each piece of a message, and behind its end.
    message = vmm.message(Command.REGION_READ, ACCESS.pack(0, CONFIG, 4), exact=36)
    for at, byte in enumerate(message):
        socket.send_fds(vmm.sock, [bytes([byte])], [ram] * (at % 3))
    assert vmm.take().payload[16:] == b"\xf4\x1a\x10\x11"
    assert one.process.fds() == before


def test_more_descriptors_than_were_agreed(arena, attach):
    one = arena()
    vmm = attach(Qemu, one.path).boot(2)
    for count in (17, 100, 253):
        vmm = Spdk(one.path) if vmm.sock.fileno() < 0 else vmm
        if not vmm.info:
            vmm.version()
        vmm.send(Command.GET_INFO, INFO.pack(16, 0, 0, 0), [0] * count)
        assert is_closed(vmm)
        vmm.close()
    assert one.process.log().count("too many descriptors") == 3


@pytest.mark.parametrize("size", [0, 15, 16 + 16 + 16384 + 1, 1 << 31, (1 << 32) - 1])
def test_impossible_sizes(arena, attach, size):
    one = arena()
    vmm = attach(Qemu, one.path).boot(2)
    vmm.sock.sendall(HEADER.pack(1, Command.GET_INFO, size, 0, 0) + bytes(100))
    assert is_closed(vmm)
    assert len(re.findall("connection to the VMM closed", one.process.log())) == 1
    attach(Qemu, one.path).boot(2)


def test_replies_that_are_never_read(arena, attach):
    """The device stops reading; it neither piles replies up nor spins. None gets lost."""
    one = arena()
    vmm = attach(Vmm, one.path)
    vmm.capabilities = Qemu.capabilities
    vmm.version()
    memory = one.process.status("RssAnon")
    vmm.sock.setblocking(False)
    sent, message = b"", b""
    for number in itertools.count():
        if not message:
            message = vmm.message(Command.REGION_READ, ACCESS.pack(0, BAR2, 1000 + number % 1000),
                                  exact=1032 + number % 1000)
        try:
            message = message[vmm.sock.send(message):]
        except BlockingIOError:
            time.sleep(0.05)
            if sent == (sent := message) and number > 100:
                break  # nothing has moved for a while
    assert one.process.status("RssAnon") - memory < 1024
    one.check_still()
    one.check()
    vmm.sock.settimeout(TIMEOUT)
    rest = threading.Thread(target=vmm.sock.sendall, args=(message,))
    rest.start()
    while vmm.under_way:
        vmm.take()
    rest.join()


def test_half_a_message_and_silence(arena, attach):
    one = arena()
    for size in (1, 15, 16, 20, 35):
        vmm = attach(Qemu, one.path)
        vmm.version()
        vmm.sock.sendall((HEADER.pack(1, Command.REGION_WRITE, 36, 0, 0) + bytes(20))[:size])
        with pytest.raises(OSError) as refusal:
            attach(Qemu, one.path).version()
        assert refusal.value.errno == errno.EBUSY
        one.check()
        vmm.close()
    one.check_still()


def test_hundreds_of_connects(arena):
    """Closing at once, with a message that is not read, half a message, a reset."""
    one = arena()
    version = HEADER.pack(0, Command.VERSION, 20, 0, 0) + bytes(4)
    for number in range(600):
        with Vmm(one.path) as vmm:
            vmm.sock.setblocking(False)
            vmm.sock.send(version[:number % 21] * (1 + number % 3) or b"x")
    with Qemu(one.path) as vmm:
        vmm.boot(2)


def test_out_of_band_data(arena, attach):
    """A byte that poll() reports and recvmsg() does not return."""
    one = arena()
    vmm = attach(Qemu, one.path).boot(2)
    vmm.sock.send(b"x", socket.MSG_OOB)
    one.check_still()
    vmm.close()
    attach(Qemu, one.path).boot(2)


def test_those_who_say_nothing(arena, attach):
    """Whoever connects has ten seconds to begin; next to a VMM only a few may wait at all."""
    one = arena()
    start = time.monotonic()
    silent = attach(Vmm, one.path)
    before = one.process.fds()
    crowd = [attach(Vmm, path) for path in one.process.sockets for _ in range(200)]
    time.sleep(0.2)
    assert one.process.fds() - before < 20
    one.check()
    assert is_closed(crowd[199]), "over the limit: at once"
    assert is_closed(silent) and is_closed(crowd[0]) and is_closed(crowd[200])
    assert time.monotonic() - start > 5, "a VMM that is slow to begin is given time"
    attach(Qemu, one.path).boot(2)
    one.process.wait_log("device0: whoever connected says nothing")


# ---- eventfds ----


def blocking_eventfd(vmm):
    """Full and, once the device has it, blocking again: the device's next write would wait."""
    fd = vmm.eventfd()
    os.write(fd, ALMOST_FULL)
    return fd


def make_blocking(fd):
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)


def test_things_that_are_no_eventfds(arena, attach):
    one = arena()
    vmm = attach(Qemu, one.path).boot(2)
    before = one.process.fds()
    attacker = Attacker(0)
    try:
        for fd in attacker.fds:
            for fds in ([fd], [vmm.vectors[0], fd]):
                with pytest.raises(OSError, match="Invalid"):
                    vmm.assign(0, fds)
            with pytest.raises(OSError, match="Invalid"):
                vmm.set_irqs(INTX, DATA_EVENTFD | TRIGGER, 0, 1, [fd])
    finally:
        attacker.close()
    assert one.process.fds() == before
    one.host.ring(0, 0)
    assert vmm.wait_rung(0) == 1, "the vectors are as before"


def test_full_eventfds(arena, attach):
    """An interrupt that is pending already: nothing to wait for, and nothing to complain about."""
    one = arena()
    vmm = attach(Qemu, one.path).boot()
    full = vmm.eventfd()
    os.write(full, ALMOST_FULL)
    vmm.msix_control(MSIX_ENABLE)
    vmm.assign(0, [full, full])
    for number in range(20):
        one.host.ring(0, number % 2)
        vmm.ring(0, 0)
    one.check()


def test_vmm_whose_eventfd_blocks(arena, attach):
    """A write to it never ends by itself."""
    one = arena()
    vmm = attach(Qemu, one.path).boot()
    trap = blocking_eventfd(vmm)
    vmm.msix_control(MSIX_ENABLE)
    for _ in range(20):
        vmm.assign(0, [trap, trap])
        make_blocking(trap)
        one.host.ring(0, 0)
        vmm.send(Command.SET_IRQS, SET_IRQS.pack(20, DATA_NONE | TRIGGER, MSIX, 0, 2))
        one.check()
        vmm.flush()


def test_vmm_that_floods(arena, attach):
    """Requests that are a lot of work, without end: the others get their turn in between."""
    one = arena(vectors=2048)
    vmm = attach(Qemu, one.path).boot()
    bell = vmm.eventfd()
    for first in range(0, 2048, 16):
        vmm.assign(first, [bell] * 16)
    message = vmm.message(Command.SET_IRQS, SET_IRQS.pack(
        20, DATA_NONE | TRIGGER, MSIX, 0, 2048), NO_REPLY) * 1000
    vmm.sock.settimeout(None)

    def flood():
        with contextlib.suppress(OSError):
            while True:
                vmm.sock.sendall(message)

    flooder = threading.Thread(target=flood)
    flooder.start()
    begin = time.monotonic()
    for _ in range(100):
        one.witness.position()
    taken = time.monotonic() - begin
    vmm.sock.shutdown(socket.SHUT_RDWR)
    flooder.join()
    assert taken < GOES_ON, f"100 accesses took {taken:.1f} s"


def test_vmm_whose_many_eventfds_block(arena, attach):
    """One message triggers all vectors, and hundreds of such messages fit one read."""
    one = arena(vectors=64)
    vmm = attach(Qemu, one.path).boot()
    trap = blocking_eventfd(vmm)
    for first in range(0, 64, 16):
        vmm.assign(first, [trap] * 16)
    vmm.msix_control(MSIX_ENABLE)
    make_blocking(trap)
    message = b"".join(vmm.message(Command.SET_IRQS, SET_IRQS.pack(
        20, DATA_NONE | TRIGGER, MSIX, 0, 64), NO_REPLY) for _ in range(450))
    vmm.sock.sendall(message)
    one.check()


def test_peer_whose_eventfd_blocks(arena, attach):
    """The guest rings a peer that is its accomplice."""
    one = arena()
    vmm = attach(Qemu, one.path).boot(2)
    trap = one.host.vectors[1]
    os.write(trap, ALMOST_FULL)
    make_blocking(trap)
    vmm.sock.settimeout(None)
    message = b"".join(vmm.message(
        Command.REGION_WRITE, ACCESS.pack(DOORBELL, BAR0, 4)
        + struct.pack("=I", one.host.id << 16 | 1), NO_REPLY) for _ in range(1000))
    sender = threading.Thread(target=vmm.sock.sendall, args=(message,))
    sender.start()
    for _ in range(5):
        one.witness.position()
    os.read(trap, 8)
    fcntl.fcntl(trap, fcntl.F_SETFL, os.O_NONBLOCK)
    sender.join()
    vmm.position()  # answered after all of them have been served


def nested_epoll(inner):
    """As many as the kernel allows within one another."""
    chain = [select.epoll()]
    chain[0].register(inner, select.EPOLLIN)
    with contextlib.suppress(OSError):
        while True:
            outer = select.epoll()
            outer.register(chain[-1], select.EPOLLIN)
            chain.append(outer)
    return chain


def test_relatives_of_eventfds(arena, attach):
    """Without a file type, as eventfds are, but they poll, read and write otherwise."""
    one = arena(type="legacy", msi="off")
    vmm = attach(Qemu, one.path).boot()
    vmm.store(BAR0, INTRMASK, 1)
    ready = vmm.eventfd()
    wire.ring(ready)
    chain = nested_epoll(ready)
    notify = LIBC.inotify_init1(0)
    LIBC.inotify_add_watch(notify, b"/dev/null", 0x20)
    os.close(os.open("/dev/null", os.O_RDONLY))
    rules = LIBC.syscall(444, ctypes.byref(ctypes.c_uint64(1)), ctypes.c_size_t(8), 0)  # Landlock
    ours = [LIBC.timerfd_create(1, 0), notify, rules, os.pidfd_open(os.getpid())]
    try:
        for fd in [*ours, *(epoll.fileno() for epoll in chain)]:
            if fd < 0:
                continue  # a kernel without Landlock
            for flags in (DATA_EVENTFD | TRIGGER, DATA_EVENTFD | UNMASK):
                with contextlib.suppress(OSError):
                    vmm.set_irqs(INTX, flags, 0, 1, [fd])
                one.host.ring(0, 0)
                one.check()
            one.check_still(0.2)
    finally:
        wire.close_all(ours)
    vmm.intx_on()
    assert wait_taken(vmm.intx) == 1


# ---- the guest ----


def test_random_accesses_of_the_guest(arena, attach, pytestconfig):
    """Any offset and size, on all regions; each is answered with a success of the right size."""
    one = arena()
    seed = time.time_ns() if pytestconfig.getoption("--long") else 3
    print(f"seed {seed}")
    choose = random.Random(seed)
    vmm = attach(CloudHypervisor, one.path).boot(2)
    for number in range(100000 if pytestconfig.getoption("--long") else 6000):
        region = choose.choice([BAR0, BAR1, BAR2, CONFIG, CONFIG, choose.randrange(12)])
        limit = vmm.regions[region].size if region in vmm.regions else 4096
        offset = choose.choice([choose.randrange(64), choose.randrange(limit + 16),
                                max(0, limit - choose.randrange(16)), choose.getrandbits(64)])
        size = choose.choice([1, 2, 4, 8, 4, 3, 16, choose.randrange(300)])
        if choose.random() < 0.5:
            vmm.read(region, offset, size)
        else:
            vmm.write(region, offset, choose.choice([choose.randbytes(size), b"\xff" * size]))
        if number % 1000 == 0:
            one.check()
    vmm.close()
    vmm = attach(Qemu, one.path).boot(2)
    one.host.ring(0, 1)
    assert vmm.wait_rung(1) == 1, "nothing of that is left"


def test_memory_that_is_truncated(device, attach, tmp):
    """A file that was mapped and became shorter: reads 0, writes go nowhere, nobody dies."""
    memory = tmp / "memory"
    memory.write_bytes(b"m" * (1 << 20))
    process = device(*[device_spec(tmp / f"d{number}", type="plain", memdev=memory)
                       for number in range(2)])
    vmm, other = [attach(Qemu, path).boot() for path in process.sockets]
    for size in (4096, 0):
        os.truncate(memory, size)
        for offset, length in itertools.product((4096, 4095, 1 << 19, (1 << 20) - 8),
                                                (1, 2, 4, 8, 3, 16, 8192)):
            vmm.write(BAR2, offset, b"x" * length)
            data = vmm.read(BAR2, offset, length)
            assert data[1:] == bytes(length - 1)
        assert other.position() == 0
    os.truncate(memory, 1 << 20)
    vmm.write(BAR2, 8192, b"again")
    assert other.memory[8192:8197] == b"again"


# ---- no descriptors left ----


def test_no_descriptor_is_free(arena, attach):
    """Who is there is served, newcomers wait, who brings descriptors is sent away; no spinning."""
    one = arena()
    vmm = attach(Qemu, one.path).boot(2)
    soft = one.process.limit_fds(one.process.fds())
    one.check()
    assert vmm.position() == 0
    waiting = attach(Qemu, one.process.sockets[0])
    one.check_still()
    with pytest.raises(ConnectionError):
        vmm.assign(0, [vmm.vectors[0]] * 2)
    one.process.wait_log("no free descriptor")
    one.check()
    one.process.limit_fds(soft)
    waiting.boot(2)
    one.host.ring(0, 0)
    assert waiting.wait_rung(0) == 1


IN_FLIGHT = """
import socket, sys
pair = socket.socketpair()
for _ in range(8):
    socket.send_fds(pair[0], [b"x"], [0] * 250)
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user without the right to exceed limits")
def test_too_many_descriptors_in_flight(device, attach, spawn, tmp):
    """
    The kernel counts, for each user, descriptors that were sent and not yet received, whoever sent
    them: a server with slow peers has thousands. A VMM then waits for that of BAR2.
    """
    (tmp / "memory").write_bytes(bytes(1 << 20))
    (tmp / "memory").chmod(0o666)
    process = device(*[device_spec(tmp / f"d{number}", type="plain", memdev=tmp / "memory")
                       for number in range(2)], user="nobody",
                     rlimit={resource.RLIMIT_NOFILE: (1024, 1024)})
    vmm, other = [attach(Qemu, path) for path in process.sockets]
    other.boot()
    vmm.version()
    vmm.get_info()
    hog = spawn(["/usr/bin/python3", "-c", IN_FLIGHT], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                preexec_fn=as_user("nobody", {resource.RLIMIT_NOFILE: (4096, 4096)}))
    hog.stdout.readline()
    vmm.send(Command.GET_REGION_INFO, REGION_INFO.pack(32, 0, BAR2, 0, 0, 0), exact=48)
    before = process.cpu_time()
    assert not wire.select_readable(vmm.sock, 0.3), "neither an answer nor the end"
    assert process.cpu_time() - before < 0.1
    assert other.position() == 0
    hog.kill()
    hog.wait()
    reply = vmm.take()
    assert len(reply.fds) == 1
    wire.close_all(reply.fds)


def test_too_few_descriptors_to_start(server, device_command, tmp):
    target = server(vectors=8)
    devices = [word for number in range(16) for word in ("--device", device_spec(
        tmp / f"d{number}", type="doorbell", server=target.socket, vectors=8))]
    run = subprocess.run([*device_command, *devices], stderr=subprocess.PIPE, text=True,
                         check=False, timeout=TIMEOUT,
                         preexec_fn=as_user(None, {resource.RLIMIT_NOFILE: (256, 256)}))
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1 and "ulimit -n" in run.stderr, run.stderr
