# SPDX-License-Identifier: MIT
"""
The command line of ivshmem-device, how it starts and ends, what it may do; and the examples of its
manual page, as they stand there.
"""

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
import time

import pytest

import wire
from clienttool import Replay, replay  # pylint: disable=unused-import
from conftest import (
    TIMEOUT, TOP, Device, as_user, find_program, is_listening, runnable_by, wait_until)
from procs import status_of
from vfio_user import BAR0, BAR2, INTRMASK, IVPOSITION, MAPPABLE
from vmms import (  # pylint: disable=unused-import
    CloudHypervisor, Qemu, attach, device_spec)

NOBODY = pwd.getpwnam("nobody")
MEGABYTE = 1 << 20
ROOT = os.geteuid() == 0


@pytest.fixture
def run(device_command, tmp):
    """Run ivshmem-device to its end: run(*options, rlimit=None, **of subprocess.run)."""

    def start(*options, rlimit=None, **others):
        command = [*device_command, *[str(option) for option in options]]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=TIMEOUT, check=False, cwd=tmp,
                              preexec_fn=as_user(None, rlimit), **others)

    return start


@pytest.fixture
def refused(run, tmp):
    """
    refused(code, pattern, *options): it ends with that exit code and one line on stderr, which
    matches the pattern. Nothing is left behind.
    """

    def check(code, pattern, *options, **others):
        before = sorted(os.listdir(tmp))
        result = run(*options, **others)
        assert result.returncode == code, result.stderr
        assert result.stdout == "" and len(result.stderr.splitlines()) == 1, result.stderr
        assert result.stderr.startswith("ivshmem-device: ") and len(result.stderr) < 400
        assert re.search(pattern, result.stderr), result.stderr
        assert sorted(os.listdir(tmp)) == before

    return check


@pytest.fixture
def plain(device, tmp):
    """A device that needs no server: plain(*options, **keys)."""
    (tmp / "memory").write_bytes(bytes(MEGABYTE))

    def start(*options, user=None, **keys):
        keys = {"type": "plain", "memdev": tmp / "memory", **keys}
        if user:
            (tmp / "memory").chmod(0o666)
        return device(device_spec(tmp / "d0", **keys), options=options, user=user)

    return start


# ---- the command line ----


def test_help_and_version(run):
    for option in ("-h", "--help"):
        result = run(option)
        assert result.returncode == 0 and result.stderr == ""
        for key in ("socket", "type", "server", "memdev", "shm", "size", "vectors", "msi",
                    "late-server", "readonly", "subsystem-id"):
            assert f"{key}=" in result.stdout
        assert max(len(line) for line in result.stdout.splitlines()) <= 100
    assert re.fullmatch(r"ivshmem-device \d+\.\d+\.\d+\n", run("--version").stdout)


@pytest.mark.parametrize("options, pattern", [
    ([], "--device"), (["--no-such-option"], "--help"), (["-Z"], "--help"),
    (["--device"], "--help"),
    (["--device", "socket=s,type=plain,memdev=m", "stray"], "stray"),
    (["--poll-us", "x"], "0 to 1000000"), (["--poll-us", "1000001"], "0 to 1000000"),
    (["--join-timeout", "0"], "seconds"), (["--join-timeout", "soon"], "seconds"),
    (["--socket-mode", "9"], "octal"), (["--socket-owner", "no-such-user-here"], "no such user"),
    (["--log-format", "xml"], "json"), (["--log-target", "file"], "syslog"),
    (["--ready-fd", "-1"], "number")])
def test_wrong_usage(refused, options, pattern):
    refused(2, pattern, *options)


@pytest.mark.parametrize("text, pattern", [
    ("id=a,socket=s,type=plain", "FILE:1: type=plain needs"),
    ("# a\n\nid=a,socket=s,type=flat\n", "FILE:3: type=flat: give doorbell"),
    ("id=a,socket=s,type=doorbell,server=x,vectors=0", "FILE:1 vectors 0: give a number"),
    ("socket=s,type=plain,memdev=m", "FILE:1: id= is missing"),
    ("id=a,socket=s,type=plain,memdev=m\nid=a,socket=t,type=plain,memdev=m\n", "two with id=a"),
    ("#id=a,socket=s,type=plain,memdev=m", "at least one device"), ("\0", "at least one device"),
    ("\n".join(f"id=d{i},socket=s{i},type=plain,memdev=m" for i in range(1025)),
     "FILE:1025: 1024 devices are the most")])
