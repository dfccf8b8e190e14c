# SPDX-License-Identifier: MIT
"""
Boards that run tests/cortex/firmware.elf with a flat ivshmem device: ours, and QEMU's lm3s6965evb,
into which the plugin of tests/flat puts QEMU's ivshmem-flat. The same image, the same addresses,
one interface: whoever uses one does not see which it is.

What QEMU's device does not do (vectors but the first, doorbells with a vector of 64 and more) is
for tests to leave out.
"""

import hashlib
import itertools
import mmap
import re
import struct
import subprocess

import pytest

import procs
from conftest import build_dir, ended_with_test, find_program, wait_until
from qemu import program

TIMEOUT = 120  # seconds for what takes one on an idle machine
DEADLINE = 60  # after which firmware gives up
SIZE = 1 << 20  # of the shared memory
REGISTERS, MEMORY, IRQ = 0x400FF000, 0x40100000, 40

OURS = "ours"
PLUGIN_API = {"qemu-10": 4, "qemu-11": 7}
KINDS = (OURS, *PLUGIN_API)
PAIRS = list(itertools.product(KINDS, KINDS))

# Of tests/cortex/fw_serve.c
COUNTS, CHANGED, SEEN, LIFE, READY, COMMAND, DONE = (
    0x8000, 0x8040, 0x8044, 0x8048, 0x804C, 0x8080, 0x8090)
VECTORS = 8  # that the firmware counts
IS_READY, DISMISS = 0x69767368, 0xFFFFFFFF


def image():
    found = sorted(build_dir().rglob("firmware.elf"))
    assert found, f"no firmware.elf in {build_dir()}: build it (needs arm-none-eabi-gcc)"
    return found[0]


def plugin(qemu):
    """What puts the device into a board of that QEMU."""
    name = f"flat-wire-{PLUGIN_API[qemu]}.so"
    path = build_dir() / "tests/flat" / name
    assert path.exists(), f"{path} is missing: build it"
    return path


def wiring(socket, qemu, size=SIZE, irq=IRQ):
    """Options for an ivshmem-flat in a Cortex-M board of QEMU's, a client of the server behind
    `socket`."""
    return ["-chardev", f"socket,path={socket},id=flat.server",
            "-plugin", f"{plugin(qemu)},chardev=flat.server,mmr={REGISTERS},shm={MEMORY},"
                       f"size={size},irq={irq}"]


class Board:
    """Firmware that runs in role `role`; its exit status is the result."""

    def __init__(self, console, command):
        self.console_path = console
        self.command = [str(word) for word in command]
        with open(console, "wb") as output:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def digest(self):
        """Of the image that it was told to run."""
        path, = {word for word in self.command if word.endswith(".elf")}
        with open(path, "rb") as elf:
            return hashlib.sha256(elf.read()).hexdigest()

    def console(self):
        return self.console_path.read_text(encoding="utf-8", errors="replace")

    def results(self):
        """What it has printed so far as key=value; numbers as int."""
        found = re.findall(r"(?:^|(?<= ))(\w+)=(\S*)", self.console(), re.M)
        return {key: int(value) if value.isdecimal() else value for key, value in found}

    def wait_id(self):
        """Wait until it runs, and so has joined; returns its ID."""
        wait_until(lambda: "id" in self.results() or self.process.poll() is not None, "the board",
                   TIMEOUT)
        assert "id" in self.results(), self.console()
        return self.results()["id"]

    def wait(self, timeout=TIMEOUT):
        """Wait for the end; fails unless the firmware passed. Returns its results."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.close()
            status = f"none within {timeout} s"
        assert status == 0 and "\npassed=" in self.console(), \
            f"exit status {status}\n{self.console()}"
        return self.results()

    def cpu_time(self):
        """Seconds of processor time that it has used."""
        return procs.cpu_time(self.process.pid)

    def sleeps(self):
        return procs.state_of(self.process.pid) == "S"

    def close(self):
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.wait()


def our_board(server, words, options=()):
    path = find_program("ivshmem-flat-run")
    assert path, f"no ivshmem-flat-run in {build_dir()}"
    return [path, image(), "--server", f"unix:{server.socket}", *options, "--", *words]


def qemu_board(qemu, server, words, irq=IRQ):
    words = ",".join(f"arg={word}" for word in words)
    return [program(qemu, "arm"), "-M", "lm3s6965evb", "-nodefaults", "-no-user-config",
            "-display", "none", "-nic", "none", "-kernel", image(),
            "-semihosting-config", f"enable=on,target=native,arg=firmware,{words}",
            *wiring(server.socket, qemu, irq=irq)]


@pytest.fixture
def board(launch, tmp):  # pylint: disable=unused-argument # ends before servers do
    """
    Run firmware: board(kind, server, role, options=(), interrupts=True, **parameters of the role).
    The options are our board's; without interrupts the device has none.
    """
    numbers = itertools.count()

    def start(kind, server, role, options=(), interrupts=True, **parameters):
        parameters = {"role": role, "deadline": DEADLINE, **parameters}
        words = [f"{name}={value}" for name, value in parameters.items()]
        if kind == OURS:
            none = [] if interrupts else ["--irq", "none"]
            command = our_board(server, words, [*options, *none])
        else:
            command = qemu_board(kind, server, words, IRQ if interrupts else "none")
        return Board(tmp / f"board{next(numbers)}", command)

    yield from ended_with_test(start, Board.close)


class Words:
    """The shared memory as words by their byte offset; `peer` is a wire.Peer."""

    def __init__(self, peer):
        self.memory = mmap.mmap(peer.region, SIZE)

    def __getitem__(self, offset):
        return struct.unpack_from("<I", self.memory, offset)[0]

    def __setitem__(self, offset, value):
        struct.pack_into("<I", self.memory, offset, value)

    def clear(self):
        self.memory[:] = bytes(SIZE)

    def close(self):
        self.memory.close()


class Served:
    """
    A board whose role waits for what a test does; `peer` is a wire.Peer of the same server, which
    knows the board. Several boards must not serve in the same memory.
    """

    def __init__(self, one, peer):
        self.board = one
        self.peer = peer
        self.words = Words(peer)
        self.id = one.wait_id()
        peer.pump(lambda p: len(p.peers.get(self.id, ())) == len(p.vectors) > 0)
        wait_until(lambda: self.words[READY] == IS_READY, "the firmware to be ready")
        while not peer.rung():  # the server has not told it of us yet
            self.ring(0, 1)

    def counts(self):
        """How often it was interrupted by each vector."""
        return [self.words[COUNTS + 4 * vector] for vector in range(VECTORS)]

    def ring(self, vector, times, peer=None):
        """Make it ring a vector of ours, or of another peer, and wait until it has."""
        self.obey(self.words[COMMAND] + 1, self.peer.id if peer is None else peer, vector, times)

    def obey(self, command, *arguments):
        for at, value in enumerate(arguments, 1):
            self.words[COMMAND + 4 * at] = value
        self.words[COMMAND] = command
        self.peer.ring(self.id, 0)
        if command != DISMISS:
            wait_until(lambda: self.words[DONE] == command, "the firmware to obey")

    def dismiss(self):
        """The firmware's end."""
        self.obey(DISMISS)
        self.board.wait()
