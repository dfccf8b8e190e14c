# SPDX-License-Identifier: MIT
"""What tests of a server with a configuration file have in common."""

import json
import mmap
import os
import socket
import subprocess

import wire

TIMEOUT = 60


class ControlError(Exception):
    """The answer to a call is an error."""


class Config:
    """A configuration file below `tmp` and the sockets of its regions."""

    def __init__(self, tmp):
        self.tmp = tmp
        self.path = tmp / "ivshmem.conf"
        self.control = str(tmp / "control")
        self.names = []

    def socket(self, name):
        return str(self.tmp / f"{name}.sock")

    def sockets(self):
        return [self.socket(name) for name in self.names]

    def write(self, regions, extra=""):
        """`regions`: {name: what stands in its section}; the sockets are in `tmp`."""
        self.names = list(regions)
        text = f'control {{ socket = "{self.control}" }}\n{extra}\n'
        for name, body in regions.items():
            text += f'region {name} {{\n    socket = "{self.socket(name)}"\n    {body}\n}}\n'
        new = self.path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.rename(self.path)
        return self


def call(path, method, **parameters):
    """A call of ivshmem.Control; its answer's parameters."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(path)
        message = {"method": f"ivshmem.Control.{method}", "parameters": parameters}
        sock.sendall(json.dumps(message).encode() + b"\0")
        data = b""
        while not data.endswith(b"\0"):
            part = sock.recv(65536)
            assert part, f"no answer to {method}"
            data += part
    answer = json.loads(data[:-1])
    if "error" in answer:
        raise ControlError(answer["error"].rpartition(".")[2], answer.get("parameters"))
    return answer["parameters"]


def regions_of(control):
    return {region["name"]: region for region in call(control, "ListRegions")["regions"]}


def memory_of(peer, write=True):
    """The peer's region, mapped."""
    size = os.fstat(peer.region).st_size
    access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
    return mmap.mmap(peer.region, size, access=access)


# Joins, and says which ID it got, whether its region can be written to, and whether the first
# vector of peer 0 is the same object as what the test sees. Or the version that refuses it.
JOIN = """
import os, sys
sys.path.insert(0, sys.argv[2])
import wire
peer = wire.Peer(sys.argv[1], handshake=False)
first = peer.message().number
if first < 0:
    print("refused", first)
    sys.exit()
peer.id = peer.message().number
peer.region = peer.message().fd
flags = os.open(f"/proc/self/fd/{peer.region}", os.O_PATH) and __import__("fcntl").fcntl(
    peer.region, __import__("fcntl").F_GETFL) & os.O_ACCMODE
print("joined", peer.id, "read-only" if flags == os.O_RDONLY else "read-write", flush=True)
sys.stdin.read()
"""


def join_as(path, user, spawn):
    """
    Join as another user, in a process of its own: what it says, as words, and the process, which
    stays in the region until its standard input ends.
    """
    here = os.path.dirname(os.path.abspath(wire.__file__))
    process = spawn(["setpriv", "--reuid", user, "--regid", user, "--clear-groups",
                     "/usr/bin/python3", "-c", JOIN, path, here],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process.stdout.readline().split(), process
