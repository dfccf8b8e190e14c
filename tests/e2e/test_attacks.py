# SPDX-License-Identifier: MIT
"""
Each claim of docs/security.md, with somebody who attacks it: a peer that may only read
(tests/attack), strangers, another region's peers, processes that are not what they seem, and stock
QEMU. What is refused leaves one line in the log; what does not hold is shown not to hold.

Users, since root is not held back by much: the server's, one that may write, one that may only
read, and one that has no business here.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import traceback

import pytest

import bare
import wire
from conftest import as_user, find_program, runnable_by, wait_until
from qemu import Machine, doorbell_device, vfio_user_device
from rules import (  # pylint: disable=unused-import # fixtures
    acting_as, allow, ends, enter, go_on, refusal, refusals, regions, stop)

MIB = 1 << 20
SERVER, WRITER, READER, STRANGER = "daemon", "games", "nobody", "bin"
SEAL_FUTURE_WRITE = 0x10
SLEEP = "/usr/bin/sleep"
# Allowed, and nobody but who does it sees any of it.
HARMLESS = {"by_private_mapping", "by_dirty_pipe"}

pytestmark = [
    pytest.mark.ours,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users"),
]


# ---- who may only read ----


@pytest.fixture
def attack(tmp, spawn):
    """
    Let a peer that may only read try everything: attack(path, user, victim) is {trick: error},
    where the error is "" if the trick has worked.
    """

    def start(path, user, victim):
        program = find_program("attack-peer")
        assert program, "no attack-peer in the build directory"
        entry = pwd.getpwnam(user)
        process = spawn([*runnable_by([str(program)], tmp, user), path, str(victim.pid)],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                        user=entry.pw_uid, group=entry.pw_gid, extra_groups=[])
        outcomes = {}
        for line in process.stdout:
            if line == "end\n":
                break
            name, _, number = line.strip().partition("=")
            outcomes[name] = errno.errorcode[int(number)] if int(number) else ""
        process.stdin.close()
        assert process.wait(wire.TIMEOUT) == 0 and len(outcomes) > 30, outcomes
        outcomes.pop("id")
        return outcomes

    return start


@pytest.fixture
def holder(spawn):
    """A process of another user that has a peer's region: holder(peer, user)."""

    def start(peer, user):
        entry = pwd.getpwnam(user)
        return spawn([SLEEP, "1000"], pass_fds=[peer.region], stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=entry.pw_uid,
                     group=entry.pw_gid, extra_groups=[])

    return start


def worked(outcomes):
    return {name for name, error in outcomes.items() if not error} - HARMLESS


READ_ONLY = "\n".join(["vectors = 2", allow(user=WRITER, access="read-write"),
                       allow(user=READER, access="read-only")])


def test_who_may_only_read_writes_by_no_known_trick(regions, enter, attack, holder):
    target = regions(frames=READ_ONLY, user=SERVER)
    writer = enter(target.socket, WRITER).pump_mesh(0, 2)
    content = os.urandom(MIB)
    os.pwrite(writer.region, content, 0)
    before = os.fstat(writer.region)
    victim = holder(writer, WRITER)

    outcomes = attack(target.socket, READER, victim)
    assert not worked(outcomes), outcomes
    assert {name for name, error in outcomes.items() if not error} == HARMLESS
    assert os.pread(writer.region, MIB, 0) == content
    after = os.fstat(writer.region)
    assert (after.st_mode, after.st_uid, after.st_size, after.st_blocks) == (
        before.st_mode, before.st_uid, before.st_size, before.st_blocks)
    assert victim.poll() is None, "it lives"
    os.pwrite(writer.region, b"still mine", 0)
    writer.pump(lambda p: len(p.history) == 2 + 2 + 1, "the attacker to have come and gone")
    ends(target, 1)
    refusals(target, 0)


@pytest.mark.parametrize("user, tricks", [
    ("root", {"by_reopening", "by_map_files", "by_fchmod", "by_victims_memory"}),
    (SERVER, {"by_reopening", "by_fchmod"}),
])
def test_root_and_the_servers_user_write_all_the_same(regions, enter, attack, holder, user, tricks):
    """As docs/security.md says: the memory's owner and root are not held back."""
    rules = READ_ONLY + "\n" + allow(user=user, access="read-only")
    target = regions(frames=rules, user=SERVER)
    writer = enter(target.socket, WRITER)
    assert tricks <= worked(attack(target.socket, user, holder(writer, WRITER)))


