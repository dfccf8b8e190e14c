# SPDX-License-Identifier: MIT
"""
The same firmware (tests/cortex) on our board and on QEMU's ivshmem-flat: it exchanges letters with
host processes, guests on other machines and itself, each letter with a doorbell, so that a single
one lost, doubled or too early fails the run; and it is rung, killed and lied to.

QEMU's device serves vector 0 only, and ringing another makes that QEMU spin: its servers have one.
"""

import struct
import time

import pytest

from bare import BareGuest
from conftest import ended_with_test, wait_until
from flat import (CHANGED, KINDS, LIFE, OURS, PAIRS, SEEN, VECTORS, Served, Words,
                  board,
                  image)  # pylint: disable=unused-import # a fixture
from guests import check, finish, host  # pylint: disable=unused-import # a fixture
from qemu import doorbell_device, result_line
from shell_guest import shell_guest, shell_image  # pylint: disable=unused-import # fixtures

ROUNDS = 2000
EACH_BOARD = pytest.mark.parametrize("kind", KINDS)
EACH_PAIR = pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
SOME_PAIRS = [(OURS, OURS), ("qemu-10", "qemu-11"), (OURS, "qemu-10"), ("qemu-11", OURS)]
LETTERS = 4096  # in tests/guest/talk.c
# QEMU's device looks beyond its table for a vector of 64 and more of a peer that it knows, and has
# been seen to crash.
HIGHEST = {kind: 0xFFFF if kind == OURS else 63 for kind in KINDS}


@pytest.fixture
def bare_guest(launch, tmp):  # pylint: disable=unused-argument # ends before servers do
    yield from ended_with_test(
        lambda role, *options, **parameters: BareGuest(tmp / "bare", role, *options, **parameters),
        BareGuest.close)


@pytest.fixture
def linux(shell_guest):
    """An aarch64 guest on a server, its device driven by uio_ivshmem: linux(server)."""

    def start(target):
        guest = shell_guest(*doorbell_device(target, vectors=1), kernel="arm64")
        where, = guest.devices()
        guest.load("uio_ivshmem")
        guest.bind(where, "uio_ivshmem")
        return guest

    return start


@pytest.fixture
def memory(join):
    """The shared memory of a server: memory(server)."""
    yield from ended_with_test(lambda target: Words(join(target)), Words.close)


def letter(one):
    """The result of a board that took part in a conversation."""
    one.wait()
    return result_line(one.console())


# ---- pairs ----


def in_flash(elf, size):
    """The first bytes of the flash once that file has been loaded."""
    flash = bytearray(size)
    headers, = struct.unpack_from("<I", elf, 28)
    entry, count = struct.unpack_from("<HH", elf, 42)
    for at in range(headers, headers + entry * count, entry):
        _, offset, _, address, length = struct.unpack_from("<5I", elf, at)
        length = max(0, min(length, size - address))
        flash[address:address + length] = elf[offset:offset + length]
    return flash


def test_same_image(server, board):
    """One file, by its digest; and what each board's processor finds in its flash is that file."""
    boards = [board(kind, server(), "image") for kind in KINDS]
    assert len({one.digest() for one in boards}) == 1
    elf = image().read_bytes()
    for one in boards:
        found, total = one.wait(), 2166136261
        for byte in in_flash(elf, found["size"]):
            total = (total ^ byte) * 16777619 & 0xFFFFFFFF
        assert found["sum"] == total and found["size"] > 1000


@EACH_BOARD
@pytest.mark.parametrize("seat", [0, 1])
def test_with_host(server, board, host, kind, seat):
    target = server()
    process = host(target, 1 - seat, 2, ROUNDS)
    one = board(kind, target, "talk", seat=seat, rounds=ROUNDS)
    results = [letter(one), finish(process)[0]]
    check(results, [(0, 1)], ROUNDS)


