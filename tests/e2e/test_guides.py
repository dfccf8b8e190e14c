# SPDX-License-Identifier: MIT
"""
The examples of docs/guests.md and of the pages on library and driver: what is a command runs as
written, what is a program is compiled and talks, and what is said elsewhere too is said alike.
"""

import fnmatch
import json
import os
import pathlib
import re
import shlex
import subprocess
import xml.etree.ElementTree as ET

import pytest

from conftest import TOP, build_dir
from test_qtest import boot  # pylint: disable=unused-import # fixture
from test_readme import run

pytestmark = pytest.mark.ours

GUIDE = (TOP / "docs/guests.md").read_text(encoding="utf-8")


def block_with(word, language="sh"):
    blocks = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.S | re.M)
    found = [block for block in blocks if word in block]
    assert len(found) == 1, f"the guide has {len(found)} blocks with {word}"
    return found[0]


def start_both(blocks, server, device, boot, tmp):
    """Two machines by the guide; each rings the other's last vector, and sees what it writes."""
    one, two = run("".join(blocks), server, device, boot, tmp)
    assert (one.id, two.id, one.vectors, two.vectors) == (0, 1, 4, 4)
    for found in (one, two):
        assert found.memory_size == 16 << 20
        found.enable_msix()
    one.ring(two.id, 3)
    two.wait_pending(3)
    two.ring(one.id, 3)
    one.wait_pending(3)
    one.machine.store(one.memory, 4, 0x68656C6C)
    assert two.machine.load(two.memory, 4) == 0x68656C6C


def test_plain_qemu(server, boot, tmp):  # pylint: disable=redefined-outer-name
    start_both([block_with("-S /tmp/iv.sock"), block_with("ivshmem-doorbell,")], server, None, boot,
               tmp)


def test_vfio_user(server, device, boot, tmp):  # pylint: disable=redefined-outer-name
    start_both([block_with("-S /tmp/iv.sock"), block_with("vfio-user-pci")], server, device, boot,
               tmp)


def test_libvirt_elements():
    """They are for the guide's own server, and what QEMU gets is what it gets without libvirt."""
    command = shlex.split(block_with("-S region:demo"))
    shmem = ET.fromstring(block_with("<shmem", "xml"))
    assert shmem.find("model").get("type") == "ivshmem-doorbell"
    assert shmem.find("server").get("path") == "/run/ivshmem/demo.sock"
    assert shmem.find("msi").get("vectors") == command[command.index("-n") + 1]

    xml = block_with("qemu:commandline", "xml")
    name = re.search(r"`xmlns:qemu='(\S+)'`", GUIDE).group(1)
    xml = xml.replace("<qemu:commandline", f"<qemu:commandline xmlns:qemu='{name}'")
    arguments = [element.get("value") for element in ET.fromstring(xml)]
    plain = shlex.split(block_with("vfio-user-pci").splitlines()[-2])
    assert arguments[0] == plain[1] == "-device"
    assert json.loads(arguments[1]) == json.loads(plain[2].replace("/tmp/", "/run/ivshmem/"))
    ET.fromstring(f"<domain>{block_with('<iommu', 'xml')}</domain>")


def test_messages_are_said():
    """What the guide's table of symptoms quotes, unless it names who says so, is in our source."""
    source = "".join(path.read_text(encoding="utf-8") for folder in ("src", "kernel", "include")
                     for path in sorted((TOP / folder).rglob("*.[ch]")))
    said = re.sub(r'"\s*"', "", source)  # strings that go on on the next line
    quoted = re.findall(r"^\| `([^`]+)`", GUIDE.split("## 10.")[1], re.M)
    assert "no ivshmem device in this machine" in quoted
    for text in quoted:
        assert text.replace("()", "(") in said, f"nobody says '{text}'"


def test_udev_rule():
    """It matches the driver's names, and gives them to the group that the library tells of."""
    rule = (TOP / "kernel/uio_ivshmem/60-ivshmem.rules").read_text(encoding="utf-8")
    pattern = re.search(r'ATTR{name}=="([^"]+)"', rule).group(1)
    driver = (TOP / "kernel/uio_ivshmem/uio_ivshmem.c").read_text(encoding="utf-8")
    name = re.search(r'devm_kasprintf\([^"]*"([^"]+)"', driver).group(1)
    assert fnmatch.fnmatchcase(name.replace("%s", "0000:00:04.0").replace("%u", "3"), pattern)
    group = re.search(r'GROUP="(\w+)"', rule).group(1)
    assert f"join the group {group}," in (TOP / "src/guest/uio.c").read_text(encoding="utf-8")
    for guide in (GUIDE, (TOP / "kernel/uio_ivshmem/README.md").read_text(encoding="utf-8")):
        assert f"groupadd --system {group}\n" in guide


@pytest.fixture(scope="module", name="examples")
def fixture_examples():
    page = (TOP / "man/libivshmem.7.scd").read_text(encoding="utf-8")
    return re.findall(r"^```\n(.*?)^```", page, re.S | re.M)


@pytest.fixture(scope="module", name="program")
def fixture_program(examples, tmp_path_factory):
    """The complete program of libivshmem(7)."""
    text, = (example for example in examples if "int main(" in example)
    directory = tmp_path_factory.mktemp("pass")
    (directory / "pass.c").write_text(text, encoding="utf-8")
    library = build_dir() / "src/peer"
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", f"-I{TOP}/include", directory / "pass.c",
                    "-o", directory / "pass", f"-L{library}", f"-Wl,-rpath,{library}", "-livshmem"],
                   check=True)
    return directory / "pass"


@pytest.mark.parametrize("first", ["0", "1"])
def test_program_of_the_manual(program, server, first):
    """Two of them on a host, in either order."""
    target = server(vectors=1)
    uri = f"unix:{target.socket}"
    second = "1" if first == "0" else "0"
    with subprocess.Popen([program, uri, first], stdout=subprocess.PIPE, text=True) as waiting:
        target.wait_log("peer 0 joined")
        other = subprocess.run([program, uri, second], stdout=subprocess.PIPE, text=True,
                               timeout=30, check=False)
        assert waiting.communicate(timeout=30)[0] == other.stdout == "passed\n"
        assert (waiting.returncode, other.returncode) == (0, 0)


def test_thread_of_the_manual(examples, tmp):
    """The part of a program in libivshmem(7) compiles, with what it leaves out."""
    text, = (example for example in examples if "void *serve(" in example)
    source = pathlib.Path(tmp) / "thread.c"
    source.write_text("#include <ivshmem/peer.h>\n"
                      "struct job { struct ivshmem_peer *peer; unsigned vector; };\n"
                      "void do_work(struct job *job);\n"
                      f"{text}\nvoid *(*const thread)(void *) = serve;\n", encoding="utf-8")
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", f"-I{TOP}/include", "-c", source, "-o",
                    os.devnull], check=True)
