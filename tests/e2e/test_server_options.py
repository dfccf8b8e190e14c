# SPDX-License-Identifier: MIT
"""
The command line of our server: each option does what it says, or start fails with one line that
names the option and says what to do, and an exit code that is not 0.
"""

import fcntl
import json
import os
import pathlib
import pwd
import re
import resource
import shlex
import signal
import socket
import stat
import subprocess

import pytest

import wire
from conftest import TIMEOUT, Server, as_user, is_listening, runnable_by, wait_until

pytestmark = pytest.mark.ours

NOBODY = pwd.getpwnam("nobody")
GIB = 1 << 30


def mem_available():
    text = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
    return int(re.search(r"MemAvailable:\s+(\d+)", text).group(1)) << 10


@pytest.fixture
def run(server_command, tmp):
    """
    Run the server to its end: run(*options, user=None, rlimit=None) -> CompletedProcess. For starts
    that fail, and daemons, whose first process ends when the server is ready.
    """

    def start(*options, user=None, rlimit=None):
        if user:
            tmp.chmod(0o777)
        command = runnable_by(server_command, tmp, user) + [str(option) for option in options]
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=30, check=False,
                              preexec_fn=as_user(user, rlimit))

    return start


@pytest.fixture
def refused(run, tmp):
    """
    refused(option, remedy, *options): start fails, the last line of stderr is the only error, names
    `option` and matches the pattern `remedy`. Nothing is left behind.
    """

    def check(option, remedy, *options, **more):
        def things():
            """Names in /dev/shm that are ours: other tests run beside this one."""
            return sorted(name for name in os.listdir(tmp) if name != "server") + sorted(
                name for name in os.listdir("/dev/shm") if tmp.name in name)

        before = things()
        given = [] if "-S" in options else ["-S", tmp / "refused"]
        result = run("-F", *given, *options, **more)
        print(result.stderr)
        assert result.returncode in (1, 2)
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert lines, "failed without a word"
        assert all(": error: " not in line for line in lines[:-1]), "more than one line"
        assert len(lines[-1]) < 400
        assert option in lines[-1]
        assert re.search(remedy, lines[-1].replace(option, "", 1), re.I), "no remedy"
        assert things() == before

    return check


@pytest.fixture
def daemon(run, tmp):
    """Start a server as a daemon; `tmp` sees to its end."""

    def start(*options):
        result = run("-S", tmp / "s", "-p", tmp / "pid", *options)
        assert result.returncode == 0, result.stderr
        return Server(str(tmp / "s"), int((tmp / "pid").read_text()), tmp / "pid")

    return start


def region_size(target, join):
    return os.fstat(join(target).region).st_size


# ---- -l ----


@pytest.mark.parametrize("given, size", [
    ("5M", 8 << 20), ("4M", 4 << 20), ("1", 4096), ("4097", 8192), ("64K", 65536), ("3m", 4 << 20)])
def test_size_is_rounded_up_to_a_power_of_two(server, join, given, size):
    assert region_size(server(size=given), join) == size


def test_size_default_is_4_mib(daemon, join):
    assert region_size(daemon(), join) == 4 << 20


def test_size_3g(server, join, refused):
    """4 GiB in the end, or refused where they are not there."""
    if mem_available() > 5 * GIB:
        assert region_size(server(size="3G"), join) == 4 * GIB
    else:
        refused("-l", "memory|less", "-l", "3G")


@pytest.mark.parametrize("given", [
    "99999T", "16E", "16777216T", "18446744073709551615", "9223372036854775807",
    "18446744073709551616", "99999999999999999999999", "4611686018427387905", "0", "-1", "-4M", "",
    "M", "4MM", "4X", "four", "0x", "4 M x"])
