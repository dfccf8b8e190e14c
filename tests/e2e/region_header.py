# SPDX-License-Identifier: MIT
"""The region's header, made from docs/region.md and nothing else."""

import struct
import uuid
import zlib

SIZE = 4096
WORDS = struct.Struct("<4s7I16s2I8x64s")
FIELDS = ("magic", "version", "bytes", "check", "generation", "flags", "region_low", "region_high",
          "uuid", "directory", "directory_size", "name")


def check_of(page):
    """What CHECK must be."""
    return zlib.crc32(page[:12] + bytes(4) + page[16:])


def make(name, region_size, generation=1, identity=None):
    """A header's page."""
    page = bytearray(SIZE)
    WORDS.pack_into(page, 0, b"ivsh", 1, SIZE, 0, generation, 0, region_size & 0xFFFFFFFF,
                    region_size >> 32, (identity or uuid.uuid4()).bytes, 0, 0, name.encode())
    struct.pack_into("<I", page, 12, check_of(page))
    return bytes(page)


def parse(page):
    """The words of a page, by name; fails if it does not add up or has anything else in it."""
    found = dict(zip(FIELDS, WORDS.unpack_from(page)))
    assert found["magic"] == b"ivsh" and found["version"] == 1 and found["bytes"] == SIZE
    assert found["check"] == check_of(page)
    assert page[WORDS.size:SIZE] == bytes(SIZE - WORDS.size)
    return {**found, "uuid": str(uuid.UUID(bytes=found["uuid"])),
            "name": found["name"].rstrip(b"\0").decode(),
            "size": found["region_low"] | found["region_high"] << 32}
