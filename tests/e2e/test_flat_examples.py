# SPDX-License-Identifier: MIT
"""
examples/hello-metal.c on examples/cortex-m, the firmware that people copy: greets hello-guest on
our board and on QEMU's, built as its comment says.
"""

import re
import shlex
import subprocess

import pytest

from conftest import TOP, build_dir, find_program
from flat import KINDS, OURS, wiring
from qemu import program

TIMEOUT = 60
ROUNDS = 2000
SHOWN = 5
FILES = [TOP / "examples/hello-metal.c", TOP / "examples/cortex-m/board.c"]


@pytest.fixture(scope="module")
def image():
    path = build_dir() / "examples/hello-metal.elf"
    assert path.exists(), f"{path} is missing: build it (needs arm-none-eabi-gcc)"
    return path


def board(kind, image, server, *words):
    """The command that runs it there, its UART on standard output."""
    if kind == OURS:
        return [find_program("ivshmem-flat-run"), image, "--server", f"unix:{server.socket}", "--",
                *words]
    words = "".join(f",arg={word}" for word in ("hello-metal", *words))
    return [program(kind, "arm"), "-M", "lm3s6965evb", "-nodefaults", "-no-user-config", "-nic",
            "none", "-display", "none", "-serial", "stdio", "-kernel", image,
            "-semihosting-config", f"enable=on,target=native{words}", *wiring(server.socket, kind)]


def host(server, seat, rounds=ROUNDS):
    return [find_program("hello-guest"), f"unix:{server.socket}", str(seat), str(rounds)]


def talk(spawn, *commands):
    """Run them to their ends; what each has printed. Fails unless all pass."""
    running = [spawn([str(word) for word in command], stdin=subprocess.DEVNULL,
                     stdout=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate(timeout=TIMEOUT)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running), said
    return said


def heard(peer, rounds=ROUNDS):
    """What somebody prints who talks with `peer`."""
    greetings = "".join(f"hello {i} from peer {peer}\n" for i in range(1, min(rounds, SHOWN) + 1))
    return f"{greetings}hello: passed rounds={rounds}"


@pytest.mark.parametrize("kind", KINDS)
def test_hello(server, spawn, image, kind):
    """On both seats, and in a memory in which the one before has left its words."""
    target = server()
    peers = {0, 1}
    for seat in (0, 1, 1, 0):
        metal, guest = talk(spawn, board(kind, image, target, f"seat={seat}", f"rounds={ROUNDS}"),
                            host(target, 1 - seat))
        other = int(re.match(r"hello 1 from peer (\d+)\n", metal).group(1))
        own = (peers - {other}).pop()
        assert metal == f"{heard(other)}\n"
        assert guest.startswith(heard(own))
        peers = {max(peers) + 1, max(peers) + 2}


@pytest.mark.parametrize("kind", KINDS)
def test_words(server, spawn, image, kind):
    """Without any it sits on seat 0 for 5 rounds. No seat but 0 and 1 exists."""
    target = server()
    talk(spawn, board(kind, image, target), host(target, 1, 5))
    done = subprocess.run(board(kind, image, target, "rounds=1", "seat=2"), timeout=TIMEOUT,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_built_as_written(server, spawn, tmp):
    """By the command in its comment; and it stays as short as it says."""
    text = FILES[1].read_text(encoding="utf-8").replace(" \\\n *", "")
    build = shlex.split(re.search(r"^ \* +(arm-none-eabi-gcc .*)$", text, re.M).group(1))
    build[build.index("-o") + 1] = tmp / "hello-metal.elf"
    subprocess.run(build, cwd=FILES[1].parent, check=True)
    target = server()
    talk(spawn, board(OURS, tmp / "hello-metal.elf", target, "seat=1"), host(target, 0, 5))
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES) < 150
