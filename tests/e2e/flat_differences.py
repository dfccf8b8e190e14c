# SPDX-License-Identifier: MIT
"""
Where QEMU's ivshmem-flat (10.0 and 11.1) differs from docs/firmware.md, and what it does there,
exactly. The table in that document is made from this, by

    python3 tests/e2e/flat_differences.py
"""

import pathlib
import re

from differences import Difference, changed, pieces

DOCUMENT = pathlib.Path(__file__).resolve().parent.parent.parent / "docs/firmware.md"


def value_of_write(size):
    return 0x0000000100000002 & (1 << 8 * size) - 1


def short_reads(subject, expected):
    def model(size, offset):
        return sum((subject.id & (1 << 8 * piece) - 1) << 8 * place
                   for at, piece, place in pieces(offset, size) if at == 8)

    return changed(expected, ((key, model(*key)) for key in expected))


def short_writes(_, expected):
    def model(size, offset):
        vectors = [value_of_write(size) >> 8 * place & (1 << 8 * piece) - 1
                   for at, piece, place in pieces(offset, size) if at == 12]
        return {vector: 1 for vector in vectors}

    return changed(expected, ((key, model(*key)) for key in expected
                              if isinstance(key, tuple)))


DIFFERENCES = [
    Difference(
        "short-reads", "qemu",
        "A read of any width and offset gives the bytes that stand there",
        "Taken apart into aligned pieces of up to 4 bytes; a piece that does not start at a"
        " register's first byte reads 0",
        "One rule for all widths, the PCI device's",
        {"reads": short_reads}),
    Difference(
        "short-writes", "qemu",
        "A write rings only if it covers the doorbell register as a whole",
        "A piece of 1, 2 or 4 bytes at 0x0c, zero-extended, becomes the value of the whole"
        " register: a byte of 1 rings vector 1 of peer 0. (Pieces behind that byte are ignored)",
        "Firmware that writes bytes must not ring strangers",
        {"writes": short_writes}),
    Difference(
        "one-vector", "qemu",
        "Each own vector has an interrupt",
        "Vector 0 only. Ringing another interrupts nobody, and QEMU's main loop spins from then on:"
        " let the server have one vector, or ring only vector 0",
        "More than one is what vectors are for",
        {"other_vectors": lambda subject, expected: {key: [] for key in expected},
         "nobody_spins": lambda *_: {"spins": True}}),
]


def table():
    rows = ["| name | here | QEMU's ivshmem-flat | why |", "|---|---|---|---|"]
    rows += [f"| {one.name} | {one.ours} | {one.theirs} | {one.why} |" for one in DIFFERENCES]
    return "\n".join(rows)


def with_table(text):
    """The document with the table that it should have."""
    return re.sub(r"(<!-- differences: flat -->\n).*?(<!-- end of differences -->)",
                  lambda found: f"{found[1]}{table()}\n{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
