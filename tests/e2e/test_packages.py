# SPDX-License-Identifier: MIT
"""
What fits the programs into a host (packaging/, debian/), as far as that can be seen without installing
anything. scripts/packages --test installs the packages and starts the services.
"""

import fnmatch
import json
import os
import pathlib
import re
import stat
import subprocess

import pytest

from conftest import TOP, build_dir

pytestmark = pytest.mark.ours

PACKAGING = TOP / "packaging"
UNITS = ["ivshmem-device.service", "ivshmem-server.service", "ivshmem-server@.service",
         "ivshmem-server@.socket"]
SYSTEMD_LEAVES = 12  # tenths of exposure; more is a step back


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)
    print(*command, "\n" + done.stdout)
    return done


@pytest.fixture(scope="module")
def install_plan():
    """Paths below / of all that `meson install` installs, for the prefix /usr; and from where."""
    def introspect(what):
        return json.loads(subprocess.run(["meson", "introspect", what, build_dir()], check=True,
                                         capture_output=True, text=True).stdout)

    options = {entry["name"]: entry["value"] for entry in introspect("--buildoptions")}
    prefix = options["prefix"]
    plan = {}
    for source, target in introspect("--installed").items():
        path = os.path.relpath(target, prefix)
        below_root = path.startswith(("etc/", "../etc/", "lib/systemd/"))
        plan[path.replace("../", "") if below_root else "usr/" + path] = source
    return plan


def sources_in(name):
    """What stands in a file of debian/: patterns, of what is installed or of the sources."""
    lines = (TOP / "debian" / name).read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines if not line.startswith("#")]


def patterns_of(package):
    return [source for source in sources_in(f"{package}.install")
            if source.startswith(("etc/", "lib/", "usr/"))]


def test_each_installed_file_is_in_one_package(install_plan):
    packages = [path.stem for path in (TOP / "debian").glob("*.install")]
    assert len(packages) >= 7
    used = set()
    for path in install_plan:
        owners = [(package, pattern) for package in packages for pattern in patterns_of(package)
                  if fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(path, pattern + "/*")]
        assert len(owners) == 1, f"{path} is in {owners}"
        used |= set(owners)
    for package in packages:
        for pattern in patterns_of(package):
            assert (package, pattern) in used, f"{package}.install: nothing is {pattern}"


def test_what_packages_take_from_the_sources_is_there():
    for path in (TOP / "debian").iterdir():
        if path.suffix in (".install", ".docs", ".examples", ".dkms"):
            for source in sources_in(path.name):
                assert source.startswith(("etc/", "lib/", "usr/")) or (TOP / source).exists(), \
                    f"{path.name}: {source}"


def test_packages_have_the_version_of_the_project():
    version = re.search(r"version: '(.*)'", (TOP / "meson.build").read_text(encoding="utf-8"))[1]
    changelog = (TOP / "debian/changelog").read_text(encoding="utf-8")
    assert changelog.startswith(f"ivshmem ({version})")
    module = re.search(r'PACKAGE_VERSION="(.*)"',
                       (TOP / "kernel/uio_ivshmem/dkms.conf").read_text(encoding="utf-8"))[1]
    assert f"usr/src/uio_ivshmem-{module}" in \
        (TOP / "debian/uio-ivshmem-dkms.install").read_text(encoding="utf-8")


def test_symbols_of_the_library_are_those_of_its_map():
    exported = re.findall(r"^\t(ivshmem_\w+);",
                          (TOP / "src/peer/libivshmem.map").read_text(encoding="utf-8"), re.M)
    listed = re.findall(r"^ (ivshmem_\w+)@",
                        (TOP / "debian/libivshmem0.symbols").read_text(encoding="utf-8"), re.M)
    assert sorted(exported) == sorted(listed)


@pytest.fixture(scope="module")
def units(tmp_path_factory, install_plan):
    """Directory with the units as they are installed, but for where the programs are."""
    directory = tmp_path_factory.mktemp("units")
    programs = {pathlib.Path(path).name: source for path, source in install_plan.items()
                if path.startswith("usr/bin/")}
    for unit in UNITS:
        text = pathlib.Path(install_plan[f"lib/systemd/system/{unit}"]).read_text(encoding="utf-8")
        text = re.sub(r"/\S*/bin/(ivshmem-\w+)", lambda match: programs[match[1]], text)
        text = text.replace("@.service", "@x.service").replace("%i", "x")
        (directory / unit.replace("@", "@x")).write_text(text, encoding="utf-8")
    return directory


