# SPDX-License-Identifier: MIT
"""
What VMMs that are not here get from ivshmem-device: clients that behave like QEMU, Cloud Hypervisor
and SPDK (vmms.py), and a host process as the other peer.
"""

import errno
import itertools
import mmap
import os
import pathlib
import random
import re
import signal
import time

import pytest

from conftest import wait_until
from vfio_user import (
    ACCESS, BAR0, BAR1, BAR2, BARS, CONFIG, DATA_NONE, DEVICE_PCI, DEVICE_RESET, DMA_MAP, DMA_UNMAP,
    INFO, INTRMASK, INTX, MAPPABLE, MSIX, NO_REPLY, REGION_INFO, UNMASK, VGA, WRITABLE, Command)
from vmms import (  # pylint: disable=unused-import
    CloudHypervisor, Qemu, Spdk, attach, device_spec, stage)

KINDS = pytest.mark.parametrize("kind", [Qemu, CloudHypervisor, Spdk])
WITH_INTERRUPTS = pytest.mark.parametrize("kind", [Qemu, CloudHypervisor])
MEGABYTE = 1 << 20


def shared_memory(peer):
    return mmap.mmap(peer.region, os.fstat(peer.region).st_size)


# ---- what every client does ----


@KINDS
def test_doorbells_both_ways(stage, attach, kind):
    one = stage(vectors=2)
    vmm = attach(kind, one.process.socket).boot(0 if kind is Spdk else 2)
    assert vmm.position() == 0
    for number in range(100):
        vmm.ring(one.host.id, number % 2)
    assert one.host.rung() == {0: 50, 1: 50}
    for peer, vector in ((one.host.id, 2), (one.host.id, 0xFFFF), (7, 0), (0xFFFF, 0xFFFF)):
        vmm.ring(peer, vector)
    assert one.host.rung() == {}, "a vector or a peer that does not exist"
    if kind is Spdk:
        return
    for number in range(100):
        one.host.ring(0, number % 2)
        assert vmm.wait_rung(number % 2) == 1
    vmm.ring(0, 1)
    assert vmm.wait_rung(1) == 1, "its own doorbell"
    for _ in range(1000):
        one.host.ring(0, 0)
    assert vmm.wait_rung(0) >= 1, "they may merge, but not all of them into none"


@KINDS
def test_memory_mapped_and_trapped(stage, attach, kind):
    """One memory for the guest's loads, trapped accesses of all sizes, and the host."""
    one = stage()
    vmm = attach(kind, one.process.socket).boot()
    host = shared_memory(one.host)
    assert vmm.regions[BAR2].size == len(host) == MEGABYTE
    vmm.memory[4090:4100] = b"from guest"
    assert host[4090:4100] == b"from guest"
    choose = random.Random(1)
    for size in (1, 2, 3, 4, 5, 8, 16, 100, 4096, 16384):
        for offset in (0, 1, 2, 4, 8, size, 4095, choose.randrange(MEGABYTE - size),
                       MEGABYTE - size):
            data = choose.randbytes(size)
            vmm.write(BAR2, offset, data)
            assert host[offset:offset + size] == vmm.memory[offset:offset + size] == data
            host[offset:offset + size] = data = choose.randbytes(size)
            assert vmm.read(BAR2, offset, size) == data
    for offset in (MEGABYTE, MEGABYTE + 1, 1 << 32, (1 << 64) - 8):
        vmm.write(BAR2, offset, b"12345678")
        assert vmm.read(BAR2, offset, 8) == bytes(8), "there is nothing behind its end"


@KINDS
def test_vmm_leaves_and_comes_back(stage, attach, kind):
    """As at each reboot of Cloud Hypervisor: same ID, fresh registers, nobody else hears of it."""
    one = stage()
    vectors = 0 if kind is Spdk else 2
    for _ in range(10):
        vmm = attach(kind, one.process.socket).boot(vectors)
        assert vmm.position() == 0
        assert vmm.load(BAR0, INTRMASK) == 0
        vmm.store(BAR0, INTRMASK, 0xFFFFFFFF)
        vmm.ring(one.host.id, 0)
        assert one.host.rung() == {0: 1}
        if vectors:
            one.host.ring(0, 1)
            assert vmm.wait_rung(1) == 1
        vmm.close()
    assert one.host.drain() == 0


