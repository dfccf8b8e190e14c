# SPDX-License-Identifier: MIT
"""What bench/run and bench/bars share: building, places, how numbers and the machine are written."""

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(directory, targets):
    commands = [["ninja", "-C", str(directory), *targets]]
    if not (directory / "build.ninja").exists():
        commands.insert(0, ["meson", "setup", str(directory), str(ROOT)])
    for command in commands:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{done.stdout}\nbench: {' '.join(command)} failed")


def place_class(place):
    if place == 0:
        return "one CPU"
    return "same core" if place < 75 else "same cache" if place < 200 else "far apart"


def number(value):
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def machine():
    model = re.search(r"^model name\s*: (.*)$", open("/proc/cpuinfo").read(), re.M)
    virtual = " (virtual machine)" if " hypervisor" in open("/proc/cpuinfo").read() else ""
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs: "
        f"{model.group(1) if model else platform.machine()}{virtual}, Linux {kernel}."
    )


def write_results(path, marks, text):
    """Between two lines of a document."""
    before, rest = path.read_text().split(marks[0])
    path.write_text(f"{before}{marks[0]}\n\n{text}\n{marks[1]}{rest.split(marks[1])[1]}")
