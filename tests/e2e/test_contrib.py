# SPDX-License-Identifier: MIT
"""
QEMU's own contrib server and client, unmodified, against ours: the four pairs must look the same.

tests/contrib/fetch builds them. contrib.transcript is a record of what contrib's server says, for
tests that do without it; IVSHMEM_RECORD=1 makes the test that compares with it write it anew.
"""

import os
import re
import socket
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import pytest

import wire
from conftest import HERE, TOP, find_program, wait_until
from clienttool import HELP, PROMPT, Program, Replay

# Of our own promises, so left out when another server is judged.
pytestmark = pytest.mark.ours

EACH_SERVER = pytest.mark.parametrize("server_command", ["ours", "contrib"], indirect=True)
EACH_CLIENT = pytest.mark.parametrize("kind", ["ours", "contrib"])
TRANSCRIPT = HERE / "contrib.transcript"

# What contrib's server fails of the tests below, and why.
KNOWN_FAILURES = {
    "test_garbage_and_half_messages": "ends when a client has closed before it was accepted",
}


def contrib(name):
    """The path of contrib's `name`; failing to have it fails the test."""
    path = TOP / ".cache" / "contrib" / f"ivshmem-{name}"
    assert os.access(path, os.X_OK), f"{path} is missing: run tests/contrib/fetch"
    return str(path)


@pytest.fixture(name="server_command")
def server_command_of_a_kind(request, server_command):
    """The server under test, or contrib's where a test says so."""
    return [contrib("server")] if getattr(request, "param", "ours") == "contrib" else server_command


@pytest.fixture
def serve(server, tmp):
    """Start the server: serve(vectors, **options of `server`)."""
    def start(vectors=2, **options):
        return server("-M", f"e2e-{tmp.name}", vectors=vectors, **options)

    return start


@pytest.fixture
def client(serve):  # pylint: disable=unused-argument # clients leave before servers are judged
    """Start a client: client(kind, socket, *options)."""
    running = []

    def start(kind, path, *options):
        command = [str(find_program("ivshmem-client"))]
        if kind == "contrib":
            # Each line when it is printed, as on a terminal; in a pipe the C library keeps it back.
            command = ["stdbuf", "-oL", contrib("client")]
        running.append(Program(command[0], [*command[1:], *options, "-S", path]))
        return running[-1]

    yield start
    for program in running:
        program.process.kill()
        program.process.communicate()


@pytest.fixture
def joined(client):
    """Start a client and wait until it has joined: joined(kind, server)."""
    def start(kind, target):
        program = client(kind, target.socket)
        program.expect(HELP + PROMPT + "listen on server socket N\n")
        return program

    return start


def dump(own, others, vectors):
    lines = "".join(f"  vector {vector} is enabled (fd=N)\n" for vector in range(vectors))
    return f"our_id = {own}\n{lines}" + "".join(f"peer_id = {peer}\n{lines}" for peer in others)


def wait_dump(program, own, others, vectors=2):
    wait_until(lambda: program.ask("dump") == dump(own, others, vectors), f"{own} to know {others}")


def rung(peer, *vectors):
    """What the client with that ID prints when these vectors of it are rung."""
    return "".join(f"receive notification from peer_id={peer} vector={v}\n" for v in vectors)


# ---- programs ----


@EACH_SERVER
@EACH_CLIENT
def test_dialogue_of_three_clients(serve, joined, tmp, kind):
    """Whoever made client and server: the same commands get the same lines."""
    target = serve()
    first, second, third = (joined(kind, target) for _ in range(3))
    wait_dump(first, 0, [1, 2])
    wait_dump(second, 1, [0, 2])
    wait_dump(third, 2, [0, 1])

    for command, reply, at_second, at_third in (
            ("int 1 1", "", rung(1, 1), ""),
            ("int 2 all", "", "", rung(2, 0, 1)),
            ("int all", "", rung(1, 0, 1), rung(2, 0, 1)),
            ("int 1 0;int 2 1", "", rung(1, 0), rung(2, 1)),
            ("int 9 0", "cannot find peer_id = 9\n", "", ""),
            ("int 9 all", "cannot find peer_id = 9\n", "", ""),
            ("nonsense", "invalid command, type help\n", "", ""),
            ("help", HELP, "", "")):
        first.send(command + "\n")
        first.expect(reply + PROMPT)
        second.expect(at_second)
        third.expect(at_third)
    first.send("int 0 0\n")
    first.expect(PROMPT + rung(0, 0))

    third.process.kill()
    wait_dump(first, 0, [1])
    wait_dump(second, 1, [0])
    joined(kind, target)
    wait_dump(first, 0, [1, 3])
    wait_dump(second, 1, [0, 3])

    assert target.stop() == 0
    for program in (first, second):
        program.expect("disconnected from server\n")
    serve(socket=tmp / "s0")
    for program in (first, second):
        program.expect("listen on server socket N\n")
    wait_until(lambda: first.ask("dump").count("peer_id") == 2, "all to have come back")


