# SPDX-License-Identifier: MIT
"""
Linux guests with a shell that tests drive: busybox, a Debian kernel's drivers and ours, and static
programs. tests/guest/shell-init has what runs in them and how commands and their output get through
the serial port.
"""

import functools
import itertools
import pathlib
import re
import secrets
import socket
import subprocess
import time

import pytest

import wire

from conftest import build_dir, ended_with_test, wait_until
from qemu import CACHE, TOP, Monitor, program

BOOT_TIMEOUT = 100  # seconds for what takes two on an idle machine
TIMEOUT = 60
LONGEST_COMMAND = 32 << 10  # bytes; a terminal takes twice as much before it drops any
TICKS = 100  # of /proc/PID/stat in a second, on all of these kernels

# Of the build directory of static programs.
PROGRAMS = ["tools/client/ivshmem-client", "examples/hello-guest", "tests/guest/talk-host",
            "tests/guest/waiters", "tests/guest/chain", "tools/bench/ivshmem-bench"]

# What is loaded before a driver, where a kernel has it as a module.
NEEDS = {
    "uio_ivshmem": ["uio"],
    "uio_pci_generic": ["uio"],
    "vfio-pci": ["irqbypass", "iommufd", "vfio", "vfio_virqfd", "vfio_iommu_type1",
                 "vfio-pci-core"],
}

# Machines with an IOMMU that remaps interrupts, and options. caching-mode tells of mappings, which
# devices outside QEMU need.
IOMMU = {
    "x86_64": ("q35", ["-device", "intel-iommu,caching-mode=on"]),
    "aarch64": ("virt,iommu=smmuv3,gic-version=3", []),
}

# Without a firmware, the kernel places the BARs, and two devices' registers in one page.
PAGES = "pci=resource_alignment=pci:1af4:1110"

TROUBLE = re.compile(
    r"BUG:|WARNING:|Oops|Call Trace|Kernel panic|general protection|Unable to handle|refcount_t|"
    r"possible circular|inconsistent lock|suspicious RCU|leaked|nobody cared|blocked for more than|"
    r"soft lockup|rcu_.*detected.*stall|Trying to free|sysfs: cannot create|DMAR:.*fault", re.I)


def arch_of(kernel):
    return "aarch64" if kernel == "arm64" else "x86_64"


def kernel_directory(kernel):
    """Of "debian12", "trixie", "sid" or "arm64"; failing to have it fails the test."""
    path = CACHE / ("kernel" if kernel == "debian12" else f"kernel-{kernel}")
    assert (path / "vmlinuz").exists(), f"no kernel in {path}: run scripts/setup check"
    return path


def busybox(arch):
    path = CACHE / "sysroot-arm64/bin/busybox" if arch == "aarch64" else pathlib.Path("/bin/busybox")
    assert path.exists(), f"{path} is missing: run scripts/setup check"
    return path


@functools.cache
def programs(arch):
    """What `arch`'s guests have in /bin besides busybox."""
    directory = CACHE / f"guest-{arch}"
    subprocess.run([TOP / "tests/guest/build", arch, directory], check=True)
    return [directory / path for path in PROGRAMS]


@pytest.fixture(scope="session")
def shell_image(tmp_path_factory):
    """
    shell_image(kernel) is an initramfs for `kernel` with all its drivers, ours among them, and our
    programs.
    """
    images = {}

    def make(kernel):
        if kernel not in images:
            module = build_dir() / f"tests/kernel/{kernel}"
            subprocess.run([TOP / "tests/kernel/build", kernel, module], check=True)
            arch = arch_of(kernel)
            images[kernel] = tmp_path_factory.mktemp("image") / f"{kernel}.cpio"
            subprocess.run([TOP / "tests/guest/mkinitramfs", TOP / "tests/guest/shell-init",
                            images[kernel], busybox(arch), *programs(arch),
                            *sorted((kernel_directory(kernel) / "modules").glob("*.ko")),
                            module / "uio_ivshmem.ko"], check=True)
        return images[kernel]

    return make


def wait_for(condition, what):
    """wait_until(), with the patience that emulated machines want: some seconds may be a minute."""
    return wait_until(condition, what, 3 * TIMEOUT)


