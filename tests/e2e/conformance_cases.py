# SPDX-License-Identifier: MIT
"""
The cases of the conformance suite: drivers of the device that yield what they see next to what
docs/device.md says they should see.
"""

from conformance import (INTX_DISABLE, MASTER, MEMORY_ENABLE, MSIX_ENABLE, MSIX_MASK, COMMAND,
                         STATUS, msix_layout)

MASK_VALUE, STATUS_VALUE = 0x44332211, 0x88776655
SIZES = (1, 2, 4, 8)
CASES = []


def case(applies=lambda kind: True, mapped=True):
    """Note a case for the kinds of device that it `applies` to."""

    def note(function):
        CASES.append((function.__name__, applies, mapped, function))
        return function

    return note


def has_msix(kind):
    return kind.vectors > 0


def has_two(kind):
    return kind.vectors == 2


def has_intx(kind):
    return kind.intx


def little(data):
    return int.from_bytes(data, "little")


# ---- configuration space: docs/device.md, section 2 ----


def header(kind):
    """Configuration space after reset."""
    space = bytearray(256)

    def put(offset, size, value):
        space[offset:offset + size] = value.to_bytes(size, "little")

    put(0x00, 4, 0x11101AF4)
    put(0x08, 1, kind.revision)
    put(0x0A, 2, 0x0500)
    put(0x18, 4, 0xC)
    put(0x2C, 4, 0x11001AF4)
    put(0x3D, 1, 1 - kind.revision)
    if has_msix(kind):
        pba = msix_layout(kind.vectors)[0]
        put(STATUS, 2, 0x0010)
        put(0x34, 1, 0x40)
        put(0x40, 2, 0x0011)
        put(0x42, 2, kind.vectors - 1)
        put(0x44, 4, 1)
        put(0x48, 4, pba | 1)
    return bytes(space)


