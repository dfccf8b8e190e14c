# SPDX-License-Identifier: MIT
"""
The server with systemd's descriptor store. There is no systemd here, only what the server sees of
it: a notify socket that keeps what it is sent, and sockets that are passed at the start.
"""

import contextlib
import os
import pathlib
import resource
import signal
import socket
import threading
import time

import pytest

import wire
from conftest import kill, wait_until
from regions import Config, ControlError, call, regions_of

pytestmark = pytest.mark.ours

# Put the descriptors where LISTEN_FDS has them, and become the server.
START = """
import fcntl, os, sys
fds = [int(word) for word in sys.argv[1].split(",") if word]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 1000) for fd in fds]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.closerange(3 + len(fds), 2000)
if fds:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)),
                      LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


class Manager(threading.Thread):
    """What systemd does with notifications."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.path = path
        self.store = {}
        self.ready = 0
        self.synced = threading.Event()
        self.slowness = 0  # seconds before a barrier is answered
        self.at_put = {}  # name: what to do before it is in the store
        self.lose = None  # the next connection: True or False; its barrier is not answered then
        self.reached = threading.Event()
        self.unanswered = []
        self.start()

    def send(self, word):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(word, self.path)

    def sync(self):
        """What a process has sent counts before the next one starts, as with systemd."""
        self.synced.clear()
        self.send(b"SYNC=1")
        assert self.synced.wait(60)

    def at_connection(self, name):
        """Is this a connection, and to be lost?"""
        if self.lose is None or not name.startswith("s."):
            return False
        self.reached.set()
        return self.lose

    def answer_again(self):
        self.sync()
        self.lose = None
        self.reached.clear()
        wire.close_all(self.unanswered)
        self.unanswered.clear()

    def run(self):
        while True:
            data, fds, _, _ = socket.recv_fds(self.sock, 4096, 8)
            words = dict(line.split("=", 1) for line in data.decode().splitlines())
            time.sleep(self.slowness if "BARRIER" in words else 0)
            if "FDSTORE" in words and self.at_connection(words["FDNAME"]):
                wire.close_all([fds.pop()])
            elif "FDSTORE" in words:
                self.at_put.pop(words["FDNAME"], lambda: None)()
                self.store[words["FDNAME"]] = fds.pop()
            elif "BARRIER" in words and self.reached.is_set():
                self.unanswered.append(fds.pop())
            elif "FDSTOREREMOVE" in words:
                wire.close_all([self.store.pop(words["FDNAME"], -1)])
            elif "READY" in words:
                self.ready += 1
            elif "SYNC" in words:
                self.synced.set()
            wire.close_all(fds)  # of a barrier: this is its answer
            if "STOP" in words:
                return

    def end(self):
        self.send(b"STOP=1")
        self.join()
        wire.close_all(self.store.values())
        self.sock.close()


@pytest.fixture
def manager(tmp):
    one = Manager(str(tmp / "notify"))
    yield one
    one.end()


@pytest.fixture
def start(server_command, manager, tmp, spawn):
    """Start the server with what the store has, and wait until it is ready: start(*options)."""
    log = open(tmp / "log", "ab")

    def run(*options, passed=None):
        manager.sync()
        names = {**manager.store, **(passed or {})}
        before = manager.ready
        process = spawn(
            ["/usr/bin/python3", "-c", START, ",".join(map(str, names.values())),
             ":".join(names), *server_command, "-F", *map(str, options)],
            stdin=-3, stderr=log, pass_fds=names.values(),
            env={**os.environ, "NOTIFY_SOCKET": manager.path, "FDSTORE": "4096"})
        wait_until(lambda: manager.ready > before or process.poll() is not None, "READY=1", 60)
        assert process.poll() is None, (tmp / "log").read_text(encoding="utf-8")
        return process

    yield run
    print((tmp / "log").read_text(encoding="utf-8"))
    log.close()


