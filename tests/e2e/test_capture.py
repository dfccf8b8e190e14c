# SPDX-License-Identifier: MIT
"""
`ivshmctl capture`, the dissector, and doorbells that are seen or not: what a real server did is what
tshark shows, in the same order, and not a ring more.
"""

import array
import fcntl
import json
import os
import signal
import struct
import subprocess
import time

import pytest

import wire
from conftest import TIMEOUT, TOP, find_program, wait_until
from controlled import CONTROL, ctl, serve  # pylint: disable=unused-import

pytestmark = pytest.mark.ours

DISSECTOR = TOP / "packaging/wireshark/ivshmem.lua"
SHOWN = ("type", "message", "descriptor", "peer", "number", "vector", "region", "reason", "count")
MESSAGE, JOINED, LEFT, REFUSED, RUNG, CREATED, REMOVED, DRAINING, LOST = range(1, 10)
VERSION, ID, REGION, CONNECT, LEAVE = range(1, 6)
MEMORY, READ_ONLY, DOORBELL, DEAD = range(1, 5)


def tshark(*arguments, stdin=None):
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", *map(str, arguments)]
    result = subprocess.run(command, input=stdin, capture_output=True, timeout=3 * TIMEOUT,
                            check=False)
    said = result.stderr.decode() + result.stdout.decode(errors="replace")
    assert "Lua Error" not in said, said
    assert result.returncode == 0, said
    return result.stdout.decode(errors="replace")


def decode(file):
    """The records of a file as dictionaries, without what they do not have."""
    options = [option for name in SHOWN for option in ("-e", f"ivshmem.{name}")]
    lines = tshark("-r", file, "-T", "fields", *options).splitlines()
    records = []
    for line in lines:
        cells = dict(zip(SHOWN, line.split("\t")))
        records.append({name: cell if name in ("region", "reason") else int(cell)
                        for name, cell in cells.items() if cell != ""})
    return records


@pytest.fixture
def capture(spawn, tmp):
    """Start `ivshmctl capture`, and stop it: what it has written, decoded."""

    class Capture:
        def __init__(self, target, *arguments):
            self.file = tmp / "capture.pcapng"
            self.process = spawn([find_program("ivshmctl"), "--socket", target.control, "capture",
                                  "-w", self.file, *arguments])
            wait_until(lambda: self.file.exists() and self.file.stat().st_size, "its header")

        def wait(self, count):
            """Until there are so many records in the file."""
            wait_until(lambda: len(packets(self.file.read_bytes())) >= count, f"{count} records")

        def stop(self):
            self.process.send_signal(signal.SIGINT)
            return self.end()

        def end(self):
            assert self.process.wait(3 * TIMEOUT) == 0
            return decode(self.file)

    return Capture


def message(peer, what, number, region="a", **more):
    return {"type": MESSAGE, "message": what, "descriptor": 0, "peer": peer, "number": number,
            "region": region, **more}


def hello(peer, memory=MEMORY):
    return [message(peer, VERSION, 0), message(peer, ID, peer),
            message(peer, REGION, -1, descriptor=memory)]


def connects(to, about, vectors):
    return [message(to, CONNECT, about, vector=vector, descriptor=DOORBELL)
            for vector in range(vectors)]


def all_there(peer, others, vectors):
    """Wait until it has heard of these others, and of itself."""
    peer.pump(lambda p: len(p.vectors) == vectors and
              all(len(p.peers.get(other, ())) == vectors for other in others), "everybody")


def ring(peer, number, vector):
    os.eventfd_write(peer.peers[number][vector], 1)


# ---- what is captured is what happened ----


