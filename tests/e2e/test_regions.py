# SPDX-License-Identifier: MIT
"""A server of many regions: configuration file, reload, rules, drain, remove."""

import grp
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

import wire
from conftest import Server, is_listening, wait_until
from regions import Config, ControlError, call, join_as, memory_of, regions_of
from test_resources import activity, settle

pytestmark = pytest.mark.ours

USER = "65534"  # nobody, by number: it is the group's, too
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def config(tmp):
    return Config(tmp)


@pytest.fixture
def serve(server_command, launch):
    """Start the server on a configuration: serve(config, *options, **of launch)."""

    def start(config, *options, **others):
        return launch(Server, config.sockets(),
                      [*server_command, "-F", "-c", config.path, *options], **others)

    return start


@pytest.fixture
def peers():
    """Join sockets: peers(path, ...); they leave when the test ends."""
    joined = []

    def join(path, **options):
        joined.append(wire.Peer(path, **options))
        return joined[-1]

    yield join
    for peer in joined:
        peer.close()


@pytest.fixture
def check(server_command, tmp):
    """What --check says of a text: (exit code, lines)."""

    def run(text):
        path = tmp / "checked.conf"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        result = subprocess.run([*server_command, "-c", str(path), "--check"], timeout=60,
                                capture_output=True, text=True, check=False)
        assert result.stdout == ""
        return result.returncode, result.stderr.replace(str(path), "FILE").splitlines()

    return run


def reload(one, pattern=r"read again|not all is as it says"):
    """Have it read the file again, and wait until it says `pattern` once more."""
    times = len(re.findall(pattern, one.log()))
    os.kill(one.pid, signal.SIGHUP)
    wait_until(lambda: len(re.findall(pattern, one.log())) > times, f"{pattern!r} in the log")
    one.settle()


def refused_with(path):
    """The version with which a newcomer is refused, or None."""
    with wire.Peer(path, handshake=False) as peer:
        number = peer.message().number
        return number if number < 0 else None


# ---- regions ----


def test_regions_have_nothing_in_common(config, serve, peers):
    config.write({"a": "vectors = 1 size = 64K", "b.2": "vectors = 3 size = 1M"})
    serve(config)
    in_a = [peers(config.socket("a")) for _ in range(2)]
    in_b = [peers(config.socket("b.2")) for _ in range(3)]
    assert [peer.id for peer in in_a + in_b] == [0, 1, 0, 1, 2]
    for peer in in_a:
        peer.pump_mesh(1, 1)
    for peer in in_b:
        peer.pump_mesh(2, 3)
    assert os.fstat(in_a[0].region).st_size == 64 * KIB
    assert os.fstat(in_b[0].region).st_size == MIB
    memory_of(in_a[0])[:4] = b"here"
    assert memory_of(in_a[1])[:4] == b"here"
    assert memory_of(in_b[0])[:4] == bytes(4)
    in_b[0].ring(1, 2)
    assert in_b[1].rung() == {2: 1}
    in_a[0].close()
    in_a[1].pump_mesh(0, 1)
    assert in_b[1].drain() == 0


def test_control_socket_in_command_line_mode(server, tmp):
    """One region, by its name; there is no file to read again."""
    control = str(tmp / "control")
    server("--control", control, "--name", "camera")
    assert list(regions_of(control)) == ["camera"]
    with pytest.raises(ControlError, match="ReloadFailed"):
        call(control, "Reload")


def test_hundred_regions_with_twenty_peers(config, serve, peers):
    """Whole meshes; then no wake-ups, and what it costs."""
    config.write({f"r{number:02}": "size = 4K" for number in range(100)})
    one = serve(config)
    empty = one.status("RssAnon")
    # Descriptors in flight count for all of the user's processes: other tests run beside this one.
    for path in config.sockets():
        for peer in [peers(path, keep=False) for _ in range(20)]:
            peer.pump_mesh(19, 1)
    settle(one)
    before = activity(one)
    time.sleep(3)
    assert activity(one) == before, "woke up while idle"
    grown = one.status("RssAnon") - empty
    print(f"own memory: {empty} KiB before any peer, {grown * 1024 / 2000:.0f} bytes a peer")
    assert empty < 100 * 64 and grown < 4 * 2000