@EACH_PAIR
def test_with_firmware(server, board, kinds):
    target = server()
    boards = [board(kind, target, "talk", seat=seat, rounds=ROUNDS)
              for seat, kind in enumerate(kinds)]
    check([letter(one) for one in boards], [(0, 1)], ROUNDS)


@EACH_BOARD
@pytest.mark.parametrize("seat", [0, 1])
def test_with_bare_guest(server, board, bare_guest, kind, seat):
    """Their game counts each doorbell."""
    target = server()
    guest = bare_guest("pair", *doorbell_device(target, vectors=1), seat=1 - seat, rounds=ROUNDS)
    one = board(kind, target, "pair", seat=seat, rounds=ROUNDS)
    assert one.wait()["rounds"] == guest.wait()["rounds"] == ROUNDS


@EACH_BOARD
def test_with_linux(server, board, linux, memory, pytestconfig, kind):
    """An aarch64 guest and its driver; with --long ten times."""
    target = server()
    guest = linux(target)
    words = memory(target)
    for run in range(10 if pytestconfig.getoption("--long") else 2):
        words.clear()
        seat = run % 2
        command = guest.start(f"talk-host auto: {1 - seat} 2 {ROUNDS}")
        one = board(kind, target, "talk", seat=seat, rounds=ROUNDS)
        status, output = command.wait()
        assert status == 0, output + one.console()
        results = [letter(one), result_line(output)]
        # Who opens a vector hears of all rings since the driver took it.
        results[1]["doorbells"] = min(results[1]["doorbells"], results[0]["rings"])
        check(results, [(0, 1)], ROUNDS)


def test_three(server, board, host):
    """Each has a vector for each other one."""
    target = server(vectors=2)
    boards = [board(OURS, target, "talk", seat=seat, seats=3, rounds=ROUNDS) for seat in (0, 2)]
    process = host(target, 1, 3, ROUNDS)
    results = [*map(letter, boards), finish(process)[0]]
    check(results, [(0, 1), (0, 2), (1, 2)], ROUNDS)


@EACH_PAIR
def test_order(server, board, kinds):
    """A message of 64 words is there when the doorbell's interrupt comes."""
    target = server()
    boards = [board(kind, target, "order", seat=seat, rounds=ROUNDS)
              for seat, kind in enumerate(kinds)]
    assert [one.wait()["heard"] for one in boards] == [ROUNDS, ROUNDS]


@pytest.mark.parametrize("kinds", SOME_PAIRS, ids="-".join)
def test_server_dies(server, board, memory, kinds):
    """Who knows each other goes on."""
    rounds = 40000
    target = server()
    words = memory(target)
    boards = [board(kind, target, "talk", seat=seat, rounds=rounds)
              for seat, kind in enumerate(kinds)]
    wait_until(lambda: words[LETTERS + 64] > 100, "a hundred letters")
    target.kill()
    assert words[LETTERS + 64] < rounds
    check([letter(one) for one in boards], [(0, 1)], rounds)


# ---- a board alone ----


@EACH_BOARD
def test_rings_itself(server, board, kind):
    vectors = VECTORS if kind == OURS else 1
    board(kind, server(vectors=vectors), "self", vectors=vectors).wait()


@pytest.mark.parametrize("options, parameters", [
    (["--level"], {"level": 1}),
    (["--machine", "cortex-m0"], {"irq": 8}),
    (["--machine", "cortex-m4", "--irq", "0", "--level"], {"irq": 0, "level": 1}),
])
def test_interrupt_styles(server, board, join, options, parameters):
    """One line for all vectors, other processors: the firmware is told, and is the same."""
    target = server(vectors=VECTORS)
    board(OURS, target, "self", options, vectors=VECTORS, **parameters).wait()
    ring_each(Served(board(OURS, target, "vectors", options, **parameters), join(target)))


