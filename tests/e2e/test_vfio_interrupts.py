# SPDX-License-Identifier: MIT
"""
Interrupts over vfio-user: eventfds that come, go, are exchanged and come too late, INTx that masks
itself. As QEMU sets them up unless another VMM is named.
"""

import pytest

import wire
from conftest import wait_until
from vfio_user import (
    BAR0, BAR1, COMMAND, CONFIG, DATA_BOOL, DATA_EVENTFD, DATA_NONE, ERR, INTRMASK, INTRSTATUS,
    INTX, INTX_DISABLE, MASK, MSIX, MSIX_ENABLE, MSIX_MASK, STATUS, TRIGGER, is_quiet, taken,
    wait_taken)
from vmms import (  # pylint: disable=unused-import
    CloudHypervisor, Qemu, Spdk, attach, stage)

PBA = 0x800


# ---- MSI-X ----


def test_interrupt_before_its_eventfd_is_there(stage, attach):
    """Doorbells that find MSI-X disabled, then no eventfd, are kept and delivered once."""
    one = stage(vectors=3)
    vmm = attach(Qemu, one.process.socket).boot()
    one.ring(0)
    vmm.msix_enable(0)
    for _ in range(3):
        one.ring(1)
    assert vmm.load(BAR1, PBA, 8) == 0b011
    for vector in (0, 1, 2):
        vmm.unmask(vector)
    assert vmm.rung() == {0: 1, 1: 1}
    assert vmm.load(BAR1, PBA, 8) == 0
    for vector in (0, 1, 2):
        vmm.unmask(vector)
    assert vmm.rung() == {}, "once"


def test_function_mask_and_reset(stage, attach):
    one = stage(vectors=2)
    vmm = attach(Qemu, one.process.socket).boot(2)
    vmm.msix_control(MSIX_ENABLE | MSIX_MASK)
    one.ring(1)
    assert vmm.rung() == {}
    vmm.msix_control(MSIX_ENABLE)
    assert vmm.rung() == {1: 1}
    vmm.msix_control(MSIX_ENABLE | MSIX_MASK)
    one.ring(0)
    vmm.machine_reset()
    vmm.enable().msix_enable(2)
    assert vmm.rung() == {}, "a reset forgets what was pending"
    one.host.ring(0, 0)
    assert vmm.wait_rung(0) == 1


def test_vector_masked_by_another_eventfd(stage, attach):
    """With KVM, QEMU exchanges the injecting eventfd for one of its own at every mask."""
    one = stage(vectors=1)
    vmm = attach(Qemu, one.process.socket).boot(1)
    masked = vmm.eventfd()
    for _ in range(20):
        vmm.assign(0, [masked])
        one.ring(0)
        assert wait_taken(masked) == 1
        assert vmm.rung() == {}
        vmm.unmask(0)
        one.ring(0)
        assert vmm.wait_rung(0) == 1
        assert is_quiet(masked, 0)


def test_ranges_of_vectors(stage, attach):
    """Runs with and without eventfds as QEMU makes them, 16 at most in a message."""
    one = stage(vectors=32)
    vmm = attach(Qemu, one.process.socket).boot()
    vmm.msix_enable(32, used={0, 1, 2, 31})
    for vector in range(32):
        one.ring(vector)
    assert vmm.rung() == {0: 1, 1: 1, 2: 1, 31: 1}
    vmm.assign(1, [], 31)
    for vector in (0, 1, 2, 31):
        one.ring(vector)
    assert vmm.rung() == {0: 1}
    late = [vmm.eventfd() for _ in range(31)]
    vmm.assign(1, late[:16])
    vmm.assign(17, late[16:])
    assert [taken(fd) for fd in late] == [1] * 31
    for start, fds, count in ((31, late[:2], 2), (32, late[:1], 1), (0, late[:2], 3), (33, [], 0),
                              (0, [], 33), (0xFFFFFFFF, [], 2), (1, [], 0xFFFFFFFF)):
        with pytest.raises(OSError, match="Invalid"):
            vmm.assign(start, fds, count)
    one.ring(31)
    assert taken(late[30]) == 1, "what was refused has changed nothing"