def test_descriptors_are_shared(config, serve, peers):
    """What is promised to one region no other can have; a region that does not fit is not there."""
    config.write({"a": "max-peers = 20 vectors = 3", "b": "vectors = 0", "c": "max-peers = 100"})
    config.names = ["a", "b"]
    one = serve(config, rlimit={7: (256, 256)})
    assert re.search(r"error: region c: max-peers 100 with 1 vectors needs .* the limit is 256",
                     one.log())
    of_b = int(re.search(r"b: .* up to (\d+) peers", one.log()).group(1))
    assert of_b < 256 - 20 * 4
    many = [peers(config.socket("b"), keep=False) for _ in range(of_b)]
    assert refused_with(config.socket("b")) == wire.REFUSED_FULL
    some = [peers(config.socket("a"), keep=False) for _ in range(20)]
    some[0].pump_mesh(19, 3)
    assert refused_with(config.socket("a")) == wire.REFUSED_FULL
    assert len(many) == of_b


# ---- reload ----


def test_reload_creates_and_removes(config, serve, peers):
    config.write({"stays": "size = 4K", "goes": "size = 4K", "empty": "size = 4K"})
    one = serve(config)
    stays, goes = peers(config.socket("stays")), peers(config.socket("goes"))
    config.write({"stays": "size = 4K", "new": "size = 4K"})
    reload(one)
    assert is_listening(config.socket("new"))
    assert not os.path.exists(config.socket("empty"))
    assert refused_with(config.socket("goes")) == wire.REFUSED_FULL
    peers(config.socket("stays"))
    assert stays.pump_mesh(1, 1)
    assert set(regions_of(config.control)) == {"stays", "goes", "new"}
    goes.close()
    wait_until(lambda: not os.path.exists(config.socket("goes")), "the end of an empty region")
    assert set(regions_of(config.control)) == {"stays", "new"}


def test_reload_swaps_the_sockets_of_two_regions(config, serve, peers):
    one = serve(config.write({"a": "size = 4K", "b": "size = 64K"}))
    text = config.path.read_text(encoding="utf-8")
    a, b = config.socket("a"), config.socket("b")
    config.path.write_text(text.replace(a, "@").replace(b, a).replace("@", b), encoding="utf-8")
    reload(one, "read again")
    assert os.fstat(peers(a).region).st_size == 64 * KIB
    assert os.fstat(peers(b).region).st_size == 4 * KIB


def test_reload_brings_back_what_was_going(config, serve, peers):
    config.write({"a": "size = 4K"})
    one = serve(config)
    first = peers(config.socket("a"))
    config.write({})
    reload(one)
    assert refused_with(config.socket("a")) == wire.REFUSED_FULL
    config.write({"a": "size = 4K"})
    reload(one)
    peers(config.socket("a"))
    first.pump_mesh(1, 1)


def test_mistake_in_the_file_changes_nothing(config, serve, peers):
    config.write({"a": "size = 4K", "b": "size = 4K"})
    one = serve(config)
    config.write({"a": "size = 4K vectors = many"})
    reload(one)
    assert re.search(r'ivshmem.conf:5: vectors = "many": give a number from 0 to 2048', one.log())
    assert set(regions_of(config.control)) == {"a", "b"}
    with pytest.raises(ControlError, match="ReloadFailed.*vectors"):
        call(config.control, "Reload")
    config.write({"a": "size = 4K"})
    assert call(config.control, "Reload") == {}
    assert set(regions_of(config.control)) == {"a"}
    one.settle()
    peers(config.socket("a"))


