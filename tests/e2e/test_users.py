# SPDX-License-Identifier: MIT
"""
A user who wants all of a server for himself: descriptors, memory of queues, lines of the log. What
he may take is counted over all regions, and others do not feel it.
"""

import os
import pwd
import re

import pytest

import wire
from conftest import wait_until
from regions import call
from rules import (  # pylint: disable=unused-import # fixtures
    allow, enter, refusal, refusals, regions)

GREEDY, MODEST = "nobody", "games"
UID = pwd.getpwnam(GREEDY).pw_uid
ANYBODY = allow(user=GREEDY) + "\n" + allow(user=MODEST)

pytestmark = [
    pytest.mark.ours,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users"),
]


def test_descriptors_over_all_regions(regions, enter, tmp):
    """Vectors count, a place that is free again can be taken, and another user has his own."""
    target = regions(limits="max-descriptors-per-uid = 9", a=f"vectors = 2\n{ANYBODY}",
                     b=f"vectors = 2\n{ANYBODY}")
    a, b = target.sockets
    first = enter(a, GREEDY)
    enter(a, GREEDY)
    enter(b, GREEDY)
    for path in (a, b):
        assert refusal(path, GREEDY) == wire.REFUSED_UID_FULL
    for line in refusals(target, 2):
        assert f", uid {UID} " in line and "(--max-descriptors-per-uid)" in line
    enter(b, MODEST).pump_mesh(1, 2)
    first.close()

    def may_enter():
        try:
            return enter(b, GREEDY)
        except wire.ProtocolError:
            return None

    wait_until(may_enter, "a place of this user")
    region = call(f"{tmp}/control", "GetRegion", name="a")["region"]
    assert (region["max_descriptors_per_uid"], region["max_queue_bytes_per_uid"]) == (9, 0)


def test_limits_come_with_a_reload(regions, enter, tmp):
    """For those who come: who is in stays."""
    target = regions(a=f"vectors = 2\n{ANYBODY}")
    joined = [enter(target.socket, GREEDY) for _ in range(3)]
    file = tmp / "ivshmem.conf"
    text = file.read_text(encoding="ascii")
    file.write_text(text.replace("limits { ", "limits { max-descriptors-per-uid = 6 "),
                    encoding="ascii")
    call(f"{tmp}/control", "Reload")
    assert refusal(target.socket, GREEDY) == wire.REFUSED_UID_FULL
    enter(target.socket, MODEST)
    for peer in joined:
        peer.pump_mesh(3, 2)


def test_queues_that_nobody_reads(regions, enter):
    """
    Sleepers go, one after the other, until what waits for the rest of them is little enough. Nobody
    else does: what waits for a newcomer is less, and he reads.
    """
    vectors, guests = 64, 15
    target = regions(limits="max-queue-bytes-per-uid = 600",
                     a=f"vectors = {vectors}\n{ANYBODY}", b=f"vectors = 1\n{ANYBODY}")
    path = target.sockets[0]
    sleepers = [enter(path, GREEDY) for _ in range(4)]
    elsewhere = enter(target.sockets[1], GREEDY)
    present = []
    for _ in range(guests):  # each is 64 messages, more than 278 fit no socket
        present.append(enter(path, MODEST))
        present[-1].pump(lambda p: {peer.id for peer in present} <= {p.id, *p.peers}
                         and len(p.vectors) == vectors, "all that are there")
        for peer in present:
            peer.drain()
    reason = (rf"a: peer (\d+) left: evicted: it has read nothing for \d+ ms, .* uid {UID} takes "
              r"\d+ bytes \(--max-queue-bytes-per-uid\)")
    wait_until(lambda: len(re.findall(reason, target.log())) >= 2, "two to be evicted")
    log = target.log()
    gone = {int(number) for number in re.findall(reason, log)}
    assert gone < {peer.id for peer in sleepers}
    assert len(re.findall("evicted", log)) == len(gone)
    for peer in present:
        peer.pump(lambda p: not gone & set(p.peers), "their departure")
        assert {other.id for other in present} <= {peer.id, *peer.peers}
    elsewhere.drain()
    assert not elsewhere.peers, "it is in a region of its own, and had nothing to read"


def test_lines_of_the_log(regions, enter):
    """Hundreds of refusals of one leave a few lines, and those about others are all there."""
    target = regions(a=allow(user=MODEST), b=allow(user=MODEST))
    for path in target.sockets * 100:
        assert refusal(path, GREEDY) < 0
    enter(target.socket, MODEST)
    assert refusal(target.socket, "bin") < 0
    target.wait_log(rf"refused pid \d+, uid {pwd.getpwnam('bin').pw_uid} ")
    target.wait_log(rf"joined \(pid \d+, uid {pwd.getpwnam(MODEST).pw_uid}, ")
    his = re.findall(rf"refused pid \d+, uid {UID} ", target.log())
    held_back = sum(map(int, re.findall(r"\((\d+) lines about peers held back\)", target.log())))
    assert 20 <= len(his) < 60 and len(his) + held_back == 200
