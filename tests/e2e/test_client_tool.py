# SPDX-License-Identifier: MIT
"""
ivshmem-client: what scripts written for QEMU's client read, and what ours adds.

Some tests run against the server under test, some against a server in Python that replays what QEMU's
sends byte for byte.
"""

import json
import os
import pty
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import time

import pytest

import wire
from conftest import TIMEOUT, find_program, wait_until

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
        """Wait until it is inside a command that waits: only then it catches Ctrl-C."""
        def catches():
            with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
                caught = re.search(r"^SigCgt:\s+(\w+)", status.read(), re.M).group(1)
            return int(caught, 16) & 1 << (signal.SIGINT - 1)
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


# ---- the dialogue that QEMU's client has ----


def test_dialogue_with_our_server_is_that_of_qemus_client(server, join, start):
    target = server(vectors=2)
    join(target).pump_mesh(0, 2)
    program = start("-S", target.socket)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    program.send("dump\n")
    program.expect("our_id = 1\n  vector 0 is enabled (fd=N)\n  vector 1 is enabled (fd=N)\n"
                   "peer_id = 0\n  vector 0 is enabled (fd=N)\n  vector 1 is enabled (fd=N)\n"
                   + PROMPT)
    program.send("int 1 1\n")
    program.expect(PROMPT + "receive notification from peer_id=1 vector=1\n")
    program.send("int 9 0\n")
    program.expect("cannot find peer_id = 9\n" + PROMPT)
    program.send("help\n")
    program.expect(HELP + PROMPT)
    program.send("nonsense\n")
    program.expect("invalid command, type help\n" + PROMPT)
    program.send("\n")
    program.expect(PROMPT)
    assert program.end() == (1, "", ""), "a command from a pipe failed"


def test_dialogue_with_a_replay_of_qemus_server(replay, start):
    program = start("-S", replay.path)
    replay.accept(own=7, others=[0, 5], vectors=2)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    vectors = "  vector 0 is enabled (fd=N)\n  vector 1 is enabled (fd=N)\n"
    program.send("dump\n")
    program.expect(f"our_id = 7\n{vectors}peer_id = 0\n{vectors}peer_id = 5\n{vectors}{PROMPT}")

    program.send("int 5 1\n")
    program.expect(PROMPT)
    assert replay.rung(5, 1) == 1
    program.send("int 0 all\n")
    program.expect(PROMPT)
    assert [replay.rung(0, vector) for vector in (0, 1)] == [1, 1]
    program.send("int all\n")
    program.expect(PROMPT)
    assert [replay.rung(peer, vector) for peer in (0, 5) for vector in (0, 1)] == [1] * 4
    assert replay.silent(7, 0) and replay.silent(7, 1), "'int all' leaves us out"

    replay.ring(7, 1)
    program.expect("receive notification from peer_id=7 vector=1\n")
    replay.send(5)
    replay.send_vectors(8, 1)
    changed = (f"our_id = 7\n{vectors}peer_id = 0\n{vectors}peer_id = 8\n"
               "  vector 0 is enabled (fd=N)\n")
    wait_until(lambda: program.ask("dump") == changed, "peer 8 in place of 5")

    replay.disconnect()
    program.expect("disconnected from server\n")
    replay.accept(own=9, others=[], vectors=1)
    program.expect("listen on server socket N\n")
    program.send("dump\n")
    program.expect(f"our_id = 9\n  vector 0 is enabled (fd=N)\n{PROMPT}")
    assert program.end() == (0, "", "")


def test_messages_in_pieces(replay, start):
    """A stream socket may cut anywhere."""
    program = start("-S", replay.path)
    program.expect(HELP + PROMPT)
    replay.sock = replay.listener.accept()[0]
    eventfd = os.eventfd(0)
    for number, fd in ((0, None), (3, None), (-1, replay.region), (3, eventfd)):
        data = struct.pack("<q", number)
        socket.send_fds(replay.sock, [data[:1]], [] if fd is None else [fd])
        for byte in data[1:]:
            replay.sock.send(bytes([byte]))
            time.sleep(0.002)
    os.close(eventfd)
    program.expect("listen on server socket N\n")
    program.send("dump\n")
    program.expect("our_id = 3\n  vector 0 is enabled (fd=N)\n" + PROMPT)