def test_wrong_file(refused, tmp, text, pattern):
    path = tmp / "devices"
    path.write_text(text, encoding="utf-8")
    refused(2, pattern.replace("FILE", str(path)), "--devices", path)
    refused(2, pattern.replace("FILE", str(path)), "--devices", path, "--check")


def test_file_that_is_none(refused, tmp):
    refused(2, "No such file", "--devices", tmp / "none")
    refused(2, "cannot read", "--devices", tmp)


def test_devices_of_a_file(run, device_command, launch, attach, tmp):
    """Besides those of the command line; to check it opens and leaves nothing."""
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    path = tmp / "devices"
    first, second, third = (device_spec(tmp / f"d{number}", id=f"dev{number}", type="plain",
                                        memdev=tmp / "memory") for number in range(3))
    path.write_text(f"# Two.\n\n{first}\n{second}", encoding="utf-8")
    options = ["--devices", path, "--device", third]
    result = run(*options, "--check")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert sorted(os.listdir(tmp)) == ["devices", "memory"]
    sockets = [str(tmp / f"d{number}") for number in range(3)]
    launch(Device, sockets, [*device_command, *options])
    for number in range(3):
        attach(Qemu, tmp / f"d{number}").realize()


@pytest.mark.parametrize("text, pattern", [
    ("", "KEY=VALUE"), ("socket", "KEY=VALUE"), ("socket=s,,type=plain", "type= is missing"),
    ("type=plain,memdev=m", "socket= is missing"), ("socket=s,memdev=m", "type= is missing"),
    ("socket=s,type=flat", "doorbell, plain or legacy"), ("socket=s,type=", "give a value"),
    ("socket=s,socket=t,type=plain", "socket= is given twice"),
    ("socket=s,type=plain,chardev=c", "no chardev="),
    ("socket=s,type=plain,memdev=m,", "KEY=VALUE"),
    (f"socket={'s' * 108},type=plain,memdev=m", "at most 107"),
    ("socket=tcp:s,type=plain,memdev=m", "unix:PATH"),
    ("socket=s,type=plain,memdev=m,id=a b", "id=a b"),
    (f"socket=s,type=plain,memdev=m,id={'a' * 64}", "63"),
    ("socket=s,type=doorbell", "server=PATH"),
    ("socket=s,type=doorbell,server=x,memdev=m", "memdev=m"),
    ("socket=s,type=doorbell,server=x,shm=m", "shm=m"),
    ("socket=s,type=doorbell,server=x,size=4M", "size=4M"),
    ("socket=s,type=doorbell,server=x,msi=off", "type=legacy"),
    ("socket=s,type=doorbell,server=x,late-server=on", "type=legacy"),
    ("socket=s,type=doorbell,server=x,vectors=0", "1 to 2048"),
    ("socket=s,type=doorbell,server=x,vectors=2049", "1 to 2048"),
    ("socket=s,type=doorbell,server=x,msi=yes", "on or off"),
    ("socket=s,type=plain", "memdev=PATH.*shm=NAME"),
    ("socket=s,type=plain,memdev=m,shm=n", "one of the two"),
    ("socket=s,type=plain,memdev=m,size=4M", "size=4M"),
    ("socket=s,type=plain,memdev=m,server=x", "server=x"),
    ("socket=s,type=plain,memdev=m,vectors=2", "no interrupts"),
    ("socket=s,type=plain,memdev=m,msi=on", "no interrupts"),
    ("socket=s,type=plain,shm=m,size=5M", "power of two"),
    ("socket=s,type=plain,shm=m,size=2K", "at least 4K"),
    ("socket=s,type=plain,shm=m,size=99999T", "too large|power of two"),
    ("socket=s,type=plain,shm=m,size=x", "size in bytes"),
    ("socket=s,type=legacy", "server=PATH"), ("socket=s,type=legacy,memdev=m", "memdev=m"),
    ("socket=s,type=legacy,server=x,shm=m", "one of the two"),
    ("socket=s,type=legacy,shm=m,late-server=on,size=4M", "needs server="),
    ("socket=s,type=legacy,server=x,late-server=on", "needs size="),
    *((f"socket=s,type=plain,shm=m,subsystem-id={text}", "four hexadecimal digits")
      for text in ("1af4", "1af4:110", "1af4:11000", "1af4-1100", "0x1af4:1100", "1af4: 110",
                   "+af4:1100", "0000:0000"))])
