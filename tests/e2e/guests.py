# SPDX-License-Identifier: MIT
"""
Machines that boot the test guest (tests/guest) and host processes that talk with it: fixtures, for
tests to import, and what a conversation's results must be.
"""

import itertools
import subprocess

import pytest

from conftest import build_dir, ended_with_test, find_program, kill
from qemu import CACHE, TOP, Guest, result_line

ROUNDS = 1000
DEADLINE = 100  # seconds for a participant's conversation, the others' boot included
SIZE = 4 << 20


@pytest.fixture(scope="session")
def image():
    found = sorted(build_dir().rglob("guest.cpio"))
    assert found, f"no guest.cpio in {build_dir()}: build it (needs cpio)"
    return found[0]


@pytest.fixture(scope="session")
def driver_image(tmp_path_factory):
    """The same program with the kernel's drivers, and ours for that kernel, beside it."""
    program = find_program("guest-init")
    assert program, f"no guest-init in {build_dir()}"
    modules = sorted((CACHE / "kernel/modules").glob("*.ko"))
    assert modules, f"no modules in {CACHE / 'kernel'}: run scripts/setup demo"
    directory = tmp_path_factory.mktemp("guest")
    subprocess.run([TOP / "tests/kernel/build", "debian12", directory], check=True)
    path = directory / "drivers.cpio"
    subprocess.run([TOP / "tests/guest/mkinitramfs", program, path, *modules,
                    directory / "uio_ivshmem.ko"], check=True)
    return path


@pytest.fixture(scope="session")
def accel(image):
    return subprocess.run([TOP / "tests/guest/accel", image], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()


@pytest.fixture
def boot(launch, image, accel, tmp):  # pylint: disable=unused-argument # ends before servers do
    """Boot a guest without a driver: boot(*options of QEMU, **of Guest or for the guest)."""
    numbers = itertools.count()

    def start(*options, **others):
        return Guest(image, tmp / f"console{next(numbers)}", *options, accel=accel,
                     deadline=DEADLINE, **others)

    yield from ended_with_test(start, Guest.close)


@pytest.fixture
def boot_driver(launch, driver_image, tmp):  # pylint: disable=unused-argument
    """
    Boot a guest with a driver: boot_driver(name, *options of QEMU, **of Guest or for the guest).
    Always by software emulation, which has all that vfio-pci wants (an IOMMU that remaps
    interrupts) wherever QEMU runs.
    """
    numbers = itertools.count()

    def start(name, *options, **others):
        return Guest(driver_image, tmp / f"driver{next(numbers)}", *options, driver=name,
                     deadline=DEADLINE, **others)

    yield from ended_with_test(start, Guest.close)


@pytest.fixture
def host(launch):  # pylint: disable=unused-argument
    """Take part as a host process, through the library: host(server, seat, seats, rounds)."""
    program = find_program("talk-host")
    assert program, f"no talk-host in {build_dir()}"

    def start(target, seat, seats, rounds=ROUNDS):
        process = subprocess.Popen([program, f"unix:{target.socket}", str(seat), str(seats),
                                    str(rounds), str(DEADLINE)], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline().startswith("host: ID "), "did not join"
        return process

    yield from ended_with_test(start, kill)


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
