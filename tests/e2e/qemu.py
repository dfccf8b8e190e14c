# SPDX-License-Identifier: MIT
"""
Unmodified QEMU as a subject: machines without a guest, driven over the qtest protocol, and machines
that boot the test guest.
"""

import functools
import json
import pathlib
import re
import shutil
import socket
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = TOP / ".cache"
TIMEOUT = 20

SYSTEM_QEMU = "qemu-7"  # Debian 12's own; scripts/setup fetches newer ones

VENDOR_AND_DEVICE = 0x11101AF4
MEMORY_CONTROLLER = 0x0500
INTRMASK, INTRSTATUS, IVPOSITION, DOORBELL = 0, 4, 8, 12
SUFFIX = {1: "b", 2: "w", 4: "l", 8: "q"}  # of qtest's commands


def program(name, arch="x86_64"):
    """The QEMU called `name` for guests of `arch`; failing to have it fails the test."""
    executable = f"qemu-system-{arch}"
    path = executable if name == SYSTEM_QEMU else str(CACHE / name / executable)
    assert shutil.which(path), f"{path} is missing: run scripts/setup check"
    return path


def doorbell_device(server, vectors=2, name="iv0", slot=4, ioeventfd="on"):
    """Options for an ivshmem-doorbell that is a client of `server`."""
    return ["-chardev", f"socket,path={server.socket},id={name}.server",
            "-device", f"ivshmem-doorbell,id={name},addr={slot:#x},chardev={name}.server,"
                       f"vectors={vectors},ioeventfd={ioeventfd}"]


def plain_device(path, size, name="iv0", slot=4):
    """Options for an ivshmem-plain on the file `path`."""
    return ["-object", f"memory-backend-file,id={name}.memory,mem-path={path},size={size},share=on",
            "-device", f"ivshmem-plain,id={name},addr={slot:#x},memdev={name}.memory"]


def vfio_user_device(path, name="iv0", slot=4, **more):
    """Options for a device that a process behind the socket `path` serves (QEMU 11)."""
    device = {"driver": "vfio-user-pci", "id": name, "addr": f"{slot:#x}", "rombar": 0,
              "socket": {"type": "unix", "path": str(path)}, **more}
    return ["-device", json.dumps(device)]


class Monitor:
    """The QMP of a QEMU, for its class to inherit."""

    def connect_monitor(self, sock):
        """QEMU's monitor is the other end of `sock`; fails by ConnectionError or ValueError."""
        self.qmp = sock.makefile("rw", encoding="utf-8", newline="\n")
        self.events = []
        json.loads(self.qmp.readline())
        self.monitor("qmp_capabilities")

    def monitor(self, execute, **arguments):
        print(json.dumps({"execute": execute, "arguments": arguments}), file=self.qmp, flush=True)
        while True:
            reply = json.loads(self.qmp.readline())
            if "event" in reply:
                self.events.append(reply)
                continue
            assert "return" in reply, f"{execute}: {reply}"
            return reply["return"]

    def wait_event(self, name):
        while not any(event["event"] == name for event in self.events):
            reply = json.loads(self.qmp.readline())
            assert "event" in reply
            self.events.append(reply)


