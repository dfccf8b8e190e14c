# SPDX-License-Identifier: MIT
"""
ivshmem-device is killed again and again, and neither VMMs nor guests nor the server's other peers
notice: ivshmem-keeper holds what they need.
"""

import contextlib
import os
import pathlib
import random
import re
import shlex
import signal
import struct
import threading
import time

import pytest

import bare
import wire
from conftest import Device, cases, find_program, is_listening, wait_until
from guests import (  # pylint: disable=unused-import # fixtures
    SIZE, accel, boot_driver, driver_image, host, image)
from kept import PATIENCE, Kept, Killer, kills  # pylint: disable=unused-import # fixture
from qemu import vfio_user_device
from regions import memory_of
from test_bare import (  # pylint: disable=unused-import # fixtures
    DISMISS_OFFSET, DISMISSED, OURS, TURN_OFFSET, boot, play)
from test_device_guests import MACHINES
from test_store import START, manager  # pylint: disable=unused-import # fixture
from vfio_user import BAR0, BAR2, INTRMASK, INTRSTATUS, ProtocolError, wait_taken
from vmms import CloudHypervisor, Qemu, device_spec

TURN, LAST = 0, 8  # in the shared memory: number of the turn; the last one, 0 as long as none is


class KeptDevices(Kept):
    """A keeper, and ivshmem-device below it."""

    def settle(self):
        self.wait_log(rf"listening on {re.escape(self.sockets[-1])}:", PATIENCE)
        Device.settle(self)

    def starts(self):
        return len(re.findall(r"device0: listening on", self.log()))

    def has_followed(self, pid):
        """Whether another process serves since that one was killed."""
        _, killed, log = self.log().rpartition(f"PID {pid} was killed")
        return killed and "device0: listening on" in log

    def replace_worker(self):
        """Kill it, and wait until another one serves."""
        old, starts = self.workers(), self.starts()
        self.kill_worker()
        wait_until(lambda: self.workers() not in ([], old) and self.starts() > starts,
                   "another process", PATIENCE)


class DeviceKiller(threading.Thread):
    """
    Kills the process at any moment, up to three times in a row, also while it starts; then lets it
    come up, as a QEMU waits 5 seconds for an answer, and on a busy machine a start takes long.
    """

    def __init__(self, one, times, seed):
        super().__init__(daemon=True)
        self.one, self.times, self.random, self.stopped = one, times, random.Random(seed), False
        self.start()

    def run(self):
        while self.times > 0 and not self.stopped and self.one.alive():
            last = 0
            for _ in range(min(self.times, self.random.choice((1, 1, 2, 3)))):
                time.sleep(self.random.choice((0, 0.001, 0.003, 0.01, 0.03)))
                pid = self.one.kill_worker()
                self.times -= pid not in (0, last)
                last = pid or last
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not last or self.one.has_followed(last), "another", PATIENCE)

    def stop(self):
        """That is enough."""
        self.stopped = True
        self.join()


@pytest.fixture
def keep(device_command, launch, tmp):
    """
    Start devices below a keeper: keep(server or None, type="doorbell", ...) for `n` devices of the
    same kind; `more` are options of the program.
    """
    keeper = find_program("ivshmem-keeper")

    def start(target, n=1, more=(), **keys):
        keys = {"type": "doorbell", **keys}
        if target:
            keys["server"] = target.socket
        sockets = [str(tmp / f"d{number}") for number in range(n)]
        devices = [part for path in sockets for part in ("--device", device_spec(path, **keys))]
        return launch(KeptDevices, sockets, [keeper, *device_command, *devices, "-v", *more],
                      ready_fd=False)

    return start


@pytest.fixture
def vmm(keep):  # pylint: disable=unused-argument # ends before the devices do
    """Connect a VMM: vmm(Qemu, path)."""
    with contextlib.ExitStack() as stack:
        yield lambda kind, path: stack.enter_context(kind(path, timeout=PATIENCE))


