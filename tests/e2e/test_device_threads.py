# SPDX-License-Identifier: MIT
"""
What ivshmem-device does in several threads at once. It finds most under the thread sanitizer
(scripts/check tsan).
"""

import threading

import wire
from conftest import wait_until
from vfio_user import BAR0, DATA_EVENTFD, DATA_NONE, INTX, TRIGGER, UNMASK, wait_taken
from vmms import (  # pylint: disable=unused-import
    CloudHypervisor, Qemu, attach, device_spec, stage)

ROUNDS = 300
DOORBELL = 12


def in_threads(*jobs):
    """Run them at the same time; what one raises is raised."""
    raised = []

    def guarded(job):
        try:
            job()
        except BaseException as error:  # pylint: disable=broad-except # raised again below
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def player(vmm, other, begins):
    """Ring `other`, wait to be rung, and so on: one lost doorbell stops the game."""
    def play():
        for _ in range(ROUNDS):
            if begins:
                vmm.store(BAR0, DOORBELL, other << 16)
            assert vmm.wait_rung(0) == 1
            if not begins:
                vmm.store(BAR0, DOORBELL, other << 16)
    return play


def test_two_play_while_others_come_and_go(stage, attach, join):
    """Two VMMs ring each other, a third one comes and goes, and so do peers of the server."""
    one = stage(vectors=2, devices=3)
    first, second = (attach(Qemu, path).boot(2) for path in one.process.sockets[:2])

    def comes_and_goes():
        for kind in (Qemu, CloudHypervisor) * 10:
            vmm = attach(kind, one.process.sockets[2]).boot(2)
            vmm.ring(0, 1)
            vmm.close()

    def peers():
        for _ in range(20):
            peer = join(one.server)
            peer.pump_mesh(4, 2)
            peer.ring(2, 0)
            peer.close()

    in_threads(player(first, second.position(), True), player(second, first.position(), False),
               comes_and_goes, peers)
    assert first.wait_rung(1) >= 1
    one.process.wait_log("device2: the VMM is gone")


def test_resample_descriptors_come_and_go(stage, attach):
    """The loop watches what a VMM's thread is told: INTx goes on with whichever is the last."""
    one = stage(vectors=1, type="legacy", msi="off")
    vmm = attach(Qemu, one.process.socket).boot()
    vmm.store(BAR0, 0, 1)
    for _ in range(50):
        resample = vmm.eventfd()
        vmm.set_irqs(INTX, DATA_EVENTFD | UNMASK, 0, 1, [resample])
        vmm.set_irqs(INTX, DATA_EVENTFD | TRIGGER, 0, 1, [vmm.intx])
    one.ring(0)
    for _ in range(3):  # the level is still high: each unmasking interrupts again
        wait_taken(vmm.intx)
        wire.ring(resample)
    wait_taken(vmm.intx)
    vmm.set_irqs(INTX, DATA_NONE | TRIGGER, 0, 0)
    wait_until(lambda: one.process.fds() <= one.process.base_fds + 4, "descriptors to be closed")
