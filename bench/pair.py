# SPDX-License-Identifier: MIT
"""
Two virtual machines in one region, for benchmarks: those of tests/e2e, by software emulation.
Import this before anything of tests/e2e.
"""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/e2e"))
os.environ.setdefault("IVSHMEM_BUILD", str(ROOT / "build"))

# pylint: disable=wrong-import-position
from conftest import build_dir, find_program, wait_until  # noqa: E402
from qemu import CACHE  # noqa: E402
from shell_guest import ShellGuest, busybox, programs  # noqa: E402


def make_image(folder, modules):
    """An initramfs with our programs and driver, and more modules of the same kernel."""
    module = build_dir() / "tests/kernel/debian12"
    subprocess.run([ROOT / "tests/kernel/build", "debian12", module], check=True,
                   capture_output=True)
    image = folder / "image.cpio"
    subprocess.run([ROOT / "tests/guest/mkinitramfs", ROOT / "tests/guest/shell-init", image,
                    busybox("x86_64"), *programs("x86_64"), CACHE / "kernel/modules/uio.ko",
                    module / "uio_ivshmem.ko", *modules], check=True)
    return image


@contextlib.contextmanager
def pair(size, find_modules=lambda folder: [], options=lambda folder: ([], [])):
    """
    A region of `size` and two guests with our driver: yields their URI for the host, and the two.
    find_modules(folder) fetches further modules, options(folder) are QEMU's for each.
    """
    with tempfile.TemporaryDirectory(prefix="iv") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        image = make_image(folder, find_modules(folder))
        socket = folder / "socket"
        server = stack.enter_context(subprocess.Popen(
            [find_program("ivshmem-server"), "-F", "-S", socket, "-n", "2", "-l", size],
            stderr=subprocess.DEVNULL))
        stack.callback(server.kill)
        wait_until(socket.exists, "the server")
        guests = []
        for number, more in enumerate(options(folder)):
            guests.append(ShellGuest(
                image, folder / f"guest{number}", "-chardev", f"socket,path={socket},id=iv.server",
                "-device", "ivshmem-doorbell,addr=4,chardev=iv.server,vectors=2", *more))
            stack.callback(guests[-1].close)
        for guest in guests:
            guest.load("uio_ivshmem")
        yield f"unix:{socket}", guests