class Player(threading.Thread):
    """
    Of two: moves when it is its turn, rings the other, sleeps until it is rung. A lost doorbell
    stops the game; one too many is allowed.
    """

    def __init__(self, machine, other, parity, vector):
        super().__init__(daemon=True)
        self.vmm, self.other, self.parity, self.vector = machine, other, parity, vector
        self.memory, self.error = machine.map_memory(), None

    def word(self, offset):
        return struct.unpack_from("=Q", self.memory, offset)[0]

    def play(self):
        while not 0 < self.word(LAST) <= self.word(TURN):
            turn = self.word(TURN)
            if turn % 2 == self.parity:
                struct.pack_into("=Q", self.memory, TURN, turn + 1)
                self.vmm.ring(self.other, self.vector)
            else:
                wait_taken(self.vmm.vectors[self.vector], PATIENCE)
        self.vmm.ring(self.other, self.vector)

    def run(self):
        try:
            self.play()
        except BaseException as error:  # pylint: disable=broad-except # for who joins us
            self.error = error


class Game:
    """Two VMMs that play."""

    def __init__(self, one, other, vector):
        positions = one.position(), other.position()
        self.players = [Player(one, positions[1], 0, vector),
                        Player(other, positions[0], 1, vector)]
        for player in self.players:
            player.start()

    def turn(self):
        for player in self.players:
            if player.error:
                raise player.error
        return self.players[0].word(TURN)

    def wait_turns(self, n):
        start = self.turn()
        wait_until(lambda: self.turn() >= start + n, "turns", PATIENCE)

    def end(self):
        struct.pack_into("=Q", self.players[0].memory, LAST, self.turn() + 100)
        for player in self.players:
            player.join(PATIENCE)
            assert not player.is_alive()
        return self.turn()


def check_view(target, machines, vectors):
    """A newcomer sees the devices, and they it."""
    with wire.Peer(target.socket, timeout=PATIENCE) as last:
        last.pump_mesh(len(machines), vectors)
        for machine in machines:
            machine.rung()
            last.ring(machine.position(), 0)
            wait_taken(machine.vectors[0], PATIENCE)

            def is_rung(machine=machine):
                machine.ring(last.id, vectors - 1)
                return last.rung()

            wait_until(is_rung, "the device to know the newcomer", PATIENCE)


@pytest.mark.parametrize("kind, vectors", [(Qemu, 1), (Qemu, 3), (CloudHypervisor, 2)])
def test_nobody_notices(server, keep, vmm, kills, kind, vectors):
    """Two VMMs ring each other, a host process rings them, and others come and go."""
    target = server(vectors=vectors)
    one = keep(target, 2, vectors=vectors)
    machines = [vmm(kind, path).boot(vectors) for path in one.sockets]
    game = Game(*machines, vectors - 1)
    game.wait_turns(100)
    killer = DeviceKiller(one, kills, seed=vectors)
    chance = random.Random(vectors)
    came = 0
    while killer.is_alive():
        with wire.Peer(target.socket, timeout=PATIENCE, handshake=chance.random() < 0.5):
            came += 1
        game.turn()
    killer.join()
    game.wait_turns(100)
    turns = game.end()
    check_view(target, machines, vectors)
    print(f"{kills} kills, {came} others came and went, {turns} turns")
    assert came > 0


# ---- guests of QEMU 11 ----


def come_and_go(target, killer, seed):
    """Peers, until the killer is done."""
    chance, came = random.Random(seed), 0
    while killer.is_alive():
        with wire.Peer(target.socket, timeout=PATIENCE, handshake=chance.random() < 0.5):
            came += 1
    killer.join()
    return came


