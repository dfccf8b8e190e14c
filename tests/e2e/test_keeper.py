# SPDX-License-Identifier: MIT
"""
ivshmem-keeper with a small program (tests/keeper/worker.c) that may be killed at any moment. Each
client of that program has a number, a socket and a set of three eventfds; all are kept.
"""

import contextlib
import errno
import itertools
import os
import pathlib
import random
import select
import signal
import socket
import subprocess
import time

import pytest

from conftest import TIMEOUT, find_program, is_listening, wait_until
from procs import children_of, cpu_time, has_ended, state_of, status_of

pytestmark = pytest.mark.ours


class Client:
    """A connection. Requests are repeated, as a worker may die between reading and answering."""

    serial = itertools.count()

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(path)
        self.number = None

    def close(self):
        self.sock.close()

    def request(self, word):
        """Send it once and return the answer; those to what ask() has repeated may come before."""
        self.sock.send(word.encode())
        answer = self.receive(TIMEOUT)
        while answer and answer.startswith("id") and not answer.startswith(word):
            answer = self.receive(TIMEOUT)
        return answer

    def receive(self, timeout):
        if not select.select([self.sock], [], [], timeout)[0]:
            return None
        answer = self.sock.recv(65536)
        assert answer, "disconnected"
        return answer.decode()

    def ask(self, word):
        """Send it until there is an answer, which is returned without the word."""
        deadline = time.monotonic() + TIMEOUT
        answer = None
        while not answer:
            assert time.monotonic() < deadline, f"client {self.number} gets no answer"
            self.sock.send(word.encode())
            answer = self.receive(0.05)
            while answer and not answer.startswith(word + " "):
                answer = self.receive(0.05)  # to what was sent before
        return answer.split()[1:]

    def check(self):
        """Is it who it was? Returns the worker's PID."""
        pid, number, *counters = map(int, self.ask(f"id{next(self.serial)}"))
        assert self.number in (None, number), f"client {self.number} became {number}"
        self.number = number
        assert counters == [number * 10, number * 10 + 1, number * 10 + 2]
        return pid


class Keeper:
    def __init__(self, process, tmp):
        self.process, self.pid = process, process.pid
        self.socket, self.mode, self.log_path = str(tmp / "s"), tmp / "mode", tmp / "log"

    def log(self):
        return self.log_path.read_text(encoding="utf-8")

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def holds(self, n):
        """Wait until it holds so many; besides it has 0, 1, 2, its signals and the worker's socket."""
        wait_until(lambda: self.fds() == n + 5, f"{n} descriptors to be held, not {self.fds() - 5}")

    def worker(self):
        return next(iter(children_of(self.pid)), None)

    def kill_worker(self):
        pid = self.worker()
        with contextlib.suppress(ProcessLookupError):  # dead by then, and the keeper knows
            if pid:
                os.kill(pid, signal.SIGKILL)
        return pid

    def next_worker(self, mode=None):
        """Kill the worker and wait for the next one, which starts in that mode."""
        if mode:
            new = self.mode.with_suffix(".new")
            new.write_text(mode)
            new.rename(self.mode)
        old = self.kill_worker()
        return wait_until(lambda: self.worker() != old and self.worker(), "another worker")

    def stopped_worker(self):
        """Another worker, which waits for SIGCONT before it does anything."""
        pid = self.next_worker("stop")
        wait_until(lambda: state_of(pid) == "T", "SIGSTOP")
        return pid

    def names(self):
        """What is held, as the worker knows it: asked by a client that is there for this only."""
        client = Client(self.socket)
        client.check()
        names = client.ask("names")
        client.close()
        own = {f"s.t.{client.number}", f"v.t.{client.number}"}
        return sorted(name for name in names if name not in own)


def expected_names(clients):
    return sorted(["listen.t", *(f"s.t.{one.number}" for one in clients),
                   *(f"v.t.{one.number}" for one in clients)])


@pytest.fixture
def keeper(spawn, tmp):
    """Start it: keeper(*options, program=None) runs the worker, or another program."""

    def start(*options, program=None, ready_fd=None):
        program = program or find_program("keeper-worker")
        command = [find_program("ivshmem-keeper"), *options, "--", program, tmp / "s", tmp / "mode",
                   *([str(ready_fd)] if ready_fd else [])]
        with open(tmp / "log", "wb") as log:
            process = spawn([str(word) for word in command], stderr=log, stdout=log,
                            pass_fds=[ready_fd] if ready_fd else [])
        one = Keeper(process, tmp)
        wait_until(lambda: is_listening(one.socket) or process.poll() is not None, "the worker")
        assert process.poll() is None, one.log()
        return one

    return start


def test_clients_of_a_worker_that_is_killed_at_random(keeper):
    """They come and go meanwhile. Nobody is lost, nobody is there twice, all have what is theirs."""
    one = keeper()
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    clients = []
    for _ in range(300):
        what = dice.random()
        if what < 0.3:
            clients.append(Client(one.socket))
        elif what < 0.4 and clients:
            clients.pop(dice.randrange(len(clients))).close()
        elif what < 0.7:
            one.kill_worker()
            time.sleep(dice.random() * 0.004)
        elif clients:
            dice.choice(clients).check()
    for client in clients:
        client.check()
    assert len({client.number for client in clients}) == len(clients)
    wait_until(lambda: one.names() == expected_names(clients), "those that have left to be gone")


