# SPDX-License-Identifier: MIT
"""
The server is killed again and again, and its peers do not notice: ivshmem-keeper holds what they
need. What one process has left the next one goes on with: peers, regions, rules, half a message.
"""

import contextlib
import grp
import itertools
import os
import pathlib
import random
import re
import shlex
import signal
import socket
import stat
import subprocess
import time

import pytest

import wire
from conftest import find_program, free_port, is_listening, wait_until
from kept import PATIENCE, Kept, Killer, kills, persist  # pylint: disable=unused-import # fixture
from procs import has_ended, state_of
from regions import Config, ControlError, call, memory_of, regions_of

pytestmark = pytest.mark.ours


@pytest.fixture
def config(tmp):
    return Config(tmp)


@pytest.fixture
def serve(server_command, launch):
    """Start a server below a keeper: serve(config)."""
    keeper = find_program("ivshmem-keeper")

    def start(config):
        return launch(Kept, [*config.sockets(), config.control],
                      [keeper, *server_command, "-F", "-v", "-c", config.path], ready_fd=False)

    return start


@pytest.fixture
def peers():
    """Join sockets: peers(path, ...); they leave when the test ends."""
    joined = []

    def join(path, **options):
        joined.append(wire.Peer(path, timeout=PATIENCE, **options))
        return joined[-1]

    yield join
    for peer in joined:
        peer.close()


class Ringers:
    """Peers that stay, ring each other, and count."""

    def __init__(self, joined, vectors):
        self.joined, self.vectors = joined, vectors
        self.by_id = {peer.id: peer for peer in joined}
        self.rings = dict.fromkeys(self.by_id, 0)
        self.rung = dict.fromkeys(self.by_id, 0)

    def turn(self):
        for peer in self.joined:
            peer.drain()
            for other, fds in peer.peers.items():
                if other in self.by_id and len(fds) == self.vectors:
                    peer.ring(other, self.vectors - 1)
                    self.rings[other] += 1

    def count(self):
        for peer in self.joined:
            self.rung[peer.id] += peer.rung().get(self.vectors - 1, 0)


@pytest.mark.parametrize("vectors, seed", [(1, 1), (3, 2), (300, 3)])
def test_nobody_notices(config, serve, peers, kills, vectors, seed):
    """No peer is disconnected, no doorbell lost, and every view is right at the end."""
    config.write({"a": f"size = 64K vectors = {vectors}"})
    one = serve(config)
    path = config.socket("a")
    ringers = Ringers([peers(path) for _ in range(4)], vectors)
    chance = random.Random(seed)
    print(f"seed {seed}")
    killer = Killer(one, kills, seed)
    present = []
    while killer.is_alive():
        ringers.turn()
        if present and chance.random() < 0.5:
            present.pop(chance.randrange(len(present))).close()
        if len(present) < 6:
            # Half of them leave before they have read anything, or while it is being sent.
            present.append(wire.Peer(path, timeout=PATIENCE, handshake=chance.random() < 0.5,
                                     keep=False))
    killer.join()
    for peer in present:
        peer.close()
    last = peers(path).pump_mesh(4, vectors)
    for peer in ringers.joined:
        peer.pump(lambda p: last.id in p.peers and p.is_mesh(4, vectors), "the last view")
        assert wire.Model(peer.id, vectors).replay(peer.history) == {
            last.id, *ringers.by_id} - {peer.id}
    ringers.turn()
    ringers.count()
    assert ringers.rings == ringers.rung
    last.ring(ringers.joined[0].id, vectors - 1)
    assert ringers.joined[0].rung() == {vectors - 1: 1}
    restarts = regions_of(config.control)["a"]["counters"]["restarts"]
    assert 0 < restarts <= kills
    last.close()


# As the server is started; once the file `stop` beside it is there, it waits for SIGCONT first.
STOPPABLE = """#!/bin/sh
if rm {0}/stop 2>/dev/null; then kill -STOP $$; fi
exec {1} "$@"
"""

CALLS = ("accept4", "eventfd2", "recvmsg", "sendmsg", "sendmmsg", "shutdown")


