# SPDX-License-Identifier: MIT
"""
`ivshmem-client doctor`: what it finds on a host and in a guest, and its forms; each thing that it
can find in a guest's /sys is tests/unit/test_checkup.c's. And the client itself where there is no
server, and in a guest.
"""

import json
import os
import re

import pytest

from clienttool import (  # pylint: disable=unused-import
    client, program_path, REGION_SIZE, replay, start)
from conftest import wait_until
from qemu import doorbell_device
from shell_guest import (  # pylint: disable=unused-import # fixtures
    shell_guest, shell_image, wait_for)

GUEST = ["device", "driver", "permissions", "id", "open", "cache", "bandwidth", "bus-master",
         "msi-x", "vectors", "doorbells"]
INTERRUPTS = ["bus-master", "msi-x", "vectors"]
SERVER = ["server", "region", "bandwidth", "vectors", "peers", "doorbells"]
MEMORY = ["open", "region", "bandwidth", "doorbells"]


def examine(client, *arguments):
    """The checks of doctor --json by name, and its exit status."""
    result = client("--json", *arguments, "doctor")
    report = json.loads(result.stdout)  # nothing else is printed
    checks = {check["name"]: check for check in report["checks"]}
    assert report["command"] == "doctor"
    assert len(checks) == len(report["checks"])
    failed = [check for check in report["checks"] if check["status"] == "failed"]
    assert report["ok"] == (not failed) == ("error" not in report) == (result.returncode == 0)
    assert all(check["remedy"] for check in failed)
    for check in report["checks"]:
        assert check.keys() == {"name", "status", "found", "remedy"}
    return checks, result.returncode


def statuses(checks):
    return {name: check["status"] for name, check in checks.items()}


def test_server(server, join, client):
    target = server(vectors=3)
    join(target)
    checks, code = examine(client, "-S", target.socket)
    assert code == 0
    assert statuses(checks) == dict.fromkeys(SERVER, "ok")
    assert list(checks) == SERVER
    assert checks["server"]["found"] == f"ID 1, region of 1 MiB ({target.socket})"
    assert checks["vectors"]["found"] == "3"
    assert checks["peers"]["found"] == "1, and their vectors: peer 0 (3)"
    assert checks["doorbells"]["found"] == "own vectors rung: 3, heard: 3"


def test_text(server, client):
    target = server(vectors=2)
    result = client("-S", target.socket, "doctor")
    assert (result.returncode, result.stderr) == (0, "")
    speed = r"[\d.]+ \wi?B/s"
    assert re.fullmatch(
        rf"ok      server: ID 0, region of 1 MiB \({target.socket}\)\n"
        r"ok      region: sealed: nobody can shrink it\n"
        rf"ok      bandwidth: read {speed}, write {speed}; ordinary memory: {speed}, {speed}\n"
        r"ok      vectors: 2\n"
        r"ok      peers: nobody else yet\n"
        r"ok      doorbells: own vectors rung: 2, heard: 2\n", result.stdout)


def test_no_server(client, tmp):
    result = client("-S", tmp / "nobody", "doctor")
    assert result.returncode == 1
    first, remedy, *rest = result.stdout.splitlines()
    assert first == "FAILED  server: No such file or directory"
    assert remedy.endswith(f"start one with: ivshmem-server -F -S {tmp}/nobody")
    assert rest == [f"skipped {name}: because of 'server'" for name in SERVER[1:]]
    assert examine(client, "-S", tmp / "nobody")[1] == 1


def test_other_protocol(server, client):
    target = server("--protocol", "pre-2.5")
    checks, code = examine(client, "-S", target.socket)
    assert code == 1
    assert "--protocol pre-2.5" in checks["server"]["remedy"]
    assert examine(client, "-S", target.socket, "--protocol", "pre-2.5")[1] == 0


def test_server_without_vectors(server, client):
    checks, code = examine(client, "-S", server(vectors=0).socket)
    assert code == 0
    assert checks["vectors"]["status"] == "note"
    assert checks["vectors"]["remedy"] == "for doorbells: ivshmem-server --vectors 2"
    assert checks["doorbells"]["status"] == "skipped"


PATIENT = ["--connect-timeout", "60"]  # with a server that is this test


def welcome(replay):
    """What a newcomer gets before its vectors."""
    replay.sock = replay.listener.accept()[0]
    for number, fd in ((0, None), (5, None), (-1, replay.region)):
        replay.send(number, fd)


def report_of(program):
    """What doctor --json prints: the checks by name."""
    checks = {check["name"]: check for check in json.loads(program.line())["checks"]}
    assert program.process.wait() == 1
    return checks


