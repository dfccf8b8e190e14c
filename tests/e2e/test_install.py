# SPDX-License-Identifier: MIT
"""What `meson install` installs is what an application needs: headers, both libraries, pkg-config."""

import os
import pathlib
import shutil
import subprocess

import pytest

import wire
from conftest import TOP, build_dir, wait_until

pytestmark = pytest.mark.ours


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Root of an installation of the build under test."""
    root = tmp_path_factory.mktemp("install")
    subprocess.run(["meson", "install", "--no-rebuild", "-C", build_dir(), "--destdir", root],
                   check=True, stdout=subprocess.DEVNULL)
    prefix, = root.glob("**/include/ivshmem")
    yield prefix.parent.parent
    shutil.rmtree(root, ignore_errors=True)


def compile_example(installed, example, package, *options):
    """examples/EXAMPLE.c as an application's author would build it."""
    found = next(installed.rglob(f"{package}.pc"))
    # Not PKG_CONFIG_SYSROOT_DIR alone: the folder is no system's.
    env = {**os.environ, "PKG_CONFIG_LIBDIR": str(found.parent),
           "PKG_CONFIG_SYSROOT_DIR": str(installed)}
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", *options, package], env=env,
                           check=True, capture_output=True, text=True).stdout.split()
    library = next(installed.rglob(f"{package}.a")).parent
    program = installed / (example + "-".join(options))
    static = ["-static"] if "--static" in options else []
    subprocess.run(["cc", *static, str(TOP / f"examples/{example}.c"), "-o", str(program),
                    f"-I{installed}/include", f"-L{library}", *flags], check=True)
    return program, library


@pytest.mark.parametrize("options", [[], ["--static"]], ids=["shared", "static"])
def test_hello_host_is_built_and_two_of_them_talk(installed, server, options):
    program, library = compile_example(installed, "hello-host", "libivshmem", *options)
    env = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    one = server(vectors=1)
    first = subprocess.Popen([program, f"unix:{one.socket}"], env=env, stdout=subprocess.PIPE,
                             text=True)
    one.wait_log("peer 0 joined")
    second = subprocess.run([program, f"unix:{one.socket}"], env=env, capture_output=True,
                            text=True, timeout=30, check=False)
    out, _ = first.communicate(timeout=30)
    print(out, second.stdout, second.stderr)
    assert (first.returncode, second.returncode) == (0, 0)
    assert out and second.stdout


def test_hello_guest_is_built_and_two_of_them_meet(installed, server):
    program, library = compile_example(installed, "hello-guest", "libivshmem")
    env = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    socket = f"unix:{server(vectors=1).socket}"
    pair = [subprocess.Popen([program, socket, str(seat)], env=env, stdout=subprocess.PIPE,
                             text=True) for seat in (1, 0)]
    for process in pair:
        out = process.communicate(timeout=30)[0]
        assert process.returncode == 0 and "hello: passed rounds=5" in out, out


def test_hello_channel_is_built_and_lines_arrive(installed, server):
    program, library = compile_example(installed, "hello-channel", "libivshmem")
    env = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    command = [program, f"unix:{server(vectors=1).socket}"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as receiver:
        subprocess.run([*command, "send"], env=env, input="one\ntwo\n", text=True, timeout=30,
                       check=True)
        assert receiver.communicate(timeout=30)[0] == "one\ntwo\n"
    assert receiver.returncode == 0


def test_manual_pages_are_there(installed):
    """man/meson.build leaves them out where scdoc is missing, which it is not here."""
    pages = {path.name for path in installed.rglob("share/man/man*/*")}
    assert {"ivshmem-server.1", "ivshmem-client.1", "ivshmem-device.1", "uio_ivshmem.4",
            "libivshmem.7"} <= pages


def test_embed_device_is_built_and_replays_a_guest(installed):
    program, _ = compile_example(installed, "embed-device", "libivshmem-device")
    log = TOP / "tests/bare/recorded/doorbell-2.log"
    done = subprocess.run([program, log], stdout=subprocess.PIPE, text=True, timeout=30,
                          check=False)
    assert done.returncode == 0, done.stdout
    assert "sends message of vector 1" in done.stdout


def defined(file, *options):
    """The symbols that a library offers."""
    symbols = subprocess.run(["nm", "--defined-only", *options, file], check=True,
                             capture_output=True, text=True).stdout
    fields = [line.split() for line in symbols.splitlines()]
    names = {words[2].split("@")[0] for words in fields if len(words) == 3 and words[1] in "TDBR"}
    assert names, f"{file} offers nothing"
    return names


def check_declared(installed, names, *headers):
    text = "".join((installed / "include/ivshmem" / header).read_text(encoding="utf-8")
                   for header in headers)
    for name in names:
        assert f"{name}(" in text, f"{name} is exported and not in {headers}"


def test_library_exports_its_header_and_nothing_else(installed):
    exported = defined(next(installed.rglob("libivshmem.so")), "-D")
    check_declared(installed, exported, "peer.h", "channels.h")
    archive = defined(next(installed.rglob("libivshmem.a")), "-g")
    assert archive == exported, "the archive shows what the shared library hides"


def test_device_library_exports_its_headers_and_nothing_else(installed):
    check_declared(installed, defined(next(installed.rglob("libivshmem-device.a")), "-g"),
                   "device.h", "flat.h")


@pytest.mark.parametrize("name", ["ivshmem-server", "ivshmem-client", "ivshmem-device"])
def test_program_and_manual_are_installed(installed, name):
    said = subprocess.run([installed / "bin" / name, "--version"], check=True,
                          capture_output=True, text=True).stdout
    assert said.startswith(name)
    assert f".TH \"{name}\" \"1\"" in \
        (installed / f"share/man/man1/{name}.1").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["abi.h", "channel.h", "channels.h", "device.h", "end.h", "flat.h",
                                  "mmio.h", "peer.h", "stream.h", "view.h"])
def test_headers_are_installed(installed, name):
    assert (installed / "include/ivshmem" / name).read_bytes() == \
        (TOP / "include/ivshmem" / name).read_bytes()