def test_user_of_a_peer_that_writes_can_take_what_it_has(regions, enter, attack, holder):
    """Two peers of one user, told apart by their programs: only the host protects one of them."""
    target = regions(frames="\n".join([
        allow(user=WRITER, executable="*/attack-peer*", access="read-only"), allow(user=WRITER)]))
    writer = enter(target.socket, WRITER)
    found = worked(attack(target.socket, WRITER, holder(writer, WRITER)))
    assert "by_signal" in found and not {"by_reopening", "by_fchmod"} & found
    assert ("by_taking_descriptors" in found) == may_trace()


def may_trace():
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as scope:
            return scope.read().strip() == "0"
    except FileNotFoundError:
        return True


def test_mode_that_lets_others_write_undoes_it(regions, enter, attack, holder):
    target = regions(frames="region-mode = 0666\n" + READ_ONLY, user=SERVER)
    writer = enter(target.socket, WRITER)
    found = attack(target.socket, READER, holder(writer, WRITER))
    assert "by_reopening" in worked(found)
    assert found["by_ftruncate"] and found["by_seal"], "the seals hold even then"


def test_descriptor_of_who_may_read_is_for_reading(regions, enter):
    target = regions(frames=READ_ONLY)
    reader, writer = enter(target.socket, READER), enter(target.socket, WRITER)
    assert fcntl.fcntl(reader.region, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert fcntl.fcntl(writer.region, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    os.pwrite(writer.region, b"seen", 4096)
    with mmap.mmap(reader.region, MIB, prot=mmap.PROT_READ) as memory:
        assert memory[4096:4100] == b"seen"


# ---- what the kernel makes of memory files ----


def in_child(function):
    """
    Have a child do function(); its PID. It exits with what that returns, and whatever goes wrong in
    it does not go on as a second pytest.
    """
    child = os.fork()
    if child == 0:
        status = 70
        try:
            status = function() or 0
        except BaseException:  # pylint: disable=broad-exception-caught
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def exit_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def can_reopen(fd, user):
    """Whether `user`, given this descriptor, can open the same file for writing."""

    def reopen():
        as_user(user, None)()
        try:
            os.pwrite(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), b"x", 0)
        except PermissionError:
            return 1
        return 0

    status = exit_of(in_child(reopen))
    assert status in (0, 1)
    return status == 0


@contextlib.contextmanager
def memory_file(owner=WRITER):
    """A new memfd of `owner`: (its descriptor, one that was opened for reading)."""
    with acting_as(owner):
        fd = os.memfd_create("facts", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, mmap.PAGESIZE)
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    try:
        yield fd, reading
    finally:
        wire.close_all([fd, reading])


@pytest.mark.parametrize("mode, who_can", [
    (None, {"root", WRITER, READER}),  # as it is born: 0777, or 0666
    (0o400, {"root"}),
    (0o444, {"root"}),
    (0o600, {"root", WRITER}),
    (0o604, {"root", WRITER}),
    (0o606, {"root", WRITER, READER}),
])
def test_mode_decides_who_reopens_for_writing(mode, who_can):
    with memory_file() as (fd, reading):
        assert os.fstat(fd).st_mode & 0o666 == 0o666
        if mode is not None:
            os.fchmod(fd, mode)
        assert {user for user in ("root", WRITER, READER) if can_reopen(reading, user)} == who_can


def test_owner_changes_the_mode_back():
    with memory_file() as (fd, reading):
        os.fchmod(fd, 0o400)
        with acting_as(READER), pytest.raises(PermissionError):
            os.fchmod(reading, 0o600)
        with acting_as(WRITER):
            os.fchmod(reading, 0o600)
        assert can_reopen(reading, WRITER)


def test_seal_against_future_writing_holds_for_root():
    """The mapping that was there before goes on writing; nobody gets a second one."""
    with memory_file() as (fd, reading), mmap.mmap(fd, mmap.PAGESIZE) as before:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEAL_FUTURE_WRITE)
        again = os.open(f"/proc/self/fd/{reading}", os.O_RDWR)
        for one in (fd, again):
            with pytest.raises(PermissionError):
                os.pwrite(one, b"x", 0)
            with pytest.raises(PermissionError):
                mmap.mmap(one, mmap.PAGESIZE)
        os.close(again)
        before[:5] = b"still"
        assert os.pread(reading, 5, 0) == b"still"


