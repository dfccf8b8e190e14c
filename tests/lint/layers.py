#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Check that includes point down the layers only (ARCHITECTURE.md has the table), and that what has
one owner stays with it.

    layers.py [DIRECTORY]

DIRECTORY is the top of the source tree (default: the one this script is in). Prints each breach as
FILE:LINE and a reason, and exits with 1 if there was one.
"""

import pathlib
import re
import sys

# Which folders (not what is in folders below them) and single headers a layer may include, besides
# itself and the system's headers. A new layer needs a line here; until it has one, all its includes
# are breaches. Nobody includes another layer's internal.h.
ALLOWED = {
    "src/base": (),
    "src/wire": ("base/le.h", "ivshmem/abi.h"),
    "src/region": ("base/", "ivshmem/abi.h"),
    "src/server": ("wire/", "base/", "ivshmem/abi.h"),
    "src/client": ("wire/", "region/", "base/", "ivshmem/"),
    "src/guest": ("region/", "base/", "ivshmem/"),
    "src/peer": ("client/", "guest/", "region/", "base/", "ivshmem/"),
    "src/channel": ("base/", "ivshmem/"),
    "src/device": ("base/le.h", "ivshmem/abi.h"),
    "src/device/pci": ("device/registers.h", "base/le.h", "ivshmem/abi.h", "ivshmem/device.h"),
    "src/device/flat": ("device/registers.h", "ivshmem/abi.h", "ivshmem/flat.h"),
    "src/vfio-user": ("base/", "region/", "ivshmem/"),
    "tools/common": ("base/", "ivshmem/abi.h"),
    "tools/varlink": (),
    "tools/ctl": ("varlink/", "common/", "region/", "base/", "ivshmem/abi.h",
                  "ivshmem/channel.h"),
    "tools/daemon": ("common/", "base/", "ivshmem/abi.h"),
    "tools/service": ("daemon/", "varlink/", "common/", "base/"),
    "tools/keeper": ("daemon/", "common/", "base/"),
    "tools/server/hub": ("daemon/", "common/", "server/", "region/", "base/", "ivshmem/abi.h"),
    "tools/server/control": ("hub/", "service/", "varlink/", "common/", "server/", "base/",
                             "ivshmem/abi.h"),
    "tools/server/metrics": ("hub/", "daemon/", "common/", "server/", "base/", "ivshmem/abi.h"),
    "tools/server": ("hub/", "control/", "metrics/", "daemon/", "common/", "server/", "region/",
                     "base/", "ivshmem/abi.h"),
    "tools/bench": ("common/", "base/", "ivshmem/"),
    "tools/client": ("common/", "guest/", "base/", "ivshmem/"),
    "tools/device": ("service/", "daemon/", "varlink/", "common/", "vfio-user/", "client/", "wire/",
                     "region/", "base/", "ivshmem/"),
    "tools/board": ("core/", "common/", "base/", "ivshmem/"),
    "tools/board/core": ("base/",),
    "include/ivshmem": ("ivshmem/abi.h", "ivshmem/channel.h", "ivshmem/end.h", "ivshmem/gather.h",
                        "ivshmem/latest.h", "ivshmem/mmio.h", "ivshmem/peer.h", "ivshmem/stream.h"),
    "examples": ("ivshmem/",),
}

# System headers, where not all will do. None of these calls the system, allocates or has a clock.
FREESTANDING = {"stdbool.h", "stddef.h", "stdint.h"}
SYSTEM = {
    "src/wire": FREESTANDING | {"assert.h", "errno.h", "string.h"},
    "src/device": FREESTANDING | {"string.h"},
    "src/device/pci": FREESTANDING | {"string.h"},
    "src/device/flat": FREESTANDING | {"string.h"},
    "include/ivshmem": FREESTANDING,
}

# Libraries that belong to the programs; and headers that musl does not have.
FOREIGN = re.compile(r"^(uv|microhttpd|unicorn/.*|jansson|confuse|cmocka|seccomp|systemd/.*)\.h$")
NOT_IN_MUSL = {"argp.h", "error.h", "sys/queue.h", "sys/cdefs.h"}

# What, where it may stand, where not at all, and why.
OWNED = [
    (r"\bSCM_RIGHTS\b", ("src/base/fdpass.c", "src/base/fdset.c"), ("src", "tools"),
     "descriptors are passed in src/base/fdpass.c and fdset.c only"),
    (r"\b(memfd_create|shm_open|shm_unlink|mmap)\s*\(|\bMAP_SHARED\b", ("src/region/",),
     ("src", "tools"),
     "the shared memory is created and mapped in src/region only"),
    (r"\b(exit|_exit|_Exit|quick_exit)\s*\(", (), ("src",), "only programs exit: see tools/"),
    (r"\b(printf|vprintf|puts|putchar|perror|err|errx|warn|warnx)\s*\(|\b(stdout|stderr)\b", (),
     ("src",), "only programs print: see tools/"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
NOT_CODE = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code_lines(text):
    """The lines without comments, strings and characters, still at their numbers."""
    return NOT_CODE.sub(lambda match: "\n" * match.group().count("\n"), text).split("\n")


def layer_of(name):
    """`src/wire` for src/wire/codec.c; None where everything may be included."""
    if name.startswith(("src/", "tools/")):
        return str(pathlib.PurePosixPath(name).parent)
    return next((layer for layer in ALLOWED if name.startswith(layer + "/")), None)


def check_include(layer, quoted, header):
    """Why `layer` may not have this include, or None."""
    ours = quoted or header.startswith("ivshmem/")
    if not ours:
        if header in NOT_IN_MUSL:
            return f"musl has no <{header}>"
        if header not in SYSTEM.get(layer, {header}):
            return f"{layer} is pure: <{header}> is not among " + ", ".join(sorted(SYSTEM[layer]))
        if layer.startswith("src/") and FOREIGN.match(header):
            return f"libraries need libc only: <{header}> belongs to the programs"
        return None
    if layer.startswith("src/") and "/" not in header:
        return f'write the path from src/: "{layer[4:]}/{header}"'
    top, _, own = layer.partition("/")
    folder, _, name = header.rpartition("/")
    if top == "src" and folder == own or top == "tools" and not folder:
        return None
    if top == "tools" and folder == own and f"src/{own}" not in ALLOWED:
        return None  # else the compiler takes the one in src/
    if name == "internal.h":
        return f"{header} is for {folder} alone"
    if {header, folder + "/"} & set(ALLOWED.get(layer, ())):
        return None
    return f"{layer} may not include {header}: " + (
        "it may include " + ", ".join(ALLOWED[layer]) if ALLOWED.get(layer)
        else "it stands on libc alone" if layer in ALLOWED
        else "this layer is not in the table of tests/lint/layers.py")


def check_file(name, text):
    layer = layer_of(name)
    if layer:
        for number, line in enumerate(text.split("\n"), 1):
            match = INCLUDE.match(line)
            reason = match and check_include(layer, match.group(1) == '"', match.group(2))
            if reason:
                yield number, reason
    lines = code_lines(text)
    for pattern, owners, folders, reason in OWNED:
        if name.split("/")[0] not in folders or name.startswith(tuple(owners)):
            continue
        for number, line in enumerate(lines, 1):
            match = re.search(pattern, line)
            if match:
                yield number, f"{match.group().strip(' (')}: {reason}"


def main():
    top = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    if len(sys.argv) < 2:
        top = top.parent.parent.parent
    files = sorted(path for folder in ("src", "include", "tools", "examples")
                   for path in (top / folder).rglob("*.[ch]"))
    if not files:
        sys.exit(f"layers.py: no sources below {top}")
    breaches = 0
    for path in files:
        name = path.relative_to(top).as_posix()
        for number, reason in sorted(check_file(name, path.read_text(encoding="utf-8"))):
            print(f"{name}:{number}: {reason}")
            breaches += 1
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
