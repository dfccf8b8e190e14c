# SPDX-License-Identifier: MIT
"""
Where a subject of test_conformance.py is known to differ from docs/device.md, and what it does
there, exactly. The tables in sections 8 and 9 of that document are made from this, by

    python3 tests/e2e/differences.py
"""

import pathlib
import re
from dataclasses import dataclass

DOCUMENT = pathlib.Path(__file__).resolve().parent.parent.parent / "docs/device.md"
HEADINGS = {"qemu": "QEMU's device", "vfio-user": "over vfio-user"}


@dataclass(frozen=True)
class Difference:
    """A row of a table, and what it means in figures."""

    name: str
    family: str  # of the subjects: "qemu" (section 8) or "vfio-user" (section 9)
    ours: str
    theirs: str
    why: str
    values: dict  # case -> function of subject and {key: expected}, to {key: what is seen instead}


def of(case, subject):
    return [difference for difference in DIFFERENCES
            if difference.family == subject.family and case in difference.values]


# ---- QEMU's device ----


def pieces(offset, size, largest=4):
    """What QEMU makes of an access: aligned ones up to a size, (offset, size, place)."""
    at = offset
    while at < offset + size:
        piece = min(largest, at & -at or largest, 1 << (offset + size - at).bit_length() - 1)
        yield at, piece, at - offset
        at += piece


def alias(subject, vector):
    """The vector that is rung, None if there is none such."""
    known = min(subject.peer_vectors, subject.kind.vectors)
    if vector >= known or not subject.ioeventfd:
        vector &= 0xFF
    return vector if vector < known else None


def qemu_rings(subject, value):
    """How the host is rung by a value in the doorbell register, {vector: count}."""
    vector = alias(subject, value & 0xFFFF)
    return {vector: 1} if subject.has_host and value >> 16 == 0 and vector is not None else {}


def changed(expected, models):
    """Those of the values {key: value} that are not as expected."""
    return {key: value for key, value in models if expected[key] != value}


def scratch(subject, expected):
    first = 0x4C if subject.kind.vectors else 0x40
    return {key: (1 << 8 * key[0]) - 1 for key in expected if key[1] >= first and key[2] == "ones"}


def short_register_reads(subject, expected):
    def model(size, offset):
        value, status = 0, 0x88776655
        for at, piece, place in pieces(offset, size):
            register = {0: 0x44332211, 4: status, 8: subject.id}.get(at, 0)
            value |= (register & (1 << 8 * piece) - 1) << 8 * place
            if at == 4:
                status = 0
        return value, status

    return changed(expected, ((key, model(*key)) for key in expected
                              if key[1] != "status" and key[1] < 16))