def writable(kind):
    """The bits of it that a driver can change."""
    space = bytearray(256)

    def put(offset, size, value):
        space[offset:offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    put(COMMAND, 2, 0x0507)
    put(0x0C, 1, 0xFF)
    put(0x10, 4, -256)
    if has_msix(kind):
        put(0x14, 4, -msix_layout(kind.vectors)[2])
        put(0x42, 2, 0xC000)
    put(0x18, 8, -kind.size)
    put(0x3C, 1, 0xFF)
    return bytes(space)


@case(mapped=False)
def config_reads(s):
    space = header(s.kind)
    for size in (1, 2, 4):
        for offset in range(0, 256, size):
            yield (size, offset), s.config_read(offset, size), little(space[offset:offset + size])


@case(mapped=False)
def config_writes(s):
    """Each byte and each dword: all ones, then zeros. It is as after reset in between."""
    space, mask = header(s.kind), writable(s.kind)
    for size in (1, 4):
        for offset in range(0, 256, size):
            value, bits = (little(what[offset:offset + size]) for what in (space, mask))
            s.config_write(offset, size, (1 << 8 * size) - 1)
            yield (size, offset, "ones"), s.config_read(offset, size), value | bits
            s.config_write(offset, size, 0)
            yield (size, offset, "zeros"), s.config_read(offset, size), value & ~bits
            s.config_write(offset, size, value)


@case()
def config_bars_are_sized(s):
    """As a driver does it that leaves decoding on: sizes, and nothing moves."""
    sizes = {0x10: 256, 0x18: s.kind.size}
    if has_msix(s.kind):
        sizes[0x14] = msix_layout(s.kind.vectors)[2]
    before = s.placed()
    for offset in (0x10, 0x14, 0x18, 0x20, 0x24, 0x30):
        width = 8 if offset == 0x18 else 4
        old = [s.config_read(offset + at, 4) for at in range(0, width, 4)]
        for at in range(0, width, 4):
            s.config_write(offset + at, 4, 0xFFFFFFFF)
        found = sum(s.config_read(offset + at, 4) << 8 * at for at in range(0, width, 4))
        yield offset, -(found & ~0xF) & (1 << 8 * width) - 1, sizes.get(offset, 0)
        yield (offset, "placed"), s.placed().get((offset - 0x10) // 4), None
        for at, value in zip(range(0, width, 4), old):
            s.config_write(offset + at, 4, value)
    yield "placed", s.placed(), before


@case()
def config_bars_are_placed(s):
    def place(bar, address):
        s.config_write(0x10 + 4 * bar, 4, address & 0xFFFFFFFF)
        if bar == 2:
            s.config_write(0x1C, 4, address >> 32)
        return s.placed().get(bar)

    bars = [0, 1, 2] if has_msix(s.kind) else [0, 2]
    yield "all", sorted(s.placed()), bars
    for bar, address, answers in (
            (0, 0xD0000100, True), (0, 0xFFFFFE00, True), (0, 0xFFFFFF00, False), (0, 0, False),
            (2, 0xD0000000, True), (2, 0xFFF00000, True), (2, 0x7000000000, True), (2, 0, False),
            (2, (1 << 64) - s.kind.size, False)):
        yield (bar, address), place(bar, address), address if answers else None
    s.map()
    s.config_write(COMMAND, 2, MASTER)
    yield "decoding off", s.placed(), {}
    s.config_write(COMMAND, 2, MEMORY_ENABLE)
    yield "decoding on", sorted(s.placed()), bars
    s.reset()
    yield "reset", s.placed(), {}


# ---- registers: section 3 ----


def set_registers(s):
    s.write(0, 0, 4, MASK_VALUE)
    s.write(0, 4, 4, STATUS_VALUE)


@case(lambda kind: kind.vectors in (0, 2))
def register_reads(s):
    """The value, and what the status is afterwards."""
    image = b"".join(value.to_bytes(4, "little") for value in (MASK_VALUE, STATUS_VALUE, s.id))
    image += bytes(256 - len(image))
    for size in SIZES:
        for offset in range(16):
            set_registers(s)
            seen = s.read(0, offset, size), s.read(0, 4, 4)
            cleared = offset <= 4 < offset + size
            yield (size, offset), seen, (little(image[offset:offset + size]),
                                         0 if cleared else STATUS_VALUE)
        set_registers(s)
        for offset in range(16, 257 - size):
            yield (size, offset), s.read(0, offset, size), 0
        yield (size, "status"), s.read(0, 4, 4), STATUS_VALUE


def written(size, offset, value):
    """Mask, status and doorbells after a write; None where a register keeps its value."""
    data = value.to_bytes(size, "little")

    def whole(register):
        at = register - offset
        return little(data[at:at + 4]) if 0 <= at and at + 4 <= size else None

    return whole(0), whole(4), whole(12)


@case(lambda kind: kind.vectors in (0, 2))
def register_writes(s):
    """Mask and status afterwards, and how the host was rung."""
    for size in SIZES:
        value = 0x0000000100000002 & (1 << 8 * size) - 1
        for offset in range(20):
            set_registers(s)
            s.write(0, offset, size, value)
            mask, status, bell = written(size, offset, value)
            yield (size, offset), (*s.registers, s.rung()), (
                MASK_VALUE if mask is None else mask, STATUS_VALUE if status is None else status,
                {bell: 1} if s.has_host and bell is not None and bell < s.peer_vectors else {})
        set_registers(s)
        for offset in range(20, 257 - size):
            s.write(0, offset, size, value)
        yield (size, "beyond"), (*s.registers, s.rung()), (MASK_VALUE, STATUS_VALUE, {})
    s.write(0, 8, 4, 7)
    yield "position", s.read(0, 8, 4), s.id
    s.reset()
    s.map()
    yield "reset", (*s.registers, s.read(0, 8, 4)), (0, 0, s.id)


@case(lambda kind: kind.vectors != 0)
def doorbells(s):
    last = s.peer_vectors - 1
    for vector in {0, min(1, last), last}:
        s.ring(0, vector)
        yield ("host", vector), s.rung(), {vector: 1}
    for vector in (last + 1, 0x100, 0x101, 0x8000, 0xFF00):
        if vector > last:
            s.ring(0, vector)
            yield ("high", vector), s.rung(), {}
    for peer in (99, 0x7FFF, 0x8000, 0xFFFF):
        s.ring(peer, 0)
        yield ("nobody", peer), s.rung(), {}
    s.control(MSIX_ENABLE)
    own = min(s.kind.vectors, s.peer_vectors) - 1
    s.program(own)
    s.ring(s.id, own)
    s.settle()
    yield "self", s.messages(), [own]
    s.ring(s.id, own + 1)  # not there, or not of the server
    s.settle()
    yield "self, no such vector", (s.messages(), s.pending()), ([], [])


@case(lambda kind: kind.vectors == 0)
def doorbells_without_msix(s):
    for peer in (1, 0xFFFF):
        s.ring(peer, 0)
    yield "quiet", (s.rung(), s.read(0, 0x0C, 4)), ({}, 0)


# ---- MSI-X: section 4.1 ----


@case(has_msix)
def msix_after_reset(s):
    pba, pba_size, size = msix_layout(s.kind.vectors)
    entry = bytes(12) + b"\x01\0\0\0"
    yield "table", s.read_block(1, 0, 16 * s.kind.vectors), entry * s.kind.vectors
    yield "pending bits", s.read_block(1, pba, pba_size), bytes(pba_size)
    s.write(1, size - 4, 4, 0x55555555)
    yield "end", s.read_block(1, size - 4, 4), bytes(4)


@case(has_msix)
def msix_table_fields(s):
    """Every bit is stored, whatever it means."""
    for vector in {0, s.kind.vectors // 2, s.kind.vectors - 1}:
        for at in range(0, 16, 4):
            for value in (0xFFFFFFFF, 0, 0x5A5A5A5A):
                s.write(1, 16 * vector + at, 4, value)
                yield (vector, at, value), s.read(1, 16 * vector + at, 4), value
        for at in (0, 8):
            s.write(1, 16 * vector + at, 8, 0x1122334455667788)
            yield (vector, at, 8), s.read(1, 16 * vector + at, 8), 0x1122334455667788
    s.reset()
    s.map()
    yield "reset", s.read_block(1, 0, 16), bytes(12) + b"\x01\0\0\0"


@case(has_two)
def msix_table_widths(s):
    old, new = bytes(range(1, 33)), bytes(range(0xF1, 0xF9))
    for size in SIZES:
        for offset in range(16):
            for at in range(0, 32, 4):
                s.write(1, at, 4, little(old[at:at + 4]))
            yield (size, offset, "read"), s.read(1, offset, size), little(old[offset:offset + size])
            s.write(1, offset, size, little(new[:size]))
            after = bytearray(old)
            first, end = -(-offset // 4) * 4, (offset + size) // 4 * 4
            if first < end:
                after[first:end] = new[first - offset:end - offset]
            yield (size, offset, "write"), s.read_block(1, 0, 32), bytes(after)


@case(has_two)
def msix_pending_bits(s):
    """They are for reading, in any width."""
    pba = msix_layout(s.kind.vectors)[0]
    s.control(MSIX_ENABLE)
    for vector in (0, 1):
        s.interrupt(vector)
    for size in SIZES:
        for value in (0, (1 << 8 * size) - 1):
            s.write(1, pba, size, value)
            yield (size, value), s.read(1, pba, size), 3
    yield "only those", s.pending(), [0, 1]


# ---- interrupts: sections 4.1 and 4.3 ----


@case(has_msix)
def interrupt_of_the_last_vector(s):
    last = min(s.kind.vectors, s.peer_vectors) - 1
    s.control(MSIX_ENABLE)
    s.interrupt(last)
    yield "pending", (s.pending(), s.messages()), ([last], [])
    s.program(last)
    yield "sent", (s.pending(), s.messages()), ([], [last])
    s.interrupt(last)
    yield "again", (s.pending(), s.messages()), ([], [last])


@case(has_two)
def interrupt_delivered(s):
    s.control(MSIX_ENABLE)
    s.program(0, 1)
    for vector in (0, 1, 0, 0):
        s.interrupt(vector)
        yield "sent", (s.messages(), s.pending()), ([vector], [])
    yield "registers", s.registers, (0, 0)
    s.interrupt(s.kind.vectors)  # the server has one more than the device
    yield "no such vector", (s.messages(), s.pending()), ([], [])


@case(has_two)
def interrupt_masked(s):
    """A vector that was never unmasked."""
    s.control(MSIX_ENABLE)
    s.program(0, 1, masked=True)
    for _ in range(3):
        s.interrupt(0)
    yield "masked", (s.messages(), s.pending()), ([], [0])
    s.program(1)
    yield "the other one", (s.messages(), s.pending()), ([], [0])
    s.mask(0, False)
    yield "unmasked", (s.messages(), s.pending()), ([0], [])
    s.mask(0)
    s.mask(0, False)
    yield "once", (s.messages(), s.pending()), ([], [])


@case(has_two)
def interrupt_masked_again(s):
    s.control(MSIX_ENABLE)
    s.program(0, 1)
    s.interrupt(0)
    s.mask(0)
    s.messages()
    s.interrupt(0)
    yield "masked", (s.messages(), s.pending()), ([], [0])
    s.interrupt(1)
    yield "the other one", (s.messages(), s.pending()), ([1], [0])
    s.mask(0, False)
    yield "unmasked", (s.messages(), s.pending()), ([0], [])


@case(has_two)
def interrupt_masked_again_and_never_unmasked(s):
    """Bits of both kinds of masked vector at once."""
    s.control(MSIX_ENABLE)
    s.program(0)
    s.mask(0)
    s.interrupt(1)
    s.interrupt(0)
    yield "masked", (s.messages(), s.pending()), ([], [0, 1])
    s.program(0, 1)
    yield "unmasked", (s.messages(), s.pending()), ([0, 1], [])


@case(has_two)
def interrupt_with_function_mask(s):
    s.control(MSIX_ENABLE | MSIX_MASK)
    s.program(0, 1)
    s.interrupt(1)
    yield "masked", (s.messages(), s.pending()), ([], [1])
    s.mask(0)
    s.interrupt(0)
    s.control(MSIX_ENABLE)
    yield "function unmasked", (s.messages(), s.pending()), ([1], [0])
    s.mask(0, False)
    yield "unmasked", (s.messages(), s.pending()), ([0], [])


@case(has_two)
def interrupt_with_function_masked_again(s):
    s.control(MSIX_ENABLE)
    s.program(0, 1)
    s.control(MSIX_ENABLE | MSIX_MASK)
    s.interrupt(1)
    yield "masked", (s.messages(), s.pending()), ([], [1])
    s.control(MSIX_ENABLE)
    yield "unmasked", (s.messages(), s.pending()), ([1], [])


@case(has_two)
def interrupt_while_disabled(s):
    s.program(0, 1)
    s.interrupt(0)
    yield "disabled", (s.messages(), s.pending()), ([], [0])
    s.control(MSIX_ENABLE)
    yield "enabled", (s.messages(), s.pending()), ([0], [])
    s.control(0)
    s.interrupt(1)
    yield "disabled again", (s.messages(), s.pending()), ([], [1])
    s.control(MSIX_ENABLE | MSIX_MASK)
    yield "enabled, masked", (s.messages(), s.pending()), ([], [1])
    s.control(MSIX_ENABLE)
    yield "unmasked", (s.messages(), s.pending()), ([1], [])


@case(has_two)
def interrupt_pending_over_a_pause(s):
    """Disabling and enabling keeps what is pending."""
    s.control(MSIX_ENABLE)
    s.interrupt(0)
    s.control(0)
    yield "disabled", (s.messages(), s.pending()), ([], [0])
    s.control(MSIX_ENABLE)
    yield "enabled", (s.messages(), s.pending()), ([], [0])
    s.program(0)
    yield "unmasked", (s.messages(), s.pending()), ([0], [])


@case(has_two)
def interrupt_without_bus_mastering(s):
    s.control(MSIX_ENABLE)
    s.program(0, 1)
    s.config_write(COMMAND, 2, MEMORY_ENABLE)
    s.interrupt(0)
    yield "off", (s.messages(), s.pending()), ([], [0])
    s.config_write(COMMAND, 2, MEMORY_ENABLE | MASTER)
    yield "on", (s.messages(), s.pending()), ([0], [])


@case(has_two)
def interrupt_goes_where_the_entry_says_then(s):
    s.control(MSIX_ENABLE)
    s.write(1, 0, 4, 0x1000)
    s.write(1, 8, 4, 0x77)
    s.interrupt(0)
    s.program(0)
    yield "sent", (s.messages(), s.pending()), ([0], [])


@case(has_two)
def reset_forgets_interrupts(s):
    s.control(MSIX_ENABLE)
    s.program(0)
    s.interrupt(1)
    s.reset()
    s.map()
    yield "pending", s.pending(), []
    yield "control", s.config_read(0x42, 2), s.kind.vectors - 1
    s.control(MSIX_ENABLE)
    s.program(0, 1)
    yield "nothing comes", (s.messages(), s.pending()), ([], [])
    for vector in (0, 1):
        s.interrupt(vector)
    yield "both work", (s.messages(), s.pending()), ([0, 1], [])


# ---- INTx: section 4.2 ----


def intx(s):
    """The line, and whether the status register of configuration space shows it."""
    return s.line(), s.config_read(STATUS, 2) >> 3 & 1


@case(has_intx)
def intx_level(s):
    s.interrupt(0)
    yield "masked", intx(s), (0, 0)
    yield "status", s.registers, (0, 1)
    s.write(0, 0, 4, 1)
    yield "mask alone", intx(s), (0, 0)
    for vector in (0, 1):
        s.interrupt(vector)
        yield ("rung", vector), intx(s), (1, 1)
        s.read(0, 0, 4)
        yield ("still", vector), intx(s), (1, 1)
        yield ("status", vector), s.read(0, 4, 4), 1
        yield ("read", vector), intx(s), (0, 0)
    s.interrupt(0)
    s.interrupt(0)
    yield "status of two", [s.read(0, 4, 4), s.read(0, 4, 4)], [1, 0]


@case(has_intx)
def intx_by_the_registers(s):
    for mask, status, level in ((1, 1, 1), (1, 0, 0), (6, 1, 0), (6, 4, 1), (0, 4, 0),
                                (0xFFFFFFFF, 0x80000000, 1), (0, 0, 0)):
        s.write(0, 4, 4, status)
        s.write(0, 0, 4, mask)
        yield (mask, status), intx(s), (level, level)


@case(has_intx)
def intx_disable(s):
    s.write(0, 0, 4, 1)
    s.interrupt(0)
    s.config_write(COMMAND, 2, MEMORY_ENABLE | MASTER | INTX_DISABLE)
    yield "disabled", intx(s), (0, 1)
    s.config_write(COMMAND, 2, MEMORY_ENABLE | MASTER)
    yield "enabled", intx(s), (1, 1)
    s.config_write(COMMAND, 2, MEMORY_ENABLE | MASTER | INTX_DISABLE)
    s.read(0, 4, 4)
    s.config_write(COMMAND, 2, MEMORY_ENABLE | MASTER)
    yield "acknowledged meanwhile", intx(s), (0, 0)


@case(has_intx)
def intx_reset(s):
    s.write(0, 0, 4, 1)
    s.interrupt(0)
    s.reset()
    yield "reset", intx(s), (0, 0)
    s.map()
    yield "registers", s.registers, (0, 0)
    s.write(0, 0, 4, 1)
    s.interrupt(0)
    yield "works", intx(s), (1, 1)


@case(lambda kind: kind.revision == 0 and kind.vectors > 0)
def intx_is_not_there_with_msix(s):
    s.write(0, 0, 4, 1)
    s.interrupt(0)
    yield "rung", (intx(s), s.registers), ((0, 0), (1, 0))
    s.write(0, 4, 4, 1)
    yield "written", intx(s), (0, 0)


# ---- memory: section 6 ----


@case()
def memory_widths(s):
    end = s.kind.size
    s.write(2, 0, 8, 0)
    for size in SIZES:
        value = 0x8877665544332211 & (1 << 8 * size) - 1
        for offset in (0, 1, 3, 7, 4096 - size + 1, end - size):
            s.write(2, offset, size, value)
            yield (size, offset), s.read(2, offset, size), value
    s.reset()
    s.map()
    yield "reset", s.read(2, end - 8, 8), 0x8877665544332211
