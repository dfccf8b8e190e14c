# SPDX-License-Identifier: MIT
"""
Disks that are full, memory that is none, clocks that jump: the server says so in a line, goes on,
and loses nothing. What a model can tell about this is tests/soak's; here it is the program itself.
"""

import contextlib
import http.client
import os
import pathlib
import re
import resource
import shlex
import time

import pytest

import openmetrics
import wire
from conftest import Server, find_program, wait_until
from kept import PATIENCE, Kept, persist
from regions import Config, ControlError, call, memory_of, regions_of
from test_metrics import scrape

pytestmark = pytest.mark.ours

DISK = 1 << 20  # bytes
NOBODY = [] if os.geteuid() == 0 else ["--map-root-user"]


class Disk:
    """A small one that only the server sees, and who looks through its process."""

    def __init__(self, path):
        self.path = path  # as the server sees it
        self.seen = None  # as we do

    def __truediv__(self, name):
        return self.seen / name

    def fill(self):
        with open(self / "ballast", "ab", buffering=0) as ballast:
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(4096))

    def clear(self):
        (self / "ballast").unlink()


@pytest.fixture
def config(tmp):
    return Config(tmp)


@pytest.fixture
def disk(tmp):
    return Disk(tmp / "disk")


@pytest.fixture
def on_disk(server_command, launch, disk):
    """
    Start a server that has a small disk, at `place` if not at disk.path, after a shell command that
    may put something there: on_disk(sockets, *options, before="true", place=None, log="").
    """

    def start(sockets, *options, before="true", place=None, log=""):
        place = place or disk.path
        if place == disk.path:
            place.mkdir()
        # A chroot's root need not be a mount, which is what unshare itself would give up at.
        script = ("mount --make-rprivate / 2>&- || :; "
                  f"mount -t tmpfs -o size={DISK} disk '{place}' && cd '{place}' && {before} && "
                  f'exec "$@" {log}')
        target = launch(Server, sockets, ["unshare", "--mount", "--propagation", "unchanged",
                                          *NOBODY, "sh", "-c", script, "sh",
                                          *server_command, "-F", *options], ready_fd=False)
        disk.seen = pathlib.Path(f"/proc/{target.pid}/root{place}")
        return target

    return start


def lines_of(target, pattern):
    return re.findall(pattern, target.log())


# ---- disks ----


def test_metrics_file_on_a_full_disk(on_disk, disk, tmp):
    """The last one that fitted stays, whole, and peers come and go."""
    socket = str(tmp / "s")
    target = on_disk(socket, "-S", socket, "-l", "64K", "--metrics-file", disk.path / "iv.prom",
                     "--metrics-interval", 1)

    def joins():
        families = openmetrics.parse_textfile((disk / "iv.prom").read_text(encoding="ascii"))
        return families["ivshmem_region_joins_total"].samples[frozenset({("region", "default")})]

    wait_until((disk / "iv.prom").exists, "the file")

    def is_full():
        disk.fill()  # and what a file of before has left, which was being written meanwhile
        return lines_of(target, r"cannot write .*iv\.prom: No space left on device")

    wait_until(is_full, "a file that does not fit")
    with wire.Peer(socket) as first, wire.Peer(socket):
        time.sleep(2.5)  # two more turns, which fail as well
        assert len(lines_of(target, "cannot write")) == 1
        assert joins() == 0
        first.pump_mesh(1, 1)
        disk.clear()
        wait_until(lambda: joins() == 2, "the file to be written again")


def test_log_on_a_full_disk(on_disk, disk, tmp):
    socket = str(tmp / "s")
    target = on_disk(socket, "-S", socket, "-l", "64K", "--verbose", log=f"2>>'{disk.path}/log'")
    log = disk / "log"
    disk.fill()
    before = log.read_text(encoding="utf-8")
    with wire.Peer(socket) as first:
        for _ in range(50):
            wire.Peer(socket).close()
        first.pump(lambda p: p.id is not None and not p.peers and p.vectors, "its view")
        assert len(log.read_text(encoding="utf-8")) - len(before) < 4096  # what its page had left
        disk.clear()
        with wire.Peer(socket) as last:
            wait_until(lambda: f"peer {last.id} joined" in log.read_text(encoding="utf-8"),
                       "the log to go on")
    assert target.alive()


def test_region_on_a_full_disk(on_disk, disk, tmp):
    """What is there stays; what does not fit is refused in a line, and can be had later."""
    config = Config(tmp).write(
        {"a": f"memory = file:{disk.path}/a  zero-on-last-leave = no",
         "z": f"memory = file:{disk.path}/z  zero-on-last-leave = yes  header = yes"})
    target = on_disk([*config.sockets(), config.control], "--config", config.path,
                     before="truncate -s 64K a b z")
    spec = {"name": "b", "backing": "file", "backing_name": f"{disk.path}/b",
            "socket": config.socket("b")}
    with wire.Peer(config.socket("a")) as peer:
        memory_of(peer)[:5] = b"still"
        disk.fill()
        for _ in range(3):
            with pytest.raises(ControlError, match="NotEnough.*0 B available"):
                call(config.control, "CreateRegion", spec=spec)
        assert set(regions_of(config.control)) == {"a", "z"}
        assert not os.path.exists(config.socket("b"))
        for _ in range(3):  # to clear a region takes no room
            with wire.Peer(config.socket("z")) as other:
                assert not any(memory_of(other)[4096:])
                memory_of(other)[8192:8196] = b"gone"
        memory_of(peer)[65530:65535] = b"there"
        disk.clear()
        call(config.control, "CreateRegion", spec=spec)
        wire.Peer(config.socket("b")).close()
        assert peer.drain() == 1
    call(config.control, "RemoveRegion", name="b")
    assert (disk / "a").read_bytes().startswith(b"still")
    assert target.alive()


