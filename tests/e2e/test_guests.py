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
import subprocess

import pytest

from conftest import build_dir, find_program, wait_until
from qemu import TOP, Guest, doorbell_device, plain_device, result_line

ROUNDS = 1000
DEADLINE = 100  # seconds for a participant's conversation, the others' boot included
SIZE = 4 << 20
# Of tests/guest/talk.h
LIFE_OFFSET, DISMISS_OFFSET, DISMISS = 64, 128, 0x51707453


@pytest.fixture(scope="session")
def image():
    found = sorted(build_dir().rglob("guest.cpio"))
    assert found, f"no guest.cpio in {build_dir()}: build it (needs cpio)"
    return found[0]


@pytest.fixture(scope="session")
def accel(image):
    return subprocess.run([TOP / "tests/guest/accel", image], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()


@pytest.fixture
def boot(server, image, accel, tmp):  # pylint: disable=unused-argument # ends before servers do
    guests = []

    def start(*options, qemu="qemu-7", **parameters):
        guests.append(Guest(image, tmp / f"console{len(guests)}", *options, qemu=qemu, accel=accel,
                            deadline=DEADLINE, **parameters))
        return guests[-1]

    yield start
    for guest in guests:
        guest.close()


@pytest.fixture
def host(server):  # pylint: disable=unused-argument
    """Take part as a host process, through the library: host(server, seat, seats, rounds)."""
    program = find_program("talk-host")
    assert program, f"no talk-host in {build_dir()}"
    processes = []

    def start(target, seat, seats, rounds=ROUNDS):
        process = subprocess.Popen([program, f"unix:{target.socket}", str(seat), str(seats),
                                    str(rounds), str(DEADLINE)], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline().startswith("host: ID "), "did not join"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def finish(process):
    """The host process' result, and which peers it saw leave."""
    said = process.communicate(timeout=DEADLINE + 20)[0]
    assert process.returncode == 0, said
    left = {int(line.split()[2]) for line in said.splitlines() if line.startswith("host: peer ")}
    return result_line(said), left


def check(results, pairs_with_doorbell, rounds=ROUNDS):
    """Every letter arrived, and every doorbell where both sides of a pair have them."""
    others = len(results) - 1
    for result in results:
        assert result["passed"]
        assert result["sent"] == result["received"] == others * rounds
        expected = sum(result["seat"] in pair for pair in pairs_with_doorbell) * rounds
        assert result["rings"] >= expected and result["doorbells"] >= expected
        assert expected > 0 or result["doorbells"] == 0
    rings, doorbells = (sum(result[key] for result in results) for key in ("rings", "doorbells"))
    assert doorbells <= rings, "a doorbell that nobody rang"


def region_path(target):
    """The server's memfd, which has no name, by its descriptor."""
    directory = pathlib.Path(f"/proc/{target.pid}/fd")
    for entry in directory.iterdir():
        if "/memfd:" in os.readlink(entry):
            return entry
    raise AssertionError("the server has no memfd")


@pytest.mark.parametrize("qemus", [("qemu-7", "qemu-7"), ("qemu-10", "qemu-11")],
                         ids=["debian", "newer"])
def test_two_machines_and_a_host_process(server, boot, host, qemus):
    target = server(vectors=2, size=SIZE)
    process = host(target, 0, 3)
    guests = [boot(*doorbell_device(target), qemu=qemu, seat=seat, seats=3, rounds=ROUNDS)
              for seat, qemu in enumerate(qemus, 1)]
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