@contextlib.contextmanager
def passed_for_camera(path):
    """A socket of the unit: what start() passes besides what is in the store."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(10)
        yield {"listen.camera": listener.fileno()}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_next_process_goes_on(tmp, start, manager, number):
    """systemd says SIGTERM before each restart: nobody is told anything then."""
    config = Config(tmp).write({"a": "size = 4K vectors = 300", "b": "size = 4K"})
    process = start("-c", config.path)
    first, other = wire.Peer(config.socket("a")), wire.Peer(config.socket("b"))
    call(config.control, "CreateRegion",
         spec={"name": "x", "size": 4096, "socket": config.socket("x")})
    for _ in range(3):
        process.send_signal(number)
        assert process.wait() == (0 if number == signal.SIGTERM else -number)
        process = start("-c", config.path)
        with wire.Peer(config.socket("a")) as second:
            second.pump_mesh(1, 300)
            first.pump_mesh(1, 300)
        first.pump_mesh(0, 300)
    assert other.drain() == 1 and not other.peers
    assert set(regions_of(config.control)) == {"a", "b", "x"}
    first.close()
    other.close()
    wait_until(lambda: not any(name[0] in "sv" and name[1] == "." for name in list(manager.store)),
               "the store to have no peers")
    kill(process)


def test_socket_of_the_unit(tmp, start):
    """The unit's socket is used, is not put into the store, and stays there at the end."""
    path = str(tmp / "unit.sock")
    with passed_for_camera(path) as passed:
        options = ("--name", "camera", "-S", path, "-l", "4K")
        with wire.Peer(path, handshake=False) as early:
            process = start(*options, passed=passed)
            early.handshake()
            for number in (signal.SIGKILL, signal.SIGTERM):
                process.send_signal(number)
                process.wait()
                process = start(*options, passed=passed)
                with wire.Peer(path) as late:
                    late.pump_mesh(1, 1)
                    early.pump_mesh(1, 1)
                early.pump_mesh(0, 1)
        process.terminate()
        process.wait()
    assert os.path.exists(path)


@pytest.mark.parametrize("lose", [True, False], ids=["lost", "kept"])
def test_connection_that_is_lost_between_accept_and_store_is_counted(tmp, start, manager, lose):
    """Killed while it has a client stored: next time it is there, or there is one in the counter."""
    config = Config(tmp).write({"a": "size = 4K"})
    process = start("-c", config.path)
    first = wire.Peer(config.socket("a"))
    manager.lose = lose
    client = wire.Peer(config.socket("a"), handshake=False)
    assert manager.reached.wait(60)
    kill(process)
    manager.answer_again()
    for _ in range(2):
        process = start("-c", config.path)
        assert regions_of(config.control)["a"]["counters"]["lost_in_accept"] == lose
        kill(process)
    process = start("-c", config.path)
    if lose:
        assert client.at_end()
    else:
        client.handshake()
    first.pump_mesh(0 if lose else 1, 1)
    client.close()
    first.close()
    kill(process)


def test_socket_that_no_region_wants(tmp, start, manager):
    """Killed between two steps of a removal: what is left is not the unit's, and goes."""
    config = Config(tmp).write({"a": "size = 4K"})
    process = start("-c", config.path)
    call(config.control, "CreateRegion",
         spec={"name": "r", "size": 4096, "socket": config.socket("r")})
    kill(process)
    manager.sync()
    for name in [name for name in list(manager.store) if ".r" in name and name != "bound.r"]:
        os.close(manager.store.pop(name))
    process = start("-c", config.path)
    manager.sync()
    assert "bound.r" not in manager.store and not os.path.exists(config.socket("r"))
    call(config.control, "CreateRegion",
         spec={"name": "other", "size": 4096, "socket": config.socket("r")})
    wire.Peer(config.socket("r")).close()
    kill(process)


