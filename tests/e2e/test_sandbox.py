# SPDX-License-Identifier: MIT
"""
The server's sandbox: it is on, all that the server is asked for works inside, and with --user after
a reload and a restart as at the start. What is refused inside is tests/unit/test_sandbox.c's.
"""

import os
import pwd
import re
import signal
import socket
import subprocess
import urllib.request

import pytest

import wire
from conftest import Daemon, Server, find_program, is_listening, runnable_by, wait_until
from procs import children_of, has_ended, status_of
from regions import Config, call, memory_of, regions_of

ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")
PATIENCE = 120
# Those of root that an option rests on: CHOWN, DAC_OVERRIDE, FOWNER, NET_BIND_SERVICE, IPC_LOCK,
# SYS_PTRACE, SYS_RESOURCE, and where that is not there SYS_ADMIN.
KEPT = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 10 | 1 << 14 | 1 << 19 | 1 << 24 | 1 << 21

pytestmark = pytest.mark.ours
as_root = pytest.mark.skipif(not ROOT, reason="only root becomes somebody else")


def expect_confined(pid, capabilities=0):
    status = status_of(pid)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    for kind in ("CapEff", "CapPrm"):
        assert int(status[kind], 16) & ~capabilities == 0, kind
    if ROOT:
        assert int(status["CapBnd"], 16) & ~KEPT == 0


def test_on_by_default(server):
    expect_confined(server().pid, KEPT if ROOT else 0)


def test_no_sandbox(server):
    assert status_of(server("--no-sandbox").pid)["Seccomp"] == "0"


@pytest.fixture
def config(tmp):
    if ROOT:
        tmp.chmod(0o777)
    return Config(tmp)


@pytest.fixture
def serve(server_command, launch):
    """serve(config, *options, **of launch): a server with that configuration."""

    def start(config, *options, **others):
        return launch(Server, [*config.sockets(), config.control],
                      [*server_command, "-F", "-c", config.path, *options], ready_fd=False,
                      **others)

    return start