def stopped_worker(one, tmp):
    """Kill the server; the next one waits, and its PID is returned."""
    (tmp / "stop").touch()

    def is_stopped():
        for pid in one.workers():
            if state_of(pid) == "T":
                return pid
        return None

    one.kill_worker()
    return wait_until(is_stopped, "a server that waits", PATIENCE)


@pytest.fixture
def serve_stoppable(server_command, launch, tmp):
    """The same with servers that stopped_worker() can stop before they have done anything."""
    program = tmp / "program"
    program.write_text(STOPPABLE.format(tmp, shlex.join(server_command)))
    program.chmod(0o755)

    def start(config):
        return launch(Kept, [*config.sockets(), config.control],
                      [find_program("ivshmem-keeper"), program, "-F", "-c", config.path],
                      ready_fd=False)

    return start


def test_kill_at_every_call(config, serve_stoppable, peers, spawn, tmp):
    """
    A server takes over, lets somebody out and in and answers on its control socket: killed before,
    inside and after each system call by which something comes to be for good, one by one.
    """
    config.write({"a": "size = 4K vectors = 3"})
    one = serve_stoppable(config)
    path, killer = config.socket("a"), find_program("keeper-killer")
    first, second = peers(path), peers(path)
    guest, points = peers(path), []
    for stop in itertools.count(1):
        traced = stopped_worker(one, tmp)
        tracer = spawn([str(killer), str(traced), str(stop), *CALLS], stdout=-1, text=True)
        guest.close()
        guest = peers(path)
        guest.pump_mesh(2, 3)
        assert list(persist(regions_of, config.control)) == ["a"]
        for peer, other in ((first, second), (second, first)):
            peer.pump(lambda p: guest.id in p.peers and p.is_mesh(2, 3), "the guest", PATIENCE)
            peer.ring(guest.id, 2)
            peer.ring(other.id, 1)
        assert guest.rung() == {2: 2} and first.rung() == second.rung() == {1: 1}
        with contextlib.suppress(subprocess.TimeoutExpired):
            tracer.wait(1)
        if tracer.poll() is None and not has_ended(traced):
            tracer.kill()
            break  # it has done all that, and was not killed
        assert tracer.wait(PATIENCE) == 0
        points.append(tracer.stdout.read().strip())
        persist(regions_of, config.control)  # the next one is past the place where it would stop
    assert {point.split()[0] for point in points} == set(CALLS), "not all of them came"
    assert [point for point in points if "inside" in point]
    print(f"killed at {len(points)} points")
    for peer in (first, second):
        assert wire.Model(peer.id, 3).replay(peer.history) == {
            first.id, second.id, guest.id} - {peer.id}


def test_drained_region_stays_closed(config, serve, peers):
    """To those, too, whom the keeper has accepted and no server has seen."""
    config.write({"a": "size = 4K"})
    one = serve(config)
    first = peers(config.socket("a"))
    call(config.control, "DrainRegion", name="a", on=True)
    one.settle()
    os.kill(one.workers()[0], signal.SIGSTOP)
    held = one.fds()
    with wire.Peer(config.socket("a"), handshake=False, timeout=PATIENCE) as late:
        wait_until(lambda: one.fds() > held, "the keeper to accept", PATIENCE)
        one.kill_worker()
        assert late.message().number == wire.REFUSED_FULL
    first.pump_mesh(0, 1)
    persist(call, config.control, "DrainRegion", name="a", on=False)
    peers(config.socket("a"))
    first.pump_mesh(1, 1)


def test_control_clients_wait(config, serve):
    """While there is no server, who asks for something waits for the next one."""
    config.write({"a": "size = 4K"})
    one = serve(config)
    for _ in range(5):
        one.kill_worker()
        assert list(regions_of(config.control)) == ["a"]


def test_control_group_follows_the_file(config, serve):
    """Who may look is read at each start, though the socket is the one of before."""
    config.write({"a": "size = 4K"})
    one = serve(config)
    before = os.stat(config.control)
    assert stat.S_IMODE(before.st_mode) == 0o600
    group = grp.getgrgid(os.getgid()).gr_name
    text = config.path.read_text(encoding="utf-8")
    config.path.write_text(text.replace("control {", f'control {{ group = "{group}"'),
                           encoding="utf-8")
    one.replace_worker()
    after = os.stat(config.control)
    assert (after.st_ino, stat.S_IMODE(after.st_mode), after.st_gid) == \
        (before.st_ino, 0o660, os.getgid())


