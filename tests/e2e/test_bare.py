# SPDX-License-Identifier: MIT
"""
The guest of tests/bare on QEMU's built-in ivshmem-doorbell and on our device: the same guest, the
same server, the same expectations. A guest alone checks the device from its side; pairs play a game
in which a single doorbell lost, doubled or astray fails the run.
"""

import dataclasses
import itertools
import mmap
import os
import re
import struct
import subprocess

import pytest

import bare
from conftest import cases, find_program, wait_until
from qemu import TOP, doorbell_device, plain_device, vfio_user_device
from test_guests import region_path

MIB = 1 << 20
ROUNDS = 2000
PAIRS = ("builtin-builtin", "ours-ours-one-process", "ours-ours-two-processes", "ours-builtin")
# Of tests/bare/cases.h
TURN_OFFSET, DISMISS_OFFSET, DISMISSED = 16, 20, 0x51707453
RECORDINGS = {name: TOP / f"tests/bare/recorded/{name}.log"
              for name in ("plain", "doorbell-2", "doorbell-33")}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A device in a machine."""

    name: str
    ours: bool
    qemu: str
    machine: str = "pc"

    @property
    def expected(self):
        """
        Parameters of role self: where the devices may differ (docs/device.md, section 8). Pending
        bits of a device behind vfio-user are the VMM's; QEMU's own drops a doorbell while MSI-X is
        off, ours keeps it.
        """
        return {"pba": 0, "latch": 1} if self.ours else {"pba": 1, "latch": 0}


BUILT_IN = Subject("builtin", False, "qemu-7")
OURS = Subject("ours", True, "qemu-11")
SUBJECTS = (BUILT_IN, Subject("builtin-newest-q35", False, "qemu-11", "q35"),
            OURS, Subject("ours-q35", True, "qemu-11", "q35"))
EACH_SUBJECT = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)


@pytest.fixture
def boot(launch, tmp):  # pylint: disable=unused-argument # guests end before what launch() started
    """Boot a guest: boot(subject, role, *QEMU's options, **parameters)."""
    guests = []

    def start(subject, role, *options, **parameters):
        guests.append(bare.BareGuest(tmp / f"console{len(guests)}", role, *options,
                                     qemu=subject.qemu, machine=subject.machine, **parameters))
        return guests[-1]

    yield start
    for guest in guests:
        guest.close()


@pytest.fixture
def serve(device, tmp):
    """
    Start our device process: serve(server, count=1, vectors=2) has `count` devices that are clients
    of that server.
    """
    numbers = itertools.count()

    def start(target, count=1, vectors=2):
        return device(*(f"socket={tmp}/v{next(numbers)},type=doorbell,"
                        f"server=unix:{target.socket},vectors={vectors}" for _ in range(count)))

    return start


@pytest.fixture
def attach(serve):
    """QEMU's options for a new device of a kind: attach(subject, server, vectors=2)."""

    def start(subject, target, vectors=2):
        if subject.ours:
            return vfio_user_device(serve(target, vectors=vectors).socket)
        return doorbell_device(target, vectors)

    return start


# ---- one guest ----


@EACH_SUBJECT
def test_probe(server, attach, boot, subject):
    """Identity, BARs and capability, as docs/device.md, section 2, has them."""
    target = server(vectors=2)
    found = boot(subject, "probe", *attach(subject, target)).wait()
    assert found["config_0"] == 0x11101AF4
    assert found["config_8"] == 0x05000001
    assert found["config_2c"] == 0x11001AF4
    assert found["config_3c"] & 0xFF00 == 0, "no interrupt pin"
    assert [found[f"bar{bar}"] for bar in range(3)] == [256, 4096, MIB]
    assert found["config_10"] & 0xFF == 0, "32 bits"
    assert found["config_18"] & 0xF == 0xC, "64 bits, prefetchable"
    assert (found["id"], found["vectors"]) == (0, 2)
    assert (found["msix"], found["table"], found["pba"]) == (0x40, 0, 0x800)


@pytest.mark.parametrize("vectors", [2, 33])
@EACH_SUBJECT
def test_interrupts_alone(server, attach, boot, subject, vectors):
    """Exact counts, masks, enabling and disabling, with doorbells to itself."""
    target = server(vectors=vectors)
    found = boot(subject, "self", *attach(subject, target, vectors), **subject.expected).wait()
    assert found["while_disabled"] == 1 or not subject.ours


@EACH_SUBJECT
def test_driver_for_firmware(server, attach, boot, subject):
    """<ivshmem/mmio.h> on the PCI device."""
    boot(subject, "mmio", *attach(subject, server(vectors=8), 8)).wait()


@EACH_SUBJECT
def test_memory_alone(server, attach, boot, join, subject):
    """Stored in all sizes, read in all others, and there for the other peers."""
    target = server(vectors=2)
    host = join(target)
    assert boot(subject, "memory", *attach(subject, target)).wait()["bytes"] == MIB
    data = os.pread(host.region, MIB, 0)
    words = struct.unpack("<2I", data[64:72])
    assert words[0] == (64 * 2654435761) & 0xFFFFFFFF and words[1] == words[0] ^ 0xFFFFFFFF


@pytest.mark.parametrize("seed", [1, 77, 4242])
@EACH_SUBJECT
def test_random_accesses(server, attach, boot, join, subject, seed):
    """
    A guest that does anything to its device has a working one afterwards, and so has the next; the
    other peers are rung at the most.
    """
    target = server(vectors=2)
    host = join(target)
    options = attach(subject, target)
    boot(subject, "storm", *options, seed=seed, **subject.expected).wait()
    host.drain()
    assert host.rung(), "it rings what it can"
    boot(subject, "self", *options, **subject.expected).wait()


@pytest.mark.parametrize("by", cases("port", long=["keyboard"]))
@EACH_SUBJECT
def test_reboots(server, serve, boot, subject, by):
    """Ten resets: the same ID, everything else as after power-on, interrupts work."""
    target = server(vectors=2)
    process = serve(target) if subject.ours else None
    options = vfio_user_device(process.socket) if process else doorbell_device(target)
    guest = boot(subject, "reboot", *options, resets=10, by=by)
    guest.wait()
    assert re.findall(r"^boot=(\d+)\nid=(\d+)$", guest.console(), re.M) == [
        (str(number), "0") for number in range(1, 12)]
    if process:
        assert len(re.findall(r"the guest starts anew", process.log())) == 10, process.log()
        process.wait_log("; 10 restarts of this guest")


def test_same_id_for_the_next_virtual_machine(server, serve, boot, join):
    """VMs come and go on one device; the other peers see nothing of it."""
    target = server(vectors=2)
    host = join(target)
    process = serve(target)
    host.pump_mesh(1, 2)
    for _ in range(3):
        guest = boot(OURS, "self", *vfio_user_device(process.socket), **OURS.expected)
        guest.wait()
        assert host.drain() == 0
    assert list(host.peers) == [1]


def test_legacy_intx(server, device, boot, tmp):
    """Revision 0 with its interrupt line: mask, status, command bit, level."""
    target = server(vectors=1)
    process = device(f"socket={tmp}/v,type=legacy,msi=off,server=unix:{target.socket}")
    found = boot(OURS, "intx", *vfio_user_device(process.socket)).wait()
    assert found["interrupts"] == 1 + 20 + 1 + 1 + 4


def test_server_comes_late(server, device, boot, join, tmp):
    """Revision 0 with MSI-X: the guest runs before there is a server, with its memory trapped."""
    path = tmp / "late"
    process = device(f"socket={tmp}/v,type=legacy,late-server=on,size=64K,vectors=2,"
                     f"server=unix:{path}")
    guest = boot(OURS, "late", *vfio_user_device(process.socket))
    wait_until(lambda: guest.results().get("waiting"), "the guest to look", bare.TIMEOUT)
    host = join(server(vectors=2, socket=path))
    found = guest.wait()
    host.pump_mesh(1, 2)
    assert list(host.peers) == [found["id"]]
    assert struct.unpack("<I", os.pread(host.region, 4, 64))[0] == (64 * 2654435761) & 0xFFFFFFFF
    process.base_fds = None  # it had no server when it started


def test_plain_device_has_no_interrupts(boot, device, tmp):
    """On the same file: QEMU's own and ours."""
    path = tmp / "region"
    with open(path, "wb") as file:
        file.truncate(MIB)
    process = device(f"socket={tmp}/v,type=plain,memdev={path}")
    for subject, options in ((BUILT_IN, plain_device(path, "1M")),
                             (OURS, vfio_user_device(process.socket))):
        found = boot(subject, "probe", *options).wait()
        assert [found[f"bar{bar}"] for bar in range(3)] == [256, 0, MIB]
        assert (found["id"], found["vectors"], found["config_34"]) == (0, 0, 0)
        boot(subject, "self", *options).wait()
        assert boot(subject, "memory", *options).wait()["bytes"] == MIB


# ---- two guests ----


@pytest.fixture
def pair(serve):
    """
    Devices for two machines: pair(kind, server) is [(subject, QEMU's options, our process), ...].
    """

    def ours(process, path):
        return OURS, vfio_user_device(path), process

    def make(kind, target):
        if kind == "ours-ours-one-process":
            process = serve(target, count=2)
            return [ours(process, path) for path in process.sockets]
        built_in = (BUILT_IN, doorbell_device(target), None)
        if kind == "builtin-builtin":
            return [built_in, built_in]
        first = serve(target)
        if kind == "ours-builtin":
            return [ours(first, first.socket), built_in]
        second = serve(target)
        return [ours(first, first.socket), ours(second, second.socket)]

    return make


def play(boot, devices, role="pair", **parameters):
    return [boot(subject, role, *options, seat=seat, **parameters)
            for seat, (subject, options, _) in enumerate(devices)]


@pytest.mark.parametrize("kind", PAIRS)
def test_pair(server, boot, pair, pytestconfig, kind):
    """Each of 2000 round trips arrives, as one interrupt; with --long over twenty runs."""
    for _ in range(20 if pytestconfig.getoption("--long") else 1):
        target = server(vectors=2)
        devices = pair(kind, target)
        guests = play(boot, devices, rounds=ROUNDS)
        results = [guest.wait() for guest in guests]
        assert [result["rounds"] for result in results] == [ROUNDS, ROUNDS]
        assert {result["id"] for result in results} == {0, 1}
        assert results[0]["id"] == results[1]["other"] and results[1]["id"] == results[0]["other"]
    if kind == "ours-ours-one-process":
        devices[0][2].wait_log("[0-9]{4} to neighbours, 0 to others")


@pytest.mark.parametrize("kind", PAIRS)
def test_memory_of_a_pair(server, boot, pair, kind):
    target = server(vectors=2)
    for guest in play(boot, pair(kind, target), role="memory"):
        assert guest.wait()["bytes"] == MIB


@pytest.mark.parametrize("kind", PAIRS)
def test_pair_outlives_the_server(server, boot, pair, kind):
    """kill -9 of the server in the middle of the game: it goes on, nothing is lost."""
    target = server(vectors=2)
    devices = pair(kind, target)
    with open(region_path(target), "r+b") as file, mmap.mmap(file.fileno(), MIB) as memory:
        guests = play(boot, devices, rounds=ROUNDS, linger=1)

        def turn():
            return struct.unpack_from("<I", memory, TURN_OFFSET)[0]

        wait_until(lambda: turn() > 100, "the game to begin", bare.TIMEOUT)
        target.kill()
        before = turn()
        wait_until(lambda: turn() > before + ROUNDS, "turns without a server", bare.TIMEOUT)
        struct.pack_into("<I", memory, DISMISS_OFFSET, DISMISSED)
        results = [guest.wait() for guest in guests]
    assert results[0]["rounds"] == results[1]["rounds"] > before + ROUNDS
    for process in {process for _, _, process in devices if process}:
        assert process.log().count("the server is gone") == len(process.sockets), "one line each"
        process.base_fds += 2  # of the other device: nobody has said that it has left


@pytest.fixture(scope="session")
def kvm(tmp_path_factory):
    """Skips where KVM does not run the guest: /dev/kvm alone proves little."""
    if not os.access("/dev/kvm", os.W_OK):
        pytest.skip("no /dev/kvm that this user may open")
    guest = bare.BareGuest(tmp_path_factory.mktemp("kvm") / "console", "probe",
                           "-object", "memory-backend-ram,id=m,size=1M",
                           "-device", "ivshmem-plain,memdev=m", accel="kvm")
    try:
        guest.wait(30)
    except AssertionError as error:
        pytest.skip(f"KVM does not run the guest: {str(error).splitlines()[0]}")


def test_pair_under_kvm(kvm, server, boot, pair):
    """ioeventfd and irqfd on both sides: in QEMU's own device, and what QEMU makes of ours."""
    # pylint: disable=unused-argument
    target = server(vectors=2)
    guests = play(boot, pair("ours-builtin", target), rounds=ROUNDS, accel="kvm")
    assert [guest.wait()["rounds"] for guest in guests] == [ROUNDS, ROUNDS]


# ---- what the guest has recorded on QEMU's device ----


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording_is_of_qemus_device(server, boot, name):
    """What is in the tree is what QEMU's device does today."""
    licence, recorded = RECORDINGS[name].read_text(encoding="ascii").split("\n", 1)
    assert "SPDX" in licence
    vectors = int(re.search(r"vectors=(\d+)", recorded).group(1))
    if vectors:
        options = doorbell_device(server(vectors=vectors), vectors)
    else:
        options = ["-object", "memory-backend-ram,id=m,size=1M",
                   "-device", "ivshmem-plain,memdev=m,addr=4"]
    guest = boot(BUILT_IN, "record", *options)
    guest.wait()
    assert guest.console() == recorded


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording_replayed_on_the_embedded_device(name):
    """Table and pending bits of our core, which no VMM asks for over vfio-user."""
    program = find_program("embed-device")
    assert program, "no embed-device in the build directory"
    done = subprocess.run([program, RECORDINGS[name]], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=bare.TIMEOUT, check=False)
    assert done.returncode == 0, done.stdout
    taken = re.findall(r"^# took vector (\d+)$", RECORDINGS[name].read_text(encoding="ascii"), re.M)
    sent = re.findall(r"^sends message of vector (\d+): (\S+) to (\S+)$", done.stdout, re.M)
    assert sent == [(vector, f"{0x40 + int(vector):#x}", "0xfee00000") for vector in taken]
