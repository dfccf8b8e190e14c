# SPDX-License-Identifier: MIT
"""
ivshmem-device is killed, and a Linux guest of QEMU 11 starts over: it loads its driver anew, or it is
reset and boots again, while the device's process is killed some more. Doorbells go both ways then.
"""

import pytest

import wire
from kept import PATIENCE
from qemu import vfio_user_device
from shell_guest import (  # pylint: disable=unused-import # fixtures
    shell_guest, shell_image, wait_for)
from test_device_restart import DeviceKiller, keep  # pylint: disable=unused-import # fixture
from test_guest_driver import attribute, told, waiters

pytestmark = pytest.mark.ours

# Of the device; driver; whether it wants an IOMMU. The first one always, the others with --long.
WAYS = {
    "msix": ({"type": "doorbell", "vectors": 2}, "uio_ivshmem", False),
    "intx": ({"type": "legacy", "msi": "off"}, "uio_ivshmem", False),
    "vfio": ({"type": "doorbell", "vectors": 2}, "vfio-pci", True),
}
KILLS = 4  # each time that a guest starts over


def pytest_generate_tests(metafunc):
    long = metafunc.config.getoption("--long")
    metafunc.parametrize("way", list(WAYS) if long else ["msix"])
    metafunc.parametrize("rounds", [10 if long else 1])


class Subject:
    """A guest with the device, a peer on the host, and a process that is killed."""

    def __init__(self, guest, peer, one, driver):
        self.guest, self.peer, self.one, self.driver = guest, peer, one, driver
        self.starts = 0  # over

    def while_killed(self, start_over):
        """Also before the first access of what follows."""
        self.one.replace_worker()
        self.starts += 1
        killer = DeviceKiller(self.one, KILLS, seed=self.starts)
        start_over()
        killer.join()

    def bind(self):
        """The driver has the device; returns the device's URI."""
        self.guest.load(self.driver)
        bdf, = self.guest.devices()
        if self.driver == "uio_ivshmem":
            return f"uio:{bdf}"
        self.guest.bind(bdf, self.driver)
        return f"vfio:{bdf}"

    def load_anew(self):
        bdf, = self.guest.devices()
        self.guest.unbind(bdf)
        self.guest.unload(self.driver.replace("-", "_"))
        self.bind()

    def reset(self):
        """As by the machine's button."""
        self.guest.up = False
        self.guest.monitor("system_reset")
        self.guest.wait_up()
        self.bind()

    def check_doorbells(self):
        """Each vector of both sides, twice."""
        uri = self.bind()
        info = self.guest.run(f"ivshmem-client --uri {uri} info")
        assert f"id = {self.number()}" in info, info
        running = waiters(self.guest, uri, *range(len(self.peer.vectors)), seconds=-1)
        for vector in 2 * list(range(len(self.peer.vectors))):
            before = told(running, vector)
            self.peer.ring(self.number(), vector)
            wait_for(lambda v=vector, n=before: told(running, v) > n, "the guest to be rung")
        running.kill()
        running.wait()
        self.peer.rung()
        for vector in 2 * list(range(len(self.peer.vectors))):
            self.guest.run(f"ivshmem-client --uri {uri} 'int {self.peer.id} {vector}'")
            wait_for(lambda v=vector: v in self.peer.rung(), "the host to be rung")

    def number(self):
        """The device's ID. It never has another."""
        number, = self.peer.peers
        return number


def test_guest_starts_over(server, keep, shell_guest, way, rounds):
    keys, driver, iommu = WAYS[way]
    target = server(vectors=keys.get("vectors", 1))
    one = keep(target, **keys)
    guest = shell_guest(*vfio_user_device(one.socket), qemu="qemu-11", iommu=iommu)
    guest.monitor("set-action", reboot="reset")
    with wire.Peer(target.socket, timeout=PATIENCE) as peer:
        peer.pump_mesh(1, keys.get("vectors", 1))
        subject = Subject(guest, peer, one, driver)
        subject.while_killed(subject.bind)
        for _ in range(rounds):
            for start_over in (subject.load_anew, subject.reset):
                subject.check_doorbells()
                subject.while_killed(start_over)
        subject.check_doorbells()
        guest.check_kernel_log()
        assert not peer.drain() and len(peer.peers) == 1  # nobody has left, nobody has come
    assert one.log().count("was killed by signal 9") > subject.starts
    assert one.stop(timeout=PATIENCE) == 0
    assert "Unexpected" not in guest.stderr(), guest.stderr()