@EACH_SERVER
@pytest.mark.parametrize("vectors", [1, 2, 64])
def test_both_clients_ring_each_other(serve, joined, vectors):
    target = serve(vectors)
    ours, theirs = joined("ours", target), joined("contrib", target)
    wait_dump(ours, 0, [1], vectors)
    wait_dump(theirs, 1, [0], vectors)
    for _ in range(20):
        ours.send(f"int 1 {vectors - 1}\n")
        ours.expect(PROMPT)
        theirs.expect(rung(1, vectors - 1))
        theirs.send(f"int 0 {vectors - 1}\n")
        theirs.expect(PROMPT)
        ours.expect(rung(0, vectors - 1))


@EACH_SERVER
@EACH_CLIENT
def test_verbose_tells_of_joins_and_leaves(serve, client, join, kind):
    target = serve()

    def vectors_of(peer):
        return "".join(f"  new vector {vector} (fd=N) for peer id {peer}\n" for vector in range(2))

    program = client(kind, target.socket, "-v")
    program.expect(f"{HELP}{PROMPT}connect to client {target.socket}\nour_id=0\nshm_fd=N\n"
                   f"listen on server socket N\n{vectors_of(0)}")
    peer = join(target).pump_mesh(1, 2)
    program.expect("new peer id = 1\n" + vectors_of(1))
    peer.ring(0, 1)
    event = re.sub(r"fd -?\d+", "fd N", program.line())
    assert event == "received event on fd N vector 1: 1"
    program.expect(rung(0, 1))
    peer.close()
    program.expect("delete peer id = 1\n")


def test_contribs_client_on_our_server_without_vectors(serve, joined):
    """Told that somebody left of whom it was never told, it would hang up."""
    target = serve(0)
    program = joined("contrib", target)
    wire.Peer(target.socket).close()
    target.wait_log("peer 1 left")
    program.send("dump\n")
    program.expect("our_id = 0\n" + PROMPT)


# ---- messages ----


@dataclass(frozen=True)
class Said:
    """One message: to whom, its bytes, and the descriptor: "region", "P.V" (vector V of P), "-"."""

    to: int
    data: bytes
    fd: str


def read_transcript():
    """The recorded steps: [("join" or "leave", ID, [Said])]."""
    steps = []
    for line in TRANSCRIPT.read_text(encoding="ascii").splitlines():
        words = line.split("#")[0].split()
        if len(words) == 2:
            steps.append((words[0], int(words[1]), []))
        elif words:
            steps[-1][2].append(Said(int(words[0]), bytes.fromhex(words[1]), words[2]))
    return steps


def write_transcript(steps):
    text = f"""\
# SPDX-License-Identifier: MIT
# What QEMU's contrib server, run with -n 2, sends; written by test_contrib.py.
# A line is a message: the receiver's ID, the 8 bytes in hexadecimal, the descriptor with them
# ("region", "P.V": doorbell of vector V of peer P). They are in order for each receiver.
"""
    for what, peer, said in steps:
        text += f"\n{what} {peer}\n"
        text += "".join(f"{one.to} {one.data.hex()} {one.fd}\n" for one in said)
    TRANSCRIPT.write_text(text, encoding="ascii")


STEPS = [("join", 0), ("join", 1), ("join", 2), ("leave", 1), ("join", 3), ("leave", 0)]