def test_trigger_and_all_off(stage, attach):
    one = stage(vectors=4)
    vmm = attach(Qemu, one.process.socket).boot(4)
    vmm.set_irqs(MSIX, DATA_NONE | TRIGGER, 1, 2)
    assert vmm.rung() == {1: 1, 2: 1}
    vmm.set_irqs(MSIX, DATA_BOOL | TRIGGER, 0, 4, data=b"\1\0\0\1")
    assert vmm.rung() == {0: 1, 3: 1}
    vmm.set_irqs(MSIX, DATA_NONE | TRIGGER)
    one.ring(0)
    assert vmm.rung() == {}
    vmm.unmask(0)
    assert vmm.rung() == {0: 1}


def test_error_eventfd_is_never_written(stage, attach):
    """It would stop the virtual machine."""
    one = stage()
    vmm = attach(Qemu, one.process.socket).boot(2)
    assert vmm.get_irq_info(ERR)[1] == 1
    vmm.set_irqs(ERR, DATA_NONE | TRIGGER, 0, 1)
    vmm.reset()
    one.kill_server()
    one.process.wait_log("server is gone")
    assert is_quiet(vmm.err)


# ---- INTx ----


@pytest.fixture
def intx(stage, attach):
    """The legacy device with INTx; with one that is set up: intx(kind) is (stage, vmm)."""

    def start(kind):
        one = stage(type="legacy", msi="off")
        vmm = attach(kind, one.process.socket).boot()
        assert vmm.get_irq_info(INTX)[1] == 1 and vmm.find_capability(0x11) == 0
        vmm.store(BAR0, INTRMASK, 1)
        return one, vmm

    return start


def interrupt_status(vmm):
    return vmm.load(CONFIG, STATUS, 2) >> 3 & 1


def test_intx_without_kvm(intx):
    """A level that masks itself; QEMU unmasks with the guest's next access to a BAR."""
    one, vmm = intx(Qemu)
    assert interrupt_status(vmm) == 0
    one.ring(0)
    assert wait_taken(vmm.intx) == 1 and interrupt_status(vmm) == 1
    one.ring(1)
    assert is_quiet(vmm.intx), "still masked"
    vmm.intx_unmask()
    assert wait_taken(vmm.intx) == 1, "the level is still high"
    assert vmm.load(BAR0, INTRSTATUS) == 1
    vmm.intx_unmask()
    assert is_quiet(vmm.intx, 0) and interrupt_status(vmm) == 0
    one.host.ring(0, 0)
    assert wait_taken(vmm.intx) == 1
    assert vmm.load(BAR0, INTRSTATUS) == 1
    one.ring(0)
    assert interrupt_status(vmm) == 1 and is_quiet(vmm.intx, 0), "a new level, but still masked"
    assert vmm.load(BAR0, INTRSTATUS) == 1
    vmm.intx_unmask()
    for _ in range(50):
        one.host.ring(0, 0)
        assert wait_taken(vmm.intx) == 1
        assert vmm.load(BAR0, INTRSTATUS) == 1
        vmm.intx_unmask()


def test_intx_masks(intx):
    """Mask register, command register, the VMM's own mask."""
    one, vmm = intx(Qemu)
    vmm.store(BAR0, INTRMASK, 0)
    one.ring(0)
    assert is_quiet(vmm.intx, 0) and interrupt_status(vmm) == 0
    vmm.store(CONFIG, COMMAND, vmm.load(CONFIG, COMMAND, 2) | INTX_DISABLE, 2)
    vmm.store(BAR0, INTRMASK, 0xFFFFFFFF)
    assert is_quiet(vmm.intx, 0) and interrupt_status(vmm) == 1
    vmm.set_irqs(INTX, DATA_NONE | MASK, 0, 1)
    vmm.store(CONFIG, COMMAND, vmm.load(CONFIG, COMMAND, 2) & ~INTX_DISABLE, 2)
    assert is_quiet(vmm.intx, 0)
    vmm.intx_unmask()
    assert taken(vmm.intx) == 1
    vmm.machine_reset()
    assert is_quiet(vmm.intx, 0) and interrupt_status(vmm) == 0
    assert (vmm.load(BAR0, INTRMASK), vmm.load(BAR0, INTRSTATUS)) == (0, 0)


