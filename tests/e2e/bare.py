# SPDX-License-Identifier: MIT
"""Machines that boot tests/bare/bare.elf, our guest without an operating system."""

import re
import subprocess

from conftest import build_dir
from qemu import PASSED, TOP, program

TIMEOUT = 120  # seconds for what takes one on an idle machine


def image():
    found = sorted(build_dir().rglob("bare.elf"))
    assert found, f"no bare.elf in {build_dir()}: build it"
    return found[0]


class BareGuest:
    """
    A booted guest in role `role`; its exit status is the result. `options` are QEMU's; parameters
    are those of the role, see tests/bare. A machine that resets itself goes on if `resets` is
    among them, and ends otherwise.
    """

    def __init__(self, console, role, *options, qemu="qemu-7", machine="pc", accel="tcg",
                 **parameters):
        self.console_path = console
        self.stderr_path = console.with_suffix(".stderr")
        command = [str(TOP / "tests/bare/boot"), "--image", str(image()), "--console", str(console),
                   "--qemu", program(qemu), "--machine", machine, "--accel", accel]
        for name, value in {"role": role, "deadline": TIMEOUT // 2, **parameters}.items():
            command += ["--param", f"{name}={value}"]
        command.append("--")
        if "resets" not in parameters:
            command.append("-no-reboot")
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                [*command, *options], stdin=subprocess.DEVNULL, stderr=stderr)

    def console(self):
        try:
            return self.console_path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return ""

    def stderr(self):
        return self.stderr_path.read_text(encoding="utf-8", errors="replace")

    def results(self):
        """What it has printed so far as key=value; numbers as int, the last of each key."""
        found = re.findall(r"^(\w+)=(.*)$", self.console(), re.M)
        return {key: int(value, 0) if re.fullmatch(r"0x[0-9a-f]+|\d+", value) else value
                for key, value in found}

    def wait(self, timeout=TIMEOUT):
        """Wait for the end; fails unless the guest passed. Returns its results."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.close()
            status = f"none within {timeout} s"
        assert status == PASSED, f"exit status {status}\n{self.stderr()}{self.console()}"
        return self.results()

    def close(self):
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.wait()
