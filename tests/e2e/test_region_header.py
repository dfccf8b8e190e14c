# SPDX-License-Identifier: MIT
"""
Regions that say who they are: what the server writes, and that a guest with three devices in any
order opens the right one by its name, whatever their drivers, on QEMU's devices and on ours. What a
damaged header does is tests/unit/test_header.c's.
"""

import json
import os
import re
import subprocess

import pytest

import region_header
from conftest import TIMEOUT, Server, find_program
from qemu import doorbell_device, plain_device, vfio_user_device
from shell_guest import (  # pylint: disable=unused-import # fixtures
    shell_guest, shell_image, wait_for)
from vmms import device_spec

pytestmark = pytest.mark.ours

UUID = "00112233-4455-6677-8899-aabbccddeeff"
MEGABYTE = 1 << 20
SIZES = {"frames": 1 * MEGABYTE, "sounds": 2 * MEGABYTE, "still-images": 4 * MEGABYTE}
MARK = 8192  # where each region has its name, besides the header


@pytest.fixture
def hub(server_command, launch, tmp):
    """
    A server with these regions: hub({name: settings, ...}, header="on") with `sockets` in that order.
    """

    def start(regions, header="on"):
        sockets = [str(tmp / f"{name}.sock") for name in regions]
        config = tmp / "ivshmem.conf"
        config.write_text(f'control {{ socket = "{tmp}/control.sock" }}\n' + "".join(
            f'region {name} {{ socket = "{path}"  vectors = 2  header = {header}  {settings} }}\n'
            for path, (name, settings) in zip(sockets, regions.items())), encoding="utf-8")
        return launch(Server, sockets, [*server_command, "-F", "--config", config],
                      ready_fd=False)

    return start


class Socket:
    """One of a server's, as what takes a server wants it."""

    def __init__(self, path):
        self.socket = path


def header_of(peer):
    return region_header.parse(os.pread(peer.region, region_header.SIZE, 0))


def make_file(path, size=MEGABYTE):
    path.touch()
    os.truncate(path, size)
    return path


# ---- what the server writes ----


def test_fresh_memory(hub, join):
    """Is another one in each life of the server, and says so."""
    seen = []
    for _ in range(2):
        one = hub({"frames": f'size = 1M  uuid = "{UUID}"', "sounds": "size = 2M"})
        frames, sounds = (header_of(join(Socket(path))) for path in one.sockets)
        assert frames["name"] == "frames" and frames["uuid"] == UUID
        assert frames["size"] == MEGABYTE and frames["flags"] == 0
        assert (frames["directory"], frames["directory_size"]) == (4096, 64 + 255 * 128)
        assert sounds["name"] == "sounds" and sounds["size"] == 2 * MEGABYTE
        seen += [frames["generation"], sounds["uuid"]]
        one.stop()
    assert len({0, *seen}) == 5
    plain = hub({"frames": "size = 1M"}, header="off")
    assert os.pread(join(plain).region, region_header.SIZE, 0) == bytes(region_header.SIZE)


def test_file_keeps_its_identity(hub, join, tmp):
    path = make_file(tmp / "memory")
    headers = []
    for _ in range(3):
        one = hub({"frames": f'memory = "file:{path}"'})
        peer = join(one)
        headers.append(header_of(peer))
        os.pwrite(peer.region, b"kept", MARK)
        one.stop()
    assert len({header["uuid"] for header in headers}) == 1
    first = headers[0]["generation"]
    assert [header["generation"] - first for header in headers] == [0, 1, 2]
    assert path.read_bytes()[MARK:MARK + 4] == b"kept"


@pytest.mark.parametrize("page, settings, pattern", [
    (region_header.make("sounds", MEGABYTE), "", "'sounds'.*'frames'"),
    (region_header.make("frames", MEGABYTE), f'uuid = "{UUID}"', f"UUID .*{UUID}"),
    (b"somebody's data", "", "in use.*leave header off")], ids=["name", "uuid", "data"])