def test_vectors_that_are_not_heard(replay, start):
    """Two vectors that are the same eventfd: whoever waits for one takes the rings of both."""
    program = start("-S", replay.path, *PATIENT, "--json", "doctor")
    welcome(replay)
    replay.send_vectors(5, 2)
    replay.send(5, replay.eventfds[5][1])
    checks = report_of(program)
    assert checks["doorbells"]["status"] == "failed"
    assert checks["doorbells"]["found"] == "own vectors rung: 3, heard: 2; not heard: 2"
    assert checks["doorbells"]["remedy"]
    assert checks["region"]["status"] == "note"
    assert checks["region"]["remedy"].startswith("ivshmem-server without --shm")


def test_server_that_leaves_meanwhile(replay, start):
    program = start("-S", replay.path, *PATIENT, "--json", "doctor")
    welcome(replay)
    replay.send_vectors(5, 2)
    with open("/dev/null", "rb+") as no_doorbell:
        replay.send(5, no_doorbell.fileno())
    checks = report_of(program)
    assert checks["vectors"]["status"] == "failed"
    assert checks["vectors"]["found"] == "2, then the server left us"
    assert checks["doorbells"]["status"] == "ok"


def test_region_that_is_shrunk_meanwhile(replay, start):
    """An answer and not a crash, whenever it happens."""
    for _ in range(100):
        program = start("-S", replay.path, *PATIENT, "--json", "doctor")
        welcome(replay)
        while program.process.poll() is None:
            os.truncate(replay.region, 0)
            os.truncate(replay.region, REGION_SIZE)
        assert program.process.returncode in (0, 1)
        checks = {check["name"]: check for check in json.loads(program.line())["checks"]}
        replay.sock.close()
        if checks["bandwidth"]["status"] == "failed":
            assert checks["bandwidth"]["found"] == "somebody has shrunk the region"
            assert "sealed" in checks["bandwidth"]["remedy"]
            return
    assert False, "it was never noticed"


@pytest.mark.parametrize("scheme", ["file:", "shm:"])
def test_memory(client, tmp, scheme):
    name = f"ivshmem-doctor-{os.getpid()}"
    path = f"/dev/shm/{name}" if scheme == "shm:" else f"{tmp}/memory"
    with open(path, "wb") as file:
        file.truncate(1 << 20)
    try:
        checks, code = examine(client, "--uri", f"{scheme}{name if scheme == 'shm:' else path}")
    finally:
        os.unlink(path)
    assert code == 0
    assert list(checks) == MEMORY
    assert statuses(checks) == {
        "open": "ok", "region": "note", "bandwidth": "ok", "doorbells": "skipped"}


def test_guest_is_what_it_examines_by_itself(client):
    """There is no ivshmem device on the host that runs these tests."""
    for arguments in ([], ["--uri", "auto:"], ["-S", "auto:"]):
        checks, code = examine(client, *arguments)
        assert code == 1
        assert list(checks) == GUEST
        assert checks["device"]["found"] == "no ivshmem device in this machine"
        assert "-device ivshmem-doorbell,vectors=2,chardev=iv" in checks["device"]["remedy"]
        assert "--uri unix:" in checks["device"]["remedy"]
        assert {check["status"] for name, check in checks.items() if name != "device"} == {
            "skipped"}


@pytest.mark.parametrize("uri, missing", [
    ("uio:0000:77:00.0", ()), ("uio:uio99", ()), ("uio:/etc", ()), ("auto:77:00.0", ()),
    ("vfio:77:00.0", ("id",)), ("pci:77:00.0", ("id", *INTERRUPTS)),
    ("pci:", ("id", *INTERRUPTS))])
def test_devices_that_are_not_there(client, uri, missing):
    checks, code = examine(client, "--uri", uri)
    assert code == 1
    assert list(checks) == [name for name in GUEST if name not in missing]
    assert checks["device"]["status"] == "failed"


def test_only_alone(server, client):
    target = server()
    for words in (["doctor; info"], ["info; doctor"], ["doctor", "auto:"]):
        result = client("-S", target.socket, *words)
        assert result.returncode == 2
        assert "invalid command" in result.stderr


# ---- no server to wait for ----


@pytest.mark.parametrize("uri", [
    "auto:", "auto:77:00.0", "uio:77:00.0", "vfio:77:00.0", "pci:77:00.0", "shm:ivshmem-nothing",
    "file:/nowhere/nothing"])
def test_a_dialogue_without_a_server_does_not_wait_for_one(client, uri):
    for option in ("-S", "--uri"):
        result = client(option, uri, input="info\n")
        assert result.returncode == 3
        assert re.fullmatch(r"ivshmem-client: [^\n]+\n", result.stderr)


