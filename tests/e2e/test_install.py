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
    """Root of an installation; what is built with sanitizers is of no use to an application."""
    root = tmp_path_factory.mktemp("install")
    build = root / "build"
    subprocess.run(["meson", "setup", build, TOP, "-Dtests=disabled", "--prefix=/usr"],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["meson", "install", "-C", build, "--destdir", root / "root"],
                   check=True, stdout=subprocess.DEVNULL)
    yield root / "root"
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
                    f"-I{installed}/usr/include", f"-L{library}", *flags], check=True)
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


def test_library_exports_its_header_and_nothing_else(installed):
    header = (installed / "usr/include/ivshmem/peer.h").read_text(encoding="utf-8")
    library = next(installed.rglob("libivshmem.so"))
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                             capture_output=True, text=True).stdout
    exported = {line.split()[2].split("@")[0] for line in symbols.splitlines()
                if line.split()[1] in "TDB"}
    assert exported, "nothing exported"
    for name in exported:
        assert f"{name}(" in header, f"{name} is exported and not in peer.h"
    archive = subprocess.run(["nm", "--defined-only", "-g", next(installed.rglob("libivshmem.a"))],
                             check=True, capture_output=True, text=True).stdout
    names = {line.split()[2] for line in archive.splitlines() if len(line.split()) == 3}
    assert names == exported, "the archive shows what the shared library hides"


def test_programs_and_manuals_are_installed(installed):
    for path in ("bin/ivshmem-server", "bin/ivshmem-client", "share/man/man1/ivshmem-server.1",
                 "share/man/man1/ivshmem-client.1", "include/ivshmem/abi.h"):
        assert (installed / "usr" / path).exists(), path
