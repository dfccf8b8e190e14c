# SPDX-License-Identifier: MIT
"""The commands in README.md are run as they stand there."""

import json
import os
import pathlib
import re
import shlex
import subprocess

from conftest import find_program
from test_qtest import boot  # pylint: disable=unused-import

ROOT = pathlib.Path(__file__).resolve().parents[2]
QEMU = "qemu-system-x86_64"
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)


def block_with(word):
    found = [block for block in BLOCKS if word in block]
    assert len(found) == 1, f"README.md has {len(found)} blocks with {word}"
    return found[0]


def test_two_commands_exist():
    commands = [line.split()[0] for line in block_with("scripts/demo").splitlines()]
    assert commands == ["scripts/demo", "scripts/check"]
    for command in commands:
        assert os.access(ROOT / command, os.X_OK), command


def test_by_hand(tmp):
    """Server and two clients, each line as in README; only the places differ."""
    build = os.environ.get("IVSHMEM_BUILD", str(ROOT / "build"))
    lines = block_with("ivshmem-client").splitlines()
    assert lines[0].startswith("meson setup build && ninja -C build")
    # Three terminals, used one after another: what stays is in the background here.
    terminals = [line.split("#")[0].strip() for line in lines[1:]]
    assert len(terminals) == 3
    script = "\n".join([
        f"{terminals[0]} 2>{tmp}/log & server=$!",
        f"until grep -q listening {tmp}/log; do sleep 0.05; done",
        f"{terminals[1]} & first=$!",
        f"until grep -q 'peer 0 joined' {tmp}/log; do sleep 0.05; done",
        terminals[2],
        "wait $first && kill $server && wait $server"])
    script = script.replace("build/tools", f"{build}/tools").replace("/tmp/iv.sock", f"{tmp}/iv.sock")
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60,
                         check=False)
    print(run.stdout, (tmp / "log").read_text())
    assert run.returncode == 0
    assert "68 65 6c 6c 6f" in run.stdout   # the second client reads what the first wrote
    assert "peer_id = 0 vectors = 2" in run.stdout   # and sees it
    assert "receive notification from peer_id=0 vector=0" in run.stdout   # and rings it


def test_qemu_line_uses_options_that_qemu_has():
    line = block_with("ivshmem-doorbell")
    for word in ("-chardev socket,path=", "-device ivshmem-doorbell,chardev=iv,vectors="):
        assert word in line


def attach_as_written(block, server, boot, tmp):
    """Run the line that starts ivshmem-device, then a QEMU with the device of the next line."""
    target = server(vectors=2)
    block = block.replace("\\\n", " ").replace("/tmp/iv.sock", "SERVER").replace("/tmp/", f"{tmp}/")
    words = shlex.split(block.replace("SERVER", target.socket))
    begin = next(i for i, word in enumerate(words) if word.endswith("ivshmem-device"))
    end = next(i for i, word in enumerate(words) if i > begin and word in ("&", QEMU))
    arguments = words[begin + 1:end]
    device = json.loads(next(word for word in words if word.startswith("{")))
    with subprocess.Popen([find_program("ivshmem-device"), *arguments], stderr=subprocess.PIPE,
                          text=True) as process:
        try:
            for line in (process.stderr.readline() for _ in range(arguments.count("--device"))):
                assert "listening on" in line
            machine = boot("-device", json.dumps({**device, "addr": "4"}), qemu="qemu-11")
            assert machine.pci().id == 0
            machine.close()
        finally:
            process.terminate()
            process.communicate()
    assert process.returncode == 0


def test_device_lines(server, boot, tmp):  # pylint: disable=redefined-outer-name
    block = block_with("vfio-user-pci")
    attach_as_written(block, server, boot, tmp)
    assert "--user-device socket=/tmp/vm1.sock" in block


def test_device_manual(server, boot, tmp):  # pylint: disable=redefined-outer-name
    """The examples of ivshmem-device(1), for QEMU as they stand there."""
    page = (ROOT / "man/ivshmem-device.1.scd").read_text(encoding="utf-8")
    blocks = re.findall(r"```\n(.*?)```", page, re.S)
    attach_as_written(next(b for b in blocks if "vfio-user-pci" in b), server, boot, tmp)
    cloud = next(b for b in blocks if "cloud-hypervisor" in b)
    assert "shared=on" in cloud and "--user-device socket=/tmp/vm1.sock" in cloud
