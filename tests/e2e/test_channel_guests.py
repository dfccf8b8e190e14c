# SPDX-License-Identifier: MIT
"""
ivshmem-client send and recv between two virtual machines: README's example, and what becomes of it
when one of the two is killed; and ivshmem-bench. Between processes of a host:
test_channel_pipe.py, test_bench_program.py.
"""

import re

import pytest

from qemu import TOP, doorbell_device
from shell_guest import shell_guest, shell_image  # pylint: disable=unused-import

CLIENT = "ivshmem-client --uri auto:"
SUMS = "md5sum folder/*"
EXAMPLE = re.search(r"```sh\n(tar c .*?) *#.*\n(.*?) *#.*\n```",
                    (TOP / "README.md").read_text(encoding="utf-8"))


@pytest.fixture
def pair(server, shell_guest):  # pylint: disable=redefined-outer-name
    """Two guests on one region."""
    target = server(vectors=2, size="4M")
    guests = [shell_guest(*doorbell_device(target)) for _ in range(2)]
    for guest in guests:
        guest.load("uio_ivshmem")
    return guests


def start(guest, commands):
    """Run shell commands in the background."""
    return guest.start(f"sh -c '{commands}'")


def begun(guest, path):
    """Wait until there is something in a file."""
    guest.run(f"while [ ! -s {path} ]; do sleep 0.1; done")


def test_tar(pair):
    """Arrives; also through a receiver that is killed and one that goes on."""
    sender, receiver = pair
    taking = start(receiver, EXAMPLE[2])
    sender.run(f"mkdir folder && cp /modules/* /bin/busybox folder && {EXAMPLE[1]}")
    status, output = taking.wait()
    assert status == 0, output
    sums = sender.run(SUMS)
    assert receiver.run(SUMS) == sums and len(sums.splitlines()) > 5

    # What goes into the pipe before the kill is some of it only.
    taking = receiver.start(f"{CLIENT} recv --output /tar")
    sending = start(sender, "(tar c folder; while [ ! -e /go ]; do sleep 0.1; done; "
                    f"tar c folder) | {CLIENT} send")
    begun(receiver, "/tar")
    taking.kill("KILL")
    assert taking.wait()[0] == 128 + 9
    sender.run("touch /go")
    _, output = receiver.start(f"{CLIENT} recv").wait()
    assert "a transfer is under way" in output
    assert "going on at byte" in receiver.run(f"{CLIENT} recv --output /tar --resume")
    assert sending.wait()[0] == 0
    both = sender.run("(tar c folder; tar c folder) | md5sum")
    assert receiver.run("md5sum </tar") == both


def test_bench(pair, pytestconfig):
    """
    Between guests of one emulated processor, in which the compiler's fence does nothing: of a
    thousand rounds some slept for ever before src/channel/fence.h.
    """
    sender, receiver = pair
    serving = receiver.start("ivshmem-bench serve auto:")
    assert serving.pid
    for _ in range(300 if pytestconfig.getoption("--long") else 15):
        output = sender.run("ivshmem-bench --shape stream --sizes 8,1K --ms 30 run auto:")
    assert [line.split()[:3] for line in output.splitlines()[1:]] == [
        ["adaptive", "stream", "8"], ["adaptive", "stream", "1024"]]


@pytest.mark.long
def test_sender_killed(pair):
    """Nobody tells in a guest: the receiver has to ask, and does not wait for ever."""
    sender, receiver = pair
    taking = receiver.start(f"{CLIENT} recv --output /half")
    sending = sender.start(f"{CLIENT} send </dev/zero")
    begun(receiver, "/half")
    sending.kill("KILL")
    status, output = taking.wait(120)
    assert status == 1 and re.search("the sender does not answer: what has come, [0-9]+ bytes, is "
                                     "not all", output), output


@pytest.mark.long
def test_slow_sender(pair):
    """Who says nothing for longer than it takes to be asked, but lives, is waited for."""
    sender, receiver = pair
    taking = receiver.start(f"{CLIENT} recv")
    sender.run(f"(echo a; sleep 35; echo b) | {CLIENT} send", timeout=120)
    assert taking.wait()[1] == "a\nb\n"


@pytest.mark.long
def test_gigabyte(server, shell_guest):  # pylint: disable=redefined-outer-name
    """A tar of 1 GiB through a receiver that is killed half way. How fast: bench/pipe."""
    target = server(vectors=2, size="16M")
    sender = shell_guest(*doorbell_device(target))
    receiver = shell_guest(*doorbell_device(target), memory=2500)
    for guest in (sender, receiver):
        guest.load("uio_ivshmem")
    sender.run("mkdir /big && head -c 16777216 /dev/urandom >/piece && "
               "for i in $(seq 64); do ln -s /piece /big/$i; done", 300)
    taking = receiver.start(f"{CLIENT} recv --output /tar")
    sending = start(sender, f"tar ch -C /big . | {CLIENT} send")
    receiver.run("while [ $(stat -c %s /tar) -lt 536870912 ]; do sleep 0.1; done", 1200)
    taking.kill("KILL")
    assert taking.wait()[0] == 128 + 9
    receiver.run(f"{CLIENT} recv --output /tar --resume", 1200)
    status, output = sending.wait(1200)
    assert status == 0, output
    sums = sender.run("tar ch -C /big . | md5sum", 1200)
    assert receiver.run("md5sum </tar", 1200) == sums