def record(target, join, vectors=2):
    """Go through STEPS and note all that is said to whom."""
    present, doorbells, steps = {}, {}, []

    def take(peer, count):
        for _ in range(count):
            message = peer.message()
            if message.fd >= 0:  # kept open: the kernel gives the ID of a closed eventfd anew
                peer.peers.setdefault(message.number, []).append(message.fd)
            said.append((peer, message))

    def name(fd):
        info = wire.eventfd_info(fd) if fd >= 0 else None
        return doorbells[info["id"]] if info else "region" if fd >= 0 else "-"

    for what, number in STEPS:
        said = []
        if what == "join":
            newcomer = join(target, handshake=False)
            newcomer.id = number
            take(newcomer, 3 + (len(present) + 1) * vectors)
            for vector, fd in enumerate(newcomer.peers[number]):
                doorbells[wire.eventfd_info(fd)["id"]] = f"{number}.{vector}"
        else:
            present.pop(number).sock.close()
        for peer in present.values():
            take(peer, vectors if what == "join" else 1)
        if what == "join":
            present[number] = newcomer
        steps.append((what, number, [
            Said(peer.id, struct.pack("<q", message.number), name(message.fd))
            for peer, message in said]))
    for peer in present.values():
        assert not wire.select_readable(peer.sock, 0.1), "a message too many"
    return steps


@EACH_SERVER
def test_transcript_is_that_of_contribs_server(request, serve, join):
    """Numbers, order and descriptors of each message to each peer, from both servers."""
    steps = record(serve(), join)
    kind = request.node.callspec.params["server_command"]
    if os.environ.get("IVSHMEM_RECORD") and kind == "contrib":
        write_transcript(steps)
    assert steps == read_transcript()


@pytest.mark.parametrize("own", [0, 1, 2, 3])
def test_replay_of_contribs_transcript_to_our_client(tmp, client, own):
    """Our client in the place of each of the recorded peers: events, and descriptors that ring."""
    stream = [(what, peer, said) for what, peer, said in read_transcript()
              if any(one.to == own for one in said)]
    server = Replay(tmp / "replay")
    program = client("ours", server.path, "--json")
    try:
        server.sock = server.listener.accept()[0]
        present = []
        for what, peer, said in stream:
            for one in (one for one in said if one.to == own):
                fds = [descriptor(server, one.fd)] if one.fd != "-" else []
                socket.send_fds(server.sock, [one.data], fds)
            if what == "leave":
                present.remove(peer)
                program.until(event="left", peer=peer)
            elif peer == own:
                program.until(event="connected", id=own)
                present = list({int(one.fd[0]) for one in said if "." in one.fd} - {own})
            else:
                present.append(peer)
                program.until(event="joined", peer=peer)
            known = [{"id": other, "vectors": 2} for other in sorted(present)]
            wait_until(lambda known=known: ask(program, "peers")["peers"] == known, f"{known}")
            for other in present:
                for vector in range(2):
                    ask(program, f"int {other} {vector}")
                    assert server.rung(other, vector) == 1
                    assert server.silent(other, 1 - vector)
        wait_until(lambda: ask(program, "info")["vectors"] == 2, "the own vectors")
        for vector in range(2):
            server.ring(own, vector)
            program.until(event="interrupt", vector=vector, count=1)
    finally:
        server.close()


def descriptor(server, name):
    """The replay's descriptor of that name in the transcript."""
    if name == "region":
        return server.region
    peer, vector = map(int, name.split("."))
    fds = server.eventfds.setdefault(peer, [])
    while len(fds) <= vector:
        fds.append(os.eventfd(0, os.EFD_NONBLOCK))
    return fds[vector]


def ask(program, command):
    program.send(command + "\n")
    return program.until(ok=True, command=command)


# ---- judging ----


def test_protocol_suite_judges_contribs_server(tmp):
    """The suite judges anybody's server: contrib's keeps the protocol, and dies of bad clients."""
    report = tmp / "report.xml"
    # Its tests have a door of their own (alone_in_a_crowd): whoever waits at ours waits for this
    # test, which would wait for them.
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_protocol.py",
         "test_hostile.py::test_garbage_and_half_messages", "--server", contrib("server"),
         "--server-kind", "contrib", f"--junit-xml={report}"],
        cwd=HERE, env={**os.environ, "TMPDIR": str(tmp)}, stdout=subprocess.DEVNULL, check=False,
        timeout=300)
    cases = {case.get("name"): len(case) for case in ET.parse(report).iter("testcase")}
    failed = {re.sub(r"\[.*", "", name) for name, problems in cases.items() if problems}
    assert failed == KNOWN_FAILURES.keys()
    assert len(cases) > 20