def ring_each(served):
    """Each vector is interrupted when it is rung, and no other is."""
    wait_until(served.board.sleeps, "the firmware to have seen to all rings")
    expected = served.counts()
    for vector in (*range(VECTORS), *reversed(range(VECTORS))):
        served.peer.ring(served.id, vector)
        expected[vector] += 1
        wait_until(lambda v=vector: served.counts()[v] == expected[v], f"vector {vector}")
        assert served.counts() == expected


def test_vectors(server, board, join):
    """Each of eight arrives; who waits for them uses no processor time, before and after."""
    target = server(vectors=VECTORS)
    served = Served(board(OURS, target, "vectors"), join(target))
    for _ in range(2):
        wait_until(served.board.sleeps, "the firmware to have seen to all rings")
        before = served.board.cpu_time()
        time.sleep(2)
        assert served.board.cpu_time() - before < 0.015
        ring_each(served)
    for vector in range(VECTORS):
        served.ring(vector, 3)
        assert served.peer.rung() == {vector: 3}
    served.dismiss()


@EACH_BOARD
def test_storm(server, board, join, kind):
    """Rung as fast as it goes, and ringing others so."""
    target = server()
    served = Served(board(kind, target, "storm"), join(target))
    words, sent, life, before = served.words, 0, served.words[LIFE], served.counts()[0]
    stop = time.monotonic() + 2
    while time.monotonic() < stop:
        for _ in range(1000):
            sent += 1
            words[CHANGED] = sent
            served.peer.ring(served.id, 0)
    assert words[LIFE] > life, "it had no time for anything else"
    wait_until(lambda: words[SEEN] == sent, "the last ring")
    assert 0 < served.counts()[0] - before <= sent
    served.ring(0, 50000)
    assert served.peer.rung() == {0: 50000}
    served.dismiss()


@pytest.mark.parametrize("kinds", SOME_PAIRS, ids="-".join)
def test_storm_and_talk(server, board, join, host, kinds):
    """One board rings another as fast as it goes, which converses with a host process meanwhile."""
    rounds = 10 * ROUNDS
    target = server()
    stormer = Served(board(kinds[0], target, "storm"), join(target))
    one = board(kinds[1], target, "talk", seat=1, rounds=rounds)
    number = one.wait_id()
    process = host(target, 0, 2, rounds)
    while one.process.poll() is None:
        stormer.ring(0, 10000, number)
    stormer.dismiss()
    stormer.peer.close()  # the host process stays until all others have left
    result, hosts = letter(one), finish(process)[0]
    assert result["received"] == hosts["received"] == rounds
    assert result["doorbells"] > hosts["rings"]


@EACH_BOARD
def test_without_interrupts(server, board, join, kind):
    """It rings others all the same."""
    target = server()
    served = Served(board(kind, target, "storm", interrupts=False), join(target))
    served.ring(0, 100)
    assert served.peer.rung() == {0: 100}
    served.dismiss()
    assert served.counts() == [0] * VECTORS


@EACH_BOARD
def test_nobody_there(server, board, join, kind):
    """Peers and vectors that do not exist."""
    vectors = VECTORS if kind == OURS else 1
    target = server(vectors=vectors)
    peer = join(target).pump_mesh(0, vectors)
    board(kind, target, "unknown", vectors=vectors, highest=HIGHEST[kind], other=peer.id).wait()
    assert peer.rung() == {}


@pytest.mark.parametrize("kind, options, parameters", [
    (OURS, [], {"misaligned": 1}), (OURS, ["--level"], {"misaligned": 1, "level": 1}),
    ("qemu-10", [], {}), ("qemu-11", [], {})])
def test_garbage(server, board, host, kind, options, parameters):
    """Anything to every register, doorbells among it; then device and partner still talk."""
    target = server()
    process = host(target, 1, 2, ROUNDS)
    one = board(kind, target, "garbage", options, seat=0, rounds=ROUNDS,
                mask=0xFFFF0000 | HIGHEST[kind], **parameters)
    results = letter(one), finish(process)[0]
    assert [result["received"] for result in results] == [ROUNDS, ROUNDS]