def test_reboot_is_never_taken_for_a_second_vmm(stage, attach):
    """The old connection's end and the new one arrive together, in either order."""
    one = stage()
    for _ in range(200):
        with CloudHypervisor(one.process.socket) as vmm:
            vmm.version()
    vmm = attach(CloudHypervisor, one.process.socket)
    vmm.version()
    for _ in range(5):
        os.kill(one.process.pid, signal.SIGSTOP)
        successor = attach(CloudHypervisor, one.process.socket)
        vmm.close()
        os.kill(one.process.pid, signal.SIGCONT)
        vmm = successor
        vmm.version()


@KINDS
def test_second_vmm_is_refused_at_once(stage, attach, kind):
    one = stage()
    first = attach(Qemu, one.process.socket).boot(2)
    for _ in range(20):
        with kind(one.process.socket) as second:
            with pytest.raises(OSError) as refusal:
                second.version()
            assert refusal.value.errno == errno.EBUSY
            with pytest.raises(ConnectionResetError):
                second.read_bytes(1)
    one.host.ring(0, 0)
    assert first.wait_rung(0) == 1


@KINDS
def test_configuration_space(stage, attach, kind):
    one = stage(vectors=3)
    vmm = attach(kind, one.process.socket).boot()
    assert vmm.info == [DEVICE_RESET | DEVICE_PCI, 9, 5]
    config = vmm.read(CONFIG, 0, 256)
    assert config[:4] == b"\xf4\x1a\x10\x11" and config[8:12] == b"\x01\0\0\x05"
    for size in (1, 2, 4, 8):
        assert b"".join(vmm.read(CONFIG, at, size) for at in range(0, 256, size)) == config
    assert int.from_bytes(config[0x42:0x44], "little") == 2, "three vectors"
    assert vmm.read(CONFIG, 250, 12)[6:] == bytes(6)
    if kind is CloudHypervisor:
        assert vmm.bar_sizes == {0: 256, 1: 4096, 2: MEGABYTE}
        assert vmm.guest_config_read(0) == 0x11101AF4


@WITH_INTERRUPTS
def test_interrupts_of_many_vectors(stage, attach, kind):
    """More than fit one message."""
    one = stage(vectors=40)
    vmm = attach(kind, one.process.socket).boot(40)
    for vector in range(40):
        one.host.ring(0, vector)
    for vector in range(40):
        assert vmm.wait_rung(vector) == 1
    vmm.msix_disable()
    vmm.msix_enable(40)
    one.host.ring(0, 39)
    assert vmm.wait_rung(39) == 1
    assert vmm.rung() == {}


def test_plain_device(device, attach, tmp):
    """Memory and registers; no interrupts, whoever asks."""
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    process = device(device_spec(tmp / "d0", type="plain", memdev=tmp / "memory"))
    for kind in (Qemu, CloudHypervisor, Spdk):
        vmm = attach(kind, process.socket).boot()
        assert vmm.find_capability(0x11) == 0
        assert vmm.position() == 0
        assert [vmm.get_irq_info(index)[1] for index in (INTX, MSIX)] == [0, 0]
        assert [vmm.regions[index].size for index in (BAR0, BAR1, BAR2)] == [256, 0, MEGABYTE]
        vmm.ring(0, 0)
        vmm.memory[:4] = kind.__name__[:4].encode()
        assert (tmp / "memory").read_bytes()[:4] == kind.__name__[:4].encode()
        vmm.close()


# ---- requests ----


def test_requests_in_any_pieces(stage, attach):
    """A stream has no boundaries: all in one piece, then byte by byte; answered in order."""
    one = stage()
    vmm = attach(Qemu, one.process.socket)
    vmm.version()
    requests = [(Command.GET_INFO, INFO.pack(16, 0, 0, 0), 32), (Command.RESET, b"", 16),
                (Command.DMA_MAP, DMA_MAP.pack(32, 3, 0, 0, 4096), 16),
                (Command.REGION_READ, ACCESS.pack(0, CONFIG, 256), 288),
                (Command.REGION_WRITE, ACCESS.pack(0, BAR2, 256) + bytes(range(256)), 32),
                (Command.REGION_READ, ACCESS.pack(0, BAR2, 256), 288)]
    for piece in (1 << 16, 1, 15, 17, 100):
        stream = b"".join(vmm.message(command, payload, exact=exact)
                          for command, payload, exact in requests)
        for at in range(0, len(stream), piece):
            vmm.sock.sendall(stream[at:at + piece])
        replies = [vmm.take() for _ in requests]
        assert replies[-1].payload[16:] == bytes(range(256))


