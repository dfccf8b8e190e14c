# SPDX-License-Identifier: MIT
"""
Fixtures of the end-to-end tests. See README.md for how to run them.

The server under test is a command line, so that the same tests judge anybody's server. Every server
and every device process that a test starts is checked when the test ends: it still lives, it holds
no more descriptors than before the first peer or VMM came, and it stops with exit code 0 when asked
to.
"""

import contextlib
import fcntl
import itertools
import os
import pathlib
import pwd
import random
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

import procs
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
    config.addinivalue_line("markers", "long: one case more of the same, which only --long runs")
    config.addinivalue_line("markers", "crowd: has tens of thousands of descriptors in flight")
    # A thousand peers in one process need more descriptors than most shells allow.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # What a shell starts in the background ignores Ctrl-C, and so would all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config, items):
    """Left out, not skipped: more of the same, and what does not apply to another server."""
    marks = [] if config.getoption("--long") else ["long"]
    if config.getoption("--server-kind") != "ours":
        marks.append("ours")
    out = [item for item in items if any(map(item.get_closest_marker, marks))]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


def cases(*always, long=()):
    """For parametrize: the cases of every run, and those that only --long runs."""
    return [*always, *(pytest.param(*(case if isinstance(case, tuple) else (case,)),
                                    marks=pytest.mark.long) for case in long)]


@pytest.fixture(autouse=True)
def alone_in_a_crowd(request):
    """
    Descriptors in flight count for all processes of a user, and with more than RLIMIT_NOFILE of
    them a device process, which has dropped its capabilities, can send none to its VMM. So a test
    marked `crowd` runs while no other one does. Whoever waits at the door lets nobody pass.
    """
    crowd = request.node.get_closest_marker("crowd")
    place = f"{tempfile.gettempdir()}/ivshmem-e2e-{os.getuid()}"
    with open(f"{place}.door", "wb") as door, open(f"{place}.room", "wb") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if crowd else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


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


def free_port():
    """
    A port of 127.0.0.1 that nobody has, and that stays so until the test uses it: the kernel gives
    it to none of the programs beside us that ask for any (/proc/sys/net/ipv4/ip_local_port_range).
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(10000, 32768)))
            return probe.getsockname()[1]


class Daemon:
    """A running program that serves on one or several sockets."""

    what = "daemon"

    def __init__(self, sockets, pid, log_path, process=None):
        self.sockets = [sockets] if isinstance(sockets, str) else list(sockets)
        self.pid = pid
        self.process = process  # None: a daemon, not our child
        self.log_path = log_path
        self.stopped = False
        self.base_fds = None
        self.before = []  # those that were started before it, perhaps its servers

    @property
    def socket(self):
        return self.sockets[0]

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_log(self, pattern, timeout=TIMEOUT):
        return wait_until(lambda: re.search(pattern, self.log()), f"{pattern!r} in the log",
                          timeout)

    def alive(self):
        if self.process:
            return self.process.poll() is None
        return not procs.has_ended(self.pid)

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sleeps(self):
        return procs.state_of(self.pid) == "S"

    def settle(self):
        """Take the descriptors that it has once it is idle for all that it may have at its end."""
        wait_until(self.sleeps, f"the {self.what} to be idle")
        self.base_fds = self.fds()

    def status(self, field):
        """A number of /proc/PID/status, e.g. RssAnon (in KiB)."""
        return int(procs.status_of(self.pid)[field].split()[0])

    def cpu_time(self):
        """CPU seconds used so far."""
        return procs.cpu_time(self.pid)

    def limit_fds(self, soft):
        """Change its soft RLIMIT_NOFILE while it runs; returns the old one."""
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
        """What must hold when a test ends and its peers and VMMs have left."""
        assert self.alive(), f"the {self.what} died: {self.process and self.process.returncode}"
        if self.base_fds is not None:
            wait_until(lambda: self.fds() <= self.base_fds,
                       f"the {self.what} to close all but its first {self.base_fds} descriptors")
        code = self.stop()
        assert code in (0, None), f"exit code {code} after SIGTERM"


class Server(Daemon):
    what = "server"


class Device(Daemon):
    what = "device process"

    def settle(self):
        """
        Devices of one process hear of each other a moment after they have joined a server, and of
        thousands of vectors bit by bit: the server has to have its turn in between.
        """
        counts = []

        def is_stable():
            is_idle = self.sleeps() and not any(
                procs.state_of(other.pid) in ("R", "D") for other in self.before)
            counts.append(self.fds() if is_idle else None)
            return len(counts) >= 10 and len(set(counts[-10:])) == 1 and counts[-1] is not None

        wait_until(is_stable, "the device process to be idle")
        self.base_fds = counts[-1]


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


@contextlib.contextmanager
def acting_with(uid, gid, groups=()):
    """What root does inside, such as connect(2), is done by that user."""
    had = os.getgroups()
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(had)


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


@pytest.fixture(scope="session")
def device_command():
    """The device program's command line without options, as a list."""
    path = find_program("ivshmem-device")
    assert path, f"no ivshmem-device in {build_dir()}"
    return [str(path)]