def test_a_session_decodes_to_what_happened(serve, capture):
    target = serve(a="vectors = 2 max-peers = 2", other="")
    running = capture(target, "a")
    with wire.Peer(target.sockets[0]) as zero, wire.Peer(target.sockets[1]):
        all_there(zero, [], 2)
        with wire.Peer(target.sockets[0]) as one:
            all_there(one, [0], 2)
            all_there(zero, [1], 2)
            with wire.Peer(target.sockets[0], handshake=False) as two:
                assert two.message().number < 0
            ring(zero, 1, 1)  # is taken at once,
            os.eventfd_read(one.vectors[1])
            running.wait(18)
            ring(one, 0, 0)  # is not taken at all
            running.wait(19)
        zero.pump(lambda p: 1 not in p.peers, "the leave")
        ctl(target, "evict", "a", 0, "--reason", "enough")
        assert zero.at_end()
    ctl(target, "drain", "a")
    ctl(target, "remove", "a")
    running.wait(24)
    records = running.stop()

    about = {"region": "a"}
    refused = [record for record in records if record["type"] == REFUSED]
    assert len(refused) == 1 and "max-peers" in refused[0].pop("reason")
    assert records == [
        {"type": JOINED, "peer": 0, **about},
        *hello(0), *connects(0, 0, 2),
        {"type": JOINED, "peer": 1, **about},
        *connects(0, 1, 2),
        *hello(1), *connects(1, 0, 2), *connects(1, 1, 2),
        {"type": REFUSED, **about},
        {"type": RUNG, "peer": 1, "vector": 1, **about},
        {"type": RUNG, "peer": 0, "vector": 0, **about},
        {"type": LEFT, "peer": 1, "reason": "connection closed", **about},
        message(0, LEAVE, 1),
        {"type": LEFT, "peer": 0, "reason": "evicted: enough", **about},
        {"type": DRAINING, **about},
        {"type": REMOVED, **about},
    ]


def test_what_descriptors_are_worth_is_seen(serve, capture):
    target = serve(a='vectors = 2 allow { user = "root" access = "read-only" ring = "1" }')
    running = capture(target)
    with wire.Peer(target.sockets[0]) as zero, wire.Peer(target.sockets[0]) as one:
        all_there(one, [0], 2)
        all_there(zero, [1], 2)
        running.wait(16)
    records = running.stop()
    assert hello(1, READ_ONLY) == [record for record in records
                                   if record.get("peer") == 1 and record.get("message") in (1, 2, 3)]
    heard = [(record["number"], record["vector"], record["descriptor"]) for record in records
             if record.get("message") == CONNECT and record["peer"] == 1]
    assert heard == [(0, 0, DEAD), (0, 1, DOORBELL), (1, 0, DOORBELL), (1, 1, DOORBELL)]


def test_it_can_be_looked_at_live(serve, spawn):
    """As Wireshark does: from a pipe, while it is written."""
    target = serve(a="")
    before = target.fds() + 1  # the client; the doorbells come with the capture
    writer = spawn([find_program("ivshmctl"), "--socket", target.control, "capture", "-w", "-"],
                   stdout=subprocess.PIPE)
    reader = spawn(["tshark", "-X", f"lua_script:{DISSECTOR}", "-l", "-i", "-", "-T", "fields",
                    "-e", "ivshmem.type"], stdin=writer.stdout, stdout=subprocess.PIPE, text=True)
    writer.stdout.close()
    wait_until(lambda: target.fds() > before, "it to capture")
    with wire.Peer(target.sockets[0]):
        assert int(reader.stdout.readline()) == JOINED
    while int(reader.stdout.readline()) != LEFT:
        pass
    writer.send_signal(signal.SIGTERM)
    assert writer.wait(TIMEOUT) == 0
    assert reader.stdout.read() == ""


def test_it_ends_by_itself(serve, capture):
    target = serve(a="")
    running = capture(target, "--count", "3")
    with wire.Peer(target.sockets[0]):
        assert [record["type"] for record in running.end()] == [JOINED, MESSAGE, MESSAGE]
    assert not capture(target, "--duration", "0.2").end()


def test_lines_for_people_and_programs(serve, spawn):
    target = serve(a="")
    tool = [find_program("ivshmctl"), "--socket", target.control, "capture", "--count", "6"]
    plain = spawn(tool, stdout=subprocess.PIPE, text=True)
    objects = spawn([*tool, "--json", "--no-doorbells"], stdout=subprocess.PIPE, text=True)

    def both_capture():
        with wire.Peer(target.sockets[0]):
            return plain.poll() is not None and objects.poll() is not None

    wait_until(both_capture, "both to have had enough")
    lines = plain.stdout.read().splitlines()
    assert any(line.endswith("a peer 0 @1 <- region -1 with memory") or
               "<- region -1 with memory" in line for line in lines)
    events = [json.loads(line) for line in objects.stdout]
    assert len(events) == 6
    assert {"event": "message", "message": "region", "number": -1, "descriptor": "memory"}.items() \
        <= [event for event in events if event.get("message") == "region"][0].items()


def test_what_cannot_be_is_said(serve, tmp):
    target = serve(a="")
    assert "two ways" in ctl(target, "--json", "capture", "-w", tmp / "x", code=2)
    assert "No such file" in ctl(target, "capture", "-w", tmp / "no" / "x", code=2)
    assert "no region b" in ctl(target, "capture", "b", code=1)


