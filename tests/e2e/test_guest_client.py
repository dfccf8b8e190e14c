# SPDX-License-Identifier: MIT
"""
ivshmem-client in a guest whose whole system is an initramfs of less than 2 MB: the same commands as
on the host. How it reports what is wrong there: test_client_doctor.py.
"""

import gzip
import json
import subprocess

import pytest

from conftest import build_dir, ended_with_test, wait_until
from qemu import TOP, doorbell_device
from shell_guest import ShellGuest, arch_of, busybox, kernel_directory, programs

LIMIT = 2 << 20


@pytest.fixture
def small_guest(server, tmp):  # a server is there for as long as its guests
    """small_guest(server, kernel) has a shell, the client and two modules."""

    def start(target, kernel):
        arch = arch_of(kernel)
        module = build_dir() / f"tests/kernel/{kernel}"
        subprocess.run([TOP / "tests/kernel/build", kernel, module], check=True)
        client, = (path for path in programs(arch) if path.name == "ivshmem-client")
        plain, image = tmp / "cpio", tmp / "cpio.gz"
        subprocess.run([TOP / "tests/guest/mkinitramfs", TOP / "tests/guest/shell-init", plain,
                        busybox(arch), client, kernel_directory(kernel) / "modules/uio.ko",
                        module / "uio_ivshmem.ko"], check=True)
        image.write_bytes(gzip.compress(plain.read_bytes()))
        assert image.stat().st_size < LIMIT
        assert client.stat().st_size < LIMIT // 2
        return ShellGuest(image, tmp / "guest", *doorbell_device(target), kernel=kernel)

    yield from ended_with_test(start, ShellGuest.close)


@pytest.mark.parametrize("kernel", ["debian12", "arm64"])
def test_commands(server, join, small_guest, kernel):
    target = server(vectors=2)
    guest = small_guest(target, kernel)
    guest.load("uio_ivshmem")
    peer = join(target).pump_mesh(1, 2)
    number = next(iter(peer.peers))

    def client(commands):
        output = guest.run(f"ivshmem-client --json --uri auto: '{commands}'")
        return [json.loads(line) for line in output.splitlines()]

    info, = (line for line in client("info") if line.get("command") == "info")
    assert info["id"] == number and info["vectors"] == 2 and info["region_size"] == 1 << 20
    client('write 4096 "from the guest"')
    assert guest.run("ivshmem-client --uri auto: 'read 4096 14'").count("|from the guest") == 1
    client(f"int {peer.id} 1")
    assert wait_until(peer.rung, "the ring") == {1: 1}

    waiting = guest.start("ivshmem-client --uri auto: 'wait 0 20'")
    peer.ring(number, 0)
    status, output = waiting.wait()
    assert status == 0 and "vector=0" in output, output
    checks = json.loads(guest.run("ivshmem-client --json doctor"))
    assert checks["ok"], checks
    guest.check_kernel_log()