def test_systemd_understands_the_units(units):
    done = run("systemd-analyze", "verify", "--man=no", *units.iterdir())
    # Others' units of this machine may be worse.
    assert not [line for line in done.stdout.splitlines() if "ivshmem" in line]


@pytest.mark.parametrize(
    "unit", ["ivshmem-device.service", "ivshmem-server.service", "ivshmem-server@x.service"])
def test_services_are_contained(units, unit):
    done = run("systemd-analyze", "security", "--offline=yes", f"--threshold={SYSTEMD_LEAVES}",
               units / unit)
    assert done.returncode == 0


def settings(path):
    """Settings of a unit: a list for each name."""
    found = {}
    text = path.read_text(encoding="utf-8").replace("\\\n", "")
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.M):
        found.setdefault(name, []).append(value)
    return found


def test_a_unit_with_a_descriptor_store_never_gives_up_and_says_how_large_it_is(units):
    service = settings(units / "ivshmem-server@x.service")
    assert service["Restart"] == ["always"]
    assert service["RestartSec"] == service["StartLimitIntervalSec"] == ["0"]
    assert service["Environment"] == ["FDSTORE=" + service["FileDescriptorStoreMax"][0]]
    socket = settings(units / "ivshmem-server@x.socket")
    assert socket["FileDescriptorName"] == ["listen.x"]
    assert f"--socket {socket['ListenStream'][0]}" in service["ExecStart"][0]


def test_user_group_and_folder(tmp_path, install_plan):
    (tmp_path / "etc").mkdir()
    for kind, *options in (("sysusers",), ("tmpfiles", "--create")):
        conf = tmp_path / f"usr/lib/{kind}.d/ivshmem.conf"
        conf.parent.mkdir(parents=True)
        conf.write_bytes(pathlib.Path(install_plan[f"usr/lib/{kind}.d/ivshmem.conf"]).read_bytes())
        assert run(f"systemd-{kind}", f"--root={tmp_path}", *options, conf.name).returncode == 0
    passwd = (tmp_path / "etc/passwd").read_text(encoding="utf-8")
    user = re.search(r"^ivshmem:x:(\d+):(\d+):.*:/usr/sbin/nologin$", passwd, re.M)
    folder = (tmp_path / "run/ivshmem").stat()
    assert user and (str(folder.st_uid), str(folder.st_gid)) == user.groups()
    assert stat.S_IMODE(folder.st_mode) == 0o755


@pytest.mark.parametrize("profile", ["ivshmem-device", "ivshmem-server"])
def test_apparmor_understands_the_profile(profile):
    assert run("/usr/sbin/apparmor_parser", "--skip-kernel-load", "--skip-cache", "--features-file",
               "/usr/share/apparmor-features/features",
               PACKAGING / "apparmor" / profile).returncode == 0


def test_example_of_devices_is_right(tmp_path, install_plan):
    """With its comments taken away from what looks like a device."""
    source = install_plan["usr/share/doc/ivshmem-device/examples/devices.conf"]
    text = pathlib.Path(source).read_text(encoding="utf-8")
    devices = re.findall(r"^# (id=\S+)$", text, re.M)
    assert len(devices) == 3
    (tmp_path / "devices").write_text("\n".join(devices), encoding="utf-8")
    assert run(install_plan["usr/bin/ivshmem-device"], "--devices", tmp_path / "devices",
               "--check").returncode == 0


def test_selinux_understands_the_module(tmp_path):
    source = PACKAGING / "selinux/ivshmem.te"
    assert run("checkmodule", "-M", "-m", "-o", tmp_path / "ivshmem.mod", source).returncode == 0


def test_types_of_files_and_units_are_those_of_the_module(units):
    declared = set(re.findall(r"^type (ivshmem_\w+);",
                              (PACKAGING / "selinux/ivshmem.te").read_text(encoding="utf-8"), re.M))
    contexts = (PACKAGING / "selinux/ivshmem.fc").read_text(encoding="utf-8")
    contexts += settings(units / "ivshmem-device.service")["SELinuxContext"][0]
    named = set(re.findall(r":(ivshmem_\w+):s0", contexts))
    assert "ivshmem_device_t" in named and named <= declared


def test_drop_in_for_metrics_is_of_use_to_the_unit(units):
    drop_in = settings(PACKAGING / "recipes/metrics.conf")
    service = settings(units / "ivshmem-server.service")
    assert "$OPTIONS" in service["ExecStart"][0]
    assert service["PrivateNetwork"] != drop_in["PrivateNetwork"]