def test_dialogue_tries_for_ever_to_connect(server, tmp, start):
    program = start("-S", tmp / "s0")
    program.expect(HELP + PROMPT)
    assert [program.process.stderr.readline().decode() for _ in range(2)] == [RETRY] * 2
    server(socket=tmp / "s0")
    program.expect("listen on server socket N\n")
    code, out, err = program.end()
    assert (code, out, err.replace(RETRY, "")) == (0, "", "")


def test_default_socket_is_that_of_qemus_client(client):
    assert "(default: /tmp/ivshmem_socket)" in client("--help").stdout


def test_end_of_input_ends_the_program(server, client):
    result = client("-S", server().socket)
    assert result.returncode == 0
    assert without_fds(result.stdout) == HELP + PROMPT + "listen on server socket N\n"
    assert result.stderr == ""


def test_last_line_needs_no_newline(server, client):
    result = client("-S", server().socket, input="dump\ndump")
    assert result.returncode == 0
    assert result.stdout.count("our_id = 0\n") == 2


def test_commands_from_a_pipe_tell_by_the_exit_code(server, client):
    target = server()
    for text, code in (("dump\n", 0), ("int 9 0\ndump\n", 1), ("nonsense\n", 1), ("quit\nx\n", 0)):
        assert client("-S", target.socket, input=text).returncode == code


def test_terminal(server, start):
    """On a terminal the end of input is not a failure, whatever the commands did."""
    ours, theirs = pty.openpty()
    program = start("-S", server().socket, stdin=theirs)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    os.write(ours, b"nonsense\n")
    program.expect("invalid command, type help\n" + PROMPT)
    os.write(ours, b"\x04")
    program.expect("\n")
    assert program.ends() == 0
    os.close(ours)
    os.close(theirs)


def test_server_that_accepts_and_says_nothing(replay, client):
    begin = time.monotonic()
    assert client("-S", replay.path, "--connect-timeout", "0.5", "info").returncode == 3
    assert time.monotonic() - begin < 4, "the library's own limit is 5 s"


def test_question_mark_prints_help_and_nothing_else(server, start):
    program = start("-S", server().socket)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    program.send("?\n")
    program.expect(HELP + PROMPT)


@pytest.mark.parametrize("command", [
    "int", "int 0", "int x 0", "int 0 x", "int 0 xyz", "int 0 -1", "int 0 0 0", "int 0x0 0",
    "int all 0", "dump it", "DUMP", "help me", "int 0 99999999999999999999"])
def test_invalid_commands(server, start, command):
    program = start("-S", server().socket)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    program.send(command + "\n")
    program.expect("invalid command, type help\n" + PROMPT)


def test_unknown_peers_and_vectors(server, start):
    program = start("-S", server(vectors=2).socket)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    for peer in ("-1", "1", "65536", "4294967296"):
        for vector in ("0", "all"):
            program.send(f"int {peer} {vector}\n")
            program.expect(f"cannot find peer_id = {peer}\n" + PROMPT)
    program.send("int 0 2\n")
    program.expect("peer_id = 0 has no vector 2: it has 2\n" + PROMPT)


def test_commands_in_pieces_and_many_at_once(server, start):
    program = start("-S", server().socket)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    program.send("int 5")
    time.sleep(0.1)
    program.send("0 0\rint 51 0;int 52 0\n;;\r\n  int   53\t0  \n")
    program.expect("".join(f"cannot find peer_id = {peer}\n" for peer in range(50, 54)) + PROMPT)


def test_lines_of_any_length(server, start):
    program = start("-S", server().socket)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    program.send("int 9" + " " * 10000 + "0\n")
    program.send("quit " + "x" * 300000 + "\n")
    program.send("int 8 0\n")
    while "peer_id = 8\n" not in program.seen:
        program._read_more(time.monotonic() + TIMEOUT, "peer_id = 8")  # pylint: disable=W0212
    text = program.seen.replace(PROMPT, "")
    assert text == ("cannot find peer_id = 9\ncommand longer than 65535 bytes; use several\n"
                    "cannot find peer_id = 8\n")