def get(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


def test_all_that_it_does_works_inside(config, serve, tmp):
    """Each kind of memory, made at the start, after a reload and at run time; metrics, ivshmctl."""
    (tmp / "file").write_bytes(bytes(8192))
    kinds = {
        "memfd": "size = 64K numa-node = 0 zero-on-last-leave = yes header = yes",
        "dir": f'size = 64K memory = "dir:{tmp}"',
        "file": f'memory = "file:{tmp}/file"',
        "shm": f'size = 64K memory = "shm:{tmp.name}" reuse = yes',
        "owned": f"size = 4K socket-mode = 0660 socket-owner = {os.getuid()}:{os.getgid()}",
        "rules": f'size = 4K allow {{ user = {os.getuid()} executable = "*python*" cgroup = "*" }}',
    }
    config.write({})
    one = serve(config, "--metrics", 0, "--metrics-file", tmp / "metrics", "--metrics-interval", 1)
    expect_confined(one.pid, KEPT if ROOT else 0)
    config.write(kinds)
    call(config.control, "Reload")
    call(config.control, "CreateRegion",
         spec={"name": "x", "size": 4096, "socket": config.socket("x"), "backing": "dir",
               "backing_name": str(tmp)})
    for name in [*kinds, "x"]:
        with wire.Peer(config.socket(name)) as first, wire.Peer(config.socket(name)) as second:
            memory_of(first)[-1] = 7
            assert memory_of(second)[-1] == 7
            first.pump_mesh(1, 1)
            second.pump_mesh(1, 1)
            first.ring(second.id, 0)
            assert second.rung() == {0: 1}
    peers = call(config.control, "ListPeers")["peers"]
    assert peers == []
    config.write({**kinds, "owned": "size = 4K socket-mode = 0600"})
    call(config.control, "Reload")
    assert os.stat(config.socket("owned")).st_mode & 0o777 == 0o600
    port = re.search(r"http://127.0.0.1:(\d+)/", one.log()).group(1)
    wait_until(lambda: 'region="rules"' in get(f"http://127.0.0.1:{port}/metrics"), "the page")
    wait_until((tmp / "metrics").exists, "the first file")
    wait_until(lambda: 'region="rules"' in (tmp / "metrics").read_text(encoding="utf-8"),
               "the file")
    assert not re.search("not permitted", one.log(), re.I), one.log()
    one.settle()


def test_log_goes_to_syslog_inside(config, serve):
    """There may be no syslog here; then this is a server that does not mind."""
    config.write({"a": "size = 4K"})
    serve(config, "--log-target", "syslog", "-v")
    for _ in range(3):
        with wire.Peer(config.socket("a")):
            pass


def test_peers_are_known_inside(config, serve):
    config.write({"a": "size = 4K"})
    serve(config)
    with wire.Peer(config.socket("a")):
        identity = call(config.control, "ListPeers")["peers"][0]["identity"]
    assert identity["pid"] == os.getpid() and identity["uid"] == os.getuid()
    assert identity["executable"] == os.readlink("/proc/self/exe")


# ---- as another user ----


@as_root
def test_user(config, serve, launch, server_command, tmp):
    """As nobody from the first file on, without root's groups; what it makes belongs to nobody."""
    config.write({"a": "size = 4K socket-mode = 0666 allow { group = root }", "b": "size = 4K"})
    one = launch(Server, [*config.sockets(), config.control],
                 ["/usr/bin/setpriv", "--groups", "0,4",
                  *runnable_by(server_command, tmp, "nobody"), "-F", "-c", config.path, "--user",
                  "nobody"], ready_fd=False)
    expect_confined(one.pid)
    status = status_of(one.pid)
    assert set(status["Uid"].split()) == {str(NOBODY.pw_uid)}
    assert set(status["Gid"].split()) == {str(NOBODY.pw_gid)}
    assert not {"0", "4"} & set(status["Groups"].split())
    for path in [*config.sockets(), config.control]:
        assert os.stat(path).st_uid == NOBODY.pw_uid
    with wire.Peer(config.socket("a")) as peer:
        assert os.fstat(peer.region).st_uid == NOBODY.pw_uid
    config.write({"a": "size = 4K socket-mode = 0666 allow { group = root }", "c": "size = 4K"})
    os.kill(one.pid, signal.SIGHUP)
    wait_until(lambda: is_listening(config.socket("c")), "the new region")


@as_root
def test_what_the_user_may_not_open_is_refused(server_command, tmp):
    """At the start, and not when somebody reloads a week later."""
    tmp.chmod(0o755)
    result = subprocess.run([*server_command, "-F", "-S", str(tmp / "s"), "--user", "nobody"],
                            capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert re.search(r"-S .*Permission denied", result.stderr), result.stderr
    result = subprocess.run([*server_command, "-F", "-S", str(tmp / "s"), "--user", "no-such-user"],
                            capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1 and "--user no-such-user: no such user" in result.stderr


@as_root
@pytest.mark.parametrize("died", ["server", "keeper"])
def test_user_below_a_keeper(config, launch, server_command, tmp, died):
    """The next server becomes nobody, too; and it does not outlive its keeper."""
    config.write({"a": "size = 4K socket-mode = 0666 allow { user = root }"})
    one = launch(Daemon, [*config.sockets(), config.control],
                 [find_program("ivshmem-keeper"), *runnable_by(server_command, tmp, "nobody"), "-F",
                  "-c", config.path, "--user", "nobody"], ready_fd=False)
    (server,) = children_of(one.pid)
    with wire.Peer(config.socket("a"), timeout=PATIENCE) as first:
        if died == "server":
            os.kill(server, signal.SIGKILL)
            with wire.Peer(config.socket("a"), timeout=PATIENCE):
                first.pump_mesh(1, 1)
            (server,) = children_of(one.pid)
            expect_confined(server)
            assert regions_of(config.control)["a"]["counters"]["restarts"] == 1
        else:
            one.kill()
            wait_until(lambda: has_ended(server), "its end", PATIENCE)


@as_root
def test_daemon_of_another_user_leaves_an_empty_pid_file(server_command, tmp):
    """The user may not remove it; a number in it would be somebody else's one day."""
    (tmp / "folder").mkdir()
    os.chown(tmp / "folder", NOBODY.pw_uid, NOBODY.pw_gid)
    path, pid_file = tmp / "folder" / "s", tmp / "pid"
    command = [*runnable_by(server_command, tmp, "nobody"), "-S", str(path), "-p", str(pid_file),
               "--user", "nobody"]
    for _ in range(2):
        assert subprocess.run(command, check=False, timeout=60).returncode == 0
        pid = int(pid_file.read_text(encoding="ascii"))
        expect_confined(pid)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda pid=pid: has_ended(pid), "its end")
        assert pid_file.read_text(encoding="ascii") == ""
        assert not path.exists()