def test_wrong_device(refused, text, pattern):
    refused(2, f"--device.*({pattern})", "--device", text)


def test_devices_that_collide(refused):
    one = "socket=s,type=plain,memdev=m"
    refused(2, "two with socket=s", "--device", one, "--device", one)
    refused(2, "two with id=a", "--device", f"{one},id=a", "--device",
            "socket=t,type=plain,memdev=m,id=a")
    refused(2, "two with id=device1", "--device", f"{one},id=device1", "--device",
            "socket=t,type=plain,memdev=m")


@pytest.mark.parametrize("text, pattern", [
    ("socket=s,type=doorbell,server=none", "no server listens on none"),
    ("socket=s,type=doorbell,server=file", "no socket"),
    ("socket=s,type=plain,memdev=none", "No such file"),
    ("socket=s,type=plain,memdev=small", "power of two"),
    ("socket=s,type=plain,memdev=odd", "power of two"),
    ("socket=s,type=plain,memdev=.", "device0"),
    ("socket=s,type=plain,shm=e2e-that-does-not-exist", "device0"),
    ("socket=file,type=plain,memdev=memory", "no socket"),
    ("socket=none/s,type=plain,memdev=memory", "directory"),
    ("socket=s,type=legacy,shm=e2e-file,size=2M,id=old", "old.*1 MiB")])
def test_start_that_fails(refused, tmp, text, pattern):
    """Exit code 1; the line names the device or its socket, and what to do."""
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    (tmp / "odd").write_bytes(bytes(3 * 4096))
    (tmp / "small").write_bytes(bytes(1024))
    (tmp / "file").write_bytes(b"")
    shm = pathlib.Path(f"/dev/shm/{tmp.name}")
    shm.write_bytes(bytes(MEGABYTE))
    try:
        refused(1, pattern, "--device", text.replace("e2e-file", shm.name))
    finally:
        shm.unlink()


def test_one_bad_device_among_good_ones(refused, tmp):
    """None starts, and the good one's socket is gone."""
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    refused(1, "bad", "--device", "socket=a,type=plain,memdev=memory", "--device",
            "socket=b,type=plain,memdev=none,id=bad", "--device",
            "socket=c,type=plain,memdev=memory")


def test_server_that_does_not_answer(refused, replay):
    refused(1, "device0.*(time|answer)", "--join-timeout", "0.2", "--device",
            f"socket=s,type=doorbell,server={replay.path}")


def test_names_with_commas(device_command, launch, attach, tmp):
    (tmp / "a,b").write_bytes(bytes(MEGABYTE))
    one = launch(Device, f"{tmp}/s,1", [*device_command, "--device",
                                        f"socket={tmp}/s,,1,type=plain,memdev={tmp}/a,,b"])
    attach(Qemu, one.socket).boot()


# ---- starting, ending ----


def test_ready_fd(plain, run, device_command, spawn, tmp):
    plain()  # the fixture waits for the newline; a VMM can connect then
    reader, writer = os.pipe()
    process = spawn([*device_command, "--device", device_spec(
        tmp / "d1", type="plain", memdev=tmp / "memory"), "--ready-fd", "1"], stdout=writer,
                    stderr=subprocess.DEVNULL)
    os.close(writer)
    with open(reader, "rb") as said:
        assert said.read() == b"\n", "a newline, then the end"
    assert is_listening(str(tmp / "d1"))
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    result = run("--device", f"socket=d2,type=plain,memdev={tmp}/memory", "--ready-fd", "77")
    assert result.returncode == 1 and "--ready-fd 77" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_end_by_a_signal(plain, attach, number):
    """With and without a VMM: exit code 0, the socket is gone."""
    one = plain()
    assert one.stop(number) == 0
    assert not os.path.exists(one.socket)
    one = plain()
    vmm = attach(Qemu, one.socket).boot()
    assert one.stop(number) == 0
    assert "loses the device" in one.log()
    vmm.memory[:3] = b"yes"
    with pytest.raises(ConnectionError):
        vmm.position()