# ---- machines that may only read ----


def test_stock_doorbell_device_does_not_start_with_a_descriptor_for_reading(regions, enter):
    """QEMU maps the region for writing or not at all; who is in sees it come and go."""
    target = regions(frames="\n".join(["vectors = 2", allow(user=WRITER),
                                       allow(executable="*/qemu-system-x86_64",
                                             access="read-only")]))
    writer = enter(target.socket, WRITER).pump_mesh(0, 2)
    with pytest.raises(AssertionError, match="(?s)does not start.*[Pp]ermission denied"):
        Machine(*doorbell_device(target))
    writer.pump(lambda p: p.history[-1].what == "left", "it to leave")
    ends(target, 1)


def guest_that_cannot_store(guest, content):
    """The guest's stores are lost, it notices, and nothing breaks: status 3 is its own verdict."""
    assert guest.process.wait(bare.TIMEOUT) == 3, guest.stderr() + guest.console()
    first = int.from_bytes(content[:1], "little")
    assert f"{first:#x}" in guest.console(), guest.console()


def test_plain_device_on_a_backend_for_reading(tmp):
    """QEMU 7.2: the guest sees the host's data, its stores are dropped."""
    content = b"\xa5" * MIB
    path = tmp / "region"
    path.write_bytes(content)
    path.chmod(0o444)
    guest = bare.BareGuest(
        tmp / "console", "memory", "-object",
        f"memory-backend-file,id=m,mem-path={path},size=1M,share=on,readonly=on",
        "-device", "ivshmem-plain,memdev=m,addr=4")
    try:
        guest_that_cannot_store(guest, content)
    finally:
        guest.close()
    assert path.read_bytes() == content


def test_our_device_that_may_only_read(regions, enter, device, tmp):
    """The process of the device has no descriptor for writing; doorbells work as ever."""
    program = find_program("ivshmem-device")
    target = regions(frames="\n".join(["vectors = 2", allow(user=WRITER),
                                       allow(executable=program, access="read-only")]))
    writer = enter(target.socket, WRITER)
    content = b"\x5a" * MIB
    os.pwrite(writer.region, content, 0)
    process = device(f"socket={tmp}/v,type=doorbell,server=unix:{target.socket},vectors=2,"
                     "readonly=on")
    writer.pump_mesh(1, 2)
    options = vfio_user_device(process.socket)
    guest = bare.BareGuest(tmp / "console", "memory", *options, qemu="qemu-11")
    try:
        guest_that_cannot_store(guest, content)
    finally:
        guest.close()
    assert os.pread(writer.region, MIB, 0) == content
    guest = bare.BareGuest(tmp / "console2", "self", *options, qemu="qemu-11", pba=0, latch=1)
    try:
        guest.wait()
    finally:
        guest.close()
    assert region_flags(process.pid) == {os.O_RDONLY}


def region_flags(pid):
    """Access modes of the descriptors of memory files that a process has."""
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        if "/memfd:" in os.readlink(f"/proc/{pid}/fd/{number}"):
            with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as info:
                flags = int(re.search(r"^flags:\s+(\d+)", info.read(), re.M).group(1), 8)
            found.add(flags & os.O_ACCMODE)
    return found


# ---- vectors that may not be rung ----


RINGS_ONLY_1 = "\n".join(["vectors = 3", allow(user=WRITER),
                          allow(user=READER, access="read-write", ring="1"),
                          allow(executable="*/qemu-system-x86_64", ring="1")])


def test_vector_that_may_not_be_rung_leads_nowhere(regions, enter):
    target = regions(frames=RINGS_ONLY_1)
    victim, attacker = enter(target.socket, WRITER), enter(target.socket, READER)
    for peer in (victim, attacker):
        peer.pump_mesh(1, 3)
    victims = {wire.eventfd_info(fd)["id"] for fd in victim.vectors}
    given = [wire.eventfd_info(fd)["id"] for fd in attacker.peers[victim.id]]
    assert given[1] in victims and not {given[0], given[2]} & victims
    for _ in range(100):
        for vector in range(3):
            attacker.ring(victim.id, vector)
    assert victim.rung() == {1: 100}
    for fd in attacker.peers[victim.id]:  # nor does emptying them take anything away
        os.set_blocking(fd, False)
    victim.ring(victim.id, 0)
    with contextlib.suppress(BlockingIOError):
        os.read(attacker.peers[victim.id][0], 8)
    assert victim.rung()[0] == 1
    for vector in range(3):  # the other direction is not restricted
        victim.ring(attacker.id, vector)
    assert attacker.rung() == {0: 1, 1: 1, 2: 1}