def short_register_writes(subject, expected):
    def model(size, offset):
        registers, rung = [0x44332211, 0x88776655, 0, 0, 0, 0, 0, 0], {}
        value = 0x0000000100000002 & (1 << 8 * size) - 1
        for at, piece, place in pieces(offset, size):
            registers[at // 4] = value >> 8 * place & (1 << 8 * piece) - 1
            if at // 4 == 3:
                for vector, count in qemu_rings(subject, registers[3]).items():
                    rung[vector] = rung.get(vector, 0) + count
        return *registers[:2], rung

    return changed(expected, ((key, model(*key)) for key in expected
                              if isinstance(key[1], int) and key[1] < 20))


def short_table_reads(_, expected):
    def model(key):
        value = expected[key]
        for at, piece, place in pieces(key[1], key[0]):
            if piece < 4:
                value &= ~(((1 << 8 * piece) - 1) << 8 * place)
        return value

    return changed(expected, ((key, model(key)) for key in expected if key[2] == "read"))


def short_pending_reads(_, expected):
    return {key: 0 for key in expected if key[0] in (1, 2)}


def aliases(subject, expected):
    values = {key: qemu_rings(subject, key[1]) for key in expected if key[0] in ("host", "high")}
    own = min(subject.kind.vectors, subject.peer_vectors) - 1  # unmasked; the others are not
    first, second = alias(subject, own), alias(subject, own + 1)
    values["self"] = [own] if first == own else []
    values["self, no such vector"] = ([own] if second == own else [],
                                      sorted({first, second} - {own, None}))
    return changed(expected, values.items())


# ---- vfio-user: what QEMU 11 does between guest and device ----


def split_reads(_, expected):
    """Reading a piece that clears the status is seen by the pieces after it."""

    def model(size, offset):
        (value, status), cleared = expected[size, offset], False
        for at, piece, place in pieces(offset, size, 8):
            if cleared and at < 8:
                value &= ~(((1 << 8 * piece) - 1) << 8 * place)
            cleared = cleared or at <= 4 < at + piece
        return value, status

    return changed(expected, ((key, model(*key)) for key in expected
                              if key[1] != "status" and key[1] < 16))


DIFFERENCES = [
    Difference(
        "scratch", "qemu",
        "Configuration space outside the header and the MSI-X capability reads 0 and keeps nothing",
        "Bytes 0x4c to 0xff (0x40 to 0xff without MSI-X) keep what is written until reset",
        "No driver can want it; a capability that is not there should not seem to take settings",
        {"config_writes": scratch}),
    Difference(
        "short-reads", "qemu",
        "A read of any width and offset in BAR0 gives the bytes that stand there",
        "Taken apart into aligned pieces of up to 4 bytes; a piece that does not start at a"
        " register's first byte reads 0",
        "Sections 3 and 4.1: one rule for all widths",
        {"register_reads": short_register_reads}),
    Difference(
        "short-writes", "qemu",
        "A write changes, or rings, only a register that it covers as a whole",
        "Each piece of 1, 2 or 4 bytes, zero-extended, becomes the value of the whole register in"
        " which it lies: a byte of 1 written to 0x0e rings vector 1 of peer 0",
        "A driver that writes bytes must not ring strangers",
        {"register_writes": short_register_writes}),
    Difference(
        "short-table-reads", "qemu",
        "The same in BAR1",
        "Pieces of 1 and 2 bytes of MSI-X table and pending bits read 0",
        "As short-reads",
        {"msix_table_widths": short_table_reads, "msix_pending_bits": short_pending_reads}),
    Difference(
        "vector-aliases", "qemu",
        "The doorbell takes 16 bits of vector; a vector that the peer does not have is ignored",
        "A vector of 256 and more rings the one with the same low 8 bits, unless the peer has it"
        " and ioeventfd is on; and a peer's vectors beyond the own number cannot be rung",
        "What QEMU does depends on an option that the guest cannot see",
        {"doorbells": aliases}),
    Difference(
        "lost-while-disabled", "qemu",
        "An interrupt that comes while MSI-X is disabled stays pending and is sent after enabling",
        "It is lost (S: with KVM's irqfd it is kept, and sent after enabling)",
        "Section 4.3: nothing is lost, whatever the accelerator",
        {"interrupt_while_disabled": lambda *_: {
            "disabled": ([], []), "enabled": ([], []), "disabled again": ([], []),
            "enabled, masked": ([], []), "unmasked": ([], [])}}),
    Difference(
        "lost-without-master", "qemu",
        "An interrupt that comes while bus mastering is off stays pending and is sent later",
        "It is lost (S: with KVM's irqfd it is sent at once)",
        "Section 4.3",
        {"interrupt_without_bus_mastering": lambda *_: {"off": ([], []), "on": ([], [])}}),
    Difference(
        "split-reads", "vfio-user",
        "A misaligned read is one read",
        "QEMU sends aligned pieces: of 4 bytes read at offset 3, the piece of 2 clears the status,"
        " and the last byte comes as 0",
        "Only the VMM could keep it together",
        {"register_reads": split_reads}),
    Difference(
        "table-of-the-vmm", "vfio-user",
        "Any width reads the MSI-X table",
        "The guest's accesses to the table end in QEMU, whose table reads 0 in pieces of 1 and 2"
        " bytes",
        "As with any VFIO device; what the server has of a vector is whether it has an eventfd",
        {"msix_table_widths": short_table_reads}),
    Difference(
        "masked-again", "vfio-user",
        "A vector that is masked and rung shows its pending bit",
        "If it was unmasked before since MSI-X was enabled, the bit does not show; the interrupt"
        " is sent after unmasking all the same. (Masked ever since: the bit shows)",
        "The server does not hear of the mask and signals QEMU, which keeps it to itself",
        {"interrupt_masked_again": lambda *_: {"masked": ([], []), "the other one": ([1], [])},
         "interrupt_masked_again_and_never_unmasked": lambda *_: {"masked": ([], [1])}}),
    Difference(
        "lost-without-master", "vfio-user",
        "An interrupt that comes while bus mastering is off stays pending and is sent later",
        "It is lost (S: with KVM's irqfd it is sent at once)",
        "Where the table is the VMM's, so is bus mastering: the server signals the VMM, which makes"
        " of it what it likes",
        {"interrupt_without_bus_mastering": lambda *_: {"off": ([], []), "on": ([], [])}}),
]


def table(family):
    rows = [f"| name | here | {HEADINGS[family]} | why |", "|---|---|---|---|"]
    rows += [f"| {one.name} | {one.ours} | {one.theirs} | {one.why} |"
             for one in DIFFERENCES if one.family == family]
    return "\n".join(rows)


def with_tables(text):
    """The document with the tables that it should have."""
    return re.sub(
        r"(<!-- differences: ([a-z-]+) -->\n).*?(<!-- end of differences -->)",
        lambda found: f"{found[1]}{table(found[2])}\n{found[3]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
