# SPDX-License-Identifier: MIT
"""
The control socket of ivshmem-device: what it says of devices and their VMMs, by ivshmctl and by
bytes on a socket, held against the interface's own description; who may ask; clients that mean
harm, while a VMM goes on.
"""

import contextlib
import json
import os
import pwd
import re
import signal
import stat
import subprocess
import time

import pytest

import varlink
import wire
from conftest import TIMEOUT, TOP, acting_with, find_program, wait_until
from controlled import READERS, Ongoing, ctl, ctl_json
from kept import PATIENCE
from procs import has_ended
from test_device_restart import KeptDevices, keep  # pylint: disable=unused-import # fixture
from vfio_user import BAR0, INTRMASK
from vmms import Qemu, attach, device_spec  # pylint: disable=unused-import # fixture

pytestmark = pytest.mark.ours

NOBODY = pwd.getpwnam("nobody")
INTERFACE = TOP / "tools/device/ivshmem.Device.varlink"
DEVICE = "ivshmem.Device."
MEGABYTE = 1 << 20


def client(path):
    return varlink.Client(str(path), timeout=3 * TIMEOUT)


def get_device(path, name):
    with client(path) as asking:
        return asking.call(DEVICE + "GetDevice", name=name)["device"]


@pytest.fixture
def offer(device, tmp):
    """Start ivshmem-device with plain devices d0, d1.. and the control socket `control`."""
    (tmp / "memory").write_bytes(bytes(MEGABYTE))

    def start(count=1, options=()):
        specs = [device_spec(tmp / f"d{number}", type="plain", memdev=tmp / "memory",
                             id=f"d{number}") for number in range(count)]
        return device(*specs, options=["--control", str(tmp / "control"), *options])

    return start


class Accessor(Ongoing):
    """Writes and reads a register."""

    def __init__(self, vmm):
        super().__init__("accesses", at_a_time=200)
        self.vmm = vmm

    def once(self):
        self.vmm.store(BAR0, INTRMASK, self.done)
        assert self.vmm.load(BAR0, INTRMASK) == self.done


# ---- what is said ----


def test_the_interface_is_what_is_documented(offer, tmp):
    text = INTERFACE.read_text(encoding="ascii").split("\n", 1)[1]
    offer()
    with client(tmp / "control") as asking:
        answer = asking.call("org.varlink.service.GetInterfaceDescription",
                             interface="ivshmem.Device")
        assert answer["description"] == text
        info = asking.call("org.varlink.service.GetInfo")
        assert info["product"] == "ivshmem-device"
        assert info["interfaces"] == ["org.varlink.service", "ivshmem.Device"]
    document = (TOP / "docs/control.md").read_text(encoding="utf-8")
    assert re.search(r"<!-- interface: \S+ \S+ tools/device/.*? -->\n```\n(.*?)```", document,
                     re.S)[1] == text


