# SPDX-License-Identifier: MIT
"""The commands in README.md are run as they stand there."""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
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
    line = block_with("qemu-system-x86_64")
    for word in ("-chardev socket,path=", "-device ivshmem-doorbell,chardev=iv,vectors="):
        assert word in line
