# SPDX-License-Identifier: MIT
"""
ivshmem-flat-run as a program: what it says and how it ends, its UART and semihosting, and what a
user can get wrong. Its processor: test_board_conformance.py. Its ivshmem device: test_flat.py.
"""

import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest

from clienttool import replay  # pylint: disable=unused-import # a fixture
import wire
from conftest import build_dir, ended_with_test, find_program, kill, wait_until

TIMEOUT = 30


def firmware(name):
    return build_dir() / f"tests/cortex/{name}.elf"


def command(image, *options, **words):
    return [find_program("ivshmem-flat-run"), str(image), *map(str, options), "--",
            *(f"{name}={value}" for name, value in words.items())]


def run(*arguments, stdin=None, **words):
    """Run it to its end: (exit status, standard output, standard error)."""
    done = subprocess.run(command(*arguments, **words), input=stdin, capture_output=True, text=True,
                          timeout=TIMEOUT, check=False,
                          **({"stdin": subprocess.DEVNULL} if stdin is None else {}))
    return done.returncode, done.stdout, done.stderr


def services(role, *options, stdin=None, **words):
    return run(firmware("services"), *options, stdin=stdin, role=role, **words)


@pytest.fixture
def start():
    def begin(*arguments, **words):
        return subprocess.Popen(command(*arguments, **words), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    yield from ended_with_test(begin, kill)


# ---- what the board offers ----


def test_uart_by_interrupt():
    """More than the FIFO holds comes in: the board waits for the firmware to take it."""
    status, out, err = services("uart", stdin="IVSHMEM! " * 9 + "q")
    assert (status, out, err) == (5, "ready\n" + "JWTINFN\"!" * 9 + "r\n", "")


def test_semihosting():
    status, out, err = services("semihosting", stdin="xyz\n", word=42)
    assert (status, err) == (0, "err\n"), out
    assert out == "out\n!\nword=42\n"


@pytest.mark.parametrize("machine", ["cortex-m0", "cortex-m3", "cortex-m4"])
def test_reset_keeps_the_memory(machine):
    assert services("reset", "--machine", machine) == (0, "start 1\nstart 2\nstart 3\n", "")


@pytest.mark.parametrize("reason, status", [(0x20026, 0), (0x20023, 1), (0, 1)])
def test_exit_without_a_status(reason, status):
    assert services("exit", reason=hex(reason))[0] == status


def test_system_control():
    assert services("control") == (0, "", "")


def test_lock_up_says_how_it_came_about():
    """The first cause, not only what it led to: often there is no handler."""
    status, out, err = services("lockup")
    assert (status, out) == (126, "")
    assert re.search("locked up: write to 0x60000000, where nothing is, at pc 0x[0-9a-f]+; "
                     "then jump to where nothing is at pc 0x60000000, in a fault handler", err)


def test_less_memory():
    """What lies behind it is a fault."""
    assert services("reset", "--ram-size", "16K") == (1, "failed=exception 3\n", "")


def test_devices_that_are_missing():
    status, out, err = services("vacant", "-v")
    assert (status, out) == (0, "")
    assert err.count("looks for a device at 0x40030000: there is none") == 1


def test_prompt_comes_without_a_newline(start):
    board = start(firmware("services"), role="prompt")
    assert board.stdout.read(8) == "prompt> "


def test_memory_that_is_shown(server):
    assert services("memory", "-S", server(size="2M").socket, "--shm-size", "1M",
                    size=1 << 20) == (0, "", "")


def test_doorbell_reaches_a_firmware_that_asks_all_the_time(server):
    """The first ring of all, too: the board knows who is there before its firmware starts."""
    for _ in range(20):
        assert services("busy", "-S", server().socket) == (0, "", "")


def test_behind_the_window_is_nothing(server):
    assert services("beyond", "-S", server().socket) == (0, "", "")


def test_terminal_is_raw_and_comes_back():
    """What is typed reaches the firmware at once, is not echoed, and Ctrl-C still works."""
    child, master = pty.fork()
    if child == 0:
        arguments = command(firmware("services"), role="uart")
        os.execv(arguments[0], arguments)
    try:
        said = b""
        while b"ready" not in said:
            said += os.read(master, 100)
        wait_until(lambda: not termios.tcgetattr(master)[3] & termios.ICANON, "a raw terminal")
        os.write(master, b"A")
        while not said.endswith(b"B"):
            said += os.read(master, 100)
        os.write(master, b"\x03")
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGINT
        assert termios.tcgetattr(master)[3] & termios.ICANON
        assert b"A" not in said.replace(b"ready", b"")
    finally:
        os.close(master)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_by_signal_while_firmware_spins(start, number):
    board = start(firmware("services"), role="spin")
    assert board.stdout.readline() == "spinning\n"
    board.send_signal(number)
    assert board.wait(TIMEOUT) == -number


# ---- what a user can get wrong ----


def test_doorbell_of_somebody_who_was_waiting(server, join, start):
    """A peer that rings as soon as it hears of the board: the firmware has not begun by then."""
    target = server()
    host = join(target)
    for _ in range(20):
        board = start(firmware("services"), "-S", target.socket, role="first")
        host.pump(lambda peer: any(peer.peers.values()))
        (number, vectors), = host.peers.items()
        wire.ring(vectors[0])
        assert board.wait(TIMEOUT) == 0, board.stdout.read()
        host.pump(lambda peer, gone=number: gone not in peer.peers)


def test_firmware_that_only_resets_keeps_in_touch(server, join, start):
    target = server()
    board = start(firmware("services"), "-v", "-S", target.socket, role="resets")
    while "resets the board" not in board.stderr.readline():
        pass
    join(target)
    while "peer 1 is there" not in board.stderr.readline():
        pass


def test_full_disk():
    """What could not be printed makes a failure of a success."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command(firmware("services"), role="reset"), stdout=full,
                              stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=False)
    assert done.returncode == 125


@pytest.mark.parametrize("options, said", [
    (["--machine", "pdp11"], "there are lm3s6965evb"),
    (["--irq", "64"], "has interrupts 0 to 63"),
    (["--vectors", "25"], "room for 24"),
    (["--mmr", "0x400ff010"], "multiple of 0x1000"),
    (["--ram-size", "5000"], "multiple of 4K"),
    (["--flash", "0xe0000000"], "0xe0000000"),
    (["--shm", "high"], "--shm high"),
    (["--join-timeout", "0"], "--join-timeout 0"),
    (["--no-such-option"], "there is no option"),
])
def test_wrong_usage(options, said):
    status, out, err = services("reset", *options)
    assert (status, out) == (2, "")
    assert said in err and "--help" in err


def test_no_firmware():
    done = subprocess.run([find_program("ivshmem-flat-run")], capture_output=True, text=True,
                          timeout=TIMEOUT, check=False)
    assert done.returncode == 2 and "which firmware?" in done.stderr


@pytest.mark.parametrize("options, said", [
    (["--ram", "0x0"], "--ram"),
    (["--uart", "0x20000000"], "--uart"),
    (["--flash", "0x08000000"], "neither in the flash nor in the RAM"),
])
def test_no_room(options, said):
    status, _, err = services("reset", *options)
    assert status == 125 and said in err


@pytest.mark.parametrize("options, said", [
    (["--mmr", "0x4000c000"], "--mmr"),
    (["--shm", "0x20000000"], "--shm"),
    (["--shm", "0xdffff000"], "--shm-size"),
    (["--shm-size", "2M"], "--shm-size"),
])
def test_no_room_for_the_device(server, options, said):
    status, _, err = services("reset", "-S", server(size="1M").socket, *options)
    assert status == 125 and said in err


def test_without_an_interrupt_there_is_a_warning(server):
    status, _, err = services("reset", "-S", server().socket, "--irq", "none")
    assert status == 0 and "nobody can ring the firmware" in err


def test_no_server(tmp):
    status, _, err = services("reset", "-S", tmp / "nobody")
    assert status == 125 and str(tmp / "nobody") in err


def test_server_of_another_version(replay, start):
    board = start(firmware("services"), "-S", replay.path, role="reset")
    replay.sock = replay.listener.accept()[0]
    replay.send(1 << 40)
    assert board.wait(TIMEOUT) == 125 and "version" in board.stderr.read()


def test_server_that_says_nothing(replay, start):
    board = start(firmware("services"), "-S", replay.path, "--join-timeout", "0.3", role="reset")
    assert board.wait(TIMEOUT) == 125 and "time" in board.stderr.read()


def test_server_that_breaks_the_protocol_later(replay, start):
    """The firmware goes on with whom it knows."""
    board = start(firmware("services"), "-S", replay.path, role="spin")
    replay.accept(own=0, others=(), vectors=1)
    assert board.stdout.readline() == "spinning\n"
    replay.send(-7)
    assert "the server is gone" in board.stderr.readline()
    assert board.poll() is None


def test_no_such_file(tmp):
    status, _, err = run(tmp / "none.elf")
    assert status == 125 and "No such file" in err


@pytest.mark.parametrize("damage", ["cut", "text", "host", "segment"])
def test_damaged_file(tmp, damage):
    """Not a crash, whatever the file says."""
    data = bytearray(firmware("services").read_bytes())
    if damage == "cut":
        data = data[:5000]
    elif damage == "text":
        data = b"#!/bin/sh\n"
    elif damage == "host":
        data = find_program("ivshmem-flat-run").read_bytes()
    else:
        place, = struct.unpack_from("<I", data, 28)
        struct.pack_into("<I", data, place + 12, 0xFFFFFF00)
    path = tmp / "damaged.elf"
    path.write_bytes(data)
    status, _, err = run(path)
    assert status == 125 and str(path) in err


# ---- what it prints ----


def test_verbose_and_trace(server):
    status, _, err = services("beyond", "-v", "--trace", "-S", server().socket)
    assert status == 0
    assert "loaded" in err and "peer 0 of" in err
    assert re.search(r"^ +\d+\.\d{6}  read  DOORBELL   0x00000000$", err, re.M), err