def test_impatience_does_not_make_the_end_unclean(plain):
    for _ in range(10):
        one = plain()
        while one.process.poll() is None:
            one.process.terminate()
        assert one.stop() == 0
        assert not os.path.exists(one.socket)


def test_socket_permission_and_owner(plain):
    assert stat.S_IMODE(os.stat(plain().socket).st_mode) == 0o600


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_socket_mode_and_owner(plain):
    status = os.stat(plain("--socket-mode", "0660", "--socket-owner", "nobody:nogroup").socket)
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)


def test_stale_socket_is_replaced_and_a_live_one_is_not(plain, refused, attach, tmp):
    plain().kill()
    assert os.path.exists(tmp / "d0")
    one = plain()
    one.wait_log("removed the stale socket")
    refused(1, "another process is listening", "--device",
            f"socket={tmp}/d0,type=plain,memdev={tmp}/memory")
    attach(Qemu, one.socket).boot()


def test_socket_of_a_successor_is_left_alone(plain, tmp):
    """Somebody removed ours and listens there now."""
    one = plain()
    os.unlink(one.socket)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(one.socket)
        assert one.stop() == 0
        assert (tmp / "d0").exists()


def test_closed_standard_descriptors(device_command, spawn, tmp, attach):
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    command = [*device_command, "--device",
               device_spec(tmp / "d0", type="plain", memdev=tmp / "memory")]
    process = spawn(["sh", "-c", f"exec {shlex.join(command)} <&- >&- 2>&-"])
    wait_until(lambda: is_listening(str(tmp / "d0")), "it to listen")
    attach(Qemu, tmp / "d0").boot().write(BAR2, 0, b"data")
    assert (tmp / "memory").read_bytes()[:8] == b"data\0\0\0\0", "no log lines in the memory"
    process.terminate()
    assert process.wait(TIMEOUT) == 0


# ---- the log ----


def test_json_log(plain, attach):
    one = plain("--log-format", "json", "-v", id="camera")
    vmm = attach(Qemu, one.socket).boot()
    with pytest.raises(OSError):
        vmm.request(99)
    vmm.close()
    one.wait_log("VMM is gone")
    lines = [json.loads(line) for line in one.log().splitlines()]
    assert all(line["program"] == "ivshmem-device" and line["message"] for line in lines)
    assert any("camera" in line["message"] and line["level"] == "debug" for line in lines)


def test_what_the_log_says(plain, attach):
    one = plain()
    for _ in range(2):
        attach(Qemu, one.socket).boot().close()
        one.wait_log(r"device0: the VMM is gone; so far \d+ accesses")
    lines = one.log().splitlines()
    assert re.search(rf"device0: listening on {one.socket}: no server, 1 MiB, 0 vectors", lines[0])
    assert f"process {os.getpid()} of user {os.geteuid()}" in lines[1]
    assert not any("warning" in line or "error" in line for line in lines)


def test_a_guest_that_never_sets_its_device_up(plain, attach):
    """What a migrated guest looks like: it uses a device that was not enabled. Said once."""
    one = plain()
    vmm = attach(Qemu, one.socket)
    vmm.realize()
    for _ in range(100):
        vmm.position()
    one.wait_log("warning: device0: .*reload the guest's driver")
    assert one.log().count("warning") == 1


def test_log_that_nobody_reads(device_command, spawn, attach, tmp):
    """A full pipe does not stop the devices."""
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    reader, writer = os.pipe()
    process = spawn([*device_command, "-v", "--device",
                     device_spec(tmp / "d0", type="plain", memdev=tmp / "memory")], stderr=writer)
    os.close(writer)
    wait_until(lambda: is_listening(str(tmp / "d0")), "it to listen")
    for _ in range(1000):  # three lines each
        with CloudHypervisor(tmp / "d0") as vmm:
            vmm.version()
    attach(Qemu, tmp / "d0").boot()
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    os.close(reader)


# ---- what it may do ----