def test_socket_of_the_unit_outlives_its_region(tmp, start):
    """It is systemd's: a region that is made anew, and the next process, find it again."""
    config = Config(tmp).write({"camera": "size = 4K"})
    path = config.socket("camera")
    with passed_for_camera(path) as passed:
        process = start("-c", config.path, passed=passed)
        wire.Peer(path).close()
        wait_until(lambda: regions_of(config.control)["camera"]["peers"] == 0, "it to leave")
        config.write({"camera": "size = 8K"})
        call(config.control, "Reload")
        wire.Peer(path).close()
        kill(process)
        process = start("-c", config.path, passed=passed)
        wire.Peer(path).close()
        kill(process)


def test_socket_of_the_unit_outlives_a_region_that_could_not_be_made(tmp, start):
    """For want of descriptors, at whatever step: the next reload finds it again."""
    config = Config(tmp).write({"a": "size = 4K"})
    path = config.socket("camera")
    with passed_for_camera(path) as passed:
        process = start("-c", config.path, passed=passed)
        config.write({"a": "size = 4K", "camera": "size = 4K"})
        hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[1]
        failed, limit = 0, len(os.listdir(f"/proc/{process.pid}/fd"))
        while "camera" not in regions_of(config.control):
            limit += 1
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, hard))
            try:
                call(config.control, "Reload")
            except (AssertionError, ControlError, OSError):
                failed += 1
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (hard, hard))
            assert limit < 200
        assert failed > 3
        wire.Peer(path).close()
        kill(process)


def test_memory_with_a_name_outlives_the_unit(tmp, start, manager):
    """It is stopped, which the server cannot tell from a restart: the next start takes it."""
    path = pathlib.Path("/dev/shm") / f"{tmp.name}-x"
    options = ("--name", "x", "-S", tmp / "x.sock", "-l", "4K", "-M", path.name, "--reuse")
    nodes = set()
    try:
        for _ in range(2):
            process = start(*options)
            nodes.add(path.stat().st_ino)
            process.terminate()
            assert process.wait() == 0
            manager.sync()
            wire.close_all(manager.store.values())
            manager.store.clear()
        assert nodes == {path.stat().st_ino}
    finally:
        path.unlink()


@pytest.mark.parametrize("reuse", [False, True], ids=["refused", "adopted"])
def test_memory_that_somebody_else_makes_at_the_same_time(tmp, start, manager, reuse):
    """The server has looked, there was none; when its own is to get the name, there is one."""
    path = pathlib.Path("/dev/shm") / f"{tmp.name}-x"
    config = Config(tmp).write({"a": "size = 4K"})
    process = start("-c", config.path)
    manager.at_put["own.x"] = lambda: path.write_bytes(bytes(4096))
    spec = {"name": "x", "size": 4096, "socket": config.socket("x"), "backing": "shm",
            "backing_name": path.name, "reuse": reuse}
    try:
        if reuse:
            call(config.control, "CreateRegion", spec=spec)
            with wire.Peer(config.socket("x")) as peer:
                assert os.path.samestat(os.fstat(peer.region), path.stat())
            call(config.control, "RemoveRegion", name="x", force=True)
        else:
            with pytest.raises(ControlError, match="another server may be using it"):
                call(config.control, "CreateRegion", spec=spec)
        assert not manager.at_put and path.exists()
        manager.sync()
        assert not any(".x" in name for name in manager.store)
    finally:
        path.unlink()
    kill(process)


def test_socket_of_the_unit_outlives_a_process_without_a_store(tmp, server_command, spawn):
    path = str(tmp / "camera")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(10)
        for _ in range(2):
            process = spawn(
                ["/usr/bin/python3", "-c", START, str(listener.fileno()), "listen.camera",
                 *server_command, "-F", "--name", "camera", "-S", path, "-l", "4K"],
                stdin=-3, stderr=-3, pass_fds=[listener.fileno()])
            wire.Peer(path, timeout=60).close()
            process.terminate()
            assert process.wait(60) == 0
        assert os.path.exists(path)
