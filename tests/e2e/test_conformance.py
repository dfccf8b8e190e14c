# SPDX-License-Identifier: MIT
"""
What docs/device.md says of the device, asked of three subjects: the device built into QEMU (the
oracle), ours attached to QEMU over vfio-user, and our core alone.

A case (conformance_cases.py) is written once. Where a subject is known to differ, differences.py
has the value that it must show instead, so that whatever is not written there fails.
"""

import pytest

from conformance import PEER_VECTORS, PLAIN, CoreSubject, QemuSubject, doorbell, legacy
from conformance_cases import CASES
from conftest import cases, find_program
import differences
from qemu import doorbell_device, plain_device, vfio_user_device
from test_qtest import boot, shared_file  # pylint: disable=unused-import # fixtures

# What is in which slot: plain, the usual, and numbers of vectors that change the layout of BAR1.
KINDS = dict(enumerate([PLAIN, *map(doorbell, (2, 1, 65, 240, 241, 254, 255, 300, 2048))], 3))
WIDE = 300  # vectors of the peers of the second server, where the last two are
# QEMU's way of ringing that needs no exit from the guest, and time to set up for each vector.
IOEVENTFD = (2, 300)


def judge(subject, used):
    """Run all cases; returns what is wrong, a line each. Notes in `used` which differences show."""
    wrong = []
    for name, applies, mapped, function in CASES:
        if not applies(subject.kind):
            continue
        subject.reset()
        if mapped:
            subject.map()
        seen, expected = {}, {}
        for key, value, should in function(subject):
            seen[key], expected[key] = value, should
        for difference in differences.of(name, subject):
            values = difference.values[name](subject, expected)
            expected.update(values)
            if values:
                used.add((difference.name, name))
        wrong += [f"{subject.family} {subject.kind.name}-{subject.kind.vectors} {name} {key}: "
                  f"{show(seen[key])}, should be {show(expected[key])}"
                  for key in seen if seen[key] != expected[key]]
    return wrong


def show(value):
    if isinstance(value, tuple):
        return "(" + ", ".join(map(show, value)) + ")"
    if isinstance(value, int):
        return hex(value)
    return value.hex(" ", 4) if isinstance(value, bytes) else repr(value)


def judge_all(subjects):
    used, wrong, family = set(), [], None
    for subject in subjects:
        wrong += judge(subject, used)
        family = subject.family
    wrong += [f"no difference in {case}: {one.name}" for one in differences.DIFFERENCES
              if one.family == family for case in one.values if (one.name, case) not in used]
    assert not wrong, f"{len(wrong)} unexplained:\n" + "\n".join(wrong[:100])


@pytest.mark.parametrize("kind", [
    *KINDS.values(), *map(legacy, (0, 2))],
    ids=lambda kind: f"{kind.name}-{kind.vectors}")
def test_core(kind):
    subject = CoreSubject(kind, find_program("device-subject"))
    judge_all([subject])
    subject.close()


@pytest.mark.parametrize("qemu", cases("qemu-7", "qemu-11", long=["qemu-10"]))
def test_built_in_device(server, boot, join, shared_file, qemu):
    path, _ = shared_file
    servers = {vectors: server(vectors=vectors) for vectors in (PEER_VECTORS, WIDE)}
    hosts = {vectors: join(one) for vectors, one in servers.items()}
    options, of_peer = [], {}
    for slot, kind in KINDS.items():
        name = f"iv{slot}"
        if kind == PLAIN:
            options += plain_device(path, "1M", name, slot)
            continue
        of_peer[slot] = WIDE if kind.vectors >= WIDE else PEER_VECTORS
        options += doorbell_device(servers[of_peer[slot]], kind.vectors, name, slot,
                                   "on" if kind.vectors in IOEVENTFD else "off")
    machine = boot(*options, qemu=qemu)
    judge_all(QemuSubject("qemu", kind, machine, slot, hosts.get(of_peer.get(slot)),
                          of_peer.get(slot, 0), kind.vectors in IOEVENTFD)
              for slot, kind in KINDS.items())


def test_vfio_user_device(server, device, boot, join, shared_file, tmp):
    path, _ = shared_file
    servers = {vectors: server(vectors=vectors) for vectors in (PEER_VECTORS, WIDE)}
    hosts = {vectors: join(one) for vectors, one in servers.items()}
    options, of_peer, specs = [], {}, {}
    kinds = dict(enumerate([*KINDS.values(), legacy(0), legacy(2)], min(KINDS)))
    for slot, kind in kinds.items():
        socket = tmp / f"d{slot}"
        options += vfio_user_device(socket, f"iv{slot}", slot)
        specs[slot] = f"socket={socket},type={kind.name}"
        if kind == PLAIN:
            specs[slot] += f",memdev={path}"
            continue
        of_peer[slot] = WIDE if kind.vectors >= WIDE else PEER_VECTORS
        specs[slot] += f",server=unix:{servers[of_peer[slot]].socket}"
        specs[slot] += (f",msi=off,vectors={PEER_VECTORS}" if kind.intx
                        else f",vectors={kind.vectors}")
    device(*(spec for slot, spec in specs.items() if kinds[slot].vectors <= WIDE))
    device(*(spec for slot, spec in specs.items() if kinds[slot].vectors > WIDE))
    machine = boot(*options, qemu="qemu-11")
    judge_all(QemuSubject("vfio-user", kind, machine, slot, hosts.get(of_peer.get(slot)),
                          of_peer.get(slot, 0)) for slot, kind in kinds.items())


def test_document_has_the_same_differences():
    text = differences.DOCUMENT.read_text(encoding="utf-8")
    assert differences.with_tables(text) == text, "run tests/e2e/differences.py"
    assert all(one.name in text for one in differences.DIFFERENCES)