class Machine(Monitor):
    """
    A QEMU whose processor does not run: we make its accesses through qtest. Debian's packages lack
    the accelerator of that name; a processor that is never started serves as well.
    """

    def __init__(self, *options, qemu="qemu-7", machine="pc", arch="x86_64"):
        qtest, qtest_theirs = socket.socketpair()
        qmp, qmp_theirs = socket.socketpair()
        for mine in (qtest, qmp):
            mine.settimeout(TIMEOUT)
        command = [
            program(qemu, arch), "-nodefaults", "-no-user-config", "-display", "none", "-m", "128",
            "-machine", machine, "-accel", "tcg", "-S", "-qtest-log", "none",
            "-chardev", f"socket,id=qtest,fd={qtest_theirs.fileno()}", "-qtest", "chardev:qtest",
            "-chardev", f"socket,id=qmp,fd={qmp_theirs.fileno()}",
            "-mon", "chardev=qmp,mode=control", *options]
        with qtest_theirs, qmp_theirs:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                pass_fds=(qtest_theirs.fileno(), qmp_theirs.fileno()))
        self.qtest = qtest.makefile("rw", encoding="ascii", newline="\n")
        self.sockets = (qtest, qmp)
        try:
            self.connect_monitor(qmp)
        except (ConnectionError, ValueError):  # its end comes as a reset or as an empty line
            raise AssertionError(f"QEMU does not start: {self.close()}") from None

    def close(self, kill=False):
        """End QEMU, by SIGKILL if `kill`; returns what it said on stderr."""
        if self.process.poll() is None:
            if kill:
                self.process.kill()
            else:
                self.process.terminate()
        said = self.process.communicate(timeout=TIMEOUT)[1].decode()
        for stream in (self.qtest, self.qmp, *self.sockets):
            stream.close()
        return said

    # ---- qtest and QMP ----

    def command(self, *words):
        print(*words, file=self.qtest, flush=True)
        reply = self.qtest.readline().split()
        assert reply and reply[0] == "OK", f"{words}: {reply}"
        return reply[1] if len(reply) > 1 else None

    def readl(self, address):
        return int(self.command("readl", hex(address)), 16)

    def writel(self, address, value):
        self.command("writel", hex(address), hex(value))

    def read(self, address, size):
        """Bytes of memory, asked for in pieces that a line of the protocol carries well."""
        step = 1 << 16
        return b"".join(
            bytes.fromhex(self.command("read", hex(at), hex(min(step, address + size - at)))[2:])
            for at in range(address, address + size, step))

    def write(self, address, data):
        self.command("write", hex(address), hex(len(data)), "0x" + data.hex())

    def fill(self, address, size, byte):
        self.command("memset", hex(address), hex(size), hex(byte))

    def load(self, address, size):
        """Read 1, 2, 4 or 8 bytes of memory, as one access if they are aligned."""
        return int(self.command(f"read{SUFFIX[size]}", hex(address)), 16)

    def store(self, address, size, value):
        self.command(f"write{SUFFIX[size]}", hex(address), hex(value))

    def config_load(self, slot, offset, size):
        """Read 1, 2 or 4 bytes of configuration space, aligned."""
        self.command("outl", "0xcf8", hex(0x80000000 | slot << 11 | offset & ~3))
        return int(self.command(f"in{SUFFIX[size]}", hex(0xCFC + (offset & 3))), 16)

    def config_store(self, slot, offset, size, value):
        self.command("outl", "0xcf8", hex(0x80000000 | slot << 11 | offset & ~3))
        self.command(f"out{SUFFIX[size]}", hex(0xCFC + (offset & 3)), hex(value))

    def route_intx(self, slot):
        """Lead the INTx pin of `slot` (pc machine) to the interrupt controller's input 11."""
        self.config_store(1, 0x60 + (slot - 1) % 4, 1, 11)
        self.command("outb", "0x4d1", "0x8")  # level-triggered

    def intx_level(self):
        """Level of input 11 of the interrupt controller."""
        return int(self.command("inb", "0xa0"), 16) >> 3 & 1  # the second chip's requests

    def reset(self):
        self.events.clear()
        self.monitor("system_reset")
        self.wait_event("RESET")

    def pci_regions(self, slot):
        """Where the BARs of `slot` are, {bar: address}; all ones where decoding is off."""
        for bus in self.monitor("query-pci"):
            for device in bus["devices"]:
                if (bus["bus"], device["slot"]) == (0, slot):
                    return {region["bar"]: region["address"] & (1 << 64) - 1
                            for region in device["regions"]}
        raise AssertionError(f"nothing in slot {slot}")

    def pci(self, slot=4, base=0xE0000000):
        """The device in `slot`; of two in one machine, each needs a `base` of its own."""
        return PciDevice(self, slot, base)