def test_connect_timeout_waits_anyway(start, tmp):
    program = start("--connect-timeout", "20", "--uri", f"file:{tmp}/late", "info")
    wait_until(lambda: os.path.exists(f"/proc/{program.process.pid}/stat"), "the client")
    with open(f"{tmp}/late.new", "wb") as file:
        file.truncate(4096)
    os.rename(f"{tmp}/late.new", f"{tmp}/late")
    assert program.line() == "id = none"


# ---- in a guest ----


@pytest.fixture
def guest(server, shell_guest):
    """A guest whose server gives two vectors fewer than its device has; `bdf` is the device."""
    target = server(vectors=2)
    machine = shell_guest(*doorbell_device(target, vectors=4))
    machine.server = target
    machine.bdf, = machine.devices()
    return machine


def examine_guest(guest, *options):
    report = json.loads(guest.run(f"ivshmem-client --json {' '.join(options)} doctor", check=False))
    return {check["name"]: check for check in report["checks"]}


def test_doctor_in_a_guest(guest):
    checks = examine_guest(guest)
    assert list(checks) == [name for name in GUEST if name not in ("id", *INTERRUPTS)]
    assert checks["driver"]["status"] == "note"
    assert checks["doorbells"]["status"] == "skipped"

    guest.load("uio_ivshmem", "max_vectors=3")
    checks = examine_guest(guest)
    assert list(checks) == GUEST
    assert {name for name, check in checks.items() if check["status"] == "failed"} == {
        "vectors", "doorbells"}
    assert "modprobe uio_ivshmem max_vectors=4" in checks["vectors"]["remedy"]
    assert checks["doorbells"]["found"] == "own vectors rung: 3, heard: 2; not heard: 2"
    assert "ivshmem-server --vectors 4" in checks["doorbells"]["remedy"]

    one = examine_guest(guest, "--uri uio:ivshmem-" + guest.bdf + ".1")
    assert one["doorbells"]["found"] == "own vectors rung: 1, heard: 1"

    config = f"/sys/bus/pci/devices/{guest.bdf}/config"
    guest.run(f"printf '\\003' | dd of={config} bs=1 seek=4 conv=notrunc")
    checks = examine_guest(guest)
    assert checks["bus-master"]["status"] == "failed"
    assert checks["doorbells"]["status"] == "skipped"


def test_remedies_are_commands(guest):
    """From a driver that is of no use to one that is, by what it says."""
    guest.load("uio_ivshmem")
    guest.load("uio_pci_generic")
    guest.run("echo 1af4 1110 >/sys/bus/pci/drivers/uio_pci_generic/new_id")
    guest.bind(guest.bdf, "uio_pci_generic")
    driver = examine_guest(guest)["driver"]
    assert driver["status"] == "failed"
    assert driver["found"].startswith("uio_pci_generic: no way")
    guest.run(driver["remedy"].removeprefix("as root: "))
    assert examine_guest(guest)["driver"] == {
        "name": "driver", "status": "ok", "found": "uio_ivshmem", "remedy": None}
    guest.run("echo disable=0 >/proc/mtrr")
    assert examine_guest(guest)["cache"]["status"] == "ok"


def test_client_in_a_guest(guest, join):
    guest.load("uio_ivshmem")
    peer = join(guest.server)
    peer.pump_mesh(1, 2)
    run = "ivshmem-client --uri auto: "
    assert guest.run(run + "info").endswith("server = unknown\nprotocol = none\nvectors = 4\n")
    guest.run(run + f"'int {peer.id} 1'")
    assert wait_until(peer.rung, "the ring") == {1: 1}
    for command, why in (("peers", "cannot list peers"), ("dump", "cannot list peers"),
                         (f"int {peer.id} all", "name one"), ("int all", "cannot list peers"),
                         ("answer", "name the peer"), ("int 0 4", "has no vector 4: it has 4")):
        assert why in guest.run(run + f"'{command}'", check=False)
    assert guest.run(run + "'int 0 1; wait 1 9'") == (
        "receive notification from peer_id=0 vector=1\n")


@pytest.mark.parametrize("words, status, why", [
    ("'wait 0'", 1, "ivshmem-client: wait 0: the device is gone\n"), ("watch", 4, "")])
def test_device_that_goes_while_the_client_waits(guest, words, status, why):
    guest.load("uio_ivshmem")
    waiting = guest.start(f"ivshmem-client --uri auto: {words}")
    wait_for(lambda: "poll" in guest.run(f"cat /proc/{waiting.pid}/wchan"), "it to wait")
    guest.unbind(guest.bdf)
    assert waiting.wait() == (status, "ivshmem-client: lost the device\n" + why)
