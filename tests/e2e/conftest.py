# SPDX-License-Identifier: MIT
"""
Fixtures of the end-to-end tests. See README.md for how to run them.

The server under test is a command line, so that the same tests judge anybody's server. Every server
that a test starts is checked when the test ends: it still lives, it holds no more descriptors than
before the first peer joined, and it stops with exit code 0 when asked to.
"""

import os
import pathlib
import pwd
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

import wire

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
TIMEOUT = 20  # seconds for anything that takes milliseconds on an idle machine


def pytest_addoption(parser):
    group = parser.getgroup("ivshmem")
    group.addoption("--server", help="command that starts the server under test")
    group.addoption("--server-kind", choices=("ours", "contrib"), default="ours",
                    help="contrib: only what every server must do, started with contrib's options")
    group.addoption("--long", action="store_true", help="do not shorten the long tests")


def pytest_configure(config):
    config.addinivalue_line("markers", "ours: uses options or promises that only our server has")
    # A thousand peers in one process need more descriptors than most shells allow.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_collection_modifyitems(config, items):
    """Tests of our own options do not apply to another server: left out, not skipped."""
    if config.getoption("--server-kind") == "ours":
        return
    ours = [item for item in items if item.get_closest_marker("ours")]
    config.hook.pytest_deselected(items=ours)
    items[:] = [item for item in items if item not in ours]


def wait_until(condition, what, timeout=TIMEOUT):
    """Poll `condition` until it is true and return its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.005)


def build_dir():
    return pathlib.Path(os.environ.get("IVSHMEM_BUILD", TOP / "build"))


def find_program(name):
    """A program of ours in the build directory, or None."""
    for path in sorted(build_dir().rglob(name)):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def is_listening(path):
    """Whether a socket listens on `path`, found out without connecting to it."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            fields = line.split(None, 7)
            # Flags with the bit that the kernel sets for listen(2).
            if len(fields) == 8 and fields[7].rstrip("\n") == path and int(fields[3], 16) & 0x10000:
                return True
    return False


class Server:
    """A running server."""

    def __init__(self, socket, pid, log_path, process=None):
        self.socket = socket
        self.pid = pid
        self.process = process  # None: a daemon, not our child
        self.log_path = log_path
        self.stopped = False
        self.base_fds = None

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_log(self, pattern, timeout=TIMEOUT):
        return wait_until(lambda: re.search(pattern, self.log()), f"{pattern!r} in the log",
                          timeout)

    def alive(self):
        if self.process:
            return self.process.poll() is None
        try:
            text = pathlib.Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        except FileNotFoundError:
            return False
        return text.rsplit(")", 1)[1].split()[0] != "Z"  # its new parent may reap it late

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def status(self, field):
        """A number of /proc/PID/status, e.g. RssAnon (in KiB)."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(re.search(rf"^{field}:\s+(\d+)", text, re.M).group(1))

    def cpu_time(self):
        """CPU seconds used so far."""
        text = pathlib.Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        fields = text.rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def limit_fds(self, soft):
        """Change the server's soft RLIMIT_NOFILE while it runs; returns the old one."""
        old, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, hard))
        return old

    def stop(self, number=signal.SIGTERM, timeout=TIMEOUT):
        """Ask it to stop; returns the exit code (None for a daemon, which is not our child)."""
        self.stopped = True
        if self.alive():
            os.kill(self.pid, number)
        if self.process:
            return self.process.wait(timeout)
        wait_until(lambda: not self.alive(), "the daemon's end", timeout)
        return None

    def kill(self):
        self.stopped = True
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        if self.process:
            self.process.wait()

    def check(self):
        """What must hold when a test ends and its peers have left."""
        assert self.alive(), "the server died"
        if self.base_fds is not None:
            wait_until(lambda: self.fds() <= self.base_fds,
                       f"the server to close all but its first {self.base_fds} descriptors", 5)
        code = self.stop()
        assert code in (0, None), f"exit code {code} after SIGTERM"


def as_user(user, rlimit):
    """What the child does before exec: become `user`, take the limits {resource: (soft, hard)}."""
    entry = pwd.getpwnam(user) if user and os.geteuid() == 0 else None

    def prepare():
        for number, values in (rlimit or {}).items():
            resource.setrlimit(number, values)
        if entry:
            os.setgroups([])
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)

    return prepare