def test_guests_do_not_notice(server, keep, boot, kills):
    """Two guests throw a doorbell back and forth: a lost one ends the game."""
    target = server(vectors=2)
    one = keep(target, 2, vectors=2)
    devices = [(OURS, vfio_user_device(path), None) for path in one.sockets]
    with wire.Peer(target.socket, timeout=PATIENCE) as peer:
        memory = memory_of(peer)
        guests = play(boot, devices, rounds=100, linger=1, more=1)

        def turn():
            return struct.unpack_from("<I", memory, TURN_OFFSET)[0]

        wait_until(lambda: turn() > 100, "the game to begin", bare.TIMEOUT)
        came = come_and_go(target, DeviceKiller(one, kills, seed=kills), kills)
        before = turn()
        wait_until(lambda: turn() > before + 100, "turns after the last kill", bare.TIMEOUT)
        struct.pack_into("<I", memory, DISMISS_OFFSET, DISMISSED)
        results = [guest.wait() for guest in guests]
    assert results[0]["rounds"] == results[1]["rounds"] > before + 100
    print(f"{kills} kills, {came} others came and went, {results[0]['rounds']} rounds")
    assert came > 0
    assert "VMM is gone" not in one.log().split("going on with its VMM")[0]


@pytest.mark.parametrize("driver", cases("uio_ivshmem", "uio_pci_generic", long=["vfio-pci"]))
def test_linux_does_not_notice(server, keep, boot_driver, host, kills, driver):
    """From the first access of its firmware on, by MSI-X and by INTx."""
    keys = {"type": "legacy", "msi": "off"} if driver == "uio_pci_generic" else {
        "type": "doorbell", "vectors": 2}
    rounds = 15 * kills
    target = server(vectors=2, size=SIZE)
    one = keep(target, **keys)
    process = host(target, 0, 2, rounds)
    killer = DeviceKiller(one, 1000 * kills, seed=kills)
    machine, options = MACHINES.get(driver, ("pc", []))
    guest = boot_driver(driver, *options, *vfio_user_device(one.socket), qemu="qemu-11",
                        machine=machine, seat=1, seats=2, rounds=rounds)
    result = guest.wait()
    killer.stop()
    assert one.stop(timeout=PATIENCE) == 0
    assert process.wait(PATIENCE) == 0
    assert result["passed"] and result["sent"] == result["received"] == rounds
    assert not re.search(r"nobody cared|BUG|WARNING|[Ee]rror", guest.console()), guest.console()
    kills = one.log().count("was killed by signal 9")
    print(f"{kills} kills")
    assert kills > 10


# ---- what must be the same, and what may be another ----


@pytest.fixture
def replaceable(device_command, launch, tmp):
    """
    Devices below a keeper whose options can change: replaceable(options) and .change(options); the
    next process has them.
    """
    script = tmp / "start"
    keeper = find_program("ivshmem-keeper")

    def change(options):
        new = tmp / "start.new"
        command = shlex.join(map(str, [*device_command, "-v", *options]))
        new.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
        new.chmod(0o755)
        new.rename(script)

    def start(sockets, options):
        change(options)
        return launch(KeptDevices, sockets, [keeper, script], ready_fd=False)

    start.change = change
    return start


@pytest.mark.parametrize("change, message", [
    ({"vectors": 3}, "vectors was 0x2, and is 0x3 now"),
    ({"type": "legacy"}, "type was"),
    ({"socket": "{tmp}/other"}, "does not listen on .*/other"),
    ({"server": "{tmp}/elsewhere"}, "has joined the server on .*, not on .*/elsewhere"),
    ({"subsystem_id": "1af4:1234"}, "subsystem ID was 0, and is 0x1af41234")],
    ids=["vectors", "type", "socket", "server", "subsystem"])
def test_other_options_are_refused(server, replaceable, vmm, tmp, change, message):
    """One line says why; the VMM waits, and a process with the options from before goes on."""
    target = server(vectors=2)
    keys = {"socket": tmp / "d0", "type": "doorbell", "server": target.socket, "vectors": 2}
    one = replaceable([str(tmp / "d0")], ["--device", device_spec(**keys)])
    machine = vmm(Qemu, one.socket).boot(2)
    other = {**keys, **{key: str(value).format(tmp=tmp) for key, value in change.items()}}
    replaceable.change(["--device", device_spec(**other)])
    one.kill_worker()
    one.wait_log(f"error: device0: .*{message}", PATIENCE)
    one.wait_log("cannot go on with what an earlier process has left of device0; it stays held",
                 PATIENCE)
    one.wait_log("exited with status 3", PATIENCE)
    replaceable.change(["--device", device_spec(**keys)])
    assert machine.position() == 0
    check_view(target, [machine], 2)


