# SPDX-License-Identifier: MIT
"""ivshmem-client without a command: what scripts and people used to QEMU's client see."""

import os
import pty
import re
import resource
import socket
import struct
import time

import pytest

import wire
from clienttool import (  # pylint: disable=unused-import
    client, HELP, json_lines, program_path, PROMPT, replay, RETRY, start, without_fds)
from conftest import TIMEOUT, wait_until


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
    assert client("-S", replay.path, "--connect-timeout", "6", "info").returncode == 3
    assert time.monotonic() - begin >= 6, "the library's own limit is 5 s"


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