class Command:
    """A command that runs in a guest, or has run."""

    def __init__(self, guest, text, token):
        self.guest = guest
        self.text = text
        self.token = token
        self._pid = None
        self._result = None  # (status, output) once it has ended

    @property
    def pid(self):
        if self._pid is None:
            self._pid = int(self.guest.receive(rf"\x01started {self.token} (\d+)\n")[1])
        return self._pid

    def wait(self, timeout=TIMEOUT):
        """Wait for its end; returns (status, output). A signal makes the status 128 + number."""
        try:
            return self.result(timeout)
        except TimeoutError:
            raise AssertionError(f"{self.text}: no end within {timeout} s"
                                 f"{self.guest.state(self)}") from None

    def result(self, timeout):
        """As wait(), but raises TimeoutError."""
        if self._result is None:
            assert self.pid
            found = self.guest.receive(
                rf"\x01begin {self.token}\n(.*)\x01end {self.token} (\d+)\n", timeout)
            self._result = int(found[2]), found[1].decode("utf-8", errors="replace")
        return self._result

    def ended(self):
        """Whether it has ended."""
        return self._result is not None or not self.guest.test(f"-d /proc/{self.pid}")

    def output(self):
        """What it has printed so far."""
        assert self.pid  # it has begun: there is a file
        return self._result[1] if self._result else self.guest.run(f"cat {self.output_path}")

    @property
    def output_path(self):
        return f"/run/{self.token}.output"

    def kill(self, signal="TERM"):
        self.guest.run(f"kill -{signal} {self.pid}")