def test_what_peers_rely_on_does_not_change_under_them(config, serve, peers):
    config.write({"a": "size = 4K", "b": "size = 4K"})
    one = serve(config)
    peer = peers(config.socket("a"))
    config.write({"a": "size = 8K", "c": "size = 4K"})
    reload(one)
    assert re.search(r"region a: size cannot change while peers are in", one.log())
    assert set(regions_of(config.control)) == {"a", "b"}, "nothing else has changed either"
    peer.close()
    wait_until(lambda: regions_of(config.control)["a"]["peers"] == 0, "the peer to be gone")
    reload(one)
    assert os.fstat(peers(config.socket("a")).region).st_size == 8 * KIB
    assert set(regions_of(config.control)) == {"a", "c"}


def test_reload_changes_limits_rules_and_permission(config, serve, peers):
    config.write({"a": "size = 4K max-peers = 1 socket-mode = 0600"})
    one = serve(config)
    first = peers(config.socket("a"))
    assert refused_with(config.socket("a")) == wire.REFUSED_FULL
    config.write({"a": "size = 4K max-peers = 2 socket-mode = 0660 socket-owner = 65534:65534"})
    reload(one)
    peers(config.socket("a"))
    first.pump_mesh(1, 1)
    info = os.stat(config.socket("a"))
    assert (info.st_mode & 0o777, info.st_uid, info.st_gid) == (0o660, 65534, 65534)
    config.write({"a": "size = 4K max-peers = 5 deny { user = 0 }"})
    reload(one)
    assert refused_with(config.socket("a")) is not None
    assert first.drain() == 0


# ---- rules ----