def test_slow_reader_gets_the_rest_of_its_message(config, serve, peers):
    """Killed while a peer's socket is full: what it reads afterwards is whole and in order."""
    config.write({"a": "size = 4K vectors = 64"})
    one = serve(config)
    path = config.socket("a")
    sleeper = peers(path)
    others = [peers(path, keep=False) for _ in range(8)]
    for _ in range(3):
        one.replace_worker()
        others.pop().close()
        others.append(peers(path, keep=False))
    for peer in others:
        peer.pump_mesh(8, 64)
    sleeper.pump_mesh(8, 64)
    assert wire.Model(sleeper.id, 64).replay(sleeper.history) == {peer.id for peer in others}


def test_what_a_region_is_survives(config, serve, peers):
    config.write({"a": "size = 64K max-peers = 3 deny { user = 1 }\nallow { user = 0 }",
                  "b": "size = 8K vectors = 2 header = yes"})
    one = serve(config)
    run_time = config.socket("x")
    call(config.control, "CreateRegion",
         spec={"name": "x", "size": 8192, "vectors": 2, "socket": run_time, "max_peers": 2})
    call(config.control, "DrainRegion", name="b", on=True)
    in_a, in_x = peers(config.socket("a")), peers(run_time)
    memory_of(in_a)[:4] = b"here"
    before = regions_of(config.control)
    for _ in range(2):
        one.replace_worker()
        after = persist(regions_of, config.control)
        for name in before:
            restarts = after[name]["counters"].pop("restarts")
            before[name]["counters"].pop("restarts", None)
            assert restarts > 0
            assert after[name] == before[name]
    assert memory_of(peers(config.socket("a")))[:4] == b"here"
    peers(run_time)
    in_a.pump_mesh(1, 1)
    in_x.pump_mesh(1, 2)
    for path in (run_time, config.socket("b")):
        with wire.Peer(path, handshake=False) as refused:
            assert refused.message().number == wire.REFUSED_FULL
    call(config.control, "RemoveRegion", name="x", force=True)
    assert in_x.at_end()
    one.replace_worker()
    assert set(persist(regions_of, config.control)) == {"a", "b"}


def test_new_server_serves_the_new_configuration(config, serve, peers):
    """SIGHUP for the keeper is how an upgrade is done."""
    config.write({"a": "size = 4K max-peers = 5", "b": "size = 4K"})
    one = serve(config)
    in_a, in_b = peers(config.socket("a")).pump_mesh(0, 1), peers(config.socket("b"))
    config.write({"a": "size = 4K max-peers = 1", "c": "size = 4K"})
    os.kill(one.pid, signal.SIGHUP)
    wait_until(lambda: is_listening(config.socket("c")), "the new region", PATIENCE)
    for name in ("a", "b"):
        with wire.Peer(config.socket(name), handshake=False, timeout=PATIENCE) as refused:
            assert refused.message().number == wire.REFUSED_FULL
    in_b.close()
    wait_until(lambda: not os.path.exists(config.socket("b")), "the end of the region", PATIENCE)
    assert in_a.drain() == 0
    one.settle()


def test_bad_configuration_does_not_end_what_is_there(config, serve, peers):
    config.write({"a": "size = 4K"})
    one = serve(config)
    first = peers(config.socket("a"))
    config.path.write_text("region a { size = much }", encoding="utf-8")
    one.kill_worker()
    one.wait_log(r"ivshmem.conf:1: size = \"much\"", PATIENCE)
    peers(config.socket("a"))
    first.pump_mesh(1, 1)
    config.write({"a": "size = 4K"})
    os.kill(one.pid, signal.SIGHUP)
    persist(regions_of, config.control)


def replaced(one, pattern):
    """Kill the server; another one says so in its log and serves."""
    before = len(re.findall(pattern, one.log()))
    one.kill_worker()
    wait_until(lambda: len(re.findall(pattern, one.log())) > before, pattern, PATIENCE)


