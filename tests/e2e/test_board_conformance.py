# SPDX-License-Identifier: MIT
"""
Our board's processor against QEMU's: tests/cortex/conformance.c prints what it sees, and the same
image sees the same on both.
"""

import dataclasses
import subprocess

import pytest

from conftest import build_dir, find_program
from qemu import program

TIMEOUT = 60  # seconds for what takes one
QEMUS = ("qemu-7", "qemu-10", "qemu-11")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A processor, in a machine of ours and in one of QEMU's."""

    image: str
    ours: str
    qemus: str
    words: tuple = ()

    @property
    def path(self):
        return build_dir() / f"tests/cortex/conformance-{self.image}.elf"


M0 = Subject("m0", "cortex-m0", "microbit")
M3 = Subject("m3", "cortex-m3", "mps2-an385")
M4 = Subject("m4", "cortex-m4", "mps2-an386")
# QEMU's lets accesses to nothing pass.
LM3S = Subject("m3", "lm3s6965evb", "lm3s6965evb", ("holes=0",))


def run(command):
    """The transcript of a run that ends well."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=TIMEOUT, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[-1:] == ["done"], done.stdout + done.stderr
    return lines


def on_our_board(subject, *words):
    path = find_program("ivshmem-flat-run")
    assert path, f"no ivshmem-flat-run in {build_dir()}"
    return run([path, "--machine", subject.ours, subject.path, "--", *subject.words, *words])


def on_qemus(subject, qemu):
    words = ",".join(f"arg={word}" for word in ("conformance", *subject.words))
    return run([program(qemu, "arm"), "-M", subject.qemus, "-nodefaults", "-no-user-config",
                "-display", "none", "-nic", "none", "-kernel", subject.path,
                "-chardev", "stdio,id=console", "-semihosting-config",
                f"enable=on,target=native,chardev=console,{words}"])


@pytest.mark.parametrize("qemu", QEMUS)
@pytest.mark.parametrize("subject", [M0, M3, LM3S, M4], ids=lambda subject: subject.qemus)
def test_same_transcript(subject, qemu):
    assert on_our_board(subject) == on_qemus(subject, qemu)


@pytest.mark.parametrize("subject", [M0, M3, M4], ids=lambda subject: subject.image)
def test_sleeps(subject):
    """WFE and SLEEPONEXIT put our processor to sleep; QEMU's may go on, as may any."""
    assert "sleep on exit: ticks 5" in on_our_board(subject, "section=sleep", "sleeps=1")
