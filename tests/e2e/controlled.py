# SPDX-License-Identifier: MIT
"""A server with a control socket, and ivshmctl on it, for tests."""

import json
import pathlib
import subprocess
import threading

import pytest

import varlink
from conftest import TIMEOUT, Server, find_program, wait_until

READERS = 54321  # a group that nobody is in
CONTROL = "ivshmem.Control."


class Controlled(Server):
    """A server with a control socket, which is its last socket."""

    @property
    def control(self):
        return self.sockets[-1]

    def client(self):
        return varlink.Client(self.control, timeout=3 * TIMEOUT)

    def call(self, method, **parameters):
        with self.client() as client:
            return client.call(CONTROL + method, **parameters)


@pytest.fixture
def serve(server_command, launch, tmp):
    """
    Start a server with a configuration file: serve(name=SECTION, ...) with the settings of each
    region. Everybody may connect to the sockets, so that the rules decide.
    """

    def start(settings="", **regions):
        tmp.chmod(0o755)
        sockets = [str(tmp / name) for name in regions] + [str(tmp / "control")]
        text = f'control {{ socket = "{sockets[-1]}" group = "{READERS}" {settings} }}\n'
        for path, (name, section) in zip(sockets, regions.items()):
            text += (f'region {name} {{\n socket = "{path}"\n socket-mode = 0666\n {section}\n'
                     "}\n")
        file = tmp / "ivshmem.conf"
        file.write_text(text, encoding="ascii")
        return launch(Controlled, sockets, [*server_command, "-F", "--config", file],
                      ready_fd=False)

    return start


def ctl(target, *arguments, code=0, **options):
    """Run ivshmctl on a server, or on a socket; what it has printed on its standard output."""
    path = target if isinstance(target, (str, pathlib.Path)) else target.control
    result = subprocess.run([find_program("ivshmctl"), "--socket", path, *map(str, arguments)],
                            stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            timeout=3 * TIMEOUT, check=False, **options)
    print(result.stdout, result.stderr)
    assert result.returncode == code
    assert bool(result.stderr) == (code != 0)
    return result.stdout if code == 0 else result.stderr


def ctl_json(target, *arguments):
    return json.loads(ctl(target, "--json", *arguments))


class Ongoing:
    """Does something once and again, in a thread, for as long as the block lasts."""

    def __init__(self, what, at_a_time=20):
        self.what = what
        self.at_a_time = at_a_time
        self.done = 0
        self.error = None
        self.stop = False
        self.thread = threading.Thread(target=self.run)

    def once(self):
        raise NotImplementedError

    def run(self):
        try:
            while not self.stop:
                self.once()
                self.done += 1
        except Exception as error:  # pylint: disable=broad-except # the test tells
            self.error = error

    def more(self, count=None):
        """Wait until it was done so many times more."""
        count = count or self.at_a_time
        wanted = self.done + count
        wait_until(lambda: self.error or self.done >= wanted, f"{count} {self.what}", 3 * TIMEOUT)
        assert self.error is None, self.error

    def __enter__(self):
        self.thread.start()
        self.more(1)
        return self

    def __exit__(self, *unused):
        self.stop = True
        self.thread.join()
        assert self.error is None, self.error