@pytest.mark.parametrize("by", ["file", "command line"])
def test_control_socket_stays_with_a_wrong_file(config, launch, peers, server_command, by):
    """A wrong file cannot say where it should be: it stays, for whom it was, and mends the rest."""
    group = grp.getgrgid(os.getgid()).gr_name
    given = ["--control", config.control] if by == "command line" else []
    if given:
        config.control = str(config.tmp / "elsewhere")
    config.write({"a": "size = 4K"})
    text = config.path.read_text(encoding="utf-8").replace(
        "control {", f'control {{ group = "{group}"')
    config.path.write_text(text, encoding="utf-8")
    if given:
        config.control = given[1]
    one = launch(Kept, [*config.sockets(), config.control],
                 [find_program("ivshmem-keeper"), *server_command, "-F", "-v", "-c", config.path,
                  *given], ready_fd=False)
    first = peers(config.socket("a"))
    node = os.stat(config.control)
    config.path.write_text("region a { size = much }", encoding="utf-8")
    for restarts in (1, 2):
        replaced(one, "not used: going on with the 1 regions of before")
        listed = persist(regions_of, config.control)
        assert listed["a"]["counters"]["restarts"] == restarts
    assert "/run/ivshmem" not in one.log()
    after = os.stat(config.control)
    assert (after.st_ino, after.st_mode, after.st_gid) == (node.st_ino, node.st_mode, node.st_gid)
    with pytest.raises(ControlError):
        call(config.control, "Reload")
    config.write({"a": "size = 4K max-peers = 7", "b": "size = 4K"})
    call(config.control, "Reload")
    listed = regions_of(config.control)
    assert listed["a"]["max_peers"] == 7 and "b" in listed
    peers(config.socket("a"))
    first.pump_mesh(1, 1)
    one.settle()


def test_file_that_cannot_be_applied_is_told(config, serve, peers):
    config.write({"a": "size = 4K"})
    one = serve(config)
    first = peers(config.socket("a"))
    config.write({"a": "size = 4K vectors = 2", "b": "size = 4K"})
    replaced(one, "error: .*ivshmem.conf: not all is as it says: .*a")
    assert set(persist(regions_of, config.control)) == {"a"}
    peers(config.socket("a"))
    first.pump_mesh(1, 1)


def test_control_socket_that_cannot_be_costs_nobody_anything(config, serve, peers):
    """Its new place is taken: one line, and it is there as soon as it can be."""
    config.write({"a": "size = 4K"})
    one = serve(config)
    first = peers(config.socket("a"))
    old, config.control = config.control, str(config.tmp / "taken")
    pathlib.Path(config.control).write_text("in the way", encoding="ascii")
    config.write({"a": "size = 4K"})
    replaced(one, "in the way, and it is no socket")
    peers(config.socket("a"))
    first.pump_mesh(1, 1)
    time.sleep(7)  # it has been tried again, in silence
    assert len(re.findall("it is no socket", one.log())) == 1
    assert not os.path.exists(old)
    os.unlink(config.control)
    assert "a" in persist(regions_of, config.control)
    assert one.workers()
    config.write({"a": "size = 4K"}, "")
    text = config.path.read_text(encoding="utf-8").replace(f'"{config.control}"', "none")
    config.path.write_text(text, encoding="utf-8")
    replaced(one, r"ivshmem.conf: \d+ regions")
    wait_until(lambda: not os.path.exists(config.control), "the socket to go", PATIENCE)
    peers(config.socket("a"))
    first.pump_mesh(2, 1)
    one.settle()


def test_first_start_that_fails_leaves_nothing(config, server_command):
    """The keeper ends with it: what it has made would be in the way of the next start."""
    config.write({"a": f"size = 4K memory = shm:{config.tmp.name}-a"})
    blocked = config.tmp / "control"
    blocked.mkdir()
    command = [find_program("ivshmem-keeper"), *server_command, "-F", "-c", config.path]
    for _ in range(2):
        result = subprocess.run(command, capture_output=True, text=True, check=False,
                                timeout=PATIENCE)
        assert result.returncode == 1 and "control socket" in result.stderr, result.stderr
        assert "-M/--shm" not in result.stderr
        assert not os.path.exists(config.socket("a")) and not named_memory(config)


