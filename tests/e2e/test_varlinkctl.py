# SPDX-License-Identifier: MIT
"""The control socket as systemd's varlinkctl sees it, which shares no code with ivshmctl."""

import json
import os
import re
import shlex
import subprocess

import pytest

from conftest import TOP, Server
from regions import Config

pytestmark = pytest.mark.ours

VARLINKCTL = TOP / ".cache/varlinkctl/varlinkctl"
INTERFACE = TOP / "tools/server/control/ivshmem.Control.varlink"


@pytest.fixture
def control(launch, server_command, tmp):
    """Path of the control socket of a server with one region, frames."""
    config = Config(tmp).write({"frames": "size = 64K"})
    launch(Server, [*config.sockets(), config.control],
           [*server_command, "-F", "-c", config.path], ready_fd=False)
    return config.control


def varlinkctl(*words, succeeds=True):
    assert os.access(VARLINKCTL, os.X_OK), f"{VARLINKCTL} is missing: run scripts/setup check"
    done = subprocess.run([VARLINKCTL, *words], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    return done.stdout if succeeds else done.stderr


def test_what_it_is(control):
    said = varlinkctl("info", control)
    assert re.search(r"Product: ivshmem-server$", said, re.M)
    assert "ivshmem.Control" in said and "org.varlink.service" in said
    methods = re.findall(r"^method (\w+)", INTERFACE.read_text(encoding="utf-8"), re.M)
    listed = varlinkctl("list-methods", control).split()
    assert {f"ivshmem.Control.{name}" for name in methods} == {
        name for name in listed if name.startswith("ivshmem.Control.")}


def test_its_interface_is_legal(control):
    varlinkctl("validate-idl", INTERFACE)
    said = varlinkctl("introspect", control, "ivshmem.Control")
    assert "method ListRegions" in said and "error NoSuchRegion" in said


def test_calls(control):
    def call(method, parameters, succeeds=True):
        return varlinkctl("--json=short", "call", control, f"ivshmem.Control.{method}",
                          json.dumps(parameters), succeeds=succeeds)

    made = json.loads(call("CreateRegion", {"spec": {
        "name": "x", "size": 4096, "socket": os.path.dirname(control) + "/x"}}))
    assert made["region"]["memory"]["size"] == 4096
    listed = json.loads(call("ListRegions", {}))
    assert [region["name"] for region in listed["regions"]] == ["frames", "x"]
    assert "NoSuchRegion" in call("RemoveRegion", {"name": "nothing"}, succeeds=False)
    call("RemoveRegion", {"name": "x"})


def test_watching(control, spawn):
    process = spawn([VARLINKCTL, "--more", "call", control, "ivshmem.Control.Watch", "{}"],
                    stdout=subprocess.PIPE, text=True)
    assert '"watching"' in process.stdout.readline()
    varlinkctl("call", control, "ivshmem.Control.DrainRegion", '{"name":"frames","on":true}')
    assert '"frames"' in process.stdout.readline()
    process.kill()
    varlinkctl("info", control)


def test_commands_of_the_manual(control):
    text = (TOP / "docs/control.md").read_text(encoding="utf-8")
    commands = [shlex.split(line, comments=True) for line in
                re.findall(r"^varlinkctl (.*)$", text, re.M)]
    assert len(commands) >= 2
    for words in commands:
        varlinkctl(*(control if word == "/run/ivshmem/control.sock" else word for word in words))