def test_shared_memory_is_full(on_disk, disk, tmp):
    """No half of an object is left in /dev/shm."""
    config = Config(tmp).write({"a": "size = 64K"})
    on_disk([*config.sockets(), config.control], "--config", config.path,
            place=pathlib.Path("/dev/shm"))
    spec = {"name": "b", "backing": "shm", "backing_name": "b", "size": 65536,
            "socket": config.socket("b")}
    disk.fill()
    for _ in range(3):
        with pytest.raises(ControlError, match="NotEnough.*0 B available"):
            call(config.control, "CreateRegion", spec=spec)
        assert os.listdir(disk.seen) == ["ballast"]
        wire.Peer(config.socket("a")).close()
    disk.clear()
    call(config.control, "CreateRegion", spec=spec)
    wire.Peer(config.socket("b")).close()
    assert os.listdir(disk.seen) == ["b"]
    call(config.control, "RemoveRegion", name="b", force=True)
    wait_until(lambda: not os.listdir(disk.seen), "the object to go")


# ---- memory ----


@pytest.mark.parametrize("pause", [0, 0.01], ids=["at once", "one by one"])
def test_no_memory(server, join, tmp, pause):
    """
    Newcomers are refused and told why; who is in goes on, and so does the server. What it lacks the
    memory for depends on how they come: its own, or libuv's, which would be the end of it.
    """
    control = str(tmp / "control")
    target = server("--control", control, "--metrics", "127.0.0.1:0", "--max-peers", 4000)
    first, second = join(target), join(target)
    hard = resource.prlimit(target.pid, resource.RLIMIT_AS)[1]
    resource.prlimit(target.pid, resource.RLIMIT_AS, (target.status("VmSize") << 10, hard))
    inside = []
    while True:
        newcomer = wire.Peer(target.socket, handshake=False, keep=False)
        inside.append(newcomer)
        number = newcomer.message().number
        if number != 0:
            break
        newcomer.id = newcomer.message().number
        newcomer.region = newcomer.message().fd
        time.sleep(pause)
    assert number == wire.REFUSED_RESOURCES
    target.wait_log("refused .*: out of memory or descriptors")
    for ask in (lambda: scrape(target), lambda: regions_of(control)):
        with contextlib.suppress(OSError, AssertionError, ControlError,
                                 http.client.HTTPException):
            ask()  # or not: it may lack the memory for it
    inside.pop().close()
    first.pump_mesh(len(inside) + 1, 1)
    first.ring(second.id, 0)
    second.pump_mesh(len(inside) + 1, 1)
    assert second.rung() == {0: 1}

    resource.prlimit(target.pid, resource.RLIMIT_AS, (hard, hard))
    last = join(target)
    first.pump(lambda p: last.id in p.peers, "the one who came afterwards")
    assert regions_of(control) and scrape(target)
    for peer in inside:
        peer.close()
    first.pump_mesh(2, 1)


# ---- clocks ----


def test_clock_of_another_process(config, server_command, launch, tmp):
    """
    The next process may have another monotonic clock (a time namespace): nobody has been asleep for
    so long as it may seem, and no ID is given again too early.
    """
    config.write({"a": "size = 4K vectors = 64 stall-timeout = 600"})
    program, offset = tmp / "program", tmp / "offset"
    program.write_text(f"""#!/bin/sh
seconds=$(cat {offset})
exec unshare --time {' '.join(NOBODY)} --monotonic $seconds --boottime $seconds \\
    {shlex.join(server_command)} "$@"
""")
    program.chmod(0o755)
    offset.write_text("0")
    one = launch(Kept, [*config.sockets(), config.control],
                 [find_program("ivshmem-keeper"), program, "-F", "-c", config.path],
                 ready_fd=False)
    path = config.socket("a")
    sleeper, awake = wire.Peer(path), wire.Peer(path)
    others = [wire.Peer(path, keep=False, timeout=PATIENCE) for _ in range(8)]
    uptime = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    seen = {peer.id for peer in (sleeper, awake, *others)}
    for seconds in (10**7, -uptime // 2, 10**8, 0):
        offset.write_text(str(seconds))
        one.replace_worker()
        others.pop(0).close()
        others.append(wire.Peer(path, keep=False, timeout=PATIENCE))
        assert others[-1].id not in seen, "an ID came back, and there are fresh ones"
        seen.add(others[-1].id)
        awake.pump_mesh(9, 64, PATIENCE)
    for peer in (sleeper, *others):
        peer.pump_mesh(9, 64, PATIENCE)
    assert wire.Model(sleeper.id, 64).replay(sleeper.history) == {
        peer.id for peer in (awake, *others)}
    counters = persist(regions_of, config.control)["a"]["counters"]
    assert counters["evictions"] == 0 and counters["restarts"] == 4
    for peer in (sleeper, awake, *others):
        peer.close()