def test_two_devices_one_with_a_vmm(server, device, join, attach, tmp):
    """Counters are what was done, the VMM is who has connected, and goes with its connection."""
    interface = varlink.Interface(INTERFACE.read_text(encoding="ascii"))
    target = server(vectors=2)
    before = time.time() * 1000
    device(device_spec(tmp / "d0", type="doorbell", server=target.socket, vectors=2, id="first"),
           device_spec(tmp / "d1", type="doorbell", server=target.socket, vectors=2),
           options=["--control", str(tmp / "control")])
    host = join(target).pump_mesh(2, 2)
    vmm = attach(Qemu, tmp / "d1")
    vmm.boot(2)

    with client(tmp / "control") as asking:
        first, second = asking.call(DEVICE + "ListDevices")["devices"]
        interface.check_answer("ListDevices", {"devices": [first, second]})
        assert first == {
            "name": "first", "type": "doorbell", "vectors": 2, "socket": str(tmp / "d0"),
            "uri": f"unix:{target.socket}", "id": 0, "size": MEGABYTE, "enabled": False,
            "counters": {"accesses": 0, "direct": 0, "relayed": 0, "received": 0,
                         "interrupts": 0}}
        assert (second["name"], second["id"], second["enabled"]) == ("device1", 1, True)
        assert (second["vmm"]["uid"], second["vmm"]["pid"]) == (os.geteuid(), os.getpid())
        assert before - 1000 <= second["vmm"]["since"] <= time.time() * 1000 + 1000

        vmm.ring(0, 1)
        vmm.ring(host.id, 0)
        vmm.ring(host.id, 1)
        wire.ring(host.peers[1][0])
        wait_until(lambda: get_device(tmp / "control", "device1")["counters"]["received"] == 1,
                   "the doorbell")
        later = asking.call(DEVICE + "GetDevice", name="device1")["device"]
        interface.check_answer("GetDevice", {"device": later})
        counters = later["counters"]
        assert (counters["direct"], counters["relayed"]) == (1, 2)
        assert counters["accesses"] >= second["counters"]["accesses"] + 3

        vmm.close()
        wait_until(lambda: "vmm" not in get_device(tmp / "control", "device1"), "the VMM's end")
        gone = asking.call(DEVICE + "GetDevice", name="device1")["device"]
        assert not gone["enabled"] and gone["counters"]["relayed"] == 2

        with pytest.raises(varlink.Error) as caught:
            asking.call(DEVICE + "GetDevice", name="x")
        assert caught.value.name == DEVICE + "NoSuchDevice"
        interface.check_error("NoSuchDevice", caught.value.parameters)
        for method, parameters, name in (
                ("ListDevices", {"name": "x"}, "InvalidParameter"),
                ("GetDevice", {}, "InvalidParameter"), ("GetDevice", {"name": 1}, "InvalidParameter"),
                ("RemoveDevice", {}, "MethodNotFound")):
            with pytest.raises(varlink.Error) as caught:
                asking.call(DEVICE + method, **parameters)
            assert caught.value.name == f"org.varlink.service.{name}"


def test_a_long_list_comes_in_parts(offer, tmp):
    offer(100)
    with client(tmp / "control") as asking:
        parts = [answer["devices"] for answer in asking.calls(DEVICE + "ListDevices", {}, True)]
        assert [len(part) for part in parts] == [32, 32, 32, 4]
        assert [entry["name"] for part in parts for entry in part] == \
            [f"d{number}" for number in range(100)]
        with pytest.raises(varlink.Error) as caught:
            asking.call(DEVICE + "ListDevices")
        assert caught.value.name == "org.varlink.service.ExpectedMore"
    assert len(ctl_json(str(tmp / "control"), "devices")["devices"]) == 100


def test_ivshmctl_devices(offer, attach, tmp):
    offer(2)
    attach(Qemu, tmp / "d1").boot()
    header, first, second = ctl(str(tmp / "control"), "devices").splitlines()
    assert header.split()[:7] == ["NAME", "TYPE", "ID", "SIZE", "VECTORS", "USER", "PID"]
    assert first.split()[:7] == ["d0", "plain", "-", "1M", "0", "-", "-"]
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert second.split()[:7] == ["d1", "plain", "-", "1M", "0", user, str(os.getpid())]
    assert [entry["enabled"] for entry in ctl_json(str(tmp / "control"), "devices")["devices"]] == \
        [False, True]
    assert "ivshmem-device" in ctl(str(tmp / "control"), "version")
    assert "cannot do this" in ctl(str(tmp / "control"), "list", code=1)
    nobody_there = subprocess.run(
        [find_program("ivshmctl"), "-S", tmp / "none", "devices"], capture_output=True, text=True,
        check=False)
    assert nobody_there.returncode == 3 and "ivshmem-device" in nobody_there.stderr


def test_without_the_option_there_is_none(device, tmp):
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    process = device(device_spec(tmp / "d0", type="plain", memdev=tmp / "memory"))
    with open("/proc/net/unix", encoding="ascii") as sockets:
        assert len([line for line in sockets if str(tmp) in line]) == 1
    assert process.sleeps()


def test_a_path_that_does_not_work_is_said_at_the_start(device_command, tmp):
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    spec = device_spec(tmp / "d0", type="plain", memdev=tmp / "memory")
    for code, options, reason in (
            (1, ["--control", tmp / "none/control"], "--control|No such"),
            (2, ["--control", "x" * 108], "107"), (2, ["--control", ""], "107"),
            (2, ["--control", tmp / "c", "--control-group", "no-such-group-here"], "no such group")):
        ended = subprocess.run([*device_command, "--device", spec, *options], capture_output=True,
                               text=True, timeout=TIMEOUT, check=False)
        assert ended.returncode == code and re.search(reason, ended.stderr), ended.stderr
        assert sorted(os.listdir(tmp)) == ["memory"]