def test_kill_at_every_stop_of_a_system_call(keeper, spawn):
    """A worker starts, takes over, gets a client, answers, and loses one: killed at each step."""
    one = keeper()
    killer = find_program("keeper-killer")
    clients = [Client(one.socket) for _ in range(3)]
    for client in clients:
        client.check()
    for stop in itertools.count(1):
        traced = one.stopped_worker()
        tracer = spawn([str(killer), str(traced), str(stop)])
        new, last = Client(one.socket), Client(one.socket)
        last.check()
        new.check()
        clients[0].close()
        clients = [*clients[1:], new]
        last.close()
        for client in clients:
            client.check()
        wait_until(lambda: one.names() == expected_names(clients), "those that left to be gone")
        if tracer.poll() is None and not has_ended(traced):
            tracer.kill()
            break  # it has done all that, and was not killed
        assert tracer.wait(TIMEOUT) == 0
        # The next one is past the place where it would stop.
        wait_until(lambda pid=traced: clients[0].check() != pid, "the next worker")
    assert stop > 100
    assert len({client.number for client in clients}) == len(clients)


def test_clients_wait_in_the_backlog_while_there_is_no_worker(keeper):
    one = keeper()
    first = Client(one.socket)
    first.check()
    pid = one.stopped_worker()
    one.holds(3)
    waiting = [Client(one.socket) for _ in range(20)]
    for client in waiting:
        client.sock.send(b"early")
    time.sleep(0.05)
    one.holds(3)
    os.kill(pid, signal.SIGCONT)
    for client in waiting:
        assert client.receive(TIMEOUT).startswith("early ")
        client.check()
    assert len({client.number for client in [first, *waiting]}) == 21


def test_a_worker_that_stops_reading_stops_nobody_but_itself(keeper):
    """The keeper fills its queue and no more, and takes all of it back when the worker dies."""
    one = keeper()
    first = Client(one.socket)
    os.kill(first.check(), signal.SIGSTOP)
    clients = []
    while len(clients) < 600:
        client = Client.__new__(Client)
        client.sock, client.number = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), None
        client.sock.setblocking(False)
        if client.sock.connect_ex(one.socket) == errno.EAGAIN:
            break  # the backlog is full, too
        client.sock.setblocking(True)
        clients.append(client)
        time.sleep(0.001)
    assert 128 < len(clients) < 600
    assert one.fds() < 600
    one.kill_worker()
    for client in [first, *clients]:
        client.check()
    assert one.names() == expected_names([first, *clients])


@pytest.mark.parametrize("mode", ["op", "short", "no-descriptor", "descriptor", "nameless", "twice",
                                  "stranger"])
def test_nonsense_costs_the_worker_its_life(keeper, mode):
    one = keeper()
    client = Client(one.socket)
    client.check()
    one.next_worker(mode)
    client.check()
    assert "nonsense" in one.log()
    one.holds(3)
    assert one.names() == expected_names([client])


def test_worker_that_floods_is_killed_at_the_limit(keeper):
    one = keeper("--max-descriptors", "1000")
    client = Client(one.socket)
    client.check()
    one.next_worker("flood")
    client.check()
    assert "nonsense" in one.log()
    assert one.fds() < 1000 + 512 + 64


@pytest.mark.parametrize("mode", ["hang-up", "no-listener"])
def test_worker_that_is_of_no_use_stops_nothing_but_itself(keeper, mode):
    one = keeper()
    client = Client(one.socket)
    client.check()
    pid = one.next_worker(mode)
    wait_until(lambda: not one.mode.exists() and state_of(pid) == "S", "it to wait")
    used = cpu_time(one.pid)
    time.sleep(1)
    assert cpu_time(one.pid) - used < 0.04, "the keeper spins"
    one.next_worker()
    client.check()


def test_connections_above_the_limit_wait(keeper):
    one = keeper("--max-descriptors", "20")
    first = Client(one.socket)
    first.check()
    assert first.request("full") == f"full 17 {errno.ENOSPC}"  # besides listener, socket and set
    one.holds(20)
    second = Client(one.socket)
    second.sock.send(b"hello")
    time.sleep(0.1)
    one.holds(20)
    assert first.request("empty") == "empty"
    assert second.receive(TIMEOUT).startswith("hello ")
    first.check()


def test_upgrade(keeper, tmp):
    """SIGHUP starts whatever has the program's name by then; clients keep what they have."""
    program = tmp / "program"
    worker = find_program("keeper-worker")

    def install(version):
        new = tmp / "new"
        new.write_text(f"#!/bin/sh\nVERSION={version} exec {worker} \"$@\"\n")
        new.chmod(0o755)
        new.rename(program)

    install("one")
    one = keeper(program=program)
    clients = [Client(one.socket) for _ in range(50)]
    old = {client.check() for client in clients}
    install("two")
    one.process.send_signal(signal.SIGHUP)
    wait_until(lambda: clients[0].check() not in old, "the new version")
    pid, = {client.check() for client in clients}
    assert b"VERSION=two\0" in pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    assert one.names() == expected_names(clients)


