# SPDX-License-Identifier: MIT
"""
A server with a configuration file, and its peers as several users; for tests that run as root.
"""

import contextlib
import os
import pwd
import re
import signal
import socket
import struct

import pytest

import wire
from conftest import Server, acting_with, wait_until
from procs import state_of


@pytest.fixture
def regions(server_command, launch, tmp):
    """
    Start a server from a configuration file: regions(frames=LINES, ..., **of launch), where LINES
    stand in the region's section. Sockets are in the order of the regions, and anybody may connect.
    `limits` stand in the section of that name.
    """

    def start(user=None, limits="", **sections):
        tmp.chmod(0o777)
        sockets = [str(tmp / name) for name in sections]
        text = f'control {{ socket = "{tmp}/control" }}\nlimits {{ {limits} }}\n'
        for (name, lines), path in zip(sections.items(), sockets):
            text += (f'region {name} {{\nsize = 1M\nsocket = "{path}"\nsocket-mode = 0666\n'
                     f"{lines}\n}}\n")
        file = tmp / "ivshmem.conf"
        file.write_text(text, encoding="ascii")
        return launch(Server, sockets, [*server_command, "-F", "--config", file], ready_fd=False,
                      user=user)

    return start


def allow(**conditions):
    """A rule: allow(user=..., access=..., max_peers=...)."""
    words = [f"{key.replace('_', '-')} = " + (str(value) if isinstance(value, int)
                                              else f'"{value}"')
             for key, value in conditions.items()]
    return "allow { " + "\n".join(words) + " }"


def acting_as(user):
    """What is done inside, such as connect(2), is done by `user`."""
    entry = pwd.getpwnam(user)
    return acting_with(entry.pw_uid, entry.pw_gid)


@pytest.fixture
def enter(regions):  # pylint: disable=unused-argument # peers leave before the server is checked
    """Join as a user: enter(path, user) is a wire.Peer, which leaves when the test ends."""
    with contextlib.ExitStack() as stack:

        def start(path, user="root"):
            with acting_as(user):
                return stack.enter_context(wire.Peer(path))

        yield start


def refusal(path, user):
    """What a refused user reads in place of the version."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        with acting_as(user):
            sock.connect(path)
        sock.settimeout(wire.TIMEOUT)
        data = sock.recv(8, socket.MSG_WAITALL)
        assert sock.recv(1) == b"", "open after a refusal"
    return struct.unpack("<q", data)[0]


def lines(target, pattern, count):
    """The log's lines with `pattern`, of which there must be `count` once the server is idle."""
    def find():
        return [line for line in target.log().splitlines() if re.search(pattern, line)]

    wait_until(lambda: len(find()) >= count, f"{count} lines with {pattern!r}")
    wait_until(target.sleeps, "the server to be idle")
    found = find()
    assert len(found) == count, found
    return found


def refusals(target, count=1):
    """The lines of the audit."""
    return lines(target, "refused", count)


def ends(target, identifier, count=1):
    """What the log says of a peer's end."""
    return lines(target, rf"peer {identifier} (?!joined)", count)


def stop(target):
    """The server takes a break: who connects now is admitted when it goes on."""
    os.kill(target.pid, signal.SIGSTOP)
    wait_until(lambda: state_of(target.pid) == "T", "the server to stop")


def go_on(target):
    os.kill(target.pid, signal.SIGCONT)