def test_hundreds_of_dma_messages(stage, attach):
    """Firmware and an emulated IOMMU map and unmap all the time, and wait only now and then."""
    one = stage()
    vmm = attach(Qemu, one.process.socket).boot(2)
    ram = vmm.eventfd()
    before = one.process.fds()
    for number in range(20):
        for page in range(number, number + 40):
            vmm.send(Command.DMA_MAP, DMA_MAP.pack(32, 3, 0, page << 12, 4096), [ram], exact=16)
            vmm.send(Command.DMA_UNMAP, DMA_UNMAP.pack(24, 2, page << 12, 4096), exact=40)
        vmm.flush()
    assert one.process.fds() == before
    one.host.ring(0, 0)
    assert vmm.wait_rung(0) == 1


def test_errors_where_errors_are_allowed(stage, attach):
    """Unknown and unsupported commands; the connection goes on, and region accesses have none."""
    one = stage()
    vmm = attach(Qemu, one.process.socket).boot(2)
    for command, payload in ((Command.FEATURE, bytes(16)), (Command.MIG_READ, bytes(8)),
                             (Command.MIG_WRITE, bytes(16)), (14, bytes(24)), (0, b""), (99, b""),
                             (0xFFFF, bytes(100)), (Command.DMA_READ, bytes(16)),
                             (Command.VERSION, bytes(4)), (Command.GET_INFO, bytes(15)),
                             (Command.GET_REGION_INFO, REGION_INFO.pack(32, 0, 9, 0, 0, 0)),
                             (Command.SET_IRQS, b"")):
        assert vmm.ask(command, payload).error > 0, f"command {command}"
    for region in (*range(VGA + 1), 9, 255, 0xFFFFFFFF):
        for offset in (0, 255, 256, 1 << 63, (1 << 64) - 1):
            for size in (0, 1, 2, 4, 8):
                vmm.write(region, offset, bytes(size))
                vmm.read(region, offset, size)
    one.host.ring(0, 0)
    assert vmm.wait_rung(0) == 1
    # Nobody asks for ioeventfds today; who does is told that there are none.
    reply = vmm.request(Command.GET_REGION_IO_FDS, REGION_INFO.pack(32, 0, 0, 0, 0, 0)[:16])
    assert reply.payload[12:16] == bytes(4)


def test_no_reply_means_no_reply(stage, attach):
    one = stage()
    vmm = attach(Qemu, one.process.socket).boot(2)
    before = vmm.position()
    for command, payload in ((99, b""), (Command.REGION_READ, ACCESS.pack(0, BAR0, 4)),
                             (Command.GET_INFO, b""), (Command.REGION_WRITE, bytes(3))):
        vmm.send(command, payload, flags=NO_REPLY)
    assert vmm.position() == before, "the next reply is the next request's"


def test_posted_writes_without_a_mapping(stage, attach):
    """A read-only BAR2 is not mapped, so QEMU posts its writes; they arrive, and in order."""
    one = stage(readonly="on")
    vmm = attach(Qemu, one.process.socket).boot(2)
    assert not vmm.regions[BAR2].flags & MAPPABLE
    host = shared_memory(one.host)
    host[:4] = b"host"
    for number in range(2000):
        vmm.ring(one.host.id, number % 2)
    vmm.store(BAR0, INTRMASK, 7)
    vmm.write(BAR2, 0, b"evil")
    assert vmm.load(BAR0, INTRMASK) == 7
    assert one.host.rung() == {0: 1000, 1: 1000}
    assert not vmm.get_region_info(BAR2).flags & WRITABLE
    assert vmm.read(BAR2, 0, 4) == host[:4] == b"host"


# ---- several devices, and the end of others ----


def test_doorbell_within_the_process_is_direct(stage, attach):
    """When the access has been answered, the other VMM's eventfd is written already."""
    one = stage(devices=2)
    first, second = [attach(Qemu, path).boot(2) for path in one.process.sockets]
    for number in range(200):
        first.ring(1, number % 2)
        assert second.rung() == {number % 2: 1}
        second.ring(0, number % 2)
        assert first.rung() == {number % 2: 1}
    first.close()
    one.process.wait_log("doorbells: 200 to neighbours, 0 to others, 200 received")