def test_garbage_as_input(server, client):
    target = server()
    garbage = bytes(range(256)) * 50 + b"\0dump\0\n" + b'"' * 1001 + b"\n\xff\xfe;%n%s%n\n"
    for options in ([], ["--json"]):
        result = client("-S", target.socket, *options, input=garbage.decode("latin-1") + "\ndump\n",
                        encoding="latin-1")
        assert result.returncode == 1
        assert "our_id = " in result.stdout or '"vector_fds"' in result.stdout
        if options:
            assert all(json_lines(result.stdout))


def test_verbose_dialogue_says_what_qemus_client_says(replay, start):
    program = start("-v", "-S", replay.path)
    replay.accept(own=1, others=[0], vectors=1)
    out = ""
    program.send("int 0 0\n")
    replay.rung(0, 0)
    replay.ring(1, 0)
    replay.send(0)
    while "delete peer" not in out or "receive" not in out:
        out += program.line() + "\n"
    out = re.sub(r"fd(=| )\d+", r"fd\1N", out)
    for line in (f"connect to client {replay.path}\n", "our_id=1\n", "shm_fd=N\n",
                 "new peer id = 0\n", "  new vector 0 (fd=N) for peer id 0\n",
                 "  new vector 0 (fd=N) for peer id 1\n", "notify peer 0 on vector 0, fd N\n",
                 "received event on fd N vector 0: 1\n", "delete peer id = 0\n"):
        assert line in out


def test_more_descriptors_than_select_can_take(server, join, client):
    """QEMU's client breaks at descriptor 1024, ours raises its soft limit."""
    target = server(vectors=64)
    peers = [join(target) for _ in range(18)]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    result = client("-S", target.socket, "peers; int 17 63; int all",
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard)))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"peer_id = {n} vectors = 64" for n in range(18)]
    peers[17].pump_mesh(17, 64)
    assert wire.select_readable(peers[17].vectors[63], TIMEOUT)


# ---- commands as arguments ----


def test_words_are_one_command_and_semicolons_separate(server, client):
    target = server()
    result = client("-S", target.socket, "info")
    assert result.returncode == 0
    assert result.stdout == ("id = 0\nregion_size = 1048576\nsealed = yes\nwritable = yes\n"
                             "server = connected\nprotocol = current\nvectors = 1\npeers = 0\n")
    result = client("-S", target.socket, "int", 1, 0)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    result = client("-S", target.socket, "int 2 0; wait 0 ; quit; nonsense")
    assert result.returncode == 2
    result = client("-S", target.socket, "quit; dump")
    assert (result.returncode, result.stdout) == (0, "")


def test_exit_codes(server, client, tmp):
    target = server()
    for arguments, code in (
            (["-S", target.socket, "dump"], 0),
            (["-S", target.socket, "int 99 0"], 1),
            (["-S", target.socket, "wait 0 0.01"], 1),
            (["-S", target.socket, "read 2M 1"], 1),
            (["-S", target.socket, "nonsense"], 2),
            (["-S", target.socket, "read"], 2),
            (["-S", target.socket, "read x y"], 2),
            (["-S", target.socket, "write 0 xyz"], 2),
            (["--nonsense"], 2),
            (["--timeout", "soon", "dump"], 2),
            (["--protocol", "2", "dump"], 2),
            (["--uri", "telnet:x", "dump"], 2),
            (["--uri", "nothing", "dump"], 2),
            (["-S", "x" * 200, "dump"], 2),
            (["-S", tmp / "nobody", "dump"], 3),
            (["-S", tmp / "nobody", "--json"], 3)):
        result = client(*arguments)
        assert result.returncode == code, arguments
        if code:
            assert re.fullmatch(r"ivshmem-client: [^\n]+\n", result.stderr), arguments


def test_first_failure_ends_it_and_mistakes_are_found_before(server, client):
    target = server()
    result = client("-S", target.socket, 'int 99 0; write 0 "late"')
    assert result.returncode == 1
    result = client("-S", target.socket, 'write 4 "early"; nonsense')
    assert result.returncode == 2
    assert client("-S", target.socket, "read 0 16").stdout == (
        "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n")


def test_memory(server, join, client):
    target = server()
    peer = join(target)
    result = client("-S", target.socket, 'write 0 "a;\\"b\\\\\\n"; write 0x10 00ffAB; '
                    "fill 1048572 4 0x41; fill 1K 0 1; read 0 19; read 1048570 6; read 4 0")
    assert result.returncode == 0, result.stderr
    assert result.stdout == (
        "00000000  61 3b 22 62 5c 0a 00 00  00 00 00 00 00 00 00 00  |a;\"b\\...........|\n"
        "00000010  00 ff ab                                          |...|\n"
        "000ffffa  00 00 41 41 41 41                                 |..AAAA|\n")
    assert os.pread(peer.region, 6, 0) == b'a;"b\\\n'
    assert os.pread(peer.region, 4, REGION_SIZE - 4) == b"AAAA"


