# SPDX-License-Identifier: MIT
"""
ivshmem-client send and recv: what arrives is what was sent, or somebody says so. docs/pipe.md has
the convention.
"""

import os
import re
import struct
import subprocess
import threading
import zlib

import pytest

from conftest import TIMEOUT, ended_with_test, find_program, kill, wait_until
from procs import status_of

SIZE = 3_000_003  # more than the ring of a region of 1 MiB takes
HALF = SIZE // 2
BEGUN = 100_000
LANE = 8192  # of the channel, in a region that has no others


@pytest.fixture
def run(server):  # pylint: disable=unused-argument # ends before servers do
    """Start ivshmem-client: run(target, *arguments, **options of Popen)."""
    program = find_program("ivshmem-client")

    def start(target, *arguments, **options):
        where = target if isinstance(target, str) else f"unix:{target.socket}"
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                   "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([program, "--uri", where, *map(str, arguments)], **options)

    yield from ended_with_test(start, kill)


def finish(process, code=0):
    """Wait for its end; what it has printed, and its standard error."""
    out, err = process.communicate(timeout=3 * TIMEOUT)
    assert process.returncode == code, err.decode()
    return out, err.decode()


def feed(process, data):
    """Write to its standard input, as much as it takes meanwhile."""
    process.stdin.write(data)
    process.stdin.flush()


def grown_to(path, size):
    wait_until(lambda: path.exists() and path.stat().st_size >= size, f"{size} bytes in {path}")


def sits(peer, word, before=None):
    """Wait until somebody sends, or receives, in another life than `before`; returns the life."""
    slot = LANE + {"send": 0, "recv": 128}[word]
    seen = []

    def seated():
        generation, state = struct.unpack("<II", os.pread(peer.region, 8, slot + 0x10))
        seen[:] = [generation]
        return state == 1 and generation != before
    wait_until(seated, f"somebody to {word}")
    return seen[0]


# ---- all is well ----


@pytest.mark.parametrize("size", [0, 1, 87, SIZE])
@pytest.mark.parametrize("first", ["send", "recv"])
def test_arrives(server, run, size, first):
    target = server()
    data = os.urandom(size)
    processes = {}
    for word in (first, {"send": "recv", "recv": "send"}[first]):
        processes[word] = run(target, word, stdin=subprocess.PIPE)
    out = []
    thread = threading.Thread(target=lambda: out.append(finish(processes["recv"])))
    thread.start()  # both ends at once, as a pipe between them would be full
    processes["send"].stdin.write(data)
    assert finish(processes["send"]) == (b"", "")
    thread.join()
    assert out == [(data, "")]


