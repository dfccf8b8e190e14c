# SPDX-License-Identifier: MIT
"""The commands of README.md, and those of ivshmem-device(1) that attach a VMM, run as written."""

import os
import pathlib
import re
import shlex
import subprocess

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
    lines = block_with('write 0 "hello"').splitlines()
    assert lines[0].startswith("meson setup build && ninja -C build")
    # Three terminals, used one after another: what stays is in the background here.
    terminals = [line.split("#")[0].strip() for line in lines[1:]]
    assert len(terminals) == 3
    client, _ = terminals[2].split(" '", 1)
    script = "\n".join([
        f"{terminals[0]} 2>{tmp}/log & server=$!",
        f"until grep -q listening {tmp}/log; do sleep 0.05; done",
        f"{terminals[1]} & first=$!",
        # When people type the third one, the second one has long joined, and written.
        f"until grep -q 'peer 0 joined' {tmp}/log; do sleep 0.05; done",
        f"until {client} 'read 0 5' | grep -q hello; do sleep 0.05; done",
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


def test_pipe(tmp):
    """A file through the region of the server above; test_channel_guests.py has the guests'."""
    build = os.environ.get("IVSHMEM_BUILD", str(ROOT / "build"))
    script = "\n".join([
        f"build/tools/server/ivshmem-server -F -S /tmp/iv.sock -n 2 2>{tmp}/log & server=$!",
        f"until grep -q listening {tmp}/log; do sleep 0.05; done",
        block_with("send <README.md"),
        "kill $server && wait $server"])
    script = script.replace("build/tools", f"{build}/tools").replace("/tmp/iv.", f"{tmp}/iv.")
    subprocess.run(["bash", "-ec", script], cwd=ROOT, timeout=60, check=True)
    assert (tmp / "iv.copy").read_bytes() == (ROOT / "README.md").read_bytes()


def test_in_production(tmp):
    """A region made at run time is still there when the server has been killed."""
    build = os.environ.get("IVSHMEM_BUILD", str(ROOT / "build"))
    lines = block_with("ivshmem-keeper").replace("/tmp/", f"{tmp}/")
    keeper, create, *rest = lines.replace("build/tools", f"{build}/tools").splitlines()
    script = "\n".join([
        f"{keeper} 2>{tmp}/log & keeper=$!",
        "trap 'kill $keeper 2>&- || :' EXIT",
        f"until [ -S {tmp}/iv.ctl ]; do sleep 0.05; done",
        create, *rest, "kill $keeper && wait $keeper"])
    script = script.replace("$(pgrep -n ivshmem-keeper)", "$keeper")
    run = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=60,
                         check=False)
    print(run.stdout, run.stderr, (tmp / "log").read_text())
    assert run.returncode == 0
    assert len(re.findall(r"^frames .*16M", run.stdout, re.M)) == 2
    assert "killed by signal 9" in (tmp / "log").read_text()


def check_hello(script, tmp):
    """Firmware and a host process, each in a terminal of its own, have greeted each other."""
    run = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, timeout=60,
                         check=False, stdin=subprocess.DEVNULL)
    print(run.stdout, run.stderr, (tmp / "log").read_text())
    assert run.returncode == 0
    assert run.stdout.count("hello: passed") == 2 and "hello 5 from peer 1" in run.stdout


def test_firmware(tmp):
    """The two commands, with the server from above."""
    build = os.environ.get("IVSHMEM_BUILD", str(ROOT / "build"))
    board, host = block_with("ivshmem-flat-run").splitlines()
    check_hello(f"""
        build/tools/server/ivshmem-server -F -S /tmp/iv.sock -n 2 2>{tmp}/log & server=$!
        until grep -q listening {tmp}/log; do sleep 0.05; done
        {board} & board=$!
        {host}
        wait $board && kill $server && wait $server
        """.replace("build/", f"{build}/").replace("/tmp/iv.sock", f"{tmp}/iv.sock"), tmp)