def test_port_of_metrics_that_is_taken_costs_nobody_anything(config, launch, peers, server_command):
    config.write({"a": "size = 4K"})
    port = free_port()
    one = launch(Kept, [*config.sockets(), config.control],
                 [find_program("ivshmem-keeper"), *server_command, "-F", "-c", config.path,
                  "--metrics", f"127.0.0.1:{port}"], ready_fd=False)
    first = peers(config.socket("a"))
    os.kill(one.pid, signal.SIGSTOP)  # no next server yet
    one.kill_worker()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        persist(other.bind, ("127.0.0.1", port))
        other.listen()
        os.kill(one.pid, signal.SIGCONT)
        one.wait_log(r"error: --metrics 127.0.0.1:\d+: cannot listen there", PATIENCE)
        peers(config.socket("a"))
        first.pump_mesh(1, 1)
        assert "a" in persist(regions_of, config.control)

    def page():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return b"ivshmem" in sock.recv(65536, socket.MSG_WAITALL)
        return False

    wait_until(page, "the metrics", PATIENCE)
    assert len(re.findall("cannot listen there", one.log())) == 1
    one.settle()


def test_other_options_do_not_end_what_is_there(server_command, launch, peers, tmp):
    """The region of before has another name, and its socket: the new one cannot be, it goes on."""
    path, options = str(tmp / "s"), tmp / "options"
    options.write_text(f"-S {path} -n 2", encoding="ascii")
    command = f"exec {shlex.join(server_command)} -F $(cat {options})"
    one = launch(Kept, path, [find_program("ivshmem-keeper"), "/bin/sh", "-c", command],
                 ready_fd=False)
    first, second = peers(path), peers(path).pump_mesh(1, 2)
    options.write_text(f"-S {path} -n 2 --name other", encoding="ascii")
    replaced(one, f"error: {path} is the socket of region default")
    first.pump_mesh(1, 2)
    first.ring(second.id, 1)
    assert second.rung() == {1: 1}
    second.close()
    first.pump(lambda p: not p.peers, "the departure, by a server that runs")
    one.settle()


def test_one_region_by_command_line(server_command, launch, peers, tmp):
    path = str(tmp / "s")
    one = launch(Kept, path, [find_program("ivshmem-keeper"), *server_command, "-F", "-S", path,
                              "-l", "64K", "-n", "2"], ready_fd=False)
    first = peers(path)
    for number in range(1, 4):
        one.kill_worker()
        peers(path)
        first.pump_mesh(number, 2)
    assert os.fstat(first.region).st_size == 64 << 10
    assert one.stop(timeout=PATIENCE) == 0
    assert first.at_end() and not first.peers
    assert not os.path.exists(path)


def test_end_of_the_keeper_is_the_end(config, serve, peers):
    config.write({"a": "size = 4K", "b": "size = 4K"})
    one = serve(config)
    joined = [peers(config.socket(name)) for name in "aab"]
    one.replace_worker()
    joined[0].pump_mesh(1, 1)
    joined[1].pump_mesh(1, 1)
    assert one.stop(timeout=PATIENCE) == 0
    for peer in joined:
        assert peer.at_end() and not peer.peers, "told before"
    assert not any(map(os.path.exists, [*config.sockets(), config.control]))


def test_cleared_memory_stays_cleared(config, serve, peers):
    """Killed while it clears 256 MiB: the next process clears all before anybody gets it."""
    config.write({"a": "size = 256M zero-on-last-leave = yes"})
    one = serve(config)
    for pause in (0, 0, 0, 0.01, 0.01, 0.05):
        peer = peers(config.socket("a"))
        memory = memory_of(peer)
        places = range(0, 256 << 20, 16 << 20)
        assert not any(memory[place] for place in places)
        for place in places:
            memory[place] = 1
        peer.close()
        time.sleep(pause)  # sometimes it has not begun, sometimes it is in the middle
        one.kill_worker()
    persist(regions_of, config.control)