def test_program_that_fails_is_tried_again_but_not_all_the_time(keeper, tmp):
    program = tmp / "program"
    program.symlink_to(find_program("keeper-worker"))
    one = keeper(program=program)
    client = Client(one.socket)
    client.check()
    (tmp / "bad").write_text("#!/bin/sh\nexit 7\n")
    (tmp / "bad").chmod(0o755)
    (tmp / "bad").rename(program)
    begin = time.monotonic()
    one.kill_worker()
    time.sleep(1)
    tries = one.log().count("exited with status 7")
    assert tries <= 8 + (time.monotonic() - begin), "10, 20, 40, ... ms between two, then 1 s"
    wait_until(lambda: one.log().count("exited with status 7") > tries, "another try")
    program.unlink()
    wait_until(lambda: "exited with status 127" in one.log(), "a try without a program")
    program.symlink_to(find_program("keeper-worker"))
    client.check()


@pytest.mark.parametrize("mode", ["exit 0", "exit 1", "exit 2", "segv"])
def test_worker_that_ends_by_itself_is_started_again(keeper, mode):
    one = keeper()
    client = Client(one.socket)
    client.check()
    one.next_worker(mode)
    client.check()
    client.sock.send(b"exit")
    wait_until(lambda: "exited with status 3" in one.log(), "its end")
    client.check()


@pytest.mark.parametrize("status", [0, 1, 2])
def test_program_that_never_served_ends_the_keeper(tmp, status):
    (tmp / "mode").write_text(f"exit {status}")
    run = subprocess.run([find_program("ivshmem-keeper"), find_program("keeper-worker"), tmp / "s",
                          tmp / "mode"], capture_output=True, timeout=TIMEOUT, check=False)
    assert run.returncode == status


def test_program_that_is_not_there(tmp):
    run = subprocess.run([find_program("ivshmem-keeper"), tmp / "nothing"], capture_output=True,
                         text=True, timeout=TIMEOUT, check=False)
    assert run.returncode == 127
    assert f"cannot run {tmp / 'nothing'}: No such file" in run.stderr


def test_usage():
    keeper = find_program("ivshmem-keeper")
    for words, message in [([], "PROGRAM"), (["--max-descriptors", "0", "true"], "--max-descriptors"),
                           (["--nothing", "true"], "--nothing")]:
        run = subprocess.run([keeper, *words], capture_output=True, text=True, timeout=TIMEOUT,
                             check=False)
        assert run.returncode == 2
        assert message in run.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clean_end(keeper, number):
    one = keeper()
    client = Client(one.socket)
    pid = client.check()
    one.process.send_signal(number)
    assert one.process.wait(TIMEOUT) == 0
    while answer := client.sock.recv(100):
        assert answer.startswith(b"id")  # to what was asked twice
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_while_the_worker_is_replaced(keeper, number):
    """It begins, serves and ends the clean way; or the keeper has not heard of its death yet."""
    for pause in [0, 0, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01]:
        one = keeper()
        Client(one.socket).check()
        one.kill_worker()
        time.sleep(pause)
        one.process.send_signal(number)
        assert one.process.wait(TIMEOUT) == 0, f"after {pause} s"


def test_end_while_the_worker_is_dead(keeper, tmp):
    program = tmp / "program"
    program.symlink_to(find_program("keeper-worker"))
    one = keeper(program=program)
    Client(one.socket).check()
    program.unlink()
    one.kill_worker()
    wait_until(lambda: one.log().count("status 127") >= 6, "a long pause")
    one.process.terminate()
    assert one.process.wait(TIMEOUT) in (0, 127)  # in the pause, or just in a try


def test_no_worker_outlives_its_keeper(keeper):
    one = keeper()
    Client(one.socket).check()
    pid = one.stopped_worker()  # which cannot see that the keeper's socket is closed
    one.process.kill()
    one.process.wait()
    wait_until(lambda: has_ended(pid), "the worker's end")


def test_worker_gains_no_privileges(keeper):
    one = keeper()
    assert status_of(Client(one.socket).check())["NoNewPrivs"] == "1"


def test_ready_fd_of_the_program(keeper):
    """It goes to the first start only, and its reader gets the end of file. Later ones may write."""
    reader, writer = os.pipe()
    one = keeper(ready_fd=writer)
    os.close(writer)
    assert os.read(reader, 10) == b"\n"
    assert os.read(reader, 10) == b""
    os.close(reader)
    client = Client(one.socket)
    client.check()
    one.next_worker()
    client.check()
    assert "ready" not in one.log()


def test_no_descriptor_is_left_after_a_thousand_restarts(keeper):
    one = keeper()
    client = Client(one.socket)
    pid = client.check()
    one.holds(3)
    for _ in range(1000):
        os.kill(pid, signal.SIGKILL)
        pid = wait_until(lambda: one.worker() not in (None, pid) and one.worker(), "a worker")
    client.check()
    one.holds(3)
    assert one.names() == expected_names([client])