@pytest.mark.parametrize("ring", ["1K", "64K"])
def test_small_rings(server, run, tmp, ring):
    target = server()
    data = os.urandom(SIZE // 10)
    receiver = run(target, "recv", "--channel", "letters", "--ring", ring, "--output", tmp / "out")
    sender = run(target, "send", "--channel", "letters", "--ring", ring, stdin=subprocess.PIPE)
    sender.stdin.write(data)
    finish(sender)
    finish(receiver)
    assert (tmp / "out").read_bytes() == data


def test_many(server, run):
    """One transfer after the other, in one channel: none runs into the next."""
    target = server()
    for number in range(5):
        sender = run(target, "send", stdin=subprocess.PIPE)
        sender.stdin.write(b"%d" % number * 1000)
        receiver = run(target, "recv")
        finish(sender)
        assert finish(receiver)[0] == b"%d" % number * 1000


def test_other_channels(server, run):
    """The directory of a region is one list, and the first one has written it."""
    target = server()
    finish(run(target, "recv", "--channel", "there", "--timeout", "0.1"), code=1)
    _, err = finish(run(target, "recv", "--channel", "elsewhere"), code=1)
    assert "has other channels, and none is 'elsewhere" in err
    # That of the way back is a channel like others.
    receiver = run(target, "recv", "--channel", "there.back", "--timeout", "0.1")
    assert "none is 'there.back.back'" in finish(receiver, code=1)[1]


def test_without_server(run, tmp):
    """A file alone: nobody can be rung."""
    path = tmp / "memory"
    path.touch()
    os.truncate(path, 1 << 20)
    data = os.urandom(HALF)
    receiver = run(f"file:{path}", "recv", "--output", tmp / "out")
    sender = run(f"file:{path}", "send", stdin=subprocess.PIPE)
    sender.stdin.write(data)
    finish(sender)
    finish(receiver)
    assert (tmp / "out").read_bytes() == data


def test_output_and_progress(server, run, tmp):
    target = server()
    path = tmp / "out"
    path.write_bytes(b"what was there before, and is longer")
    sender = run(target, "send", "--progress", stdin=subprocess.PIPE)
    receiver = run(target, "recv", "--output", path, "--progress")
    sender.stdin.write(b"short")
    for process in (sender, receiver):
        assert re.search(r"5 B, .* s, .*/s", finish(process)[1])
    assert path.read_bytes() == b"short"


def test_idle(server, run):
    """Who waits sleeps: for a sender, for a receiver, and for input."""
    target = server()
    receiver = run(target, "recv")
    sender = run(target, "send", stdin=subprocess.PIPE)
    feed(sender, b"a")

    def switches(process):
        status = status_of(process.pid)
        return status["voluntary_ctxt_switches"], status["nonvoluntary_ctxt_switches"]

    def idle():
        before = [switches(process) for process in (sender, receiver)]
        with pytest.raises(subprocess.TimeoutExpired):
            receiver.wait(1)
        return before == [switches(process) for process in (sender, receiver)]

    wait_until(idle, "both to sleep for a second")
    finish(sender)
    assert finish(receiver)[0] == b"a"


# ---- somebody is killed ----


def interrupted(target, run, tmp, data):
    """A transfer whose receiver was killed at BEGUN: the sender, and what has been written."""
    path = tmp / "half"
    receiver = run(target, "recv", "--output", path)
    sender = run(target, "send", stdin=subprocess.PIPE)
    feed(sender, data[:BEGUN])
    grown_to(path, BEGUN)
    kill(receiver)
    feed(sender, data[BEGUN:HALF])
    return sender, path


def test_receiver_killed_and_resumed(server, run, tmp):
    """The sender does not notice but by a line; the file is whole in the end."""
    target = server()
    data = os.urandom(SIZE)
    sender, path = interrupted(target, run, tmp, data)
    _, err = finish(run(target, "recv"), code=1)
    position = int(re.search("a transfer is under way.*begins at byte ([0-9]+)", err)[1])
    assert 0 < position <= BEGUN
    other = tmp / "other"
    _, err = finish(run(target, "recv", "--output", other, "--resume"), code=1)
    assert "not the file that it has begun in" in err
    resumed = run(target, "recv", "--output", path, "--resume")
    feed(sender, data[HALF:])
    _, err = finish(sender)
    assert re.fullmatch(r"(ivshmem-client: the receiver has left; waiting for another one\n)+", err)
    assert f"going on at byte {position}\n" in finish(resumed)[1]
    assert path.read_bytes() == data


def test_resume_in_another_file(server, run, tmp):
    """As long as the right one, but not the same: found out at the end."""
    target = server()
    data = os.urandom(SIZE)
    sender, path = interrupted(target, run, tmp, data)
    path.write_bytes(bytes(path.stat().st_size))
    resumed = run(target, "recv", "--output", path, "--resume")
    feed(sender, data[HALF:])
    sender.stdin.close()
    sender.stdin = None
    assert "what has arrived is not what was sent" in finish(sender, code=1)[1]
    assert "is not what was sent" in finish(resumed, code=1)[1]


def test_receiver_killed_and_thrown_away(server, run, tmp):
    """--anew: this transfer fails, the next one is whole."""
    target = server()
    sender, _ = interrupted(target, run, tmp, os.urandom(SIZE))
    receiver = run(target, "recv", "--anew")
    assert "thrown away the rest" in finish(sender, code=1)[1]
    sender = run(target, "send", stdin=subprocess.PIPE)
    sender.stdin.write(b"next")
    finish(sender)
    out, err = finish(receiver)
    assert out == b"next" and "throwing away what is left" in err


def test_sender_killed(server, run, tmp):
    target = server()
    path = tmp / "out"
    receiver = run(target, "recv", "--output", path)
    sender = run(target, "send", stdin=subprocess.PIPE)
    feed(sender, bytes(HALF))
    grown_to(path, 1)
    kill(sender)
    _, err = finish(receiver, code=1)
    assert f"the sender has died: what has come, {path.stat().st_size} bytes, is not all" in err


def test_sender_killed_before_anybody_listens(server, run, join):
    """What is left of one whose sender has died is nobody's."""
    target = server()
    peer = join(target)
    sender = run(target, "send", stdin=subprocess.PIPE)
    feed(sender, b"left over")
    life = sits(peer, "send")
    kill(sender)
    sender = run(target, "send", stdin=subprocess.PIPE)
    sits(peer, "send", before=life)
    receiver = run(target, "recv")
    sender.stdin.write(b"next")
    finish(sender)
    assert finish(receiver)[0] == b"next"


def test_sender_gives_up(server, run):
    """Nobody takes anything: said by both, and by a receiver that comes later."""
    target = server()
    sender = run(target, "send", "--timeout", "0.3", stdin=subprocess.PIPE)
    sender.stdin.write(b"a")
    assert "not delivered: the receiver has taken nothing for 0.3 s" in finish(sender, code=1)[1]
    _, err = finish(run(target, "recv", "--timeout", "0.3"), code=1)
    assert "throwing away what is left of a transfer whose sender has gone" in err
    assert "nothing has come for 0.3 s" in err


def test_no_time_at_all(server, run):
    """--timeout 0: give up where one would have to wait."""
    target = server()
    sender = run(target, "send", "--timeout", "0", stdin=subprocess.PIPE)
    sender.stdin.write(b"a")
    assert "the receiver has taken nothing for 0 s" in finish(sender, code=1)[1]
    assert "nothing has come for 0 s" in finish(run(target, "recv", "--timeout", "0"), code=1)[1]


def test_receiver_cannot_write(server, run):
    target = server()
    sender = run(target, "send", stdin=subprocess.PIPE)
    with open("/dev/full", "wb") as full:
        receiver = run(target, "recv", stdout=full)
    sender.stdin.write(b"a")
    assert "it could not write what it got" in finish(sender, code=1)[1]
    assert "cannot write standard output: No space left" in finish(receiver, code=1)[1]


# ---- somebody spoils it ----


def test_spoiled(server, run, join):
    """One byte changes on the way."""
    target = server()
    sender = run(target, "send", stdin=subprocess.PIPE)
    sender.stdin.write(b"a needle in" + bytes(1000))
    sender.stdin.close()
    sender.stdin = None
    region = join(target).region
    found = []

    def arrived():
        found[:] = [os.pread(region, 1 << 20, 0).find(b"needle")]
        return found[0] > 0
    wait_until(arrived, "the needle")
    os.pwrite(region, b"N", found[0])
    assert "what has come is not what was sent" in finish(run(target, "recv"), code=1)[1]
    assert "what has arrived is not what was sent" in finish(sender, code=1)[1]


def test_something_else(server, run, join):
    """What is no transfer is not taken for one."""
    target = server()
    sender = run(target, "send", stdin=subprocess.PIPE)
    region = join(target).region
    tag = struct.pack("<I", 0x70697001)
    found = []

    def begun():
        found[:] = [os.pread(region, 1 << 20, 8192).find(tag)]
        return found[0] > 0
    wait_until(begun, "the beginning")
    os.pwrite(region, b"\x99", 8192 + found[0])
    assert "carries something else" in finish(run(target, "recv"), code=1)[1]
    kill(sender)


def test_another_directory(server, run, join):
    """What is where the channels would be is not overwritten."""
    target = server()
    region = join(target).region
    os.pwrite(region, b"somebody's", 4096)
    assert "neither channels nor empty" in finish(run(target, "recv"), code=1)[1]
    assert os.pread(region, 10, 4096) == b"somebody's"


@pytest.mark.parametrize("entry", [0, 1])
def test_channel_that_loses(server, run, join, entry):
    """One that somebody has laid out for other things, with a policy that drops or overwrites."""
    target = server()
    region = join(target).region
    finish(run(target, "recv", "--timeout", "0.1"), code=1)
    text = bytearray(os.pread(region, 64 + 2 * 128, 4096))
    struct.pack_into("<I", text, 64 + 128 * entry + 0x44, 1)
    struct.pack_into("<I", text, 12, 0)
    struct.pack_into("<I", text, 12, zlib.crc32(text))
    os.pwrite(region, text, 4096)
    for word in ("send", "recv"):
        assert "loses messages when it is full" in finish(run(target, word), code=1)[1]


# ---- usage ----


@pytest.mark.parametrize("closed,word,said", [
    ("<&-", "send", "standard input is closed"), (">&-", "recv", "standard output is closed")])
def test_closed_standard_descriptor(server, closed, word, said):
    """Else an empty file would arrive, or nothing be written, with exit status 0."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {closed}', find_program("ivshmem-client"), "-S",
         server().socket, word], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 2 and said in done.stderr


@pytest.mark.parametrize("words,said", [
    (["send", "now"], "nothing but options may follow, not 'now'"),
    (["send", "--output", "x"], "--output, --resume and --anew are for recv"),
    (["recv", "--resume"], "--resume wants --output"),
    (["recv", "--output", "x", "--resume", "--anew"], "--resume wants --output, and not --anew"),
    (["--json", "send"], "--json is not for send and recv"),
    (["recv", "--ring", "2G"], "--ring: at most 1G"),
    (["--anew", "info"], "are for send and recv"),
])
def test_usage(run, words, said):
    assert said in finish(run("unix:/nowhere", *words), code=2)[1]


@pytest.mark.parametrize("options,said", [
    (["--channel", "A"], "no channel can be like this"),
    (["--ring", "3K"], "no channel can be like this"),
    (["--ring", "1M"], "the region is too small for this"),
])
def test_impossible_channels(server, run, options, said):
    assert said in finish(run(server(), "recv", *options), code=1)[1]


def test_one_at_each_end(server, run, join):
    target = server()
    receiver = run(target, "recv")
    sits(join(target), "recv")
    sender = run(target, "send", stdin=subprocess.PIPE)
    sits(join(target), "send")
    assert "another peer is receiving on channel pipe already" in finish(
        run(target, "recv"), code=1)[1]
    assert "another peer is sending on channel pipe already" in finish(
        run(target, "send"), code=1)[1]
    sender.stdin.write(b"a")
    finish(sender)
    assert finish(receiver)[0] == b"a"


def test_server_without_vectors(server, run):
    assert "gives no vectors" in finish(run(server(vectors=0), "recv"), code=1)[1]