def test_upgrade_with_another_device(server, replaceable, vmm, tmp):
    """SIGHUP for the keeper starts the new program; a device may be added, one taken away."""
    target = server(vectors=2)

    def devices(*numbers):
        return [part for number in numbers for part in ("--device", device_spec(
            tmp / f"d{number}", id=f"Dev.{number}", type="doorbell", server=target.socket,
            vectors=2))]

    one = replaceable([str(tmp / "d0"), str(tmp / "d1")], devices(0, 1))
    machines = [vmm(Qemu, path).boot(2) for path in one.sockets]
    replaceable.change(devices(0, 2))
    os.kill(one.pid, signal.SIGHUP)
    wait_until(lambda: is_listening(str(tmp / "d2")), "the new device", PATIENCE)
    third = vmm(Qemu, tmp / "d2").boot(2)
    check_view(target, [machines[0], third], 2)
    with pytest.raises((OSError, ProtocolError)):
        machines[1].position()


def test_upgrade_with_a_device_of_another_name(server, replaceable, vmm, tmp):
    """Which is another device, in the place of the one before."""
    target = server(vectors=2)

    def device(name):
        return ["--device", device_spec(tmp / "d0", id=name, type="doorbell",
                                        server=target.socket, vectors=2)]

    one = replaceable([str(tmp / "d0")], device("old"))
    before = vmm(Qemu, one.socket).boot(2)
    replaceable.change(device("new"))
    os.kill(one.pid, signal.SIGHUP)
    one.wait_log(r"new: listening on .*/d0", PATIENCE)
    check_view(target, [vmm(Qemu, one.socket).boot(2)], 2)
    with pytest.raises((OSError, ProtocolError)):
        before.position()


def test_upgrade_with_a_device_that_cannot_be(server, replaceable, vmm, tmp):
    """A new one in front of others, whose guests are in: it is left out, and they go on."""
    target = server(vectors=2)
    good = ["--device", device_spec(tmp / "d0", id="good", type="doorbell", server=target.socket,
                                    vectors=2)]
    one = replaceable([str(tmp / "d0")], good)
    machine = vmm(Qemu, one.socket).boot(2)
    bad = device_spec(tmp / "d1", id="bad", type="doorbell", server=tmp / "nobody")
    replaceable.change(["--device", bad, *good])
    os.kill(one.pid, signal.SIGHUP)
    one.wait_log("error: bad: the others go on without it", PATIENCE)
    check_view(target, [machine], 2)
    assert not (tmp / "d1").exists()


def test_clean_end_lets_go(server, keep, vmm):
    target = server(vectors=2)
    one = keep(target, 2, vectors=2)
    machine = vmm(Qemu, one.socket).boot(2)
    one.replace_worker()
    with wire.Peer(target.socket, timeout=PATIENCE) as peer:
        peer.pump_mesh(2, 2)
        assert one.stop(timeout=PATIENCE) == 0
        peer.pump(lambda p: not p.peers, "the devices to leave", PATIENCE)
    with pytest.raises((OSError, ProtocolError)):
        machine.position()
    assert not any(map(os.path.exists, one.sockets))


def test_end_of_the_worker_lets_go(server, keep, vmm):
    """It is told to end, not killed: the keeper starts another, which begins anew."""
    target = server(vectors=2)
    one = keep(target, vectors=2)
    machine = vmm(Qemu, one.socket).boot(2)
    starts = one.starts()
    os.kill(one.workers()[0], signal.SIGTERM)
    wait_until(lambda: one.starts() > starts, "another process", PATIENCE)
    with pytest.raises((OSError, ProtocolError)):
        machine.position()
    check_view(target, [vmm(Qemu, one.socket).boot(2)], 2)


# ---- other devices, other moments ----