def test_stock_qemu_is_restricted_and_counts_right(regions, enter):
    """What it may not ring is an eventfd like any other to it: vector 1 stays vector 1."""
    target = regions(frames=RINGS_ONLY_1)
    victim, attacker = enter(target.socket, WRITER), enter(target.socket, READER)
    machine = Machine(*doorbell_device(target, vectors=3))
    try:
        for peer in (victim, attacker):
            peer.pump_mesh(2, 3)
        pci = machine.pci()
        assert pci.id == 2
        pci.enable_msix()
        for vector in range(4):
            for other in (victim.id, attacker.id):
                pci.ring(other, vector)
        for peer in (victim, attacker):
            assert wire.select_readable(peer.vectors[1], wire.TIMEOUT)
            assert peer.rung() == {1: 1}
        for vector in range(3):
            attacker.ring(pci.id, vector)
        pci.wait_pending(1)
        assert pci.pending() == {1}
        for vector in range(3):
            victim.ring(pci.id, vector)
            pci.wait_pending(vector)
        assert pci.pending() == {0, 1, 2}
    finally:
        machine.close()
    for peer in (victim, attacker):
        peer.pump_mesh(1, 3)


# ---- who has no business here ----


def test_stranger_is_refused_and_nobody_hears_of_him(regions, enter):
    target = regions(frames=READ_ONLY)
    writer = enter(target.socket, WRITER).pump_mesh(0, 2)
    assert refusal(target.socket, STRANGER) == wire.REFUSED_RULES
    (line,) = refusals(target)
    assert f"uid {pwd.getpwnam(STRANGER).pw_uid}" in line and "no rule lets it in" in line
    assert writer.drain() == 0


def test_peer_of_another_region_is_a_stranger(regions, enter):
    target = regions(frames="vectors = 1\n" + allow(user=WRITER),
                     secret="vectors = 1\n" + allow(user=READER))
    frames, secret = target.sockets
    first, second = enter(frames, WRITER), enter(secret, READER)
    assert refusal(secret, WRITER) < 0
    assert refusal(frames, READER) < 0
    refusals(target, 2)
    assert (first.id, second.id) == (0, 0)
    for peer in (first, second):
        peer.pump_mesh(0, 1)
    os.pwrite(second.region, b"mine", 0)
    assert os.pread(first.region, 4, 0) == bytes(4)
    assert os.fstat(first.region).st_ino != os.fstat(second.region).st_ino


def test_rule_that_is_full_is_a_no(regions, enter):
    target = regions(frames=allow(user=READER, max_peers=2))
    first = enter(target.socket, READER)
    enter(target.socket, READER)
    assert refusal(target.socket, READER) < 0
    (line,) = refusals(target)
    assert "max-peers = 2 reached" in line
    first.close()
    target.wait_log("peer 0 (?!joined)")
    enter(target.socket, READER)


def test_who_is_refused_a_thousand_times_does_not_fill_the_log(regions, enter):
    target = regions(frames=allow(user=WRITER))
    for _ in range(1000):
        refusal(target.socket, STRANGER)
    found = re.findall("refused", target.log())
    assert 1 <= len(found) < 300
    enter(target.socket, WRITER)


@pytest.mark.parametrize("fds", [0, 1, 16, 253])
def test_what_is_sent_to_the_server_ends_the_sender_only(regions, enter, fds):
    """Bytes, and descriptors with them; the fixture counts the server's descriptors."""
    target = regions(frames=READ_ONLY)
    writer = enter(target.socket, WRITER).pump_mesh(0, 2)
    attacker = enter(target.socket, READER)
    socket.send_fds(attacker.sock, [struct.pack("<q", -1)], [attacker.region] * fds)
    assert attacker.at_end()
    writer.pump(lambda p: p.history[-1].what == "left", "it to leave")
    ends(target, attacker.id)


# ---- reserved IDs ----