class ShellGuest(Monitor):
    """
    A booted guest, always by software emulation, which has all that drivers want wherever QEMU
    runs. The first command waits until its shell answers: start several guests before, and they
    boot at the same time. `options` are QEMU's; `iommu` is what vfio-pci wants.
    """

    def __init__(self, image, log, *options, kernel="debian12", qemu="qemu-7", machine=None, smp=1,
                 memory=256, iommu=False, pages=PAGES):
        self.arch = arch_of(kernel)
        self.log_path = log
        self.stderr_path = log.with_suffix(".stderr")
        self.up = False
        self.received = b""
        if iommu:
            machine, more = IOMMU[self.arch]
            options = (*more, *options)
        serial, serial_theirs = socket.socketpair()
        qmp, qmp_theirs = socket.socketpair()
        command = [
            TOP / "tests/guest/boot", "--image", image, "--serial", "chardev:shell",
            "--kernel", kernel_directory(kernel) / "vmlinuz", "--qemu", program(qemu, self.arch),
            *(["--machine", machine] if machine else []), "--append", pages, "--",
            "-chardev", f"socket,id=shell,fd={serial_theirs.fileno()},logfile={log}",
            "-chardev", f"socket,id=qmp,fd={qmp_theirs.fileno()}",
            "-mon", "chardev=qmp,mode=control", "-smp", str(smp), "-m", str(memory), *options]
        with serial_theirs, qmp_theirs, open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                command, stdin=subprocess.DEVNULL, stderr=stderr,
                pass_fds=(serial_theirs.fileno(), qmp_theirs.fileno()))
        self.serial = serial
        self.sockets = (serial, qmp)
        for sock in self.sockets:
            sock.settimeout(TIMEOUT)
        try:
            self.connect_monitor(qmp)
        except (ConnectionError, ValueError):
            self.close()
            raise AssertionError(f"QEMU does not start: {self.stderr()}") from None

    def close(self):
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.wait()
        for stream in (self.qmp, *self.sockets):
            stream.close()

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def stderr(self):
        return self.stderr_path.read_text(encoding="utf-8", errors="replace")

    # ---- commands ----

    def start(self, command):
        """
        Run a program with its arguments in the background; the process ID is the program's. As in
        all shells, it ignores SIGINT and SIGQUIT.
        """
        return self._send(f"exec {command}")

    def run(self, command, timeout=TIMEOUT, check=True):
        """Run shell commands; returns what they print, stderr too. `check` their status."""
        running = self._send(command)
        status, output = running.wait(timeout)
        if check and status != 0:
            raise AssertionError(f"{command}: status {status}\n{output}{self.state()}")
        return output

    def test(self, condition):
        """Whether `condition`, as for test(1), is true."""
        return self._send(f"[ {condition} ]").wait()[0] == 0

    def wait_up(self):
        """Wait until the shell answers."""
        if not self.up:
            try:
                self.receive(r"\x01up\n", BOOT_TIMEOUT)
            except TimeoutError:
                raise AssertionError(f"no shell within {BOOT_TIMEOUT} s{self._console()}") from None
            self.up = True

    def _send(self, text):
        self.wait_up()
        token = secrets.token_hex(8)
        data = "".join(f":{line}\n" for line in text.split("\n")) + f"!{token}\n"
        assert len(data.encode()) <= LONGEST_COMMAND, "too long for the guest's terminal"
        self.serial.sendall(data.encode())
        return Command(self, text, token)

    def receive(self, pattern, timeout=TIMEOUT):
        """Wait for what matches `pattern`, and take it out of what the guest has said."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern.encode(), self.received, re.S)):
            if not wire.select_readable(self.serial, max(0, deadline - time.monotonic())):
                raise TimeoutError
            data = self.serial.recv(1 << 16)
            assert data, f"QEMU ended with {self.process.wait()}\n{self.stderr()}{self._console()}"
            self.received += data
        self.received = self.received[:found.start()] + self.received[found.end():]
        return found

    def _console(self):
        return f"\n--- console, its end\n{self.log()[-4000:]}"

    def state(self, hanging=None):
        """For the report of a failure: the kernel's messages, and about a command that hangs."""
        text = "dmesg | tail -n 20"
        try:
            if hanging:
                text = (f"echo printed:; cat {hanging.output_path}; cat /proc/{hanging.pid}/stack\n"
                        "ps; echo w >/proc/sysrq-trigger; dmesg | tail -n 60")
            return f"\n--- the guest\n{self._send(text).result(10)[1]}"
        except (AssertionError, OSError):  # of them is TimeoutError
            return self._console()

    # ---- the system ----

    def load(self, driver, *parameters):
        """Load a driver of NEEDS, and before it what it needs."""
        for module in (*NEEDS[driver], driver):
            line = f"/modules/{module}.ko {' '.join(parameters) if module == driver else ''}"
            self.run(f"[ ! -e /modules/{module}.ko ] || "
                     f"[ -e /sys/module/{module.replace('-', '_')} ] || insmod {line}")
        assert self.test(f"-d /sys/bus/pci/drivers/{driver}"), f"{driver} is not there"

    def unload(self, module):
        self.run(f"rmmod {module}")

    def devices(self):
        """The addresses of all ivshmem devices, e.g. "0000:00:04.0", in order."""
        found = self.run("cd /sys/bus/pci/devices; grep -lx PCI_ID=1AF4:1110 */uevent || :")
        return found.replace("/uevent", "").split()

    def driver(self, bdf):
        """The driver that a device has, or None."""
        path = f"/sys/bus/pci/devices/{bdf}/driver"
        return self.run(f"[ ! -e {path} ] || basename $(readlink {path})").strip() or None

    def bind(self, bdf, driver):
        """Give a device to this driver and no other."""
        device = f"/sys/bus/pci/devices/{bdf}"
        self.run(f"echo {driver} >{device}/driver_override\n"
                 f"[ ! -e {device}/driver ] || echo {bdf} >{device}/driver/unbind\n"
                 f"echo {bdf} >/sys/bus/pci/drivers_probe")
        assert self.driver(bdf) == driver, f"{bdf} has {self.driver(bdf)}{self.state()}"

    def unbind(self, bdf):
        """Take a device away from its driver; other drivers may have it."""
        device = f"/sys/bus/pci/devices/{bdf}"
        self.run(f"echo {bdf} >{device}/driver/unbind && echo >{device}/driver_override")

    def interrupts(self):
        """{name: count} of the interrupts of ivshmem devices, all processors together."""
        counts = {}
        for line in self.run("cat /proc/interrupts").splitlines():
            words = line.split()
            if re.search("ivshmem|vfio-|uio_pci", words[-1]):
                numbers = itertools.takewhile(str.isdigit, words[1:])
                counts[words[-1]] = sum(map(int, numbers))
        return counts

    def cpu_time(self, pid):
        """Seconds of processor time that a process has used."""
        fields = self.run(f"cat /proc/{pid}/stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def check_kernel_log(self):
        """Fail on messages of a kernel in trouble; returns all of them."""
        log = self.run("dmesg")
        found = TROUBLE.search(log)
        assert not found, log[max(0, found.start() - 2000):found.start() + 4000]
        return log


@pytest.fixture
def shell_guest(launch, shell_image, tmp):  # pylint: disable=unused-argument # ends before servers
    """
    Boot a guest: shell_guest(*options of QEMU, kernel="debian12", **of ShellGuest). If it lives when
    the test ends, its kernel must have had no trouble.
    """
    numbers = itertools.count()

    def start(*options, kernel="debian12", **others):
        return ShellGuest(shell_image(kernel), tmp / f"guest{next(numbers)}", *options,
                          kernel=kernel, **others)

    def end(guest):
        try:
            if guest.process.poll() is None and guest.up:
                guest.check_kernel_log()
        finally:
            guest.close()

    yield from ended_with_test(start, end)