# ---- clients that do not keep up ----


def test_what_is_lost_is_counted(serve, tmp):
    """A client that does not read while more happens than is kept: nothing is missing silently."""
    target = serve(a="vectors = 4")
    peers = []
    with target.client() as client, target.client() as late:
        client.send(CONTROL + "Capture", {}, more=True)
        assert client.answer() == {"events": []}
        for _ in range(130):
            peers.append(wire.Peer(target.sockets[0], timeout=3 * TIMEOUT, keep=False))
            for peer in peers:
                peer.drain()
        for peer in peers:  # what waited for room is sent as well, and counted
            peer.pump_mesh(len(peers) - 1, 4)
        total = 130 + late.call(CONTROL + "GetRegion", name="a")["region"]["counters"]["messages"]
        assert total > 60000
        seen, lost = 0, 0
        while seen + lost < total:
            for event in client.answer()["events"]:
                lost += event.get("count", 0)
                seen += event["event"] in ("message", "joined")
        assert seen > 1000 and lost > 1000 and seen + lost == total
        peers.pop().close()  # and from there on it is told all again
        events = client.answer()["events"]
        assert events[0]["event"] == "left"
        # The same in a file: a record in the place where they are missing.
        file = tmp / "made.pcapng"
        file.write_bytes(pcapng([record(LOST, number=lost)]))
        assert decode(file) == [{"type": LOST, "count": lost}]
        assert "lost here" in tshark("-r", file)
    for peer in peers:
        peer.close()


# ---- doorbells that are seen, and those that are not ----


def doorbells(client, **parameters):
    """{(ID, vector): how often it was seen}"""
    listed = client.call(CONTROL + "ListDoorbells", **parameters)["doorbells"]
    return {(entry["id"], entry["vector"]): entry["seen"] for entry in listed}


def watch_all(client):
    """Until the server looks at all doorbells that there are."""
    wait_until(lambda: client.call(CONTROL + "ListDoorbells")["unwatched"] == 0, "all watched")


def ring_until_seen(client, rung, key, ring_it):
    """Ring once more: it must be seen, and nothing else."""
    ring_it()
    rung[key] = rung.get(key, 0) + 1
    wait_until(lambda: doorbells(client) == rung, f"{rung}")


def test_each_ring_is_seen_once(serve):
    """Those that are taken at once, late, several together, or never; by old peers and new ones."""
    target = serve(a="vectors = 3")
    rung = {}
    with target.client() as client, wire.Peer(target.sockets[0]) as old:
        all_there(old, [], 3)
        os.eventfd_write(old.vectors[2], 1)  # before anybody asks
        watch_all(client)
        assert not doorbells(client)
        with wire.Peer(target.sockets[0]) as new:
            all_there(new, [0], 3)
            all_there(old, [1], 3)
            for _ in range(20):
                ring_until_seen(client, rung, (1, 0), lambda: (
                    ring(old, 1, 0), os.eventfd_read(new.vectors[0])))
                ring_until_seen(client, rung, (0, 1), lambda: ring(new, 0, 1))
                ring_until_seen(client, rung, (1, 2), lambda: ring(old, 1, 2))
                ring_until_seen(client, rung, (1, 2), lambda: ring(old, 1, 2))
                os.eventfd_read(new.vectors[2])  # two at once
            os.eventfd_read(old.vectors[2])
            time.sleep(0.05)
            assert doorbells(client) == rung
        wait_until(lambda: doorbells(client) == {(0, 1): 20}, "the other to be gone")


def test_storms_are_never_counted_too_high(serve, spawn):
    """A receiver that reads as fast as it can, and who rings as fast as he can."""
    target = serve(a="")
    with target.client() as client, wire.Peer(target.sockets[0]) as peer:
        all_there(peer, [], 1)
        watch_all(client)
        fd = peer.vectors[0]
        os.set_blocking(fd, True)
        reader = os.fork()
        if reader == 0:
            while True:
                os.eventfd_read(fd)
        try:
            for _ in range(100000):
                os.eventfd_write(fd, 1)
            wait_until(lambda: doorbells(client), "some of them")
            time.sleep(0.1)
            assert 0 < doorbells(client)[(0, 0)] <= 100000
        finally:
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="needs /dev/kvm")
def test_what_kvm_takes_is_not_observable(serve):
    """Rings into an irqfd: the server sees nothing, and does not say that there was nothing."""
    create_vm, create_irqchip, irqfd = 0xAE01, 0xAE60, 0x4020AE76
    target = serve(a="")
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    machine = fcntl.ioctl(kvm, create_vm, 0)
    with target.client() as client, wire.Peer(target.sockets[0]) as peer:
        all_there(peer, [], 1)
        watch_all(client)
        fcntl.ioctl(machine, create_irqchip, 0)
        fcntl.ioctl(machine, irqfd, struct.pack("IIII16x", peer.vectors[0], 5, 0, 0))
        for _ in range(100):
            os.eventfd_write(peer.vectors[0], 1)
        time.sleep(0.1)
        assert not doorbells(client)
        os.close(machine)
        os.close(kvm)
        # The machine is gone, and its irqfd with it, a moment later: now it is seen.
        wait_until(lambda: os.eventfd_write(peer.vectors[0], 1) or doorbells(client), "a ring")


