# SPDX-License-Identifier: MIT
"""
The server is replaced by another version of itself while 200 peers ring each other and others come
and go: from an earlier commit's to this one, from this one to one whose state has a newer format,
and back, which is refused.
"""

import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

import wire
from conftest import TOP, Daemon, find_program, wait_until
from procs import children_of
from regions import Config, regions_of

pytestmark = pytest.mark.ours

PATIENCE = 240  # seconds: a busy machine with 200 peers
PEERS = 200
USER = "games"  # whose descriptors in flight are counted apart from those of other tests
PARTNERS = 3  # whom each of them rings


def build(word):
    return subprocess.run([TOP / "tests/upgrade/build", word], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


# What the history has, by name; nothing in a copy without one.
EARLIER = dict(line.split() for line in build("list").splitlines())


class Installed(Daemon):
    """A keeper, and below it a server that is installed in a place of its own."""

    what = "keeper"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.program = self.log_path.parent / "ivshmem-server"

    def settle(self):
        """The control socket is the last that comes to be held: after it listens."""
        regions_of(self.sockets[-1])
        super().settle()

    def starts(self):
        """How many servers have served."""
        return len(re.findall(r"ivshmem.conf: \d+ regions", self.log()))

    def worker(self):
        return next(iter(children_of(self.pid)), None)

    def runs(self, program):
        """Whether the server that runs is that program: a file of the same content."""
        try:
            return program.read_bytes() == pathlib.Path(
                f"/proc/{self.worker()}/exe").read_bytes()
        except OSError:
            return False  # there is none just now

    def upgrade(self, program):
        """What a package and `systemctl reload` do."""
        install(program, self.program)
        os.kill(self.pid, signal.SIGHUP)


def install(program, place):
    new = place.with_suffix(".new")
    shutil.copy(program, new)
    new.rename(place)


@pytest.fixture
def config(tmp):
    return Config(tmp)


@pytest.fixture
def serve(launch, config, tmp):
    """Start a program as the server below a keeper: serve(server, keeper)."""

    def start(server, keeper=None):
        install(server, tmp / "ivshmem-server")
        return launch(Installed, [*config.sockets(), config.control],
                      [keeper or find_program("ivshmem-keeper"), tmp / "ivshmem-server", "-F", "-v",
                       "-c", config.path], ready_fd=False, user=USER)

    return start


@pytest.fixture
def join(config):
    """Join the region: join(). Peers leave when the test ends."""
    joined = []

    def start(**options):
        joined.append(wire.Peer(config.socket("a"), timeout=PATIENCE, **options))
        return joined[-1]

    yield start
    for peer in joined:
        peer.close()


class Crowd:
    """Peers that stay, each of which rings those with the next IDs, and that count."""

    def __init__(self, join):
        self.peers = []
        for number in range(PEERS):
            self.peers.append(join())
            assert self.peers[-1].id == number
            self.listen()
        for peer in self.peers:
            peer.pump_mesh(PEERS - 1, 1, PATIENCE)
        self.rings = dict.fromkeys(range(PEERS), 0)
        self.rung = dict.fromkeys(range(PEERS), 0)

    @staticmethod
    def partners(peer):
        return [(peer.id + k) % PEERS for k in range(1, PARTNERS + 1)]

    def listen(self):
        """Take what has come. Nobody keeps doorbells that he will not ring: they are 40,000."""
        for peer in self.peers:
            peer.drain()
            for other in peer.peers.keys() - self.partners(peer):
                wire.close_all(peer.peers[other])
                peer.peers[other] = [-1]

    def turn(self):
        self.listen()
        for peer in self.peers:
            for other in self.partners(peer):
                peer.ring(other, 0)
                self.rings[other] += 1

    def check(self, newcomer):
        """Everybody has the same view, and all that was rung has arrived."""
        everybody = {newcomer.id, *self.rings}
        for peer in self.peers:
            peer.pump(lambda p: {p.id, *p.peers} == everybody and p.is_mesh(PEERS, 1),
                      "the last view", PATIENCE)
            assert wire.Model(peer.id, 1).replay(peer.history) == everybody - {peer.id}
            self.rung[peer.id] += peer.rung().get(0, 0)
        assert self.rung == self.rings


class Passers(threading.Thread):
    """Others join and leave, some of them before they have heard anything, until stop()."""

    def __init__(self, path):
        super().__init__()
        self.path, self.stopped, self.came = path, threading.Event(), 0
        self.error = None
        self.start()

    def run(self):
        chance = random.Random(1)
        present = []
        try:
            while not self.stopped.is_set():
                present.append(wire.Peer(self.path, timeout=PATIENCE, keep=False,
                                         handshake=chance.random() < 0.5))
                self.came += 1
                if len(present) > 3:
                    present.pop(chance.randrange(len(present))).close()
        except (OSError, wire.ProtocolError) as error:
            self.error = error
        for peer in present:
            peer.close()

    def stop(self):
        self.stopped.set()
        self.join()
        assert not self.error, self.error


def keep_busy(crowd, passers, until, what):
    """Ring and listen until then, and until some more have come."""
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, what
        crowd.turn()
    came = passers.came
    while passers.came < came + 5 and not passers.error:
        assert time.monotonic() < deadline, "others to join"
        crowd.turn()


def upgrade_in_a_crowd(one, config, join, new):
    crowd = Crowd(join)
    passers = Passers(config.socket("a"))
    keep_busy(crowd, passers, lambda: True, "")
    one.upgrade(new)
    keep_busy(crowd, passers, lambda: one.runs(new) and one.starts() > 1, "the new server")
    for _ in range(3):
        before = one.starts()
        os.kill(one.worker(), signal.SIGKILL)
        keep_busy(crowd, passers, lambda n=before: one.starts() > n, "another one to serve")
    passers.stop()
    newcomer = join()
    newcomer.pump_mesh(PEERS, 1, PATIENCE)
    crowd.check(newcomer)
    assert one.runs(new)
    assert regions_of(config.control)["a"]["counters"]["restarts"] >= 4


@pytest.mark.parametrize("which", EARLIER)
def test_from_an_earlier_build(which, config, serve, join):
    """Nobody is disconnected, every view is right, no doorbell is lost. The old keeper stays."""
    programs = build(EARLIER[which])
    config.write({"a": "size = 64K  max-peers = 300"})
    one = serve(f"{programs}/ivshmem-server", f"{programs}/ivshmem-keeper")
    upgrade_in_a_crowd(one, config, join, find_program("ivshmem-server"))


if not EARLIER:  # files without a history, as on a fresh machine: nothing to build from
    del test_from_an_earlier_build



def test_to_a_newer_format(config, serve, join):
    config.write({"a": "size = 64K  max-peers = 300"})
    one = serve(find_program("ivshmem-server"))
    upgrade_in_a_crowd(one, config, join, find_program("ivshmem-server-next"))


def test_downgrade_is_refused_and_harms_nobody(config, serve, join):
    """One line says which field; peers stay, newcomers wait, and the newer server goes on."""
    config.write({"a": "size = 64K"})
    newer, older = find_program("ivshmem-server-next"), find_program("ivshmem-server")
    one = serve(older)
    first = join()
    one.upgrade(newer)
    second = join()
    wait_until(lambda: one.runs(newer), "the newer server", PATIENCE)
    first.pump_mesh(1, 1)
    second.pump_mesh(1, 1)
    one.upgrade(older)
    one.wait_log(r"cannot go on with what an earlier process has left of region a: version: the "
                 r"state is of version 2, and this program knows them up to 1; it stays held",
                 PATIENCE)
    one.wait_log("exited with status 3", PATIENCE)
    for ringer, other in ((first, second), (second, first)):
        ringer.ring(other.id, 0)
        assert other.rung() == {0: 1}
        assert ringer.drain() == 0
    early = join(handshake=False)  # it waits in the backlog
    one.upgrade(newer)
    early.handshake()
    for peer in (first, second, early):
        peer.pump_mesh(2, 1)
    refusals = len(re.findall("cannot go on", one.log()))
    wait_until(lambda: one.runs(newer), "the newer server", PATIENCE)
    assert len(re.findall("cannot go on", one.log())) == refusals