def test_vmm_that_comes_while_nobody_is_there(server, keep, vmm):
    """The keeper accepts it, and the next process serves it; one more is refused as ever."""
    target = server(vectors=2)
    one = keep(target, vectors=2)
    for _ in range(5):
        one.kill_worker()
        machine = vmm(Qemu, one.socket).boot(2)
        one.kill_worker()
        check_view(target, [machine], 2)
        with Qemu(one.socket, PATIENCE) as another, pytest.raises(OSError, match="busy"):
            another.version()
        machine.close()
        wait_until(lambda: "the VMM is gone" in one.log(), "the end", PATIENCE)


def test_refusal_is_one_at_once(server, keep, vmm):
    """Whatever the keeper holds: or the next process could take who was refused for a new VMM."""
    one = keep(server(vectors=2), vectors=2)
    vmm(Qemu, one.socket).boot(2)
    with Qemu(one.socket, PATIENCE) as another:
        one.wait_log("another VMM has connected", PATIENCE)
        one.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(OSError, match="busy"):
                another.version()
            assert another.sock.recv(1) == b""
        finally:
            one.process.send_signal(signal.SIGCONT)


def test_intx(server, keep, vmm, kills):
    """A level that is high stays high, and each ring is heard."""
    target = server(vectors=1)
    one = keep(target, type="legacy", msi="off")
    machine = vmm(Qemu, one.socket).boot()
    machine.store(BAR0, INTRMASK, 0xFFFFFFFF)
    killer = DeviceKiller(one, kills, seed=1)
    rings = 0
    with wire.Peer(target.socket, timeout=PATIENCE) as peer:
        peer.pump_mesh(1, 1)
        while killer.is_alive() or rings <= 10:
            peer.ring(machine.position(), 0)
            rings += 1
            while not machine.load(BAR0, INTRSTATUS):
                wait_taken(machine.intx, PATIENCE)
                machine.intx_unmask()
            machine.intx_unmask()
    killer.join()
    print(f"{rings} rings")


@pytest.mark.parametrize("keys", [
    {"type": "plain", "shm": "ivshmem-e2e-{name}", "size": "64K"},
    {"type": "plain", "memdev": "{tmp}/file"},
    {"type": "plain", "memdev": "{tmp}/file", "readonly": "on"},
    {"type": "legacy", "shm": "ivshmem-e2e-{name}", "size": "64K"}],
    ids=lambda keys: "-".join([keys["type"], *sorted({"shm", "memdev", "readonly"} & set(keys))]))
def test_memory_without_a_server(keep, vmm, tmp, keys):
    """It stays that of the first start, whatever its name has come to mean."""
    keys = {key: value.format(tmp=tmp, name=tmp.name) for key, value in keys.items()}
    path = pathlib.Path(keys.get("memdev") or f"/dev/shm/{keys['shm']}")
    if "memdev" in keys:
        path.write_bytes(bytes(64 << 10))
    try:
        one = keep(None, **keys)
        machine = vmm(Qemu, one.socket)
        machine.boot()
        with open(path, "r+b") as memory:
            path.unlink()
            memory.write(b"here")
        path.write_bytes(bytes(64 << 10))
        for _ in range(3):
            one.replace_worker()
            assert machine.read(BAR2, 0, 4) == b"here"
        machine.close()
        assert vmm(Qemu, one.socket).realize().read(BAR2, 0, 4) == b"here"
    finally:
        path.unlink()


def test_late_server(server, keep, vmm, tmp):
    """Killed before the server comes, when it comes, and after."""
    path = str(tmp / "late")

    class Target:  # pylint: disable=too-few-public-methods
        socket = path

    one = keep(Target, type="legacy", msi="on", vectors=2, late_server="on", size="64K")
    one.base_fds = None  # there will be more to hold
    machine = vmm(Qemu, one.socket).boot(2)
    one.replace_worker()
    assert machine.position() == 0xFFFFFFFF
    target = server(vectors=2, size="64K", socket=path)
    for _ in range(5):
        one.kill_worker()
        time.sleep(0.3)
    wait_until(lambda: machine.position() != 0xFFFFFFFF, "the server", PATIENCE)
    position = machine.position()
    one.replace_worker()
    assert machine.position() == position
    check_view(target, [machine], 2)