def test_sandbox(plain):
    status = status_of(plain().pid)
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb") + (("CapBnd",) if ROOT else ()):
        assert int(status[kind], 16) == 0, kind


def test_no_sandbox(plain):
    assert status_of(plain("--no-sandbox").pid)["Seccomp"] == "0"


@pytest.mark.skipif(not ROOT, reason="only root becomes somebody else")
def test_user(launch, device_command, attach, refused, tmp):
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    one = launch(Device, f"{tmp}/d0", [
        "/usr/bin/setpriv", "--groups", "0,4", *device_command, "--user", "nobody", "--device",
        device_spec(tmp / "d0", type="plain", memdev=tmp / "memory")])
    status = status_of(one.pid)
    assert set(status["Uid"].split()) == {str(NOBODY.pw_uid)}
    assert set(status["Gid"].split()) == {str(NOBODY.pw_gid)}
    assert not {"0", "4"} & set(status["Groups"].split())
    assert status["Seccomp"] == "2" and int(status["CapBnd"], 16) == 0
    attach(Qemu, one.socket).boot()
    refused(1, "--user no-such-user-here", "--user", "no-such-user-here", "--device",
            f"socket=d9,type=plain,memdev={tmp}/memory")


@pytest.mark.skipif(not ROOT, reason="we are an ordinary user anyway")
def test_as_an_ordinary_user(plain, attach, device_command, tmp):
    one = plain(user="nobody")
    assert status_of(one.pid)["Seccomp"] == "2"
    attach(Qemu, one.socket).boot()
    command = runnable_by(device_command, tmp, "nobody")
    result = subprocess.run(
        [*command, "--user", "root", "--device", f"socket={tmp}/d9,type=plain,memdev={tmp}/memory"],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
        preexec_fn=as_user("nobody", None))
    assert result.returncode == 1 and "only root" in result.stderr


# ---- keys ----


def test_shm_is_created_with_its_size_and_stays(device, attach, refused, tmp):
    path = pathlib.Path("/dev/shm") / tmp.name
    refused(1, "device0", "--device", f"socket=s,type=plain,shm={path.name}")
    try:
        one = device(device_spec(tmp / "d0", type="plain", shm=path.name, size="2M"))
        assert path.stat().st_size == 2 * MEGABYTE
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        attach(Qemu, one.socket).boot().memory[:4] = b"kept"
        one.stop()
        one = device(device_spec(tmp / "d0", type="legacy", shm=path.name, size="1M"))
        vmm = attach(Qemu, one.socket).boot()
        assert vmm.regions[BAR2].size == MEGABYTE and vmm.memory[:4] == b"kept"
        assert path.stat().st_size == 2 * MEGABYTE
    finally:
        path.unlink(missing_ok=True)


def test_vectors_and_the_servers_number_may_differ(server, device, join, attach, tmp):
    target = server(vectors=2)
    one = device(*[device_spec(tmp / f"d{number}", type="doorbell", server=f"unix:{target.socket}",
                               vectors=vectors) for number, vectors in enumerate((1, 4))])
    host = join(target).pump_mesh(2, 2)
    few, many = [attach(Qemu, path).boot(vectors)
                 for path, vectors in zip(one.sockets, (1, 4))]
    for vector in (0, 1):
        host.ring(0, vector)
        host.ring(1, vector)
        assert many.wait_rung(vector) == 1
    assert few.wait_rung(0) == 1
    many.ring(host.id, 1)
    many.ring(1, 3)
    assert host.rung() == {1: 1} and many.rung() == {}