@pytest.mark.parametrize("command", [
    "read 1M 1", "read 0 1048577", "read 1048575 2", "read 0xffffffffffffffff 2",
    "read 1 0xffffffffffffffff", "write 1M 00", 'write 1048575 "ab"', "fill 1M 1 0",
    "fill 0xfffffffffffffff0 0x20 0"])
def test_beyond_the_region(server, client, command):
    result = client("-S", server().socket, command)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "beyond the end of the region, which has 1048576" in result.stderr


@pytest.mark.parametrize("command", [
    "write 0 abc", "write 0 0x12", 'write 0 "a', 'write 0 "a"b', 'write 0 "a\\x"', "write 0 hello",
    "fill 0 1 256", "fill 0 1 -1", "fill 0 1 x", "read -1 1", "read 1.5 1", "read 1Q 1",
    "wait 0 soon", "wait x", "wait 2048", "watch -1", "ping x", "ping 0 0", "answer x"])
def test_arguments_that_are_not_understood(server, client, command):
    result = client("-S", server().socket, command)
    assert result.returncode == 2
    assert re.fullmatch(r"ivshmem-client: [^\n]+\n", result.stderr)


def test_wait_takes_rings_that_came_before(server, client):
    result = client("-S", server(vectors=3).socket, "int 0 2; int 0 1; wait 1 5; wait any 5")
    assert result.returncode == 0
    assert result.stdout == ("receive notification from peer_id=0 vector=1\n"
                             "receive notification from peer_id=0 vector=2\n")


def test_wait_gives_up(server, client):
    target = server()
    for arguments in (["wait 0 0.3"], ["wait any 0.3"], ["--timeout", "0.3", "wait"]):
        begin = time.monotonic()
        result = client("-S", target.socket, *arguments)
        assert result.returncode == 1
        assert 0.3 <= time.monotonic() - begin < TIMEOUT
        assert "nobody rang within 0.3 s" in result.stderr


def test_wait_takes_each_ring_once(server, client):
    result = client("-S", server().socket, "int 0 0; wait 0 5; wait 0 0.1")
    assert result.returncode == 1
    assert result.stdout.count("receive notification") == 1


def test_wait_for_a_vector_that_will_never_come(server, client):
    result = client("-S", server(vectors=2).socket, "wait 2 60")
    assert result.returncode == 1
    assert "peer_id = 0 has no vector 2: it has 2" in result.stderr


def test_ring_and_wait_between_two_programs(server, start, client):
    target = server()
    waiter = start("-S", target.socket, "wait 0")
    target.wait_log("peer 0 joined")
    assert client("-S", target.socket, "int 0 0").returncode == 0
    assert waiter.ends() == 0
    assert waiter.line() == "receive notification from peer_id=0 vector=0"


def test_watch(server, join, start):
    target = server()
    program = start("-S", target.socket, "watch")
    program.waits()
    peer = join(target).pump_mesh(1, 1)
    assert program.line() == "peer_id = 1 joined"
    os.write(peer.peers[0][0], struct.pack("=Q", 1))
    assert program.line() == "receive notification from peer_id=0 vector=0"
    peer.close()
    assert program.line() == "peer_id = 1 left"
    program.process.send_signal(signal.SIGINT)
    assert program.ends() == 0


def test_watch_for_a_time(server, client):
    begin = time.monotonic()
    assert client("-S", server().socket, "watch 0.3").returncode == 0
    assert 0.3 <= time.monotonic() - begin < TIMEOUT


def test_interrupted_wait_fails_and_dialogue_survives(server, start):
    target = server()
    program = start("-S", target.socket, "wait 0")
    program.waits()
    program.process.send_signal(signal.SIGINT)
    assert program.ends() == 1

    program = start("-S", target.socket)
    program.expect(HELP + PROMPT + "listen on server socket N\n")
    program.send("wait 0\n")
    program.waits()
    program.process.send_signal(signal.SIGINT)
    program.expect("interrupted\n" + PROMPT)
    program.process.send_signal(signal.SIGINT)
    assert program.ends() == -signal.SIGINT


