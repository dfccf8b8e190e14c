# SPDX-License-Identifier: MIT
"""
Linux on our device as on QEMU's own: with the library, over uio_ivshmem and over the vfio-pci of the
distribution's kernel; without it, over uio_pci_generic (the INTx of revision 0) and without a driver.

The guests hold the conversation of tests/guest/talk.h, in which a single lost doorbell fails the
run. Those with a driver compare in the end the interrupts that reached their program with those that
their kernel counted.
"""

import re

import pytest

from conftest import cases
from guests import (  # pylint: disable=unused-import # fixtures
    ROUNDS, SIZE, accel, boot, boot_driver, check, driver_image, finish, host, image)
from qemu import doorbell_device, vfio_user_device

# The machine that a driver wants. caching-mode tells an IOMMU of mappings, which devices outside
# QEMU need.
MACHINES = {"uio_ivshmem": ("pc", []),
            "vfio-pci": ("q35", ["-device", "intel-iommu,caching-mode=on"])}


@pytest.fixture
def subjects(device, tmp):
    """
    Make one device for each of `kinds`, "built-in" or "ours", which are all in one process:
    subjects(server, kinds) returns that process (None without ours), and for each how a guest gets
    it: a list of QEMU's options and a QEMU.
    """

    def start(server, kinds):
        sockets = [tmp / f"d{number}" for number in range(kinds.count("ours"))]
        process = device(*(f"socket={path},type=doorbell,server=unix:{server.socket},vectors=2"
                           for path in sockets)) if sockets else None
        free = iter(sockets)
        return process, [(vfio_user_device(next(free)), "qemu-11") if kind == "ours" else
                         (doorbell_device(server), "qemu-7") for kind in kinds]

    return start


def dismiss(process, devices):
    """The host process' result. It waits for all peers to leave; ours stay when their VMs do."""
    assert devices is None or devices.stop() == 0
    return finish(process)[0]


def check_interrupts(guest, result):
    """The guest took each interrupt that its kernel counted, one for each doorbell at least."""
    found = re.search(r"interrupts: (\d+) taken, (\d+) counted", guest.console())
    assert found, guest.console()
    taken, counted = map(int, found.groups())
    assert taken == counted >= result["doorbells"]
    return taken


@pytest.mark.parametrize("drivers, kinds", cases(
    (("vfio-pci", "vfio-pci"), ("ours", "ours")),
    (("uio_ivshmem", "vfio-pci"), ("built-in", "ours")),
    long=[(("vfio-pci", "vfio-pci"), ("built-in", "built-in")),
          (("uio_ivshmem", "uio_ivshmem"), ("ours", "built-in"))],
), ids="-and-".join)
def test_library(server, subjects, boot_driver, host, drivers, kinds):
    target = server(vectors=2, size=SIZE)
    devices, ways = subjects(target, kinds)
    process = host(target, 0, 3)
    guests = []
    for driver, (options, qemu) in zip(drivers, ways):
        machine, more = MACHINES[driver]
        guests.append(boot_driver(driver, *more, *options, qemu=qemu, machine=machine,
                                  seat=len(guests) + 1, seats=3, rounds=ROUNDS))
    results = [guest.wait() for guest in guests]
    own = dismiss(process, devices)
    check([own, *results], [{0, 1}, {0, 2}, {1, 2}])
    interrupts = sum(map(check_interrupts, guests, results))
    assert interrupts <= sum(result["rings"] for result in (own, *results))


def test_uio_pci_generic(server, device, boot_driver, host, tmp):
    """Revision 0, INTx."""
    target = server(vectors=1, size=SIZE)
    ours = device(f"socket={tmp / 'd'},type=legacy,msi=off,server=unix:{target.socket}")
    process = host(target, 0, 2)
    guest = boot_driver("uio_pci_generic", *vfio_user_device(ours.socket), qemu="qemu-11", seat=1,
                        seats=2, rounds=ROUNDS)
    result = guest.wait()
    own = dismiss(process, ours)
    check([own, result], [{0, 1}])
    assert check_interrupts(guest, result) <= own["rings"]
    assert "revision 0" in guest.console()


def test_without_a_driver(server, subjects, boot, host):
    """Doorbells show as pending bits; see tests/guest/sysfs.c."""
    target = server(vectors=2, size=SIZE)
    devices, ways = subjects(target, ["ours", "ours"])
    process = host(target, 0, 3)
    guests = [boot(*options, qemu=qemu, relatch=1, seat=seat, seats=3, rounds=ROUNDS)
              for seat, (options, qemu) in enumerate(ways, 1)]
    results = [guest.wait() for guest in guests]
    own = dismiss(process, devices)
    check([own, *results], [{0, 1}, {0, 2}, {1, 2}])


def test_plain(device, boot, tmp):
    """No server, no interrupts: two guests that watch the memory."""
    region = tmp / "region"
    with open(region, "wb") as file:
        file.truncate(SIZE)
    sockets = [tmp / "d0", tmp / "d1"]
    device(*(f"socket={path},type=plain,memdev={region}" for path in sockets))
    guests = [boot(*vfio_user_device(path), qemu="qemu-11", seat=seat, seats=2, rounds=ROUNDS)
              for seat, path in enumerate(sockets)]
    check([guest.wait() for guest in guests], [])
    assert "revision 1, ID 0, 4194304 bytes, 0 vectors" in guests[0].console()