def test_firmware_guide(tmp):
    """The same in docs/firmware.md, with installed programs."""
    build = os.environ.get("IVSHMEM_BUILD", str(ROOT / "build"))
    text = (ROOT / "docs/firmware.md").read_text(encoding="utf-8")
    server, board, host = re.search(r"```sh\n(.*?)```", text, re.S).group(1).splitlines()
    check_hello(f"""
        cd {build}/examples
        PATH={build}/tools/server:{build}/tools/board:{build}/examples:$PATH
        {server[:-1]} 2>{tmp}/log & server=$!
        until grep -q listening {tmp}/log; do sleep 0.05; done
        {board} board=$!
        {host}
        wait $board && kill $server && wait $server
        """.replace("/tmp/ivshmem_socket", f"{tmp}/iv.sock"), tmp)


def commands(block, tmp):
    """The words of each command, with its files in `tmp`. A page writes a backslash twice."""
    block = re.sub(r"\\+\n", " ", block).replace("/tmp/", f"{tmp}/")
    return [shlex.split(line) for line in block.splitlines()]


def run(block, server, device, boot, tmp):
    """
    Run the commands one after another and attach a QEMU for each that starts one: with "..." for
    all other options, and without the programs that can't be had. Returns the QEMUs' devices.
    """
    devices = []
    for path, *words in commands(block, tmp):
        program = pathlib.Path(path).name
        if program == "ivshmem-server":
            server(*words, socket=words[words.index("-S") + 1])
        elif program == "ivshmem-device":
            options = set(words[::2])
            assert options == {"--device"}, options
            device(*words[1::2])
        elif program == QEMU:
            assert words[-1] == "..."
            qemu = "qemu-11" if "vfio-user-pci" in str(words) else "qemu-7"
            devices.append(boot(*words[:-1], qemu=qemu).pci(slot=2))  # the first that is free
    return devices


def check_cloud_hypervisor(block):
    """It can't be run here. But what its line names is a device of the same block."""
    found = re.search(r"^cloud-hypervisor .*shared=on --user-device (socket=\S+) \.\.\.$", block,
                      re.M)
    assert found and f"--device {found.group(1)}," in block


def test_qemu_line(server, boot, tmp, device):  # pylint: disable=redefined-outer-name
    """QEMU's own device, with the options of README."""
    server(vectors=2, socket=tmp / "iv.sock")
    found, = run(block_with("ivshmem-doorbell"), server, device, boot, tmp)
    assert (found.id, found.vectors) == (0, 2)


def test_device_lines(server, device, boot, tmp):  # pylint: disable=redefined-outer-name
    """README's device process, and the two VMMs on it."""
    target = server(vectors=2, socket=tmp / "iv.sock")
    block = block_with("vfio-user-pci")
    found, = run(block, server, device, boot, tmp)
    assert (found.id, found.vectors) == (0, 2)
    target.wait_log("peer 1 joined")
    check_cloud_hypervisor(block)


def manual_block(word):
    page = (ROOT / "man/ivshmem-device.1.scd").read_text(encoding="utf-8")
    found = [block for block in re.findall(r"^```\n(.*?)^```", page, re.S | re.M) if word in block]
    assert len(found) == 1, f"the page has {len(found)} examples with {word}"
    return found[0]


def test_manual_attaches_qemu(server, device, boot, tmp):  # pylint: disable=redefined-outer-name
    """The page's first example from beginning to end. (All others: test_device_program.py.)"""
    one, two = run(manual_block(QEMU), server, device, boot, tmp)
    assert (one.id, two.id) == (0, 1)
    for found in (one, two):
        assert (found.memory_size, found.vectors) == (16 << 20, 2)
        found.enable_msix()
    one.ring(two.id, 1)
    two.wait_pending(1)
    two.ring(one.id, 0)
    one.wait_pending(0)
    one.machine.store(one.memory, 4, 0x68656C6C)
    assert two.machine.load(two.memory, 4) == 0x68656C6C


def test_manual_attaches_cloud_hypervisor():
    check_cloud_hypervisor(manual_block("cloud-hypervisor"))
