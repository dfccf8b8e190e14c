# SPDX-License-Identifier: MIT
"""
What docs/firmware.md says of the flat device's registers and interrupts, asked of QEMU's
ivshmem-flat (the oracle), which the plugin of tests/flat has put into a board whose processor does
not run; of our core alone; and of firmware's own accesses on all boards. Where QEMU's is known to
differ, flat_differences.py has what it must show instead.

A subject is a device with ID 0x1234 next to a host, peer 0. Each has PEER_VECTORS vectors.
"""

import os
import struct
import subprocess
import threading

import pytest

import flat_differences
import wire
from clienttool import Replay, replay  # pylint: disable=unused-import # a fixture
from conftest import ended_with_test, find_program, wait_until
from flat import (IRQ, KINDS, OURS, PLUGIN_API, REGISTERS, SIZE, wiring,
                  board)  # pylint: disable=unused-import # a fixture
from flat_differences import value_of_write
from qemu import Machine
from test_conformance import show
from test_qtest import boot  # pylint: disable=unused-import # a fixture

PEER_VECTORS = 3
ID = 0x1234
SIZES = (1, 2, 4)
OFFSETS = range(20)  # the window, and what lies behind it
ISPR, ICPR = 0xE000E200 + 4 * (IRQ // 32), 0xE000E280 + 4 * (IRQ // 32)


class Qemu:
    """QEMU's device. Its line leads to the interrupt controller, which keeps pulses."""

    def __init__(self, machine, server):
        self.machine, self.id = machine, ID
        self.host, self.own = server.eventfds[0], server.eventfds[ID]

    def read(self, offset, size):
        return self.machine.load(REGISTERS + offset, size)

    def write(self, offset, size, value):
        self.machine.store(REGISTERS + offset, size, value)

    def interrupt(self, vector):
        wire.ring(self.own[vector])

    def settle(self):
        """Wait for doorbells to get through. A round of QEMU's loop is the most that one qtest
        command takes."""
        wait_until(lambda: wire.eventfd_info(self.own[0])["count"] == 0, "the device's doorbell")
        for _ in range(3):
            self.machine.readl(REGISTERS)

    def rung(self):
        """How often the host was rung since the last call, {vector: count}."""
        return {vector: struct.unpack("=Q", os.read(fd, 8))[0]
                for vector, fd in enumerate(self.host) if wire.select_readable(fd, 0)}

    def lines(self):
        """The lines that have risen since the last call."""
        self.settle()
        pending = self.machine.readl(ISPR) >> IRQ % 32
        self.machine.writel(ICPR, 0xFFFFFFFF)
        return [line for line in range(32 - IRQ % 32) if pending >> line & 1]

    def spins(self):
        """Whether it has a doorbell that it does not take."""
        return any(wire.eventfd_info(fd)["count"] for fd in self.own[1:])


class Core:
    """Our core; we play machine, server and host. See tests/device/flat_subject.c."""

    def __init__(self, style="pulse"):
        self.id = ID
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [find_program("flat-subject"), str(PEER_VECTORS), str(ID), style],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.risen, self.host_rung, self.level = [], {}, {}

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.process.stdout.close()

    def command(self, name, *numbers):
        print(name, *(f"{number:x}" for number in numbers), file=self.process.stdin, flush=True)
        while True:
            reply, *values = self.process.stdout.readline().split()
            assert reply != "error", (name, numbers)
            values = [int(value, 16) for value in values]
            if reply in ("ok", "="):
                return values[0] if values else None
            self.callback(reply, *values)

    def callback(self, name, first, second):
        if name == "line":
            assert self.level.get(first, 0) != second, "no change"
            self.level[first] = second
            self.risen += [first] if second else []
        elif first == ID and second < PEER_VECTORS:
            self.risen.append(second)  # as the machine would bring it back
        elif first == 0 and second < PEER_VECTORS:
            self.host_rung[second] = self.host_rung.get(second, 0) + 1

    def read(self, offset, size):
        return self.command("r", offset, size)

    def write(self, offset, size, value):
        self.command("w", offset, size, value)

    def interrupt(self, vector):
        self.command("i", vector)

    def rung(self):
        rung, self.host_rung = self.host_rung, {}
        return rung

    def lines(self):
        risen, self.risen = self.risen, []
        return risen

    def spins(self):
        return False


# ---- cases: (key, what is seen, what docs/firmware.md says) ----


def image(mask=0, status=0, own=ID):
    """What the window and the bytes behind it read."""
    return b"".join(word.to_bytes(4, "little") for word in (mask, status, own)) + bytes(24)


def reads(s):
    for size in SIZES:
        for offset in OFFSETS:
            yield (size, offset), s.read(offset, size), int.from_bytes(
                image()[offset:offset + size], "little")


def writes(s):
    """How the host was rung, and that nothing else has changed."""
    for size in SIZES:
        for offset in OFFSETS:
            s.write(offset, size, value_of_write(size))
            whole = (size, offset) == (4, 12)
            yield (size, offset), s.rung(), {2: 1} if whole else {}
    yield "registers", [s.read(at, 4) for at in range(0, 16, 4)], [0, 0, ID, 0]
    yield "lines", s.lines(), []


def all_bits(s):
    """Mask and status keep nothing, the position stays."""
    for at in (0, 4, 8):
        for value in (0xFFFFFFFF, 1, 0):
            s.write(at, 4, value)
            yield (at, value), [s.read(offset, 4) for offset in range(0, 16, 4)], [0, 0, ID, 0]


def doorbells(s):
    for vector in range(PEER_VECTORS):
        s.write(12, 4, vector)
        yield ("host", vector), s.rung(), {vector: 1}
    for vector in (PEER_VECTORS, 31, 63):
        s.write(12, 4, vector)
        yield ("high", vector), s.rung(), {}
    for peer in (2, 99, 0x7FFF, 0x8000, 0xFFFF):
        for vector in (0, 63, 64, 0xFFFF):
            s.write(12, 4, peer << 16 | vector)
        yield ("nobody", peer), (s.rung(), s.lines()), ({}, [])
    s.write(12, 4, ID << 16)
    yield "self", s.lines(), [0]


def interrupts(s):
    """A pulse each; the registers say nothing of it."""
    for turn in range(3):
        s.interrupt(0)
        yield ("rung", turn), (s.read(4, 4), s.lines(), s.read(4, 4)), (0, [0], 0)
    yield "afterwards", s.lines(), []


def other_vectors(s):
    for vector in range(1, PEER_VECTORS):
        s.interrupt(vector)
        yield vector, s.lines(), [vector]


def nobody_spins(s):
    yield "spins", s.spins(), False


CASES = (reads, writes, all_bits, doorbells, interrupts, other_vectors, nobody_spins)


def judge(subject, family):
    """Run all cases; returns what is wrong, a line each, and a difference that does not show."""
    wrong = []
    for case in CASES:
        seen, expected = {}, {}
        for key, value, should in case(subject):
            seen[key], expected[key] = value, should
        for difference in flat_differences.DIFFERENCES:
            if difference.family != family or case.__name__ not in difference.values:
                continue
            values = difference.values[case.__name__](subject, expected)
            wrong += [] if values else [f"no difference in {case.__name__}: {difference.name}"]
            expected.update(values)
        wrong += [f"{case.__name__} {key}: {show(seen[key])}, should be {show(expected[key])}"
                  for key in seen if seen[key] != expected[key]]
    return wrong


@pytest.fixture
def core():
    """Our core: core(style)."""
    yield from ended_with_test(Core, Core.close)


def test_core(core):
    subject = core()
    assert not judge(subject, "core")
    subject.interrupt(PEER_VECTORS)
    assert subject.lines() == [], "the device does not have that vector"
    for vector in (64, 255, 256, 0x8000, 0xFFFF):
        for peer in (0, ID):
            subject.write(12, 4, peer << 16 | vector)
    assert (subject.rung(), subject.lines()) == ({}, [])


@pytest.mark.parametrize("qemu", PLUGIN_API)
def test_qemu(replay, boot, qemu):
    """The server is scripted, so that the ID is one that shows in all pieces."""
    accepting = threading.Thread(target=replay.accept, args=(ID, [0], PEER_VECTORS))
    accepting.start()
    machine = boot(*wiring(replay.path, qemu), qemu=qemu, machine="lm3s6965evb", arch="arm")
    accepting.join()
    assert not judge(Qemu(machine, replay), "qemu")


# ---- the level style: section 3; QEMU's device has none ----

MASK, STATUS = 0x44332211, 0x88CC4464  # which have no bit in common


def test_level_reads(core):
    """Any read that takes the status' first byte clears it."""
    s = core("level")
    for size in SIZES:
        for offset in OFFSETS:
            s.write(0, 4, MASK)
            s.write(4, 4, STATUS)
            window = image(MASK, STATUS)[offset:offset + size]
            assert s.read(offset, size) == int.from_bytes(window, "little")
            assert s.read(4, 4) == (0 if offset <= 4 < offset + size else STATUS)
    assert s.lines() == []


def test_level_writes(core):
    s = core("level")
    for size in SIZES:
        for offset in OFFSETS:
            s.write(0, 4, MASK)
            s.write(4, 4, STATUS)
            s.write(offset, size, value_of_write(size))
            whole = offset if size == 4 else None
            assert (s.read(0, 4), s.read(4, 4), s.read(8, 4), s.rung()) == (
                2 if whole == 0 else MASK, 2 if whole == 4 else STATUS, ID,
                {2: 1} if whole == 12 else {})
    assert s.lines() == []


def test_level_interrupts(core):
    s = core("level")
    s.interrupt(0)
    assert s.lines() == [] and s.read(4, 4) == 1  # masked, and noted
    s.write(0, 4, 0xFFFFFFFF)
    for vector in (2, 1):
        s.interrupt(vector)
    assert s.lines() == [0] and s.level[0] == 1
    assert s.read(4, 4) == 6 and s.level[0] == 0
    s.command("x")
    s.interrupt(0)
    assert s.lines() == [] and s.read(0, 4) == 0  # reset masks


# ---- what firmware itself sees ----


@pytest.mark.parametrize("kind", KINDS)
def test_record(server, board, join, kind):
    """
    What role record prints. QEMU's device gets aligned accesses only: pieces of others ring vectors
    that it does not bear.
    """
    target = server()
    host = join(target).pump_mesh(0, 1)
    one = board(kind, target, "record", misaligned=int(kind == OURS))
    own = one.wait()["id"]
    accesses = [(size, offset) for size in SIZES for offset in range(17 - size)
                if kind == OURS or offset % size == 0]
    expected = []
    for size, offset in accesses:
        value = int.from_bytes(image(own=own)[offset:offset + size], "little")
        expected.append(f"read {size} {offset} {value:#x}")
    for size, offset in accesses:
        rung = int((size, offset) == (4, 12))
        expected.append(f"write {size} {offset} 0x0 0x0 {own:#x} 0x0 {rung}")
    assert [line for line in one.console().splitlines() if line[:5] in ("read ", "write")] == \
        expected
    # It writes 0 in pieces; see short-writes.
    assert host.rung() == ({} if kind == OURS else {0: 2})


# ---- around the registers ----


@pytest.mark.parametrize("qemu", PLUGIN_API)
def test_exact_size(server, qemu):
    with pytest.raises(AssertionError, match="shmem size different"):
        Machine(*wiring(server().socket, qemu, size=2 * SIZE), qemu=qemu, machine="lm3s6965evb",
                arch="arm")


def test_document_has_the_same_differences():
    text = flat_differences.DOCUMENT.read_text(encoding="utf-8")
    assert flat_differences.with_table(text) == text, "run tests/e2e/flat_differences.py"
    assert all(one.name in text for one in flat_differences.DIFFERENCES)