class PciDevice:
    """An ivshmem device on bus 0, its BARs placed where nothing else is."""

    def __init__(self, machine, slot, base):
        self.machine = machine
        self.slot = slot
        self.registers, self.msix, self.memory = (base + i * 0x08000000 for i in range(3))
        assert self.config_read(0x00) == VENDOR_AND_DEVICE
        self.register_size = self.place(0, self.registers)
        self.msix_size = self.place(1, self.msix)
        self.memory_size = self.place(2, self.memory)
        self.config_write(0x04, self.config_read(0x04) & 0xFFFF | 7)  # I/O, memory, bus master

    def config_at(self, offset):
        self.machine.command("outl", "0xcf8", hex(0x80000000 | self.slot << 11 | offset & ~3))

    def config_read(self, offset):
        self.config_at(offset)
        return int(self.machine.command("inl", "0xcfc"), 16)

    def config_write(self, offset, value):
        self.config_at(offset)
        self.machine.command("outl", "0xcfc", hex(value))

    def place(self, bar, address):
        """Give a BAR its address; returns its size, 0 where it does not exist."""
        offset = 0x10 + bar * 4
        self.config_write(offset, 0xFFFFFFFF)
        mask = self.config_read(offset) & ~0xF
        self.config_write(offset, address)
        return -mask & 0xFFFFFFFF

    # ---- the device ----

    def register(self, offset):
        return self.machine.readl(self.registers + offset)

    def set_register(self, offset, value):
        self.machine.writel(self.registers + offset, value)

    @property
    def id(self):
        return self.register(IVPOSITION)

    def ring(self, peer, vector):
        self.set_register(DOORBELL, peer << 16 | vector)

    @functools.cached_property
    def msix_capability(self):
        """Offset in configuration space; None without MSI-X."""
        at = self.config_read(0x34) & 0xFF
        while at:
            header = self.config_read(at)
            if header & 0xFF == 0x11:
                return at
            at = header >> 8 & 0xFF
        return None

    @property
    def vectors(self):
        if self.msix_capability is None:
            return 0
        return (self.config_read(self.msix_capability) >> 16 & 0x7FF) + 1

    def enable_msix(self):
        """Entries stay masked, as reset leaves them: doorbells then show as pending bits."""
        control = self.config_read(self.msix_capability)
        self.config_write(self.msix_capability, control | 1 << 31)

    def pending(self):
        """The vectors whose pending bit is set."""
        where = self.config_read(self.msix_capability + 8)
        assert where & 7 == 1, "the pending bits are not in BAR1"
        words = [self.machine.readl(self.msix + (where & ~7) + 4 * i)
                 for i in range((self.vectors + 31) // 32)]
        bits = sum(word << 32 * i for i, word in enumerate(words))
        return {vector for vector in range(self.vectors) if bits >> vector & 1}

    def wait_pending(self, vector, timeout=TIMEOUT):
        deadline = time.monotonic() + timeout
        while vector not in self.pending():
            assert time.monotonic() < deadline, f"vector {vector} was not rung"
            time.sleep(0.002)

    def take_pending(self, vector):
        """Unmask for a moment, which sends the interrupt and clears the bit. To address 0xfee00000,
        the local interrupt controller's."""
        entry = self.msix + 16 * vector
        self.machine.writel(entry, 0xFEE00000)
        self.machine.writel(entry + 12, 0)
        self.machine.writel(entry + 12, 1)


# ---- booted guests ----

PASSED = 1  # QEMU's exit status, by isa-debug-exit


class Guest:
    """A booted test guest; its exit status is the result."""

    def __init__(self, image, console, *options, qemu="qemu-7", machine="pc", accel="tcg",
                 **parameters):
        self.console_path = console
        command = [str(TOP / "tests/guest/boot"), "--image", str(image), "--console", str(console),
                   "--qemu", program(qemu), "--machine", machine, "--accel", accel]
        for name, value in parameters.items():
            command += ["--param", f"{name}={value}"]
        self.stderr_path = console.with_suffix(".stderr")
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [*command, "--", *options], stdin=subprocess.DEVNULL, stderr=stderr)

    def console(self):
        try:
            return self.console_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def wait(self, timeout=120):
        """Wait for the end; fails unless the guest passed. Returns its result line as a dict."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.close()
            status = f"none within {timeout} s"
        assert status == PASSED, \
            f"exit status {status}\n{self.stderr_path.read_text()}{self.console()}"
        return result_line(self.console())

    def close(self):
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.wait()


def result_line(text):
    """The line of talk_print() in `text` as a dict, numbers as int."""
    found = re.search(r"^talk: (passed|failed) (.*)$", text, re.M)
    assert found, f"no result in:\n{text}"
    fields = dict(item.split("=") for item in found.group(2).split())
    return {"passed": found.group(1) == "passed", **{k: int(v) for k, v in fields.items()}}

