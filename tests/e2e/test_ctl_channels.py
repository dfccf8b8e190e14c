# SPDX-License-Identifier: MIT
"""
ivshmctl channels: what goes on in a region's channels, from outside, whatever stands in the memory;
and the method of the control socket that it has the memory from.
"""

import contextlib
import fcntl
import json
import mmap
import os
import pwd
import random
import signal
import socket
import struct
import subprocess
import zlib

import pytest

import region_header
import varlink
import wire
from conftest import TIMEOUT, acting_with, ended_with_test, find_program, kill, wait_until
from controlled import CONTROL, READERS, ctl, serve  # pylint: disable=unused-import
from procs import state_of

pytestmark = pytest.mark.ours

NOBODY = pwd.getpwnam("nobody")
MEGABYTE = 1 << 20
DIRECTORY = 4096
LANE = 8192  # of the first channel


@pytest.fixture
def run(serve):  # pylint: disable=redefined-outer-name,unused-argument # ends before servers do
    """Start ivshmem-client: run(target, "send" or "recv", **options of Popen)."""

    def start(target, word, **options):
        return subprocess.Popen([find_program("ivshmem-client"), "-S", target.socket, word],
                                **{"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL,
                                   "stderr": subprocess.DEVNULL, **options})

    yield from ended_with_test(start, kill)