@pytest.fixture
def world(config, serve, spawn):
    """A server with one region, open to everybody's connect(): world(body) -> join as a user."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become others")

    def start(body):
        config.write({"a": f"size = 4K socket-mode = 0666 {body}"})
        one = serve(config)
        return one, lambda user: join_as(config.socket("a"), user, spawn)

    return start


def test_without_rules_root_and_the_servers_user_may_join(world):
    one, join = world("")
    assert join("0")[0] == ["joined", "0", "read-write"]
    assert join(USER)[0][0] == "refused"
    assert one.wait_log(r"a: refused pid \d+, uid 65534")


def test_first_rule_that_fits_decides(world):
    _, join = world("""
        deny { user = 65534 executable = "*/nosuchprogram" }
        allow { user = 65534 access = read-only id = 7 }
        deny { user = 65534 }
        allow { user = 0 }""")
    words, first = join(USER)
    assert words == ["joined", "7", "read-only"]
    assert join(USER)[0][0] == "refused", "its ID is in use"
    assert join("0")[0] == ["joined", "0", "read-write"]
    assert join("1")[0][0] == "refused"
    first.stdin.close()


def test_order_of_rules_of_two_kinds_is_that_of_the_file(world):
    _, join = world("""
        deny { user = 65534 }
        allow { user = 65534 }
        allow { user = 1 }
        deny { user = 1 }
        """)
    assert join(USER)[0][0] == "refused"
    assert join("1")[0][0] == "joined"


def test_rule_limits_its_peers(world):
    _, join = world("""
        allow { user = 65534 max-peers = 2 }
        allow { user = 0 }""")
    assert [join(USER)[0][0] for _ in range(3)] == ["joined", "joined", "refused"]
    assert join("0")[0][0] == "joined"


# ---- memory ----


def test_memory_is_zeros_for_the_next(config, serve, peers):
    config.write({"a": "size = 256M zero-on-last-leave = yes"})
    serve(config)
    for _ in range(3):
        first, second = peers(config.socket("a")), peers(config.socket("a"))
        memory = memory_of(first)
        assert memory[:8] == memory[-8:] == bytes(8), "all of it before anybody gets it"
        memory[:8] = memory[-8:] = b"secret!!"
        first.close()
        assert memory_of(second)[:8] == b"secret!!", "not before the last one has left"
        second.close()


def test_memory_stays_without_that_option(config, serve, peers):
    config.write({"a": "size = 4K"})
    serve(config)
    first = peers(config.socket("a"))
    memory_of(first)[:4] = b"here"
    first.close()
    assert memory_of(peers(config.socket("a")))[:4] == b"here"


def test_file_survives_the_server(config, serve, tmp):
    path = tmp / "kept"
    path.write_bytes(bytes(8 * KIB))
    config.write({"a": f'memory = "file:{path}"'})
    for number in range(2):
        one = serve(config)
        with wire.Peer(config.socket("a")) as peer:
            memory = memory_of(peer)
            assert memory[0] == number
            memory[0] += 1
        assert one.stop() == 0
    assert path.read_bytes()[0] == 2


def test_header_says_which_region_it_is(config, serve, peers):
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    config.write({"a": f'size = 64K header = yes uuid = "{uuid}" zero-on-last-leave = yes'})
    serve(config)
    generations = set()
    for _ in range(2):
        peer = peers(config.socket("a"))
        page = memory_of(peer)[:4096]
        assert page[32:48].hex() == uuid.replace("-", "")
        assert page[64:66] == b"a\0"
        generations.add(page[16:20])
        peer.close()
    assert len(generations) == 2, "made anew, and told apart"
    assert regions_of(config.control)["a"]["uuid"] == uuid


# ---- at run time ----


def test_create_drain_remove(config, serve, peers):
    config.write({"a": "size = 4K"})
    one = serve(config)
    path = config.socket("x")
    call(config.control, "CreateRegion", spec={"name": "x", "size": 4096, "socket": path})
    with pytest.raises(ControlError, match="RegionExists"):
        call(config.control, "CreateRegion", spec={"name": "x", "size": 4096})
    with pytest.raises(ControlError, match="RegionExists"):
        call(config.control, "CreateRegion", spec={"name": "y", "socket": path})
    first, second = peers(path), peers(path)
    first.pump_mesh(1, 1)
    reload(one)
    assert set(regions_of(config.control)) == {"a", "x"}, "a reload is about the file's own"
    assert call(config.control, "DrainRegion", name="x", on=True) == {"peers": 2}
    assert refused_with(path) == wire.REFUSED_FULL
    assert call(config.control, "DrainRegion", name="x", on=False) == {"peers": 2}
    peers(path)
    with pytest.raises(ControlError, match="RegionBusy"):
        call(config.control, "RemoveRegion", name="x")
    call(config.control, "RemoveRegion", name="x", force=True)
    assert first.at_end() and not first.peers, "told that all have left"
    assert second.at_end()
    assert not os.path.exists(path)
    call(config.control, "CreateRegion", spec={"name": "x", "size": 4096, "socket": path})
    assert peers(path).id == 0
    call(config.control, "RemoveRegion", name="x", force=True)
    one.settle()


def test_end_tells_the_peers_of_all_regions(config, serve, peers):
    config.write({"a": "size = 4K", "b": "size = 4K"})
    one = serve(config)
    joined = [peers(config.socket(name)) for name in "aabb"]
    for peer in joined:
        peer.pump_mesh(1, 1)
    assert one.stop() == 0
    for peer in joined:
        assert peer.at_end() and not peer.peers
    assert not any(map(os.path.exists, [*config.sockets(), config.control]))


# ---- the file ----


@pytest.mark.parametrize("text, line", [
    ("region a { sizee = 4K }", r"FILE:1: no such option 'sizee'; there are: uuid, header, .*size"),
    ("limits { max-descriptors-per-uid = -1 }", r"FILE:1: .*give a number from 0 to 4294967295"),
    ("limits { max-queue-bytes-per-uid = many }", r"FILE:1: .*give a size in bytes"),
    ("\n\nregions a { }", r"FILE:3: no such option 'regions'; there are: control, limits, region"),
    ("region a {\n size = 4K\n size = 8K\n}", r"FILE:3: size is given twice"),
    ("region a { }\nregion a { }", r"FILE:2: .*title 'a'"),
    ("region 'a b' { }", r"FILE:1: region a b: a name is"),
    ("region a {\n size = 12Q\n}", r'FILE:2: size = "12Q": give a size in bytes'),
    ("region a { vectors = 2049 }", r"FILE:1: vectors .* from 0 to 2048"),
    ("region a { uuid = 1-2 }", r"FILE:1: uuid .* 8-4-4-4-12"),
    ("region a { memory = ram }", r"FILE:1: memory .*memfd, shm:NAME, file:PATH or dir:PATH"),
    ("region a { socket = relative }", r"FILE:1: socket .* path"),
    ("region a { socket-mode = 9 }", r"FILE:1: socket-mode .* octal"),
    ("region a { socket-owner = nosuchuser }", r"FILE:1: socket-owner .* no such user"),
    ("region a { huge-pages = 3M }", r"FILE:1: huge-pages .* 2M, 1G or no"),
    ("region a { huge-pages = 2M memory = shm:x }", r"FILE:1: region a: huge-pages is for memory"),
    ("region a { header = perhaps }", r"FILE:1: header .* yes or no"),
    ("region a { max-peers = 0 }", r"FILE:1: max-peers .* from 1 to 65536"),
    ("region a { protocol = new }", r"FILE:1: protocol .* current or pre-2.5"),
    ("region a {\n allow {\n  ring = 4-2\n }\n}", r"FILE:3: ring .* vectors from 0"),
    ("region a { allow { access = some } }", r"FILE:1: access .* read-write or read-only"),
    ("region a { allow { id = 65536 } }", r"FILE:1: id .* from 0 to 65535"),
    ("region a { deny { id = 1 } }", r"FILE:1: no such option 'id'; there are: user, .*label"),
    ("region a { allow { group = nosuch } }", r"FILE:1: group .* no such group"),
    ("region a { allow { } deny { } }", r"FILE:1: allow and deny in one line"),
    ("region a { allow { id = 1 }\n allow { id = 1 } }", r"FILE:2: id = 1 stands in two rules"),
    ("region a { socket = /x }\nregion b { socket = /x }", r"FILE:2: .* is the socket of region a"),
    ("control { group = nosuch }", r"FILE:1: group .* no such group"),
    ("region a { size = \"4K", r"FILE:1: premature end of file"),
    ("region a { size = 4K", r"FILE:1: the end, and a section is open"),
    ("region a {\n allow { user = 0 }\n", r"FILE:3: the end, and a section is open"),
    ("region a { } /* and", r"FILE:1: the end, and a comment or a text is open"),
    (b"region a { }\n\0", r"FILE:2: a zero byte"),
    (b"region a { socket = \"/\xff\" }", r"FILE:1: value of socket: .* UTF-8"),
])
def test_mistakes_are_one_line_each(check, text, line):
    code, lines = check(text)
    assert code == 2
    assert len(lines) == 1, lines
    assert re.fullmatch(f"ivshmem-server: error: {line}.*", lines[0])


def test_file_without_end(check):
    assert re.search("FILE:1: the file has more than 4194304 bytes", check("#" * (5 << 20))[1][0])


def test_all_mistakes_are_told(check):
    code, lines = check("region a {\n size = x\n vectors = y\n}\nregion b { header = z }")
    assert code == 2
    assert [line.split(":")[3] for line in lines] == ["2", "3", "5"]


def test_right_file(check):
    packaged = pathlib.Path(__file__).parents[2].joinpath(
        "packaging/ivshmem.conf").read_text(encoding="utf-8")
    # Its group is made by the package: not here.
    ours = grp.getgrgid(os.getgid()).gr_name
    code, lines = check(packaged.replace("group = ivshmem\n", f"group = {ours}\n"))
    assert code == 0, lines
    assert check("")[0] == 0


def test_options_of_a_region_stand_in_the_file(server_command, tmp):
    for option in ("-l 4K", "--name x", "-S /x", "--max-peers 3"):
        result = subprocess.run([*server_command, "-c", str(tmp / "x"), *option.split()],
                                capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 2
        assert "--config and --" in result.stderr
