# SPDX-License-Identifier: MIT
"""Starting, being watched and ending when others do what they should not."""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

import wire
from conftest import TIMEOUT, is_listening, wait_until

pytestmark = pytest.mark.ours


@pytest.mark.parametrize("number", [1, 2])
def test_ready_fd_may_be_a_standard_descriptor(server_command, spawn, tmp, number):
    """The newline arrives, then the end of file, and no client gets that descriptor's number."""
    reader, writer = os.pipe()
    command = [*server_command, "-F", "-S", str(tmp / "s"), "-l", "1M", "--ready-fd", str(number)]
    process = spawn(command, **{"stdout" if number == 1 else "stderr": writer},
                    **({"stderr": subprocess.DEVNULL} if number == 1 else {}))
    os.close(writer)
    text = b""
    while chunk := os.read(reader, 4096):
        text += chunk
    assert text.endswith(b"\n")
    with wire.Peer(str(tmp / "s")) as first, wire.Peer(str(tmp / "s")) as second:
        assert (first.id, second.id) == (0, 1)
    os.close(reader)
    process.terminate()
    assert process.wait() == 0


def test_ready_fd_of_a_daemon_may_be_standard_output(server_command, tmp):
    command = [*server_command, "-S", str(tmp / "s"), "-p", str(tmp / "pid"), "-l", "1M",
               "--ready-fd", "1"]
    run = subprocess.run(command, stdout=subprocess.PIPE, timeout=30, check=True)
    assert run.stdout == b"\n"
    os.kill(int((tmp / "pid").read_text()), signal.SIGTERM)
    wait_until(lambda: not (tmp / "s").exists(), "its end")


def test_ready_fd_that_is_not_open(server_command, tmp):
    for options in (["-F"], ["-p", str(tmp / "pid")]):
        run = subprocess.run([*server_command, "-S", str(tmp / "s"), *options, "--ready-fd", "4"],
                             capture_output=True, text=True, timeout=30, check=False)
        assert run.returncode == 1
        assert "--ready-fd 4" in run.stderr


def test_log_reader_that_stops_does_not_stop_the_server(server_command, spawn, tmp):
    reader, writer = os.pipe()
    process = spawn([*server_command, "-F", "-v", "-S", str(tmp / "s"), "-l", "1M"], stderr=writer)
    os.close(writer)
    wait_until(lambda: is_listening(str(tmp / "s")), "the server to listen")
    for _ in range(1500):  # two lines each: a pipe holds some hundred
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp / "s"))
    with wire.Peer(str(tmp / "s")) as peer:
        assert peer.id > 0
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    os.close(reader)


def test_signal_during_the_start_leaves_nothing(server_command, spawn, tmp):
    """It is held back until the server can end the clean way."""
    name = f"lifecycle-{os.getpid()}"
    for delay in (0, 0.01, 0.03, 0.1):
        process = spawn([*server_command, "-F", "-S", str(tmp / "s"), "-M", name, "-l", "512M"],
                        stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.terminate()
        process.wait(30)
        assert not os.path.exists(f"/dev/shm/{name}"), f"killed after {delay} s"
        assert not (tmp / "s").exists()


def test_daemon_whose_starter_is_killed_ends(server_command, spawn, tmp):
    # Whoever holds the lock of the socket's directory keeps it waiting for two seconds.
    directory = os.open(tmp, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    starter = spawn([*server_command, "-S", str(tmp / "s"), "-p", str(tmp / "pid"), "-l", "512M"],
                    stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp / "pid").exists(), "the daemon to begin")
    starter.kill()
    starter.wait()
    os.close(directory)
    wait_until(lambda: not (tmp / "pid").exists(), "the daemon to end or to have been ready")
    assert not (tmp / "s").exists()


def test_pid_file_of_another_daemon_is_not_removed(server_command, tmp):
    def start(name):
        subprocess.run([*server_command, "-S", str(tmp / name), "-p", str(tmp / "pid"), "-l", "1M"],
                       timeout=30, check=True)
        return int((tmp / "pid").read_text())

    first = start("a")
    (tmp / "pid").unlink()
    second = start("b")
    os.kill(first, signal.SIGTERM)
    wait_until(lambda: not (tmp / "a").exists(), "the first one's end")
    assert int((tmp / "pid").read_text()) == second
    os.kill(second, signal.SIGTERM)
    wait_until(lambda: not (tmp / "pid").exists(), "the second one's end")


def test_who_is_in_the_backlog_at_the_end_is_refused(server):
    """QEMU spins on a socket that merely closes in the handshake."""
    one = server()
    os.kill(one.pid, signal.SIGSTOP)
    clients = []
    for _ in range(200):
        client = socket.socket(socket.AF_UNIX)
        client.connect(one.socket)
        clients.append(client)
    os.kill(one.pid, signal.SIGTERM)
    os.kill(one.pid, signal.SIGCONT)
    for client in clients:
        client.settimeout(TIMEOUT)
        first = struct.unpack("<q", client.recv(8, socket.MSG_WAITALL))[0]
        assert first in (0, -2)
        client.close()
    assert one.stop() == 0  # which tells it once more


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_impatience_does_not_make_the_end_unclean(server_command, spawn, tmp, number):
    """As of one who keeps Ctrl-C pressed."""
    name = f"lifecycle-{os.getpid()}"
    for _ in range(50):
        process = spawn([*server_command, "-F", "-S", str(tmp / "s"), "-M", name, "-l", "1M"],
                        stderr=subprocess.DEVNULL)
        wait_until(lambda: is_listening(str(tmp / "s")), "the server to listen")
        while process.poll() is None:
            process.send_signal(number)
        assert process.returncode == 0
        assert not (tmp / "s").exists() and not os.path.exists(f"/dev/shm/{name}")


def test_no_time_to_say_goodbye_is_no_reason_to_complain(server):
    one = server("--exit-timeout", "0")
    with wire.Peer(one.socket), wire.Peer(one.socket):
        assert one.stop() == 0
    assert "have not read" not in one.log()


def test_out_of_band_byte_does_not_make_it_spin(server):
    one = server()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(one.socket)
        client.send(b"x", socket.MSG_OOB)
        one.wait_log("it sent data")
        before = one.cpu_time()
        time.sleep(0.5)
        assert one.cpu_time() - before < 0.2


def test_thousands_that_never_read_may_leave_together(server):
    """Their departure is settled in one pass: a newcomer is served meanwhile."""
    one = server()
    script = ("import socket,sys\nfor _ in range(1500):\n s=socket.socket(socket.AF_UNIX)\n"
              f" s.connect({one.socket!r})\n globals().setdefault('all',[]).append(s)\n"
              "print(flush=True)\nsys.stdin.read()\n")
    sleepers = subprocess.Popen(["/usr/bin/python3", "-c", script], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
    sleepers.stdout.readline()
    with wire.Peer(one.socket):
        pass
    before = one.cpu_time()
    sleepers.kill()
    sleepers.wait()
    with wire.Peer(one.socket, timeout=60):
        pass
    wait_until(lambda: one.fds() <= one.base_fds, "their sockets to be closed", 60)
    assert one.cpu_time() - before < 1.5, "far more than linear"
