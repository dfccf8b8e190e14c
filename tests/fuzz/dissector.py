#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Feed damaged records to the Wireshark dissector, and fail if it gives up on one.

    dissector.py [--seconds N] [--seed N] [--keep FILE]

What decodes a record is Lua inside of tshark, which no fuzzer sees into. So records are mutated
here, some thousand go into one capture file, and tshark shows all of it in full: an error in Lua is
a text in what it prints, a crash its exit code. The records begin with what the dissector branches
on, so that most of them get far. Time is tshark's processor time (default: 10 s); the seed is
printed, and the file that failed is kept.
"""

import argparse
import os
import pathlib
import random
import resource
import struct
import subprocess
import sys
import tempfile

DISSECTOR = pathlib.Path(__file__).resolve().parents[2] / "packaging/wireshark/ivshmem.lua"
BATCH = 4000
FIXED = struct.Struct("<BBBBIQqIIIBBH")
NUMBERS = (0, 1, 2, 5, 9, 10, 11, 127, 128, 255, 256, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
WIDE = (*NUMBERS, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (b"", b"frames", b"connection closed", "für".encode(), b"\xff\xfe\xc3", b"\0", b"%s%n", b"x" * 255)


def block(kind, body):
    body += bytes(-len(body) % 4)
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def pcapng(records):
    head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    head += block(1, struct.pack("<HHI", 154, 0, 0))
    return head + b"".join(block(6, struct.pack("<5I", 0, 0, 0, len(body), len(body)) + body)
                           for body in records)


def make(rng):
    """A record that is right but for its numbers."""
    region, reason = rng.choice(TEXTS), rng.choice(TEXTS)
    byte = lambda most: rng.randrange(most) if rng.random() < 0.9 else rng.randrange(256)
    return bytearray(FIXED.pack(
        1, byte(12), byte(7), byte(6), rng.choice(NUMBERS), rng.choice(WIDE),
        rng.choice(WIDE) - 2**63, *(rng.choice(NUMBERS) for _ in range(3)),
        len(region), 0, len(reason)) + region + reason)


def mutate(rng, body):
    for _ in range(rng.choice((0, 0, 1, 1, 2, 8))):
        what = rng.randrange(4)
        if what == 0 and body:
            body[rng.randrange(len(body))] = rng.randrange(256)
        elif what == 1:
            del body[rng.randrange(len(body) + 1):]
        elif what == 2:
            body += rng.randbytes(rng.randrange(64))
        elif body:
            at = rng.randrange(len(body))
            body[at:at + rng.randrange(8)] = rng.randbytes(rng.randrange(8))
    return bytes(body)


def run_batch(rng, folder):
    """What went wrong, or None; and the file."""
    file = pathlib.Path(folder) / "batch.pcapng"
    file.write_bytes(pcapng(mutate(rng, make(rng)) for _ in range(BATCH)))
    run = subprocess.run(["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", file, "-V"],
                         capture_output=True, check=False, env={**os.environ, "HOME": folder})
    shown = run.stdout.count(b"\nFrame ") + run.stdout.startswith(b"Frame ")
    if run.returncode != 0:
        return f"tshark ends with {run.returncode}: {run.stderr.decode(errors='replace')[-500:]}", file
    for said in (run.stdout, run.stderr):
        at = said.find(b"Lua Error")
        if at >= 0:
            return said[at:at + 300].decode(errors="replace"), file
    if run.stdout.count(b"ivshmem control traffic") < BATCH or shown != BATCH:
        return f"{shown} of {BATCH} records are shown", file
    return None, file


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--keep", default="dissector-failed.pcapng")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    batches = 0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            wrong, file = run_batch(rng, folder)
            batches += 1
            if wrong:
                pathlib.Path(arguments.keep).write_bytes(file.read_bytes())
                sys.exit(f"{wrong}\n{arguments.keep} has the records")
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            if used.ru_utime + used.ru_stime >= arguments.seconds:
                break
    print(f"{batches * BATCH} records in {batches} files")


if __name__ == "__main__":
    main()