def test_lost_server_stays_lost(server, keep, vmm):
    """Those who were known are known, and ring, before a restart and behind it."""
    target = server(vectors=2)
    one = keep(target, 2, vectors=2)
    machines = [vmm(Qemu, path).boot(2) for path in one.sockets]
    target.kill()
    one.wait_log("device1: the server is gone", PATIENCE)
    game = Game(*machines, 1)
    for restarts in (1, 2, 3):
        one.replace_worker()
        game.wait_turns(20)
        wait_until(lambda n=restarts: one.log().count("device1: the server is gone") == n + 1,
                   "the device to say so once more", PATIENCE)
    game.end()
    assert one.log().count("device1: the server is gone") == 4


def test_server_is_killed_too(server_command, launch, keep, vmm, kills, tmp):
    """Both are below keepers, and killed at any time."""
    path = str(tmp / "server")
    target = launch(Kept, [path], [find_program("ivshmem-keeper"), *server_command, "-F", "-S",
                                   path, "-l", "1M", "-n", "2"], ready_fd=False)
    one = keep(target, 2, vectors=2)
    machines = [vmm(Qemu, socket).boot(2) for socket in one.sockets]
    game = Game(*machines, 0)
    killers = DeviceKiller(one, kills, seed=3), Killer(target, kills, seed=4)
    come_and_go(target, killers[0], 5)
    killers[1].join()
    game.wait_turns(100)
    game.end()
    check_view(target, machines, 2)


def test_keeper_below_systemd(server, manager, device_command, launch, tmp):
    """As the packaged service: the keeper holds, and systemd hears of each start."""
    spec = device_spec(tmp / "d", type="doorbell", server=server(vectors=2).socket, vectors=2)
    one = launch(KeptDevices, [str(tmp / "d")], [
        find_program("ivshmem-keeper"), *device_command, "-v", "--device", spec], ready_fd=False,
                 env={"NOTIFY_SOCKET": manager.path})
    for starts in range(1, 4):
        wait_until(lambda n=starts: manager.ready == n, "READY=1", PATIENCE)
        one.replace_worker()
    assert not manager.store


@pytest.mark.parametrize("number, slowness", [
    (signal.SIGKILL, 0), (signal.SIGTERM, 0), (signal.SIGKILL, 0.1)],
    ids=["killed", "stopped", "slow"])
def test_descriptor_store(server, manager, device_command, spawn, vmm, tmp, number, slowness):
    """
    systemd in place of the keeper: SIGTERM may be a restart, so it leaves all as it is. It may take
    longer for an answer than a VMM gets the device for.
    """
    manager.slowness = slowness
    target = server(vectors=2)
    path = str(tmp / "d")
    command = [*map(str, device_command), "-v", "--device",
               device_spec(path, type="doorbell", server=target.socket, vectors=2)]

    def start():
        manager.sync()
        before, names = manager.ready, dict(manager.store)
        process = spawn(
            ["/usr/bin/python3", "-c", START, ",".join(map(str, names.values())), ":".join(names),
             *command], stdin=-3, pass_fds=names.values(),
            env={**os.environ, "NOTIFY_SOCKET": manager.path, "FDSTORE": "4096"})
        wait_until(lambda: manager.ready > before or process.poll() is not None, "READY=1", 60)
        assert process.poll() is None
        return process

    process = start()
    machine = vmm(Qemu, path).boot(2)
    for _ in range(3):
        process.send_signal(number)
        process.wait(PATIENCE)
        process = start()
        check_view(target, [machine], 2)
    machine.close()
    machine = vmm(Qemu, path).boot(2)
    manager.sync()
    assert {name.split(".")[0] for name in manager.store} == {
        "device", "listen", "told", "server", "w", "c", "i"}
    assert sum(name.startswith("c.") for name in manager.store) == 1
