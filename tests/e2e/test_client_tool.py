# SPDX-License-Identifier: MIT
"""ivshmem-client with commands as arguments, with JSON, and without a server: what is ours."""

import os
import re
import select
import signal
import struct
import subprocess
import time

import pytest

from clienttool import (  # pylint: disable=unused-import
    client, HELP, json_lines, program_path, PROMPT, REGION_SIZE, replay, start)
from conftest import TIMEOUT, wait_until


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


def test_answer_when_the_last_to_join_has_left(server, join, start, client):
    """Who is still there is answered, and a ring of one who is gone is not answered to the next."""
    target = server()
    answerer = start("-S", target.socket, "answer")
    target.wait_log("peer 0 joined")
    stays, leaves = join(target), join(target)
    stays.pump_mesh(2, 1)
    leaves.close()
    stays.pump_mesh(1, 1)
    stays.ring(0, 0)
    wait_until(lambda: stays.rung() == {0: 1}, "the answer")
    stays.close()
    target.wait_log("peer 1 left")
    late = join(target)
    late.pump_mesh(1, 1)
    late.ring(0, 0)
    wait_until(lambda: late.rung() == {0: 1}, "its own answer, and one only")
    answerer.process.terminate()


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


def test_news_that_came_while_it_was_busy(replay, start):
    """Whoever did not look for a long time has not heard that the server is quiet."""
    program = start("-S", replay.path, "read 0 64K; info")  # more than a pipe takes
    replay.accept(own=4, others=[3], vectors=2)
    time.sleep(1)  # longer than it would wait for the first vector
    lines = [program.line() for _ in range((64 << 10) // 16 + 8)]
    assert lines[-2:] == ["vectors = 2", "peers = 1"]


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