def test_file_of_another(server_command, tmp, page, settings, pattern):
    """Is left alone, and the message says what is there."""
    path = make_file(tmp / "memory")
    with open(path, "r+b") as file:
        file.write(page)
    before = path.read_bytes()
    config = tmp / "ivshmem.conf"
    config.write_text(f'control {{ socket = "{tmp}/control.sock" }}\nregion frames '
                      f'{{ socket = "{tmp}/s" header = on memory = "file:{path}" {settings} }}\n',
                      encoding="utf-8")
    result = subprocess.run([*server_command, "-F", "--config", config], stderr=subprocess.PIPE,
                            text=True, timeout=TIMEOUT, check=False)
    assert result.returncode == 1 and re.search(pattern, result.stderr), result.stderr
    assert path.read_bytes() == before


def test_cleared_memory_is_another(hub, join):
    """With zero-on-last-leave each company has a generation of its own."""
    one = hub({"frames": "size = 1M  zero-on-last-leave = on"})
    headers = []
    for _ in range(3):
        peer = join(one)
        headers.append(header_of(peer))
        os.pwrite(peer.region, b"x" * MARK, 0)
        peer.close()
        one.wait_log(rf"(?s)(zeros again.*){{{len(headers)}}}")
    assert len({header["uuid"] for header in headers}) == 1
    assert len({header["generation"] for header in headers}) == 3


def test_client_shows_it(hub, join):
    """With or without a server; and no longer once it is damaged."""

    def info(uri):
        output = subprocess.run([find_program("ivshmem-client"), "--json", "--uri", uri, "info"],
                                stdout=subprocess.PIPE, timeout=TIMEOUT, check=True).stdout
        return json.loads(output.splitlines()[-1])

    one = hub({"frames": f'size = 1M  uuid = "{UUID}"'})
    peer = join(one)
    header = header_of(peer)
    memory = f"file:/proc/{os.getpid()}/fd/{peer.region}"
    for uri in (f"unix:{one.socket}", memory):
        shown = info(uri)
        assert {key: shown[key] for key in ("name", "uuid", "generation")} == {
            key: header[key] for key in ("name", "uuid", "generation")}
    os.pwrite(peer.region, b"x", 4095)
    assert "name" not in info(memory)


# ---- guests ----


def client(guest, uri, commands):
    """What ivshmem-client says in a guest, as a list of objects."""
    output = guest.run(f"ivshmem-client --json --uri {uri} '{commands}'")
    return [json.loads(line) for line in output.splitlines()]


def assert_opens(guest, name, header):
    """region:NAME leads to the region of that name, and to no other's memory."""
    info, read = (line for line in client(guest, f"region:{name}", f"info; read {MARK} 16")
                  if "command" in line)
    assert [info[key] for key in ("name", "uuid", "generation", "region_size")] == [
        header[key] for key in ("name", "uuid", "generation", "size")]
    assert bytes.fromhex(read["hex"]).rstrip(b"\0").decode() == name


@pytest.fixture
def three(hub, join, tmp):
    """A server of three regions, one in a file; {name: a peer of it}."""
    make_file(tmp / "images", SIZES["still-images"])
    one = hub({"frames": "size = 1M", "sounds": "size = 2M",
               "still-images": f'memory = "file:{tmp}/images"'})
    peers = {}
    for name, path in zip(SIZES, one.sockets):
        peers[name] = join(Socket(path))
        peers[name].path = path
        os.pwrite(peers[name].region, name.encode(), MARK)
    return peers