def test_reserved_id_is_given_again_only_when_nobody_saw_it_leave(regions, enter):
    target = regions(frames="\n".join(["vectors = 1", allow(user=READER, id=7),
                                       allow(user=WRITER)]))
    first = enter(target.socket, READER)
    assert first.id == 7
    assert refusal(target.socket, READER) < 0
    (line,) = refusals(target)
    assert "ID 7 is in use" in line

    witness = enter(target.socket, WRITER)
    first.close()
    witness.pump_mesh(0, 1)
    late = enter(target.socket, WRITER)  # has not seen it
    assert refusal(target.socket, READER) < 0
    assert "saw it leave" in refusals(target, 2)[1]
    witness.close()
    late.pump_mesh(0, 1)
    assert enter(target.socket, READER).id == 7
    late.pump(lambda p: 7 in p.peers, "it to be back")


# ---- processes that are not what they seem ----


def connect_in_child(path, user, then):
    """
    A child becomes `user`, connects, passes the connection to us, and does what then(socket) says.
    Returns (PID, our end).
    """
    ours, theirs = socket.socketpair()

    def connect():
        as_user(user, None)()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(path)
            socket.send_fds(theirs, [b"x"], [sock.fileno()])
            then(sock)

    child = in_child(connect)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    return child, socket.socket(fileno=fds[0])


def first_number(sock):
    sock.settimeout(wire.TIMEOUT)
    return struct.unpack("<q", sock.recv(8, socket.MSG_WAITALL))[0]


def nothing(_):
    pass


ONLY_SLEEP = "vectors = 1\n" + allow(executable=SLEEP)


def test_executable_is_that_of_the_process(regions):
    target = regions(frames=ONLY_SLEEP)
    # Not recv(): whether that waits both sides of a fork decide.
    child, sock = connect_in_child(target.socket, READER,
                                   lambda sock: wire.select_readable(sock, wire.TIMEOUT))
    with sock:
        assert first_number(sock) < 0
    assert exit_of(child) == 0  # it has lived until it had an answer
    (line,) = refusals(target)
    assert "no rule lets it in" in line and "as far as" not in line


def test_pid_that_is_another_process_now_does_not_help(regions, spawn):
    """It connects, dies, and its number goes to a program that may join."""
    target = regions(frames=ONLY_SLEEP)
    stop(target)
    child, sock = connect_in_child(target.socket, READER, nothing)
    assert exit_of(child) == 0
    with sock:
        spawn([find_program("attack-peer"), "--as-pid", str(child), SLEEP, "1000"])
        wait_until(lambda: is_running(child, SLEEP), "the number to be taken")
        try:
            go_on(target)
            assert first_number(sock) < 0
        finally:
            os.kill(child, signal.SIGKILL)
    (line,) = refusals(target)
    assert f"refused pid {child}, " in line and "as far as could be learnt" in line


def is_running(pid, program):
    try:
        return os.readlink(f"/proc/{pid}/exe") == program
    except FileNotFoundError:
        return False


def test_who_died_before_it_was_admitted_is_known_by_its_user_only(regions):
    target = regions(frames="\n".join([ONLY_SLEEP, allow(user=WRITER)]))
    for user, gets_in in ((READER, False), (WRITER, True)):
        stop(target)
        child, sock = connect_in_child(target.socket, user, nothing)
        assert exit_of(child) == 0
        go_on(target)
        with sock:
            assert (first_number(sock) == 0) == gets_in
    refusals(target)


def test_process_that_becomes_another_program_is_taken_for_it(regions):
    """What docs/security.md warns of: an executable says what a process is, not what it was."""
    target = regions(frames=ONLY_SLEEP)
    stop(target)

    def become(sock):
        os.set_inheritable(sock.fileno(), True)
        os.execv(SLEEP, [SLEEP, "1000"])

    child, sock = connect_in_child(target.socket, READER, become)
    with sock:
        wait_until(lambda: is_running(child, SLEEP), "it to have become another")
        go_on(target)
        assert first_number(sock) == 0
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_connection_stays_with_who_made_it(regions):
    """Passed on, it is still that user's: limits and rules count the one who connected."""
    target = regions(frames="vectors = 1\n" + allow(user=READER, max_peers=1))
    child, sock = connect_in_child(target.socket, READER, nothing)
    assert exit_of(child) == 0
    with sock:
        assert first_number(sock) == 0, "it is ours, root's, now"
        assert refusal(target.socket, READER) < 0
        target.wait_log(rf"joined \(pid {child}, uid {pwd.getpwnam(READER).pw_uid}, ")