def runnable_by(command, tmp, user):
    """`command`, copied to where `user` can run it if that needs to be."""
    if not user or os.geteuid() != 0:
        return command
    probe = ["setpriv", "--reuid", user, "--clear-groups", "test", "-x", command[0]]
    if subprocess.run(probe, check=False).returncode == 0:
        return command
    copy = tmp / f"{pathlib.Path(command[0]).name}.copy"
    if not copy.exists():
        shutil.copy(command[0], copy)
        copy.chmod(0o755)
    return [str(copy)] + command[1:]


def ended_with_test(start, end):
    """
    For a fixture: `yield from ended_with_test(start, end)` is a function that calls start(), and
    end() is called with whatever it has returned when the test ends, the last one first.
    """
    with contextlib.ExitStack() as stack:

        def run(*args, **options):
            thing = start(*args, **options)
            stack.callback(end, thing)
            return thing

        yield run


def kill(process):
    process.kill()
    process.wait()


@pytest.fixture
def launch(tmp):
    """
    Start a program that serves: launch(kind, sockets, command, ready_fd=True, env=None, user=None,
    rlimit=None) is a kind(sockets, ...), which is a Daemon, once all its sockets listen; learnt by
    --ready-fd, or by looking. `user` counts only when we are root: else the program is an ordinary
    user's anyway. All are checked when the test ends, servers last.
    """
    started = []

    def start(kind, sockets, command, ready_fd=True, env=None, user=None, rlimit=None):
        log_path = tmp / f"log{len(started)}"
        if user:
            tmp.chmod(0o777)
        command = [str(word) for word in runnable_by(command, tmp, user)]
        reader, writer = os.pipe()
        if ready_fd:
            command += ["--ready-fd", str(writer)]
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[writer] if ready_fd else [],
                env={**os.environ, **(env or {})}, preexec_fn=as_user(user, rlimit))
        one = kind(sockets, process.pid, log_path, process)
        one.before = [other for _, other in started]
        started.append((command, one))
        os.close(writer)
        said = ready_fd and wire.select_readable(reader, TIMEOUT) and os.read(reader, 1)
        os.close(reader)
        assert not ready_fd or said == b"\n", f"the {one.what} is not ready: {one.log()}"
        wait_until(lambda: all(map(is_listening, one.sockets)) or not one.alive(),
                   f"the {one.what} to listen")
        assert one.alive(), f"the {one.what} ended with {process.returncode}: {one.log()}"
        one.settle()
        return one

    yield start
    try:
        for _, one in sorted(reversed(started), key=lambda entry: isinstance(entry[1], Server)):
            if not one.stopped:
                one.check()
    finally:
        for command, one in started:
            one.kill()
            print(f"--- {shlex.join(command)}\n{one.log()[-4000:]}", file=sys.stderr)


@pytest.fixture
def server(pytestconfig, server_command, launch, tmp):
    """
    Start a server: server(*options, vectors=1, size="1M", socket=None, **of launch).
    """
    numbers = itertools.count()

    def start(*options, vectors=1, size="1M", socket=None, **others):
        number = next(numbers)
        path = str(socket or tmp / f"s{number}")
        command = [*server_command, "-F", "-S", path, "-l", size, "-n", vectors, *options]
        if pytestconfig.getoption("--server-kind") == "contrib":
            command += ["-M", f"e2e-{tmp.name}-{number}"]
        return launch(Server, path, command, ready_fd=False, **others)

    yield start
    for left in pathlib.Path("/dev/shm").glob(f"e2e-{tmp.name}*"):
        left.unlink(missing_ok=True)  # contrib's server leaves its memory there


@pytest.fixture
def device(device_command, launch):
    """
    Start ivshmem-device: device("socket=PATH,type=...", ..., options=(), **of launch), one argument
    for each --device. The sockets of what it returns are in that order.
    """

    def start(*devices, options=(), **others):
        sockets = [re.search(r"(?:^|,)socket=([^,]*)", one).group(1) for one in devices]
        command = [*device_command, *options]
        for one in devices:
            command += ["--device", one]
        return launch(Device, sockets, command, **others)

    return start


@pytest.fixture
def spawn():
    """subprocess.Popen, but what still runs when the test ends is killed."""
    yield from ended_with_test(subprocess.Popen, kill)


@pytest.fixture
def join(server):  # pylint: disable=unused-argument
    """Join a server: join(server, **options of wire.Peer). The peers leave when the test ends."""
    yield from ended_with_test(
        lambda target, **options: wire.Peer(target.socket, **options), wire.Peer.close)


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
def swarm(swarm_program, spawn):
    """
    Run the load generator on a server: swarm(server, peers, vectors, *options) returns its summary
    as a dict of numbers. With hold=True it returns (summary, leave): the peers stay until leave().
    """

    def start(target, peers, vectors, *options, hold=False, timeout=120):
        command = [str(swarm_program), "-S", target.socket, "-p", str(peers), "-n", str(vectors),
                   "-t", str(timeout), *options]
        if hold:
            command.append("-H")
        process = spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, text=True)
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

    return start