def test_right_one_of_three(three, shell_guest, tmp):
    """Through each driver, through all three at the same time, and in an order that tells nothing."""
    headers = {name: header_of(peer) for name, peer in three.items()}
    order = ["sounds", "still-images", "frames"]
    guest = shell_guest(
        *doorbell_device(Socket(three["sounds"].path), name="iv0", slot=4),
        *plain_device(tmp / "images", SIZES["still-images"], name="iv1", slot=5),
        *doorbell_device(Socket(three["frames"].path), name="iv2", slot=6), iommu=True)
    where = dict(zip(order, guest.devices()))
    for driver in ("uio_ivshmem", "vfio-pci"):
        guest.load(driver)

    for drivers in ([None] * 3, ["uio_ivshmem"] * 3, ["vfio-pci"] * 3,
                    ["vfio-pci", "uio_ivshmem", None]):
        for name, driver in zip(order, drivers):
            if guest.driver(where[name]):
                guest.unbind(where[name])
            if driver:
                guest.bind(where[name], driver)
        for name, header in headers.items():
            assert_opens(guest, name, header)

    # One that is taken is in the way of nobody who wants another.
    holder = guest.start(f"waiters vfio:{where['sounds']} 60 0")
    wait_for(lambda: "ready" in holder.output() or holder.ended(), "the program to have the device")
    assert_opens(guest, "still-images", headers["still-images"])
    status, output = guest.start("ivshmem-client --uri region:sounds info").wait()
    assert status == 3 and f"{where['sounds']} (Device or resource busy)" in output, output
    holder.kill()
    holder.wait()

    # What is said where the name does not lead to one.
    status, output = guest.start("ivshmem-client --uri region:nobody info").wait()
    assert status == 3
    assert f"no ivshmem device here has the region 'nobody': {where['sounds']} (sounds)" in output
    status, output = guest.start("ivshmem-client --uri auto: info").wait()
    assert status == 3 and f"{where['frames']} (frames, 1 MiB, no driver)" in output, output

    # A hostile peer gives its region the name of another: nobody is taken for it.
    os.pwrite(three["frames"].region, region_header.make("sounds", MEGABYTE), 0)
    status, output = guest.start("ivshmem-client --uri region:sounds info").wait()
    assert status == 3 and "both " in output and "'sounds'" in output, output
    assert_opens(guest, "still-images", headers["still-images"])


def test_doctor_and_our_devices(three, device, shell_guest, tmp):
    """Devices over vfio-user; one of them has a subsystem ID of its own."""
    ours = device(*[
        device_spec(tmp / f"d{number}", type="doorbell", vectors=2,
                    server=f"unix:{three[name].path}", subsystem_id=subsystem)
        for number, (name, subsystem) in enumerate([("sounds", "1af4:1100"),
                                                    ("frames", "1af4:11F0")])])
    options = [word for number, path in enumerate(ours.sockets)
               for word in vfio_user_device(path, name=f"iv{number}", slot=4 + number)]
    guest = shell_guest(*options, qemu="qemu-11")
    guest.load("uio_ivshmem")
    for bdf in guest.devices():
        guest.bind(bdf, "uio_ivshmem")
    for name in ("frames", "sounds"):
        assert_opens(guest, name, header_of(three[name]))
    ids = guest.run("cd /sys/bus/pci/devices; for bdf in " + " ".join(guest.devices()) +
                    "; do cat $bdf/subsystem_vendor $bdf/subsystem_device; done")
    assert ids.split() == ["0x1af4", "0x1100", "0x1af4", "0x11f0"]

    result = json.loads(guest.run("ivshmem-client --json --uri region:frames doctor"))
    found = {check["name"]: check["found"] for check in result["checks"]}
    assert result["ok"], result
    assert guest.devices()[1] in found["device"]
    assert "called frames, UUID " in found["open"]
    assert "(sounds)" in guest.run("ivshmem-client doctor", check=False)

    # Where a server could be, it is the one that is meant.
    guest.run("mkdir -p /run/ivshmem; touch /run/ivshmem/frames.sock")
    status, output = guest.start("ivshmem-client --uri region:frames info").wait()
    assert status == 3 and "/run/ivshmem/frames.sock" in output, output