def test_the_next_process_has_it_again(launch, device_command, attach, tmp):
    """With what is counted there: restarts. Who was attached is the same, since when is not known."""
    (tmp / "memory").write_bytes(bytes(MEGABYTE))
    spec = device_spec(tmp / "d0", type="plain", memdev=tmp / "memory")
    command = [find_program("ivshmem-keeper"), *device_command, "--device", spec, "--control",
               tmp / "control"]
    process = launch(KeptDevices, [str(tmp / "d0")], command, ready_fd=False)
    vmm = attach(Qemu, tmp / "d0")
    vmm.boot()
    device = get_device(tmp / "control", "device0")
    assert device["restarts"] == 0 and device["vmm"]["since"] > 0
    process.replace_worker()

    def again():
        with contextlib.suppress(OSError):
            return get_device(tmp / "control", "device0")["restarts"] == 1
        return False

    wait_until(again, "the control socket", 3 * TIMEOUT)
    device = get_device(tmp / "control", "device0")
    assert device["vmm"] == {"uid": os.geteuid(), "pid": os.getpid()} and device["enabled"]


# ---- who may ----


def test_root_and_the_group_may_look(offer, tmp):
    tmp.chmod(0o755)
    offer(options=["--control-group", str(READERS)])
    mode = os.stat(tmp / "control")
    assert (stat.S_IMODE(mode.st_mode), mode.st_gid) == (0o660, READERS)
    with acting_with(NOBODY.pw_uid, NOBODY.pw_gid, [READERS]):
        assert get_device(tmp / "control", "d0")["type"] == "plain"
    with acting_with(NOBODY.pw_uid, NOBODY.pw_gid), pytest.raises(PermissionError):
        client(tmp / "control")
    os.chmod(tmp / "control", 0o666)
    with acting_with(NOBODY.pw_uid, NOBODY.pw_gid), pytest.raises(varlink.Error) as caught:
        get_device(tmp / "control", "d0")
    assert caught.value.name == DEVICE + "NotPermitted"


def test_nobody_else_may(offer, tmp):
    offer()
    assert stat.S_IMODE(os.stat(tmp / "control").st_mode) == 0o600


def test_clients_wait_while_the_process_is_replaced(server, keep, attach, tmp):
    """The keeper has the socket, and who connects while nobody serves it is answered afterwards."""
    one = keep(server(vectors=2), vectors=2, more=["--control", tmp / "control"])
    attach(Qemu, one.socket).boot(2)
    for restarts in range(1, 4):
        one.process.send_signal(signal.SIGSTOP)
        worker, = one.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda pid=worker: has_ended(pid), "its end", TIMEOUT)
        with client(tmp / "control") as waiting:
            one.process.send_signal(signal.SIGCONT)
            told, = waiting.call(DEVICE + "ListDevices")["devices"]
        assert told["restarts"] == restarts and told["enabled"]
    one.stop(timeout=PATIENCE)
    assert not (tmp / "control").exists()


# ---- harm ----


def test_hostile_clients_delay_no_access(offer, attach, tmp):
    """They do not read, send what does not end, or nothing; accesses go on, nothing is kept."""
    process = offer(2)
    vmm = attach(Qemu, tmp / "d0")
    vmm.boot()
    before = process.status("RssAnon")
    call = json.dumps({"method": DEVICE + "ListDevices"}).encode() + b"\0"
    with Accessor(vmm) as accessor, contextlib.ExitStack() as stack:
        deaf = stack.enter_context(client(tmp / "control"))
        deaf.sock.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                deaf.sock.sendall(call * 100)
        accessor.more()
        for _ in range(10):
            with client(tmp / "control") as endless, contextlib.suppress(ConnectionError):
                endless.sock.sendall(b" " * MEGABYTE)
                assert endless.sock.recv(1) == b""
        for _ in range(20):
            stack.enter_context(client(tmp / "control")).sock.sendall(b'{"method":"ivsh')
        accessor.more()
        assert get_device(tmp / "control", "d1")["type"] == "plain"
        assert process.status("RssAnon") < before + (16 << 10)
        accessor.more()
    assert get_device(tmp / "control", "d0")["counters"]["accesses"] > 400