def test_top_has_rates_of_what_is_seen(serve, spawn):
    target = serve(a="vectors = 2", b="")
    with wire.Peer(target.sockets[0]) as loud, wire.Peer(target.sockets[1]):
        all_there(loud, [], 2)
        top = spawn([find_program("ivshmctl"), "--socket", target.control, "--json", "top",
                     "--interval", "0.1"], stdout=subprocess.PIPE, text=True)

        def sample():
            return json.loads(top.stdout.readline())

        assert all("doorbells_seen" not in peer for peer in sample()["peers"])

        def is_rung():
            os.eventfd_write(loud.vectors[1], 1)
            os.eventfd_read(loud.vectors[1])
            return sample()["peers"][0].get("doorbells_per_s", 0) > 0

        wait_until(is_rung, "a rate")
        now = sample()
        assert now["peers"][0]["doorbells_seen"] == now["regions"][0]["doorbells_seen"] > 0
        assert "doorbells_seen" not in now["peers"][1] and "doorbells_seen" not in now["regions"][1]


def test_nothing_is_held_when_nobody_asks(serve):
    target = serve(a="vectors = 8")
    with wire.Peer(target.sockets[0]) as peer:
        all_there(peer, [], 8)
        before = target.fds()
        clients = [target.client() for _ in range(9)]
        for client in clients[:8]:
            watch_all(client)
        with pytest.raises(Exception, match="TooManyClients"):
            clients[8].call(CONTROL + "ListDoorbells")
        assert target.fds() > before
        for client in clients:
            client.close()
        wait_until(lambda: target.fds() == before, "all descriptors to be closed")
        target.settle()


# ---- records that nobody has written ----


def pcapng(bodies):
    """A capture file of these records."""
    def block(kind, body):
        body += bytes(-len(body) % 4)
        size = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + size + body + size

    file = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    file += block(1, struct.pack("<HHI", 154, 0, 0))
    for body in bodies:
        file += block(6, struct.pack("<IIIII", 0, 0, 0, len(body), len(body)) + body)
    return file


def packets(data):
    """The records of a file that may be in the writing."""
    found, at = [], 0
    while at + 12 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if at + size > len(data):
            break
        if kind == 6:
            (length,) = struct.unpack_from("<I", data, at + 20)
            found.append(data[at + 28:at + 28 + length])
        at += size
    return found


def record(kind, number=0, region=b"", reason=b"", version=1):
    return struct.pack("<BBBBIQqIIIBBH", version, kind, 0, 0, 0xFFFFFFFF, 0, number, 0xFFFFFFFF,
                       0xFFFFFFFF, 0, len(region), 0, len(reason)) + region + reason


def test_the_dissector_survives_what_is_no_record(tmp):
    whole = record(LEFT, region=b"frames", reason="für immer".encode())
    bodies = [whole[:size] for size in range(len(whole) + 1)]
    bodies += [record(255), record(0), record(LEFT, version=2), record(LEFT, region=b"\xff" * 255),
               array.array("B", range(256)).tobytes(), b"\xff" * 300, b"\0" * 300, whole + b"more"]
    bodies += [bytes([1, kind]) + b"\xff" * 60 for kind in range(256)]
    file = tmp / "bad.pcapng"
    file.write_bytes(pcapng(bodies))
    assert len(tshark("-r", file, "-V").split("\nFrame ")) == len(bodies)
    damaged = tshark("-r", file, "-Y", "ivshmem.damaged").splitlines()
    assert len(damaged) == len(whole) + 256
    assert "leaves: für immer" in tshark("-r", file, "-Y", f"frame.number == {len(whole) + 1}")
