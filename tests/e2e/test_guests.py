# SPDX-License-Identifier: MIT
"""
Real machines: unmodified QEMU, a Debian kernel, and tests/guest/guest.c as its init.

The participants hold the conversation of tests/guest/talk.h, in which a single lost doorbell or
wrong byte fails the run. Region and server are fresh in each test.
"""

import mmap
import os
import pathlib
import struct

import pytest

from conftest import cases, wait_until
from guests import (  # pylint: disable=unused-import # fixtures
    DEADLINE, ROUNDS, SIZE, accel, boot, check, finish, host, image)
from qemu import doorbell_device, plain_device, result_line

# Of tests/guest/talk.h
LIFE_OFFSET, DISMISS_OFFSET, DISMISS = 64, 128, 0x51707453


def region_path(target):
    """The server's memfd, which has no name, by its descriptor."""
    directory = pathlib.Path(f"/proc/{target.pid}/fd")
    for entry in directory.iterdir():
        if "/memfd:" in os.readlink(entry):
            return entry
    raise AssertionError("the server has no memfd")


@pytest.mark.parametrize("qemus", cases("qemu-10 qemu-11", long=["qemu-7 qemu-7"]))
def test_two_machines_and_a_host_process(server, boot, host, qemus):
    target = server(vectors=2, size=SIZE)
    process = host(target, 0, 3)
    guests = [boot(*doorbell_device(target), qemu=qemu, seat=seat, seats=3, rounds=ROUNDS)
              for seat, qemu in enumerate(qemus.split(), 1)]
    results = [guest.wait() for guest in guests]
    own, left = finish(process)
    check([own, *results], [{0, 1}, {0, 2}, {1, 2}])
    assert own["id"] == 0 and {result["id"] for result in results} == {1, 2}
    assert left == {1, 2}, "the host process saw both machines leave"


def test_plain_machines_on_a_named_region(server, boot, host, tmp):
    """ivshmem-plain knows no server: two such machines share the region with one of its peers."""
    target = server("-M", tmp.name, vectors=1, size=SIZE)
    process = host(target, 0, 3)
    guests = [boot(*plain_device(f"/dev/shm/{tmp.name}", SIZE), seat=seat, seats=3, rounds=ROUNDS)
              for seat in (1, 2)]
    results = [guest.wait() for guest in guests]
    own, left = finish(process)
    check([own, *results], [])
    assert "revision 1, ID 0, 4194304 bytes, 0 vectors" in guests[0].console()
    assert left == set()


def test_plain_and_doorbell_machine(server, boot, host):
    """Side by side on the default region: memfd, sealed."""
    target = server(vectors=2, size=SIZE)
    process = host(target, 0, 3)
    doorbell = boot(*doorbell_device(target), seat=1, seats=3, rounds=ROUNDS)
    plain = boot(*plain_device(region_path(target), SIZE), seat=2, seats=3, rounds=ROUNDS)
    results = [doorbell.wait(), plain.wait()]
    own, left = finish(process)
    check([own, *results], [{0, 1}])
    assert left == {1}


def test_killed_machine_leaves_and_the_other_runs_on(server, boot, join):
    target = server(vectors=1, size=SIZE)
    observer = join(target)
    victim, survivor = (boot(*doorbell_device(target, vectors=1), seat=seat, seats=2, rounds=100,
                             linger=1) for seat in (0, 1))
    with mmap.mmap(observer.region, SIZE) as memory:
        def signs_of_life(seat):
            return struct.unpack_from("<I", memory, LIFE_OFFSET + 4 * seat)[0]

        wait_until(lambda: signs_of_life(0) and signs_of_life(1), "both to live on", DEADLINE)
        observer.pump_mesh(2, 1)
        victim.close()
        observer.pump_mesh(1, 1)
        assert result_line(victim.console())["id"] not in observer.peers

        before = signs_of_life(1)
        wait_until(lambda: signs_of_life(1) > before + 1, "the survivor's signs of life")
        struct.pack_into("<I", memory, DISMISS_OFFSET, DISMISS)
        assert survivor.wait()["passed"]
        observer.pump_mesh(0, 1)