def test_server_that_comes_late(server, device, join, attach, tmp):
    """The ID is -1 and the memory reads 0 until then; for that VMM it stays trapped."""
    path = tmp / "server"
    one = device(*[device_spec(tmp / f"d{number}", type="legacy", server=path, late_server="on",
                               size=size, msi="off") for number, size in enumerate(("1M", "4M"))])
    vmm, larger = [attach(Qemu, path).boot() for path in one.sockets]
    vmm.write(BAR2, 0, b"nowhere")
    assert vmm.read(BAR2, 0, 7) == bytes(7) and not vmm.regions[BAR2].flags & MAPPABLE
    assert vmm.load(BAR0, IVPOSITION) == 0xFFFFFFFF
    vmm.ring(0, 0)
    target = server(socket=path, size="2M")
    wait_until(lambda: vmm.position() != 0xFFFFFFFF, "the device to find its server")
    one.base_fds = None  # it has more descriptors now, and keeps them
    host = join(target)
    host.pump(lambda peer: vmm.position() in peer.peers, "the device")
    vmm.write(BAR2, MEGABYTE - 4, b"last")  # posted, as nothing is mapped
    assert vmm.read(BAR2, MEGABYTE - 4, 4) == b"last"
    assert os.pread(host.region, 4, MEGABYTE - 4) == b"last"
    vmm.store(BAR0, INTRMASK, 1)
    host.ring(vmm.position(), 0)
    assert wire.select_readable(vmm.intx, TIMEOUT)
    one.wait_log("device1: the server has come, but .*2 MiB.*4 MiB")
    assert larger.load(BAR0, IVPOSITION) == 0xFFFFFFFF
    time.sleep(1.5)
    assert one.log().count("but the region has") == 1, "it does not try again and again"
    vmm.close()
    vmm = attach(Qemu, one.socket).boot()
    assert vmm.position() in host.peers and vmm.read(BAR2, MEGABYTE - 4, 4) == b"last"
    assert vmm.regions[BAR2].flags & MAPPABLE


def test_poll_us(plain, attach):
    """It looks around for a while after a request, and then sleeps all the same."""
    one = plain("--poll-us", "1000")
    vmm = attach(Qemu, one.socket).boot()
    for _ in range(100):
        assert vmm.position() == 0
    time.sleep(0.1)
    before = one.cpu_time()
    time.sleep(0.5)
    assert one.cpu_time() - before < 0.1


def test_limit_of_descriptors_is_raised(plain):
    """From soft to hard, as a device may need many."""
    one = plain()
    soft, hard = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


# ---- the manual's examples ----

PAGE = (TOP / "man/ivshmem-device.1.scd").read_text(encoding="utf-8")
EXAMPLES = [text for text in re.findall(r"^```\n(.*?)^```", PAGE, re.S | re.M)]


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_of_the_manual(text, server_command, device_command, spawn, attach, tmp):
    """Its commands run as they stand there, but for the places, and VMMs can attach."""
    for old, new in (("/tmp/", f"{tmp}/"), ("/run/", f"{tmp}/"), ("/dev/shm/", f"{tmp}/"),
                     ("region:camera", f"{tmp}/iv.sock"), ("root:kvm", f"{os.geteuid()}"),
                     ("frames3", tmp.name), (" --log-target syslog", "")):
        text = text.replace(old, new)
    programs = {"ivshmem-server": server_command, "ivshmem-device": device_command,
                "ivshmem-keeper": [find_program("ivshmem-keeper")], "truncate": None}
    lines = [shlex.split(line.removesuffix("&"))
             for line in text.replace("\\\n", " ").splitlines() if line.split()[0] in programs]
    assert lines
    if "server=" in text and "late-server" not in text and lines[0][0] != "ivshmem-server":
        lines.insert(0, ["ivshmem-server", "-F", "-S", f"{tmp}/iv.sock", "-l", "1M"])
    if not ROOT:
        lines = [[word for word in line if word not in ("--user", "nobody")] for line in lines]
    processes = []
    try:
        for program, *words in lines:
            if program == "truncate":
                subprocess.run([program, *words], check=True)
                continue
            command = [*programs[program]]
            if program == "ivshmem-keeper":
                program, *words = words
                command += programs[program]
            processes.append(spawn([*command, *words]))
            sockets = re.findall(r"socket=([^, ]+)", " ".join(words)) or [f"{tmp}/iv.sock"]
            wait_until(lambda: all(map(is_listening, sockets)), f"{words} to listen")
            for path in sockets if program == "ivshmem-device" else []:
                vmm = attach(CloudHypervisor if "cloud-hyp" in text else Qemu, path).boot()
                assert "readonly" in text or "late" in text or vmm.memory is not None
    finally:
        pathlib.Path("/dev/shm", tmp.name).unlink(missing_ok=True)
    for process in reversed(processes):
        process.terminate()
        assert process.wait(TIMEOUT) == 0