def look(target, *arguments):
    """What is shown of the regions, without the second that people wait for rates."""
    command = [find_program("ivshmctl"), "-S", target.control, "--json", "channels", "--every",
               "0.05", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.kill()
    return json.loads(line)["regions"]


def lanes(target):
    """{name of a channel: its first lane} of region a."""
    (region,) = look(target, "a")
    return {channel["name"]: channel["lanes"][0] for channel in region["channels"] or []}


def states(lane):
    return lane["writer"]["state"], lane["reader"]["state"]


def feed(process, data):
    process.stdin.write(data)
    process.stdin.flush()


# ---- what is shown ----


def test_life_of_a_channel(serve, run):
    """Nobody, a writer alone, both, one that stands still, one that is killed, and the end."""
    target = serve(a=f"size = {MEGABYTE} vectors = 1")
    assert look(target) == [{"region": "a", "channels": None, "more": False}]
    sender = run(target, "send")
    feed(sender, bytes(1000))
    wait_until(lambda: "pipe" in lanes(target), "the channel")
    wait_until(lambda: lanes(target)["pipe"]["fill"] == 19, "three messages and a beginning")
    lane = lanes(target)["pipe"]
    assert states(lane)[1] == "nobody" and not lane["stuck"]
    assert lane["writer"]["messages"] == 2 and lane["writer"]["id"] == 0

    receiver = run(target, "recv")
    wait_until(lambda: states(lanes(target)["pipe"])[1] == "waits", "a reader that sleeps")
    assert lanes(target)["pipe"]["fill"] == 0
    receiver.send_signal(signal.SIGSTOP)
    feed(sender, bytes(1000))
    wait_until(lambda: lanes(target)["pipe"]["stuck"], "a reader that stands still")
    assert lanes(target)["pipe"]["reader"]["id"] == 1
    receiver.kill()
    receiver.wait()
    wait_until(lambda: states(lanes(target)["pipe"])[1] == "dead", "a reader that is dead")
    assert "dead" in ctl(target, "channels", "a")

    assert sender.poll() is None
    kill(sender)
    wait_until(lambda: states(lanes(target)["pipe"]) == ("dead", "dead"), "both dead")
    sender, receiver = run(target, "send"), run(target, "recv")
    sender.communicate(b"all", timeout=TIMEOUT)
    receiver.wait(TIMEOUT)
    assert states(lanes(target)["pipe"]) == ("closed", "closed")
    assert lanes(target)["pipe"]["writer"]["generation"] > lane["writer"]["generation"]


def test_stuck_reader(serve, run):
    """Something is there, and the reader takes nothing."""
    target = serve(a=f"size = {MEGABYTE} vectors = 1")
    sender = run(target, "send", stdin=subprocess.PIPE)
    reader, writer = os.pipe()
    receiver = run(target, "recv", stdout=writer)  # nobody reads what it writes
    os.close(writer)
    os.set_blocking(sender.stdin.fileno(), False)

    def stuck():
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(sender.stdin.fileno(), bytes(65536))
        # All the way may not be full yet: who is not scheduled looks like who is stuck.
        lane = lanes(target).get("pipe", {})
        return (lane.get("stuck") and lane["messages_per_s"] == 0
                and "the reader is stuck" in ctl(target, "channels"))

    with open(reader, "rb"):
        wait_until(stuck, "a reader that is stuck")
    receiver.wait(TIMEOUT)  # it has nobody to write to now


def test_slow_reader(serve, spawn):
    """One that takes something now and then, though never all, is not stuck."""
    target = serve(a=f"size = {MEGABYTE}")
    text = directory(entry())
    key = struct.unpack_from("<I", text, 12)[0]
    with wire.Peer(target.socket) as peer:
        def move(position):
            for slot, at in ((LANE, position + 5), (LANE + 128, position)):
                os.pwrite(peer.region, struct.pack("<9I", at, 0, 0, 0, 1, 1, peer.id, 0, key), slot)

        move(0)
        os.pwrite(peer.region, text, DIRECTORY)
        process = spawn([find_program("ivshmctl"), "-S", target.control, "--json", "channels",
                         "--every", "2"], stdout=subprocess.PIPE, text=True)
        position = 0
        while not wire.select_readable(process.stdout, 0.005):
            position += 1
            move(position)
        ((channel,),) = [region["channels"] for region in
                         json.loads(process.stdout.readline())["regions"]]
        process.kill()
    (lane,) = channel["lanes"]
    assert lane["fill"] in (4, 5, 6) and lane["bytes_per_s"] > 0 and not lane["stuck"]


def test_rates(serve, run, spawn):
    target = serve(a=f"size = {MEGABYTE} vectors = 1")
    with open("/dev/zero", "rb") as zeros:
        run(target, "send", stdin=zeros)
    run(target, "recv")
    lane = {}

    def goes_on():  # not in each look, which is a twentieth of a second
        lane.update(lanes(target).get("pipe", {}))
        return lane.get("messages_per_s", 0) > 0

    wait_until(goes_on, "messages")
    assert lane["bytes_per_s"] > 64 * lane["messages_per_s"]
    process = spawn([find_program("ivshmctl"), "-S", target.control, "--json", "channels",
                     "--every", "0.1"], stdout=subprocess.PIPE, text=True)
    times = [json.loads(process.stdout.readline())["time"] for _ in range(3)]
    assert times[0] < times[1] < times[2]
    process.kill()


def test_each_table_at_once(serve, spawn):
    """Also into a pipe, which buffers would keep for some forty of them."""
    target = serve(a=f"size = {MEGABYTE}")
    process = spawn([find_program("ivshmctl"), "-S", target.control, "channels", "--every", "1"],
                    stdout=subprocess.PIPE, text=True)
    assert wire.select_readable(process.stdout, TIMEOUT)
    assert process.stdout.readline().startswith("REGION")
    process.kill()


def test_nobody_notices(serve, run):
    """It is no peer, and leaves no trace in the memory."""
    target = serve(a=f"size = {MEGABYTE} vectors = 1")
    sender = run(target, "send")
    feed(sender, b"a")
    wait_until(lambda: lanes(target).get("pipe", {}).get("writer", {}).get("messages") == 2
               and state_of(sender.pid) == "S", "all that the sender writes")
    with wire.Peer(target.socket) as peer:
        joins = target.call("GetRegion", name="a")["region"]["counters"]["joins"]
        before = os.pread(peer.region, MEGABYTE, 0)
        lanes(target)
        assert os.pread(peer.region, MEGABYTE, 0) == before
        assert target.call("GetRegion", name="a")["region"]["counters"]["joins"] == joins


def test_directory_of_the_header(serve, run):
    """Where the header says, both for those inside and for who looks from outside."""
    target = serve(a=f"size = {MEGABYTE} vectors = 1 header = on")
    with wire.Peer(target.socket) as peer:
        page = bytearray(os.pread(peer.region, region_header.SIZE, 0))
        assert struct.unpack_from("<II", page, 0x30) == (DIRECTORY, 64 + 255 * 128)
        struct.pack_into("<I", page, 0x30, 2 * DIRECTORY)
        struct.pack_into("<I", page, 12, zlib.crc32(page[:12] + bytes(4) + page[16:]))
        os.pwrite(peer.region, page, 0)
        sender, receiver = run(target, "send"), run(target, "recv", stdout=subprocess.PIPE)
        sender.communicate(b"all", timeout=TIMEOUT)
        assert receiver.communicate(timeout=TIMEOUT)[0] == b"all"
        assert os.pread(peer.region, 4, DIRECTORY) == bytes(4)
        assert os.pread(peer.region, 4, 2 * DIRECTORY) == b"ivch"
        assert states(lanes(target)["pipe"]) == ("closed", "closed")


# ---- hostile memory ----


def entry(name=b"x", shape=1, policy=0, lane_count=1, lines=16, largest=100, offset=LANE):
    return struct.pack("<64s6IQ32x", name, shape, policy, 0, lane_count, lines, largest, offset)


def directory(*entries):
    text = struct.pack("<4s6I36x", b"ivch", 1, 64 + 128 * len(entries), 0, len(entries), 0, 0)
    text += b"".join(entries)
    return text[:12] + struct.pack("<I", zlib.crc32(text)) + text[16:]


WRONG = [
    entry(lane_count=0xffffffff), entry(lane_count=0), entry(lines=3), entry(lines=1 << 31),
    entry(largest=0xffffffff), entry(policy=7), entry(offset=1), entry(offset=0xffffffffffffff80),
    entry(offset=MEGABYTE - 128), entry(name=b"x" * 64), entry(name=b"\x1b[2J"), entry(name=b""),
]


def test_entries_that_make_no_sense(serve):
    """They are said to be so, and the others are shown."""
    target = serve(a=f"size = {MEGABYTE}")
    with wire.Peer(target.socket) as peer:
        os.pwrite(peer.region, directory(*WRONG, entry(b"good")), DIRECTORY)
        (region,) = look(target)
        assert [channel["sound"] for channel in region["channels"]] == [False] * len(WRONG) + [True]
        assert [len(channel["lanes"]) for channel in region["channels"]] == [0] * len(WRONG) + [1]
        said = ctl(target, "channels")
        assert said.count("the entry makes no sense") == len(WRONG) and "\x1b" not in said


def test_unknown_shape_and_lying_positions(serve):
    """What is not known is shown as far as it is; what cannot be is said to be so."""
    target = serve(a=f"size = {MEGABYTE}")
    text = directory(entry(shape=77, lane_count=2))
    with wire.Peer(target.socket) as peer:
        os.pwrite(peer.region, text, DIRECTORY)
        key = struct.unpack_from("<I", text, 12)[0]
        slot = struct.pack("<9I", 1000, 5, 0, 0, 9, 9, 7, 0, key)
        os.pwrite(peer.region, slot, LANE)
        (region,) = look(target)
        (channel,) = region["channels"]
        assert channel["shape"] == "?" and len(channel["lanes"]) == 2
        first = channel["lanes"][0]
        assert first["fill"] is None and first["writer"]["state"] == "nobody"
        assert first["writer"]["id"] == 7
        assert "the positions cannot be" in ctl(target, "channels")


def test_latest_value(serve):
    """Who sets it waits for nobody, and who gets it is not known."""
    target = serve(a=f"size = {MEGABYTE}")
    text = directory(entry(shape=3))
    with wire.Peer(target.socket) as peer:
        os.pwrite(peer.region, text, DIRECTORY)
        key = struct.unpack_from("<I", text, 12)[0]
        os.pwrite(peer.region, struct.pack("<9I", 5, 5, 0, 0, 1, 1, peer.id, 0, key), LANE)
        lane = lanes(target)["x"]
        assert lane["writer"]["state"] == "open" and "reader" not in lane


def test_too_many_lanes(serve):
    target = serve(a="size = 4M")
    with wire.Peer(target.socket) as peer:
        os.pwrite(peer.region, directory(*[entry(b"%d" % i, lane_count=1024)
                                           for i in range(255)]), DIRECTORY)
        (region,) = look(target)
        assert region["more"] and sum(len(c["lanes"]) for c in region["channels"]) == 1024
        assert "there are more lanes" in ctl(target, "channels")


def test_garbage_that_changes(serve, spawn):
    """Whatever is written while it looks, it goes on looking."""
    target = serve(a=f"size = {MEGABYTE}")
    dice = random.Random(7)
    with wire.Peer(target.socket) as peer:
        process = spawn([find_program("ivshmctl"), "-S", target.control, "--json", "channels",
                         "--every", "0.01"], stdout=subprocess.PIPE, text=True)
        for _ in range(100):
            text = bytearray(directory(*[entry(b"%d" % i, offset=LANE + 2048 * i)
                                         for i in range(dice.randrange(1, 20))]))
            if dice.random() < 0.5:
                text[dice.randrange(len(text))] ^= 1 << dice.randrange(8)
            os.pwrite(peer.region, text, DIRECTORY)
            os.pwrite(peer.region, dice.randbytes(65536), LANE)
            assert json.loads(process.stdout.readline())["regions"]
        process.kill()


def test_memory_that_is_cut_off(serve, tmp):
    path = tmp / "memory"
    path.touch()
    os.truncate(path, MEGABYTE)
    path.chmod(0o666)
    target = serve(a=f'memory = "file:{path}"')
    with wire.Peer(target.socket) as peer:
        os.pwrite(peer.region, directory(entry()), DIRECTORY)
        assert "x" in ctl(target, "channels")
        os.truncate(path, 5000)
        assert len(ctl(target, "channels").splitlines()) in (1, 2)


# ---- who may, and what he gets ----


def open_memory(target, name="a"):
    """The answer and the descriptors that came with it."""
    with target.client() as client:
        client.send(CONTROL + "OpenMemory", {"name": name})
        data, fds, _, _ = socket.recv_fds(client.sock, 65536, 8)
        client.data = data
        return client.answer(), fds


def test_memory_is_for_reading(serve):
    target = serve(a=f"size = {MEGABYTE}")
    answer, fds = open_memory(target)
    (fd,) = fds
    try:
        assert answer == {"descriptor": 0}
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        assert os.fstat(fd).st_size == MEGABYTE
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(fd)
    assert "looks into the memory of region a" in target.log()


def test_answers_that_nobody_takes(serve):
    """The server is left with no descriptor of theirs, which its end checks."""
    target = serve(a=f"size = {MEGABYTE}")
    before = target.fds()
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(target.client())
            for _ in range(100):
                client.send(CONTROL + "OpenMemory", {"name": "a"})
            client.send(CONTROL + "OpenMemory", {"name": "b"})
        with target.client() as other:
            other.sock.sendall(b'{"method":"ivshmem.Control.OpenMemory","oneway":true,'
                               b'"parameters":{"name":"a"}}\0')
            assert other.call(CONTROL + "GetRegion", name="a")["region"]["peers"] == 0
    wait_until(lambda: target.fds() == before, "the descriptors to be closed")


def test_not_for_everybody(serve):
    """Who may see the list may not read the memory."""
    target = serve(a=f"size = {MEGABYTE}")
    with acting_with(NOBODY.pw_uid, READERS):
        client = target.client()
    with client:
        assert client.call(CONTROL + "GetRegion", name="a")
        with pytest.raises(varlink.Error) as caught:
            client.call(CONTROL + "OpenMemory", name="a")
        assert caught.value.name == CONTROL + "NotPermitted"
    assert f"uid {NOBODY.pw_uid}" in target.log() and "may not call" in target.log()
    assert "there is no region b" in ctl(target, "channels", "b", code=1)
