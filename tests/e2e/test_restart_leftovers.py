# SPDX-License-Identifier: MIT
"""
A server that is killed while a region comes or goes leaves a listening socket that belongs to none.
The next one lets go of it, but the keeper has it open for a moment longer. Here the test is the
keeper, and for it that moment lasts: it does nothing of what it is told.
"""

import os
import socket
import struct
import subprocess

import pytest

import wire
from conftest import TIMEOUT, is_listening, wait_until
from regions import Config, call, regions_of

pytestmark = pytest.mark.ours

MESSAGE = struct.Struct("=IIQ128s107s5x")  # struct keeper_message
HELD, END, PUT, DROP, ACCEPT, READY = 1, 2, 16, 17, 18, 19
VERSION = 1


class SlowKeeper:
    """
    Holds listening sockets, {name: path}, and starts a server with them. Without files nobody can
    reach them any more.
    """

    def __init__(self, server_command, config, sockets, files=True):
        self.log_path = config.tmp / "log"
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(TIMEOUT)
        self.listeners = []
        for name, path in sockets.items():
            self.listeners.append(socket.socket(socket.AF_UNIX))
            self.listeners[-1].bind(path)
            self.listeners[-1].listen()
            self.tell(HELD, name, [self.listeners[-1].fileno()])
            if not files:
                os.unlink(path)
        self.tell(END, "", [])
        with theirs, open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*server_command, "-F", "-v", "-c", config.path], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, pass_fds=[theirs.fileno()],
                env={**os.environ, "IVSHMEM_KEEPER": str(theirs.fileno())})

    def tell(self, order, name, fds):
        message = MESSAGE.pack(order, VERSION, 1000, name.encode(), b"")
        socket.send_fds(self.sock, [message], fds)

    def accepts(self, name):
        """Have the server told of a connection: the client's end."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.tell(HELD, name, [theirs.fileno()])
        ours.settimeout(TIMEOUT)
        return ours

    def orders(self, about="listen."):
        """What the server has said up to now of names that begin so: (what, name, number)."""
        said = []
        while wire.select_readable(self.sock.fileno(), 0):
            data, fds, _, _ = socket.recv_fds(self.sock, MESSAGE.size, 1)
            for fd in fds:
                os.close(fd)
            order, _, number, name, _ = MESSAGE.unpack(data)
            name = name.rstrip(b"\0").decode()
            if name.startswith(about):
                said.append((order, name, number))
        return said

    def end(self):
        self.process.terminate()
        code = self.process.wait(TIMEOUT)
        for one in [self.sock, *self.listeners]:
            one.close()
        return code


@pytest.fixture
def config(tmp):
    return Config(tmp)


@pytest.fixture
def below(server_command, config):
    """Start a server below a slow keeper: below({name of a listening socket: its path}, ...)."""
    started = []

    def start(sockets, **options):
        one = SlowKeeper(server_command, config, sockets, **options)
        started.append(one)
        wait_until(lambda: one.process.poll() is not None or is_listening(config.control),
                   "the server to serve")
        assert one.process.poll() is None, one.log_path.read_text("utf-8")
        return one

    yield start
    for one in started:
        assert one.end() == 0, one.log_path.read_text("utf-8")


def test_region_is_created_again(config, below):
    """Killed between two steps of its removal; the next thing that the server hears is to make it."""
    config.write({"a": "size = 4K"})
    keeper = below({"listen.r": config.socket("r")})
    call(config.control, "CreateRegion",
         spec={"name": "r", "size": 4096, "socket": config.socket("r")})
    assert set(regions_of(config.control)) == {"a", "r"}
    assert [order[0] for order in keeper.orders("listen.r")] == [DROP, PUT, ACCEPT]


def test_file_goes_with_it(config, below):
    config.write({"a": "size = 4K"})
    below({"listen.r": config.socket("r")})
    regions_of(config.control)  # it serves: by then it has looked at what is left
    assert not os.path.exists(config.socket("r"))


def test_another_region_of_the_file_gets_its_place(config, below):
    """A region was renamed, and the server killed before the old one was quite gone."""
    config.write({"a": "size = 4K", "new": "size = 4K"})
    keeper = below({"listen.old": config.socket("new")})
    assert set(regions_of(config.control)) == {"a", "new"}
    orders = [order[:2] for order in keeper.orders()]
    assert orders.index((DROP, "listen.old")) < orders.index((PUT, "listen.new"))


def test_region_of_the_file_goes_on_with_it(config, below):
    """Killed while it was being created: who has connected meanwhile is not turned away."""
    config.write({"a": "size = 4K"})
    keeper = below({"listen.a": config.socket("a")})
    assert [order[:2] for order in keeper.orders()] == [(ACCEPT, "listen.a")]
    assert is_listening(config.socket("a"))


def test_region_that_has_moved(config, below):
    """By a reload, and its place is another one's now: killed before that was there."""
    config.write({"a": "size = 4K", "b": "size = 4K"})
    below({"listen.a": config.socket("b")})
    assert set(regions_of(config.control)) == {"a", "b"}


def number_of(sock):
    return struct.unpack("<q", sock.recv(8, socket.MSG_WAITALL))[0]


def test_connection_that_comes_too_late(config, below):
    """
    A region is made anew, and the keeper has accepted somebody for the one of before: he is
    refused, and not merely hung up on, and those who come then get in.
    """
    config.write({"a": "size = 4K"})
    keeper = below({})
    with keeper.accepts("s.a.1") as first:
        assert number_of(first) == 0
    wait_until(lambda: regions_of(config.control)["a"]["peers"] == 0, "it to leave")
    config.write({"a": "size = 8K"})
    keeper.orders()
    call(config.control, "Reload")
    accept = keeper.orders("listen.a")[-1]
    assert accept[0] == ACCEPT
    for number in range(2, 600):  # more than can be on their way
        with keeper.accepts(f"s.a.{number}") as late:
            assert number_of(late) == -2
            assert late.recv(1) == b""
        wait_until(lambda n=number: (DROP, f"s.a.{n}") in [
            order[:2] for order in keeper.orders("s.a.")], "it not to be held any more")
    with keeper.accepts(f"s.a.{accept[2]}") as next_one:
        assert number_of(next_one) == 0


def test_connection_to_a_region_that_is_gone(config, below):
    config.write({"a": "size = 4K", "b": "size = 4K"})
    keeper = below({})
    call(config.control, "RemoveRegion", name="b")
    with keeper.accepts("s.b.1") as late:
        assert number_of(late) == -2
        assert late.recv(1) == b""


def test_nothing_stays_of_the_place_before(config, below):
    config.write({"a": "size = 4K"})
    below({"listen.a": config.socket("old")})
    assert not os.path.exists(config.socket("old"))


def test_socket_without_a_file_is_of_no_use(config, below):
    """Nobody would find the region."""
    config.write({"a": "size = 4K"})
    below({"listen.a": config.socket("a")}, files=False)
    assert is_listening(config.socket("a"))


def test_file_of_another_region_stays(config, below):
    """Killed twice: between the end of the file and what the keeper is told, too."""
    config.write({"a": "size = 4K", "new": "size = 4K"})
    below({"listen.old": config.socket("new")}, files=False)
    assert set(regions_of(config.control)) == {"a", "new"}
    assert is_listening(config.socket("new"))