def test_size_absurd(refused, given):
    """No memory is touched before it is known to be there (the machine would kill something)."""
    before = mem_available()
    refused("-l", "give|less|size|memory|at least", "-l", given,
            rlimit={resource.RLIMIT_DATA: (GIB, GIB)})
    # Others take some, too, but not for long.
    wait_until(lambda: mem_available() > before - GIB // 2, "the memory to be there")


def test_size_beyond_memory_says_both_numbers(refused, run, tmp):
    with open("/proc/meminfo", encoding="ascii") as lines:
        total = int(lines.readline().split()[1]) << 10
    refused("-l", r"\d.*\b[KMGT]i?B.*\d.*\b[KMGT]i?B.*--memory-reserve", "-l", f"{2 * total}")
    result = run("-F", "-S", tmp / "s", "-l", "1M", "--memory-reserve", "1000T")
    assert result.returncode == 1 and "--memory-reserve" in result.stderr


def test_size_beyond_the_cgroup_limit(server_command, spawn, tmp):
    """A memory cgroup of 64 MiB: 128 MiB are refused, not killed by the kernel; 16 MiB work."""
    group = memory_cgroup(64 << 20)
    if not group:
        pytest.skip("cannot make a memory cgroup here (needs root and a writable cgroup tree)")

    def enter():
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    try:
        command = [*server_command, "-F", "-S", str(tmp / "s"), "--memory-reserve", "1M"]
        result = subprocess.run([*command, "-l", "128M"], preexec_fn=enter, timeout=20, text=True,
                                capture_output=True, check=False)
        assert result.returncode == 1
        assert re.search(r"-l.*cgroup", result.stderr), result.stderr
        process = spawn([*command, "-l", "16M"], preexec_fn=enter)
        wait_until(lambda: is_listening(str(tmp / "s")), "the server to listen")
        process.terminate()
        assert process.wait() == 0
    finally:
        group.rmdir()


def memory_cgroup(limit):
    """A new memory cgroup, version 1 or 2, or None."""
    if os.geteuid() != 0:
        return None
    for top, name in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                      ("/sys/fs/cgroup", "memory.max")):
        group = pathlib.Path(top) / f"ivshmem-e2e-{os.getpid()}"
        if not (pathlib.Path(top) / "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
            (group / name).write_text(str(limit), encoding="ascii")
            return group
        except OSError:
            if group.exists():
                group.rmdir()
    return None


# ---- -n ----


def test_vectors_65_work_with_a_warning(server, join):
    target = server(vectors=65)
    assert target.wait_log(r"warning: .*64")
    join(target).pump_mesh(0, 65)


def test_vectors_64_work_without_a_warning(server):
    target = server(vectors=64)
    target.stop()
    assert not re.search(r"warning: .*vectors", target.log())


def test_vectors_2048(server, join):
    target = server(vectors=2048)
    first, second = join(target), join(target)
    first.pump_mesh(1, 2048)
    second.pump_mesh(1, 2048)
    first.ring(second.id, 2047)
    assert second.rung() == {2047: 1}


@pytest.mark.parametrize("given", ["4096", "2049", "-1", "", "many", "1.5", "99999999999999999999"])
def test_vectors_out_of_range(refused, given):
    refused("-n", "0 to 2048", "-n", given)


# ---- --max-peers and the limit of descriptors ----


def test_max_peers_default_is_what_the_limit_carries(server, join):
    """Printed at start; the limit is not exceeded by the last peer."""
    target = server(vectors=3, rlimit={resource.RLIMIT_NOFILE: (64, 128)})
    fit = int(target.wait_log(r"up to (\d+) peers").group(1))
    assert 10 <= fit <= 128 // 4
    peers = [join(target) for _ in range(fit)]

    for peer in peers:
        peer.pump_mesh(fit - 1, 3)
    with pytest.raises(wire.ProtocolError, match=str(wire.REFUSED_FULL)):
        join(target)


def test_max_peers_that_does_not_fit_is_an_error(refused):
    refused("--max-peers", r"ulimit|LimitNOFILE|lower", "--max-peers", 65536, "-n", 64,
            rlimit={resource.RLIMIT_NOFILE: (1024, 1024)})


@pytest.mark.parametrize("given", ["0", "65537", "x"])
def test_max_peers_out_of_range(refused, given):
    refused("--max-peers", "1 to 65536", "--max-peers", given)


# ---- paths ----


def test_socket_path_of_200_characters(refused, tmp):
    refused("-S", "107|short", "-S", tmp / ("x" * 200))


def test_socket_path_of_107_bytes(server, join, tmp):
    path = str(tmp / "x")
    path += "x" * (107 - len(path))
    assert join(server(socket=path)).id == 0


def test_socket_as_uri(server_command, spawn, tmp):
    spawn([*server_command, "-F", "-S", f"unix:{tmp}/s", "-l", "1M"])
    wait_until(lambda: is_listening(f"{tmp}/s"), "the server to listen")


def test_socket_as_bad_region_name(refused):
    refused("-S", r"\[a-z0-9", "-S", "region:../x")


@pytest.mark.parametrize("path", ["missing/s", "", "locked/s", "file/s"])
def test_unwritable_socket_path(refused, tmp, path):
    (tmp / "locked").mkdir(mode=0o755)
    (tmp / "file").write_text("")
    refused("-S", "choose|directory|writable|1 to 107", "-S", str(tmp / path) if path else "",
            user="nobody")


def test_unwritable_pid_file(run, tmp):
    (tmp / "locked").mkdir(mode=0o755)
    result = run("-S", tmp / "s", "-l", "1M", "-p", tmp / "locked" / "pid", user="nobody")
    assert result.returncode == 1
    assert re.search(r"-p .*choose", result.stderr.splitlines()[-1]), result.stderr
    assert not (tmp / "s").exists()


@pytest.mark.parametrize("option, path", [
    ("-m", "missing"), ("-m", "file"), ("-m", "locked"), ("--file", "missing"),
    ("--file", "locked/x"), ("--file", "file")])
def test_unusable_region_path(refused, tmp, option, path):
    (tmp / "locked").mkdir(mode=0o700)
    (tmp / "file").write_text("not a power of two")
    refused(option, r"\w+ \w+", option, tmp / path, user="nobody")


def test_file_in_the_way_is_not_removed(refused, tmp):
    (tmp / "precious").write_text("data")
    refused("-S", "in the way|choose|no socket", "-S", tmp / "precious")
    assert (tmp / "precious").read_text() == "data"


def test_two_servers_on_one_path(server, refused, join):
    target = server()
    refused("-S", "another server.*(stop|choose)", "-S", target.socket)
    first, second = join(target), join(target)
    first.pump_mesh(1, 1)
    assert (first.id, second.id) == (0, 1), "the probe of the second server is not a peer"


def test_two_servers_at_the_same_moment(server_command, spawn, tmp):
    """Also when both find the same stale socket: exactly one wins."""
    path = str(tmp / "s")
    for _ in range(10):
        leave_stale_socket(path)
        both = [spawn([*server_command, "-F", "-S", path, "-l", "4K"], stderr=subprocess.DEVNULL)
                for _ in range(2)]
        wait_until(lambda: any(one.poll() is not None for one in both), "one of them to give up")
        winner = both[0] if both[0].poll() is None else both[1]
        wait_until(lambda: is_listening(path), "the other to listen")
        with wire.Peer(path) as peer:
            assert peer.id == 0
        assert winner.poll() is None
        winner.terminate()
        assert sorted(one.wait() for one in both) == [0, 1]


def leave_stale_socket(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(path)


def test_stale_socket_is_replaced(server, join, tmp):
    leave_stale_socket(str(tmp / "s"))
    assert join(server(socket=tmp / "s")).id == 0


def test_socket_of_a_killed_server_is_replaced(server, join):
    target = server()
    target.kill()
    assert os.path.exists(target.socket)
    assert join(server(socket=target.socket)).id == 0


def test_socket_mode_and_owner(server, tmp):
    target = server()
    status = os.stat(target.socket)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()
    target = server("--socket-mode", "0660")
    assert stat.S_IMODE(os.stat(target.socket).st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a socket away")
@pytest.mark.parametrize("owner", [
    "nobody", f"nobody:{NOBODY.pw_gid}", f"{NOBODY.pw_uid}", ":nogroup"])
def test_socket_owner(server, owner):
    status = os.stat(server("--socket-owner", owner).socket)
    assert status.st_uid == (0 if owner.startswith(":") else NOBODY.pw_uid)
    assert status.st_gid == (NOBODY.pw_gid if ":" in owner else 0)


@pytest.mark.parametrize("option, given", [
    ("--socket-mode", "9"), ("--socket-mode", "01000"), ("--socket-mode", "rw"),
    ("--socket-owner", "no-such-user-here"), ("--region-mode", "x"), ("--protocol", "2.5"),
    ("--log-format", "xml"), ("--log-target", "file"), ("--ready-fd", "-1"), ("--ready-fd", "77"),
    ("--huge-pages", "3M"), ("--numa-node", "x"), ("--numa-node", "1000"), ("--max-queue", "-1"),
    ("--stall-timeout", "soon"), ("--exit-timeout", "x"), ("--memory-reserve", "x"),
    ("--max-peers-per-uid", "0"), ("--max-descriptors-per-uid", "-1"),
    ("--max-queue-bytes-per-uid", "x"), ("--user", "no-such-user-here")])
def test_wrong_arguments(refused, option, given):
    refused(option, r"\w+ \w+", option, given)


def test_unknown_option_and_stray_argument(run):
    for arguments in (["--no-such-option"], ["-Z"], ["stray"], ["-S"]):
        result = run(*arguments)
        assert result.returncode == 2, arguments
        assert len(result.stderr.splitlines()) == 1
        assert "--help" in result.stderr


def test_help_and_version(run):
    for option in ("-h", "--help"):
        result = run(option)
        assert result.returncode == 0 and result.stderr == ""
        for name in "hvFpSMmln":
            assert re.search(rf"(^|\s)-{name}\b", result.stdout), f"-{name}"
        assert max(len(line) for line in result.stdout.splitlines()) <= 100
    result = run("--version")
    assert result.returncode == 0 and re.search(r"\d+\.\d+\.\d+", result.stdout)


# ---- the region's backing ----


def test_shm_is_created_exclusively_and_removed(server, join, refused, tmp):
    name = f"e2e-{tmp.name}"
    target = server("-M", name)
    path = pathlib.Path("/dev/shm") / name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert target.wait_log("warning: .*(seal|shrink)"), "cannot be sealed: must warn"
    with wire.Peer(target.socket) as peer:
        assert os.fstat(peer.region).st_ino == path.stat().st_ino
    refused("-M", "--reuse", "-M", name)
    assert path.exists(), "the failed start must not remove the other server's object"
    target.stop()
    assert not path.exists()


def test_shm_that_exists_is_adopted_with_reuse_only(server, join, refused, tmp):
    path = pathlib.Path("/dev/shm") / f"e2e-{tmp.name}"
    path.write_bytes(b"kept" + bytes((1 << 20) - 4))
    try:
        refused("-M", "--reuse", "-M", path.name, "-l", "1M")
        target = server("-M", path.name, "--reuse")
        with wire.Peer(target.socket) as peer:
            assert os.pread(peer.region, 4, 0) == b"kept"
        target.stop()
        assert path.exists(), "removed an object that it did not create"
        refused("-l", r"smaller|resize", "-M", path.name, "--reuse", "-l", "2M")
    finally:
        path.unlink()


def test_dir_leaves_no_name(server, join, tmp):
    (tmp / "dir").mkdir()
    target = server("-m", tmp / "dir")
    with wire.Peer(target.socket) as peer:
        os.pwrite(peer.region, b"x", 0)
        assert os.fstat(peer.region).st_size == 1 << 20
    assert os.listdir(tmp / "dir") == []


def test_file_is_used_as_it_is(server, join, tmp):
    (tmp / "file").write_bytes(b"kept" + bytes(8188))
    target = server("--file", tmp / "file", size="8K")
    with wire.Peer(target.socket) as peer:
        assert os.pread(peer.region, 4, 0) == b"kept"
        assert os.fstat(peer.region).st_size == 8192
    target.stop()
    assert (tmp / "file").exists()


def test_start_line_says_that_the_region_is_a_memfd(server):
    """The one deliberate difference from QEMU's server."""
    assert server().wait_log(r"memfd")


def test_region_mode_is_set_on_the_object(server, join):
    peer = join(server("--region-mode", "0640"))
    assert stat.S_IMODE(os.fstat(peer.region).st_mode) == 0o640


# ---- start and end ----


def test_daemon_is_ready_when_the_command_returns(daemon, tmp):
    target = daemon("-l", "1M")
    with wire.Peer(target.socket) as peer:
        assert peer.id == 0
    assert os.getsid(target.pid) not in (0, os.getsid(0)), "in our session"
    target.stop()
    assert os.listdir(tmp) == [], "socket and pid file are removed"


def test_pid_file_is_locked(daemon, run, tmp):
    target = daemon("-l", "1M")
    with open(tmp / "pid", encoding="ascii") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    result = run("-S", tmp / "s2", "-p", tmp / "pid", "-l", "1M")
    assert result.returncode == 1
    assert re.search("-p .*another server", result.stderr.splitlines()[-1])
    assert int((tmp / "pid").read_text()) == target.pid
    assert not (tmp / "s2").exists()


def test_pid_file_of_a_killed_daemon_is_taken_over(daemon):
    first = daemon("-l", "1M")
    first.kill()
    wait_until(lambda: not first.alive(), "its end")
    assert daemon("-l", "1M").pid != first.pid


def test_pid_file_does_not_follow_a_symlink(run, tmp):
    (tmp / "victim").write_text("data")
    (tmp / "pid").symlink_to(tmp / "victim")
    result = run("-S", tmp / "s", "-p", tmp / "pid", "-l", "1M")
    assert result.returncode == 1
    assert (tmp / "victim").read_text() == "data"


def test_daemon_reports_a_failed_start(run, tmp):
    result = run("-S", tmp / "missing" / "s", "-p", tmp / "pid", "-l", "1M")
    assert result.returncode == 1
    assert "-S" in result.stderr
    assert os.listdir(tmp) == []


def test_ready_fd(server_command, spawn, tmp):
    """A newline, then the end, and clients can connect at that moment."""
    reader, writer = os.pipe()
    command = [*server_command, "-F", "-S", str(tmp / "s"), "-l", "1M", "--ready-fd", str(writer)]
    process = spawn(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    assert os.read(reader, 10) == b"\n"
    with wire.Peer(str(tmp / "s")) as peer:
        assert peer.id == 0
    assert os.read(reader, 10) == b""
    os.close(reader)
    process.terminate()
    assert process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly(server, number):
    target = server()
    assert target.stop(number) == 0
    assert not os.path.exists(target.socket)


def test_exit_does_not_wait_for_a_peer_that_does_not_read(server, join):
    target = server("--exit-timeout", 200, vectors=8)
    peers = [join(target) for _ in range(60)]
    wait_until(lambda: join_and_leave(target), "somebody else to be served")
    assert target.stop() == 0
    assert "some peers have not read" in target.log()
    assert not os.path.exists(target.socket)
    assert all(peer.at_end() for peer in peers)


def join_and_leave(target):
    with wire.Peer(target.socket) as peer:
        return peer.id is not None


def test_exit_does_not_remove_a_socket_that_is_not_its_own(server, tmp):
    target = server()
    os.rename(target.socket, tmp / "moved")
    leave_stale_socket(target.socket)
    assert target.stop() == 0
    assert os.path.exists(target.socket)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("foreground", [True, False], ids=["foreground", "daemon"])
def test_started_with_standard_descriptors_closed(server_command, spawn, tmp, closed, foreground):
    """As some supervisors do. The region must not become descriptor 2: the log would go there."""
    command = shlex.join([*server_command, "-S", f"{tmp}/s", "-l", "1M", "-p", f"{tmp}/pid"])
    command += " -F" if foreground else ""
    process = spawn(["sh", "-c", f"exec {command} {closed}"])
    wait_until(lambda: is_listening(str(tmp / "s")), "the server to listen")
    if foreground:
        target = Server(str(tmp / "s"), process.pid, tmp / "pid", process)
    else:
        assert process.wait(TIMEOUT) == 0
        target = Server(str(tmp / "s"), int((tmp / "pid").read_text()), tmp / "pid")
    with wire.Peer(target.socket) as first, wire.Peer(target.socket) as second:
        first.pump_mesh(1, 1)
        second.pump_mesh(1, 1)
        first.ring(1, 0)
        assert second.rung() == {0: 1}
        assert os.fstat(first.region).st_size == 1 << 20
        assert os.pread(first.region, 4096, 0) == bytes(4096)
    assert target.stop() in (0, None)


# ---- the log ----


def test_json_log(server, join):
    """Each line is one object; a join and a leave are there with what an operator needs."""
    target = server("--log-format", "json")
    peer = join(target)
    target.wait_log(r"peer 0 joined")
    peer.close()
    target.wait_log(r"peer 0 left")
    target.stop()
    lines = [json.loads(line) for line in target.log().splitlines()]
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    joined = next(line for line in lines if "joined" in line["message"])
    assert f"pid {os.getpid()}" in joined["message"] and f"uid {os.getuid()}" in joined["message"]


def test_plain_log_names_every_join_and_leave(server, join):
    target = server("-v")
    for number in range(150):
        join(target).close()
        target.wait_log(rf"peer {number} joined")
        target.wait_log(rf"peer {number} left: connection \w+")


def test_log_cannot_be_flooded_by_a_client(server):
    target = server()
    for _ in range(3000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(target.socket)
    wait_until(lambda: target.fds() <= target.base_fds, "all of them to be gone")
    assert len(target.log().splitlines()) < 500