class Specs:
    """What the keeper holds that begins as a spec does, seen through its descriptors."""

    def __init__(self, keeper):
        self.paths = []
        for entry in pathlib.Path(f"/proc/{keeper.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if "memfd:" in os.readlink(entry) and b'{"version":' == entry.open("rb").read(11):
                    self.paths.append(entry)

    def replace(self, old, new):
        assert len(old) == len(new)
        for path in self.paths:
            with open(path, "r+b") as spec:
                data = spec.read()
                assert old in data
                spec.seek(0)
                spec.write(data.replace(old, new, 1))


@pytest.mark.parametrize("old, new, message", [
    (b'"version":1', b'"version":9', "version 9 of what was left, this program knows 1"),
    (b'"name":"a"', b'"name":"A"', "name or UUID is not legal"),
    (b'"name":"a"', b'"name":"b"', "its spec is that of b"),
    (b'"vectors":2', b'"vectors":3', "vectors"),
    (b'"limits":{', b'"limitz":{', "limits"),
    (b'"kind":0', b'"kind":7', "the memory is not possible"),
    (b'"version":1', b'xxxxxxxxxxx', "expected"),
], ids=str)
def test_state_that_is_not_understood_is_left_alone(config, serve, peers, old, new, message):
    """One line says why, peers stay, and a server that understands it goes on."""
    config.write({"a": "size = 4K vectors = 2"})
    one = serve(config)
    first, second = peers(config.socket("a")), peers(config.socket("a")).pump_mesh(1, 2)
    specs = Specs(one)
    assert len(specs.paths) == 1
    specs.replace(old, new)
    one.kill_worker()
    one.wait_log(f"cannot go on with what an earlier process has left of region a: .*{message}.*; "
                 "it stays held", PATIENCE)
    one.wait_log("exited with status 3", PATIENCE)
    first.pump_mesh(1, 2)
    first.ring(second.id, 1)
    assert second.rung() == {1: 1}
    specs.replace(new, old)
    third = peers(config.socket("a"))
    for peer in (first, second, third):
        peer.pump_mesh(2, 2)


def spec_of(config, name):
    """A small region to create; every other one has memory with a name."""
    spec = {"name": name, "size": 4096, "socket": config.socket(name)}
    if int(name[1:]) % 2:
        spec |= {"backing": "shm", "backing_name": f"{config.tmp.name}-{name}"}
    return spec


def named_memory(config):
    return {path.name for path in pathlib.Path("/dev/shm").glob(f"{config.tmp.name}-*")}


def test_regions_come_and_go_while_it_is_killed(config, serve, kills):
    """
    What was answered holds; what was not is there or not, and can be tried again. Nothing is left
    in /dev/shm of what is not.
    """
    config.write({"a": "size = 4K"})
    one = serve(config)
    killer = Killer(one, kills, 7)
    chance = random.Random(7)
    known = {"a": True}  # name -> is it there; a name that is missing: nobody knows
    while killer.is_alive():
        name = f"r{chance.randrange(8)}"
        try:
            if chance.random() < 0.5:
                call(config.control, "CreateRegion", spec=spec_of(config, name))
                assert known.get(name) is not True
                known[name] = True
            else:
                call(config.control, "RemoveRegion", name=name)
                assert known.get(name) is not False
                known[name] = False
        except ControlError as error:
            if error.args[0] == "RegionExists":
                assert known.get(name) is not False
                known[name] = True
            else:
                assert error.args[0] == "NoSuchRegion", error
                assert known.get(name) is not True
                known[name] = False
        except (AssertionError, OSError):
            known.pop(name, None)
            time.sleep(0.002)
    killer.join()
    listed = persist(regions_of, config.control)
    for name, there in known.items():
        assert (name in listed) == there, name
    assert named_memory(config) == {f"{config.tmp.name}-{name}" for name in listed
                                    if name != "a" and int(name[1:]) % 2}
    for name in listed:
        with wire.Peer(config.socket(name), timeout=PATIENCE) as peer:
            assert peer.id == 0
        if name != "a":
            call(config.control, "RemoveRegion", name=name, force=True)
    one.settle()
    assert not named_memory(config)