def test_intx_with_kvm(intx):
    """The kernel writes the resample eventfd when the guest has acknowledged."""
    one, vmm = intx(Qemu)
    vmm.intx_on(kvm=True)
    one.ring(0)
    assert wait_taken(vmm.intx) == 1
    wire.ring(vmm.resample)
    assert wait_taken(vmm.intx) == 1, "not seen to yet"
    for _ in range(50):
        assert vmm.load(BAR0, INTRSTATUS) == 1
        wire.ring(vmm.resample)
        wait_until(lambda: wire.eventfd_info(vmm.resample)["count"] == 0, "the resample event")
        one.host.ring(0, 1)
        assert wait_taken(vmm.intx) == 1
    vmm.intx_on(kvm=True)
    assert wait_taken(vmm.intx) >= 1, "set up again with a level that is high"
    vmm.set_irqs(INTX, DATA_NONE | TRIGGER)
    wire.ring(vmm.resample)
    assert is_quiet(vmm.intx)


def test_intx_of_fewer_vectors_than_the_server_has(stage, attach):
    """Those that the device does not have are silent, as with MSI-X."""
    one = stage(type="legacy", msi="off", vectors=1, server_vectors=2)
    vmm = attach(Qemu, one.process.socket).boot()
    vmm.store(BAR0, INTRMASK, 1)
    one.ring(1)
    assert interrupt_status(vmm) == 0
    one.ring(0)
    assert interrupt_status(vmm) == 1 and taken(vmm.intx) == 1


def test_intx_of_cloud_hypervisor(intx):
    """It unmasks after every access to a BAR, whether there was an interrupt or not."""
    one, vmm = intx(CloudHypervisor)
    assert vmm.uses_intx
    for _ in range(50):
        one.host.ring(0, 0)
        assert wait_taken(vmm.intx) == 1
        assert vmm.load(BAR0, INTRSTATUS) == 1
    assert is_quiet(vmm.intx)
    vmm.ring(0, 0)
    # Not seen to by the unmasking, which takes back what was not read and tells it anew.
    assert wait_taken(vmm.intx) == 1


def test_intx_waits_for_its_eventfd(stage, attach):
    one = stage(type="legacy", msi="off")
    vmm = attach(Spdk, one.process.socket)
    vmm.version()
    vmm.store(BAR0, INTRMASK, 1)
    one.ring(0)
    fd = vmm.eventfd()
    vmm.set_irqs(INTX, DATA_EVENTFD | TRIGGER, 0, 1, [fd])
    assert taken(fd) == 1


def test_unplug_and_plug_in(intx, attach):
    """QEMU's device_del, which works without MSI-X, and device_add on the same socket."""
    one, vmm = intx(Qemu)
    for _ in range(5):
        vmm.unplug()
        vmm = attach(Qemu, one.process.socket).boot()
        vmm.store(BAR0, INTRMASK, 1)
        one.host.ring(0, 0)
        assert wait_taken(vmm.intx) == 1


def test_revision_0_with_msix(stage, attach):
    """It has a pin and MSI-X. QEMU sets INTx up because of the pin; it stays silent."""
    one = stage(type="legacy", vectors=2)
    vmm = attach(Qemu, one.process.socket).boot(2)
    assert vmm.load(CONFIG, 8, 1) == 0 and vmm.pin == 1
    vmm.store(BAR0, INTRMASK, 0xFFFFFFFF)
    vmm.store(BAR0, INTRSTATUS, 1)
    one.host.ring(0, 1)
    assert vmm.wait_rung(1) == 1
    assert is_quiet(vmm.intx, 0)
    vmm.close()
    vmm = attach(CloudHypervisor, one.process.socket).boot(2)
    assert not vmm.uses_intx, "or it would unmask after each access"
