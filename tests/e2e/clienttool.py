# SPDX-License-Identifier: MIT
"""
What the tests of ivshmem-client share: the running program, and a server in Python that replays what
QEMU's sends byte for byte. The fixtures are imported by the test files.
"""

import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import time

import pytest

from conftest import TIMEOUT, find_program, wait_until
from procs import status_of

HELP = (
    "dump: dump peers (including us)\n"
    "int <peer> <vector>: notify one vector on a peer\n"
    "int <peer> all: notify all vectors of a peer\n"
    "int all: notify all vectors of all peers (excepting us)\n"
)
PROMPT = "cmd> "
RETRY = "cannot connect to server, retry in 1 second\n"
REGION_SIZE = 1 << 20


def without_fds(text):
    """Descriptor numbers are whatever they are."""
    return re.sub(r"(fd=|server socket )\d+", r"\1N", text)


class Program:
    """A running ivshmem-client."""

    def __init__(self, path, arguments, **options):
        options = {"stdin": subprocess.PIPE, **options}
        self.process = subprocess.Popen(
            [path, *[str(argument) for argument in arguments]], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, **options)
        self.seen = ""

    def send(self, text):
        self.process.stdin.write(text.encode("latin-1"))
        self.process.stdin.flush()

    def _read_more(self, deadline, wanted):
        left = deadline - time.monotonic()
        ready, _, _ = select.select([self.process.stdout], [], [], max(0, left))
        assert ready, f"waited for {wanted!r}, got {self.seen!r}"
        data = os.read(self.process.stdout.fileno(), 65536)
        assert data, f"output ended before {wanted!r}: {self.seen!r}, {self.process.stderr.read()}"
        self.seen += data.decode("latin-1")

    def expect(self, wanted):
        """The next output must be exactly `wanted`."""
        deadline = time.monotonic() + TIMEOUT
        while len(without_fds(self.seen)) < len(wanted) or re.search(r"\d\Z", self.seen):
            self._read_more(deadline, wanted)
        got, self.seen = without_fds(self.seen), ""
        assert got == wanted

    def ask(self, command):
        """Send a command of the dialogue; returns the reply up to the next prompt."""
        self.send(command + "\n")
        deadline = time.monotonic() + TIMEOUT
        while not self.seen.endswith(PROMPT):
            self._read_more(deadline, "a prompt")
        reply, self.seen = without_fds(self.seen), ""
        return reply.removesuffix(PROMPT)

    def waits(self):
        """
        Wait until it is inside a command that waits: only then it catches Ctrl-C. So do we, whose
        handlers it has until execve(), which has closed what Popen() waits for, is over; but there
        it does not sleep.
        """
        def catches():
            status = status_of(self.process.pid)
            return (status["State"].startswith("S")
                    and int(status["SigCgt"], 16) & 1 << (signal.SIGINT - 1))
        wait_until(catches, "the client to wait")

    def line(self):
        deadline = time.monotonic() + TIMEOUT
        while "\n" not in self.seen:
            self._read_more(deadline, "a line")
        line, _, self.seen = self.seen.partition("\n")
        return line

    def object(self, **members):
        """The next JSON object; it must have these members."""
        result = json.loads(self.line())
        assert {**result, **members} == result
        return result

    def until(self, **members):
        """The next JSON object that has these members."""
        while True:
            result = json.loads(self.line())
            if {**result, **members} == result:
                return result

    def end(self):
        """Close its input; returns exit code, the rest of the output, standard error."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, self.seen + out.decode("latin-1"), err.decode("latin-1")

    def ends(self):
        """Wait for its end without closing its input; returns the exit code."""
        return self.process.wait(TIMEOUT)


@pytest.fixture
def program_path():
    path = find_program("ivshmem-client")
    assert path, "no ivshmem-client in the build directory"
    return path


@pytest.fixture
def start(program_path):
    """Start ivshmem-client in the background: start(*arguments) is a Program."""
    running = []

    def run(*arguments, **options):
        program = Program(program_path, arguments, **options)
        running.append(program)
        return program

    yield run
    for program in running:
        program.process.kill()
        program.process.communicate()


@pytest.fixture
def client(program_path):
    """Run ivshmem-client to its end: client(*arguments, input="") is a CompletedProcess."""

    def run(*arguments, **options):
        options = {"input": "", "capture_output": True, **options}
        return subprocess.run([program_path, *[str(a) for a in arguments]],
                              text=True, timeout=TIMEOUT * 3, check=False, **options)

    return run


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


class Replay:
    """QEMU's server as its clients see it: the bytes, and nothing more."""

    def __init__(self, path):
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(TIMEOUT)
        self.sock = None
        self.eventfds = {}  # ID -> eventfds
        self.region = os.memfd_create("replay")
        os.truncate(self.region, REGION_SIZE)

    def send(self, number, fd=None):
        socket.send_fds(self.sock, [struct.pack("<q", number)], [] if fd is None else [fd])

    def send_vectors(self, peer, vectors):
        self.eventfds[peer] = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(vectors)]
        for fd in self.eventfds[peer]:
            self.send(peer, fd)

    def accept(self, own, others, vectors):
        self.sock = self.listener.accept()[0]
        self.send(0)
        self.send(own)
        self.send(-1, self.region)
        for peer in [*others, own]:
            self.send_vectors(peer, vectors)

    def rung(self, peer, vector):
        """How often that vector was rung; waits for the first time."""
        fd = self.eventfds[peer][vector]
        assert select.select([fd], [], [], TIMEOUT)[0], f"vector {vector} of {peer} not rung"
        return struct.unpack("=Q", os.read(fd, 8))[0]

    def silent(self, peer, vector):
        return not select.select([self.eventfds[peer][vector]], [], [], 0)[0]

    def ring(self, peer, vector):
        os.write(self.eventfds[peer][vector], struct.pack("=Q", 1))

    def disconnect(self):
        self.sock.close()

    def close(self):
        self.listener.close()
        if self.sock:
            self.sock.close()
        for fd in [self.region, *(fd for fds in self.eventfds.values() for fd in fds)]:
            os.close(fd)
        os.unlink(self.path)


@pytest.fixture
def replay(tmp):
    server = Replay(tmp / "replay")
    yield server
    server.close()