def test_same_id_on_two_servers(server, device, join, attach, tmp):
    """Whom a doorbell is for depends on the server, also within one process."""
    servers = [server(vectors=1), server(vectors=1)]
    process = device(*[device_spec(tmp / f"d{number}", type="doorbell", server=one.socket)
                       for number, one in enumerate([servers[0], servers[1], servers[1]])])
    host = join(servers[0]).pump_mesh(1, 1)
    first, second, third = [attach(Qemu, path).boot(1) for path in process.sockets]
    assert [vmm.position() for vmm in (first, second, third)] == [0, 0, 1] and host.id == 1
    first.ring(1, 0)
    assert host.rung() == {0: 1} and third.rung() == {}
    third.ring(0, 0)
    assert second.rung() == {0: 1} and first.rung() == {}
    first.ring(0, 0)
    assert first.rung() == {0: 1} and second.rung() == {}


@WITH_INTERRUPTS
def test_server_dies_under_virtual_machines(stage, attach, kind):
    """They run on and reach each other; one line in the log for each."""
    one = stage(devices=2)
    first, second = [attach(kind, path).boot(2) for path in one.process.sockets]
    one.kill_server()
    wait_until(lambda: len(re.findall("server is gone", one.process.log())) == 2, "the log lines")
    for _ in range(50):
        first.ring(1, 0)
        assert second.wait_rung(0) == 1
        second.ring(one.host.id, 1)
        one.host.ring(0, 1)
        assert first.wait_rung(1) == 1
    assert one.host.rung() == {1: 50}
    first.memory[:3] = b"yes"
    assert second.memory[:3] == b"yes"
    second.close()
    second = attach(kind, one.process.sockets[1]).boot(2)
    assert second.position() == 1, "a reboot without the server"
    first.ring(1, 1)
    assert second.wait_rung(1) == 1
    assert len(re.findall("server is gone", one.process.log())) == 2


def test_peer_that_leaves_and_one_that_comes(stage, attach, join):
    one = stage()
    vmm = attach(Qemu, one.process.socket).boot(2)
    one.host.close()
    newcomer = join(one.server).pump_mesh(1, 2)
    assert newcomer.id != one.host.id

    def is_reached():
        vmm.ring(newcomer.id, 1)
        return newcomer.rung()

    wait_until(is_reached, "the device to know the newcomer")
    vmm.ring(one.host.id, 1)
    assert newcomer.rung() == {}


def context_switches(pid):
    return sum(int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", task.read_text(), re.M).group(1))
               for task in pathlib.Path(f"/proc/{pid}/task").glob("*/status"))


def test_64_idle_devices(stage, attach, server, device, tmp):
    """With 64 virtual machines attached the process sleeps, and a device costs little memory."""
    alone = server(vectors=1)
    single = device(device_spec(tmp / "alone", type="doorbell", server=alone.socket))
    one = stage(vectors=1, devices=64)
    vmms = [attach(Qemu, path).boot(1) for path in [*one.process.sockets, single.socket]]
    for vmm in vmms[:64]:
        vmm.ring((vmm.position() + 1) % 64, 0)
    assert [vmm.rung() for vmm in vmms] == [{0: 1}] * 64 + [{}]
    per_device = (one.process.status("RssAnon") - single.status("RssAnon")) / 63
    print(f"memory of a device with its virtual machine: {per_device:.0f} KiB")
    assert per_device < 100

    def is_still():
        before = context_switches(one.process.pid)
        time.sleep(2)
        return context_switches(one.process.pid) == before

    # The timer that watches turns goes off one period after the last, and ten seconds after a VMM
    # has come somebody looks, once, whether its guest has found the device.
    wait_until(is_still, "the process to sleep for two seconds")


def test_bar_addresses_are_the_vmms_business(stage, attach):
    """Whatever the guest writes to BAR registers, regions stay where the protocol has them."""
    one = stage()
    vmm = attach(Qemu, one.process.socket).boot(2)
    for bar, value in itertools.product(range(6), (0, 0xFFFFFFFF, 0xFEBD0000, 0x12345678)):
        vmm.store(CONFIG, BARS + 4 * bar, value)
        assert vmm.position() == 0
    vmm.ring(one.host.id, 0)
    assert one.host.rung() == {0: 1}
    vmm.set_irqs(INTX, DATA_NONE | UNMASK, 0, 0)
