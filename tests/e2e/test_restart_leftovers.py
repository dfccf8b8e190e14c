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
    """Holds listening sockets, {name: path}, and starts a server with them."""

    def __init__(self, server_command, config, sockets):
        self.log_path = config.tmp / "log"
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(TIMEOUT)
        self.listeners = []
        for name, path in sockets.items():
            self.listeners.append(socket.socket(socket.AF_UNIX))
            self.listeners[-1].bind(path)
            self.listeners[-1].listen()
            self.tell(HELD, name, [self.listeners[-1].fileno()])
        self.tell(END, "", [])
        with theirs, open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*server_command, "-F", "-v", "-c", config.path], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, pass_fds=[theirs.fileno()],
                env={**os.environ, "IVSHMEM_KEEPER": str(theirs.fileno())})

    def tell(self, order, name, fds):
        message = MESSAGE.pack(order, VERSION, 1000, name.encode(), b"")
        socket.send_fds(self.sock, [message], fds)

    def orders(self):
        """What the server has said up to now; of listening sockets alone."""
        said = []
        while wire.select_readable(self.sock.fileno(), 0):
            data, fds, _, _ = socket.recv_fds(self.sock, MESSAGE.size, 1)
            for fd in fds:
                os.close(fd)
            order, _, _, name, _ = MESSAGE.unpack(data)
            name = name.rstrip(b"\0").decode()
            if name.startswith("listen."):
                said.append((order, name))
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
    """Start a server below a slow keeper: below({name of a listening socket: its path})."""
    started = []

    def start(sockets):
        one = SlowKeeper(server_command, config, sockets)
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
    assert [order for order in keeper.orders() if order[1] == "listen.r"] == [
        (DROP, "listen.r"), (PUT, "listen.r"), (ACCEPT, "listen.r")]


def test_file_goes_with_it(config, below):
    config.write({"a": "size = 4K"})
    below({"listen.r": config.socket("r")})
    assert not os.path.exists(config.socket("r"))


def test_another_region_of_the_file_gets_its_place(config, below):
    """A region was renamed, and the server killed before the old one was quite gone."""
    config.write({"a": "size = 4K", "new": "size = 4K"})
    keeper = below({"listen.old": config.socket("new")})
    assert set(regions_of(config.control)) == {"a", "new"}
    orders = keeper.orders()
    assert orders.index((DROP, "listen.old")) < orders.index((PUT, "listen.new"))


def test_region_of_the_file_goes_on_with_it(config, below):
    """Killed while it was being created: who has connected meanwhile is not turned away."""
    config.write({"a": "size = 4K"})
    keeper = below({"listen.a": config.socket("a")})
    assert keeper.orders() == [(ACCEPT, "listen.a")]
    assert is_listening(config.socket("a"))