def kill_users_of(path):
    """Kill what has this directory on its command line: daemons of a test that failed."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"{path}/".encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass


@pytest.fixture
def tmp():
    """A directory of its own with a path short enough for sockets. Its users do not outlive it."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="iv", dir="/tmp"))
    path.chmod(0o755)
    yield path
    kill_users_of(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server_command(pytestconfig):
    """The server's command line without options, as a list."""
    text = pytestconfig.getoption("--server") or os.environ.get("IVSHMEM_SERVER")
    if text:
        return shlex.split(text)
    path = find_program("ivshmem-server")
    if not path:
        pytest.exit(f"no ivshmem-server in {build_dir()}: build it, or say --server COMMAND", 3)
    return [str(path)]


def runnable_by(command, tmp, user):
    """`command`, copied to where `user` can run it if that needs to be."""
    if not user or os.geteuid() != 0:
        return command
    probe = ["setpriv", "--reuid", user, "--clear-groups", "test", "-x", command[0]]
    if subprocess.run(probe, check=False).returncode == 0:
        return command
    copy = tmp / "server"
    if not copy.exists():
        shutil.copy(command[0], copy)
        copy.chmod(0o755)
    return [str(copy)] + command[1:]


@pytest.fixture
def server(pytestconfig, server_command, tmp):
    """
    Start a server: server(*options, vectors=1, size="1M", socket=None, env=None, user=None,
    rlimit=None). `user` counts only when we are root: else the server is an ordinary user's anyway.
    """
    started = []

    def start(*options, vectors=1, size="1M", socket=None, env=None, user=None, rlimit=None):
        number = len(started)
        if user:
            tmp.chmod(0o777)
        path = str(socket or tmp / f"s{number}")
        log_path = tmp / f"log{number}"
        command = runnable_by(server_command, tmp, user)
        command = command + ["-F", "-S", path, "-l", str(size), "-n", str(vectors)]
        command += [str(option) for option in options]
        if pytestconfig.getoption("--server-kind") == "contrib":
            command += ["-M", f"e2e-{tmp.name}-{number}"]
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(env or {})}, preexec_fn=as_user(user, rlimit))
        result = Server(path, process.pid, log_path, process)
        started.append((command, result))
        wait_until(lambda: is_listening(path) or process.poll() is not None, "the server to listen")
        assert process.poll() is None, f"server ended with {process.returncode}: {result.log()}"
        # Once it sleeps it has opened all that it needs.
        wait_until(lambda: "State:\tS" in pathlib.Path(f"/proc/{result.pid}/status").read_text(
            encoding="ascii"), "the server to be idle")
        result.base_fds = result.fds()
        return result

    yield start
    try:
        for _, one in started:
            if not one.stopped:
                one.check()
    finally:
        for command, one in started:
            one.kill()
            log = one.log()
            print(f"--- {shlex.join(command)}\n{log[-4000:]}", file=sys.stderr)


@pytest.fixture
def spawn():
    """subprocess.Popen, but what still runs when the test ends is killed."""
    processes = []

    def start(*args, **options):
        processes.append(subprocess.Popen(*args, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def join(server):  # pylint: disable=unused-argument
    """Join a server: join(server, **options of wire.Peer). The peers leave when the test ends."""
    peers = []

    def start(target, **options):
        peer = wire.Peer(target.socket, **options)
        peers.append(peer)
        return peer

    yield start
    for peer in peers:
        peer.close()


@pytest.fixture(scope="session")
def swarm_program(tmp_path_factory):
    """The load generator; built here when there is no build directory (another server's judge)."""
    path = find_program("swarm")
    if path:
        return path
    path = tmp_path_factory.mktemp("swarm") / "swarm"
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-o", path, HERE / "swarm.c"],
                   check=True)
    return path


@pytest.fixture
def swarm(swarm_program):
    """
    Run the load generator on a server: swarm(server, peers, vectors, *options) returns its summary
    as a dict of numbers. With hold=True it returns (summary, leave): the peers stay until leave().
    """
    running = []

    def start(target, peers, vectors, *options, hold=False, timeout=120):
        command = [str(swarm_program), "-S", target.socket, "-p", str(peers), "-n", str(vectors),
                   "-t", str(timeout), *options]
        if hold:
            command.append("-H")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        running.append(process)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("whole "):
                break
        text = "".join(lines)

        def leave():
            process.stdin.close()
            rest = process.stdout.read()
            assert process.wait(TIMEOUT) == 0, text + rest

        if not lines or not lines[-1].startswith("whole "):
            process.wait(TIMEOUT)
            pytest.fail(f"swarm: {text}")
        summary = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", lines[-1])}
        if hold:
            return summary, leave
        leave()
        return summary

    yield start
    for process in running:
        process.kill()
        process.wait()