def test_ping_and_answer(server, start, client):
    target = server(vectors=2)
    answerer = start("-S", target.socket, "answer")
    target.wait_log("peer 0 joined")
    for command in ("ping 0 50", "ping 0 30 1"):
        result = client("-S", target.socket, command)
        assert result.returncode == 0, result.stderr
        match = re.fullmatch(r"(\d+) round trips: min ([\d.]+) avg ([\d.]+) p50 ([\d.]+) "
                             r"p99 ([\d.]+) max ([\d.]+) us\n", result.stdout)
        count, low, mean, median, p99, high = map(float, match.groups())
        assert count == int(command.split()[2])
        assert 0 < low <= median <= p99 <= high and low <= mean <= high
    result = client("-S", target.socket, "--json", "ping 0 10")
    assert json_lines(result.stdout)[-1]["trips"] == 10
    answerer.process.send_signal(signal.SIGINT)
    assert answerer.ends() == 0
    assert answerer.line() == "answered 90 doorbells"


def test_answer_to_a_named_peer(server, join, start, client):
    target = server()
    bystander = join(target).pump_mesh(0, 1)
    answerer = start("-S", target.socket, "answer 2 60")
    target.wait_log("peer 1 joined")
    assert client("-S", target.socket, "ping 1 20").returncode == 0
    bystander.pump_mesh(1, 1)
    os.write(bystander.peers[1][0], struct.pack("=Q", 1))
    assert not select.select([bystander.vectors[0]], [], [], 0.2)[0], "answered the wrong one"
    answerer.process.send_signal(signal.SIGINT)
    assert answerer.ends() == 0


def test_answer_to_a_ring_that_is_seen_before_its_peer(replay, start):
    """Doorbells and the server's messages come on different descriptors, in any order."""
    program = start("-S", replay.path, "answer")
    replay.accept(own=0, others=[], vectors=1)
    program.waits()
    replay.ring(0, 0)
    wait_until(lambda: replay.silent(0, 0), "the ring to be taken")
    replay.send_vectors(4, 1)
    assert replay.rung(4, 0) == 1


def test_ping_without_an_answer(server, join, client):
    target = server()
    join(target)
    result = client("-S", target.socket, "--timeout", "0.3", "ping 0")
    assert result.returncode == 1
    assert "no answer from peer 0 within 0.3 s" in result.stderr
    assert "'answer 1'" in result.stderr
    result = client("-S", target.socket, "ping 2")
    assert result.returncode == 1 and "our own ID" in result.stderr


def test_late_server_with_connect_timeout(server, tmp, start):
    program = start("-S", tmp / "s0", "--connect-timeout", 60, "info")
    time.sleep(0.3)
    assert program.process.poll() is None
    server(socket=tmp / "s0")
    assert program.ends() == 0
    assert program.line() == "id = 0"


def test_connect_timeout_runs_out(tmp, client):
    begin = time.monotonic()
    result = client("-S", tmp / "nobody", "--connect-timeout", "0.5", "info")
    assert result.returncode == 3
    assert 0.5 <= time.monotonic() - begin < TIMEOUT
    result = client("-S", tmp / "nobody", "--connect-timeout", "0.1")
    assert result.returncode == 3


def test_output_that_cannot_be_written_is_a_failure(server, client):
    with open("/dev/full", "wb") as full:
        result = client("-S", server().socket, "info", capture_output=False, stdout=full,
                        stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert "cannot write to standard output" in result.stderr


# ---- JSON ----


def test_json_events_and_results_in_order(server, join, start):
    target = server(vectors=2)
    first = join(target).pump_mesh(0, 2)
    program = start("-S", target.socket, "--json")
    program.object(event="connected", id=1, region_size=REGION_SIZE)
    program.object(event="joined", peer=0)
    first.pump_mesh(1, 2)
    os.write(first.peers[1][1], struct.pack("=Q", 3))
    program.object(event="interrupt", vector=1, count=3)

    program.send("wait\n")
    program.object(command="wait", ok=True, vector=1, count=3)
    program.send("peers\n")
    program.object(command="peers", ok=True, peers=[{"id": 0, "vectors": 2}])
    program.send("int 0 all\n")
    program.object(command="int 0 all", ok=True, rung=2)
    program.send('write 8 "\\"x"; read 7 4\n')
    program.object(command='write 8 "\\"x"', ok=True, written=2)
    program.object(command="read 7 4", ok=True, offset=7, hex="00227800")
    program.send("dump\n")
    dump = program.object(command="dump", ok=True, id=1)
    assert [len(dump["vector_fds"]), len(dump["peers"][0]["vector_fds"])] == [2, 2]
    program.send("info\n")
    program.object(command="info", ok=True, id=1, region_size=REGION_SIZE, sealed=True, writable=True,
                   server="connected", protocol="current", vectors=2, peers=1)
    program.send("int 77 0\n")
    program.object(command="int 77 0", ok=False, error="cannot find peer_id = 77")
    program.send("nonsense \u00ff\n")
    program.object(command="nonsense ?", ok=False)
    program.send("help\n")
    assert "ping" in [entry["name"] for entry in program.object(command="help")["commands"]]

    first.close()
    program.object(event="left", peer=0)
    program.send("quit\n")
    program.object(command="quit", ok=True)
    assert program.ends() == 1, "a command failed"


def test_json_with_commands_as_arguments(server, client):
    result = client("-S", server().socket, "--json", "int 0 0; wait 0 5")
    assert result.returncode == 0
    assert result.stderr == ""
    lines = json_lines(result.stdout)
    assert [line.get("event") or line["command"] for line in lines] == [
        "connected", "int 0 0", "interrupt", "wait 0 5"]


def test_lost_server(server, join, start):
    """Region and doorbells of known peers work on; the exit code tells that the server went."""
    target = server()
    peer = join(target).pump_mesh(0, 1)
    program = start("-S", target.socket, "--json")
    program.until(event="joined", peer=0)
    program.send("int 0 0\n")
    program.object(ok=True, rung=1)
    target.kill()
    program.object(event="server-lost")
    program.send('write 0 "x"\n')
    program.object(ok=True, written=1)
    assert os.pread(peer.region, 1, 0) == b"x"
    program.send("int 0 0\n")
    program.object(ok=True, rung=1)
    assert select.select([peer.vectors[0]], [], [], TIMEOUT)[0]
    program.send("info\n")
    program.object(server="lost")
    assert program.end() == (4, "", "")


def test_watch_ends_with_the_server(server, start):
    target = server()
    program = start("-S", target.socket, "watch")
    program.waits()
    target.kill()
    assert program.ends() == 4
    assert "lost the server" in program.process.stderr.read().decode()


def test_server_of_the_older_protocol(server, client):
    target = server("--protocol", "pre-2.5", vectors=2)
    result = client("-S", target.socket, "--protocol", "pre-2.5", "int 0 1; wait 1 5; info")
    assert result.returncode == 0, result.stderr
    assert "protocol = pre-2.5\nvectors = 2\n" in result.stdout


# ---- without a server ----


def test_region_without_server(tmp, client):
    path = tmp / "memory"
    path.write_bytes(b"hello" + bytes(4091))
    result = client("--uri", f"file:{path}", 'read 0 5; write 0 "J"; info')
    assert result.returncode == 0, result.stderr
    assert "|hello|" in result.stdout
    assert "id = none\nregion_size = 4096\nsealed = no\n" in result.stdout
    assert "server = none\n" in result.stdout
    assert path.read_bytes()[:5] == b"Jello"
    for command in ("dump", "peers", "int all", "int 0 0", "wait 0 1", "answer", "ping 0"):
        result = client("--uri", f"file:{path}", command)
        assert result.returncode == 1, command
        assert "has no server" in result.stderr, command


def test_region_that_shrinks_is_an_error_and_no_crash(tmp, start):
    path = tmp / "memory"
    path.write_bytes(bytes(1 << 16))
    program = start("--json", "--uri", f"file:{path}")
    program.object(event="connected", id=None, region_size=1 << 16)
    os.truncate(path, 4096)
    for command in ("read 8192 4", "write 8192 00", "fill 0 64K 1"):
        program.send(command + "\n")
        assert "somebody has shrunk the region" in program.object(ok=False)["error"]
    program.send("read 0 1\n")
    program.object(ok=True, hex="01")
    assert program.end()[0] == 1
