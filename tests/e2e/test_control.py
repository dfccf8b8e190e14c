# SPDX-License-Identifier: MIT
"""
The control socket of a real server: each method by ivshmctl and by bytes on a socket, held against
the interface's own description; clients that mean harm, while others join.
"""

import contextlib
import fcntl
import json
import os
import pty
import pwd
import re
import socket
import struct
import subprocess
import termios
import threading

import pytest

import varlink
import wire
from conftest import TIMEOUT, TOP, acting_with, find_program, kill, wait_until
from controlled import CONTROL, READERS, Ongoing, ctl, ctl_json, serve  # pylint: disable=unused-import

pytestmark = pytest.mark.ours

NOBODY = pwd.getpwnam("nobody")
INTERFACE = TOP / "tools/server/control/ivshmem.Control.varlink"


class Joiner(Ongoing):
    """Joins and leaves."""

    def __init__(self, path):
        super().__init__("joins")
        self.path = path

    def once(self):
        with wire.Peer(self.path, timeout=3 * TIMEOUT) as peer:
            peer.pump(lambda p: len(p.vectors) == 1, "own vector")


# ---- what is spoken ----


def test_the_interface_is_what_is_documented(serve):
    text = INTERFACE.read_text(encoding="ascii").split("\n", 1)[1]
    target = serve()
    with target.client() as client:
        answer = client.call("org.varlink.service.GetInterfaceDescription",
                             interface="ivshmem.Control")
        assert answer["description"] == text
        info = client.call("org.varlink.service.GetInfo")
        assert info["interfaces"] == ["org.varlink.service", "ivshmem.Control"]
    document = (TOP / "docs/control.md").read_text(encoding="utf-8")
    assert re.search(r"<!-- interface: .*? -->\n```\n(.*?)```", document, re.S)[1] == text


def test_every_method_keeps_to_the_interface(serve, tmp):
    """All is called once, and every answer has the members and types that the interface says."""
    interface = varlink.Interface(INTERFACE.read_text(encoding="ascii"))
    target = serve(a="vectors = 2", b='allow { user = "root" access = "read-only" }')
    done = set()

    def call(method, more=False, **parameters):
        done.add(method)
        answers = list(client.calls(CONTROL + method, parameters, more))
        for answer in answers:
            interface.check_answer(method, answer)
        return answers[-1]

    with target.client() as client, wire.Peer(target.sockets[0]) as peer, \
            wire.Peer(target.sockets[1]):
        assert [region["name"] for region in call("ListRegions")["regions"]] == ["a", "b"]
        assert call("GetRegion", name="a")["region"]["peers"] == 1
        first, second = call("ListPeers", more=True)["peers"]
        assert (first["region"], first["id"], first["access"]) == ("a", peer.id, "read_write")
        assert first["identity"]["uid"] == 0 and first["identity"]["pid"] == os.getpid()
        assert second["access"] == "read_only" and "root" in second["protection"]
        assert first["protected"] is second["protected"] is False

        created = call("CreateRegion", spec={
            "name": "c", "size": 5000, "vectors": 3, "socket": str(tmp / "c"), "max_peers": 7,
            "uuid": "00112233-4455-6677-8899-aabbccddeeff", "zero_on_last_leave": True,
            "allow": [{"access": "read_write", "uid": 0, "ring": "0-1"}]})["region"]
        assert created["memory"]["size"] == 8192 and created["rules"] == 1
        assert created["uuid"] == "00112233-4455-6677-8899-aabbccddeeff"
        with wire.Peer(str(tmp / "c")) as other:
            other.pump(lambda p: len(p.vectors) == 3, "its vectors")

        assert call("DrainRegion", name="a", on=True) == {"peers": 1}
        assert call("GetRegion", name="a")["region"]["draining"]
        with pytest.raises(ConnectionResetError), wire.Peer(target.sockets[0], handshake=False) as p:
            assert p.message().number < 0
            p.message()
        call("DrainRegion", name="a", on=False)
        assert call("EvictPeer", region="a", id=peer.id, reason="test") == {"serial": first["serial"]}
        assert peer.at_end()
        assert call("OpenMemory", name="a") == {"descriptor": 0}
        call("RemoveRegion", name="c")
        call("Reload")
        call("ListDoorbells")
        for stream in ("Watch", "Capture"):
            with target.client() as other:
                other.send(CONTROL + stream, {}, more=True)
                interface.check_answer(stream, other.answer())
            done.add(stream)
    assert done == set(interface.methods)


def test_errors_have_their_names_and_reasons(serve, tmp):
    interface = varlink.Interface(INTERFACE.read_text(encoding="ascii"))
    target = serve(a="")
    cases = [
        ("GetRegion", {"name": "x"}, "NoSuchRegion"),
        ("EvictPeer", {"region": "a", "id": 7}, "NoSuchPeer"),
        ("CreateRegion", {"spec": {"name": "a", "socket": str(tmp / "x")}}, "RegionExists"),
        ("CreateRegion", {"spec": {"name": "x", "size": 1 << 60, "socket": str(tmp / "x")}},
         "NotEnough"),
        ("CreateRegion", {"spec": {"name": "x", "backing": "file", "backing_name": "/dev/null",
                                   "socket": str(tmp / "x")}}, "Impossible"),
        ("RemoveRegion", {"name": "a"}, "RegionBusy"),
    ]
    with target.client() as client, wire.Peer(target.socket):
        for method, parameters, error in cases:
            with pytest.raises(varlink.Error) as caught:
                client.call(CONTROL + method, **parameters)
            assert caught.value.name == CONTROL + error, caught.value
            interface.check_error(error, caught.value.parameters)
        client.call(CONTROL + "GetRegion", name="a")  # and the connection is as it was


def test_watch_tells_who_and_why(serve, spawn):
    target = serve(a='allow { user = "root" max-peers = 1 }', b="")
    process = spawn([find_program("ivshmctl"), "--socket", target.control, "--json", "watch", "a"],
                    stdout=subprocess.PIPE, text=True)

    def event():
        return json.loads(process.stdout.readline())

    assert event()["event"] == "watching"
    with wire.Peer(target.sockets[1]), wire.Peer(target.sockets[0]) as peer:
        joined = event()
        assert (joined["event"], joined["region"], joined["id"]) == ("joined", "a", peer.id)
        assert (joined["identity"]["uid"], joined["identity"]["pid"]) == (0, os.getpid())
        with wire.Peer(target.sockets[0], handshake=False) as other:
            assert other.message().number < 0
        refused = event()
        assert refused["event"] == "refused" and "id" not in refused
        assert "1" in refused["reason"]
        ctl(target, "evict", "a", peer.id, "--reason", "too loud")
    left = event()
    assert (left["event"], left["serial"]) == ("left", joined["serial"])
    assert "too loud" in left["reason"]
    ctl(target, "drain", "a")
    assert event()["event"] == "draining"
    ctl(target, "remove", "a")
    assert event()["event"] == "removed"


# ---- ivshmctl ----


def test_ivshmctl_shows_regions_and_peers(serve):
    target = serve(a="size = 1M", b='vectors = 4 allow { user = "root" access = "read-only" }')
    assert ctl(target, "list", "--names").split() == ["a", "b"]
    with wire.Peer(target.sockets[0]) as peer, wire.Peer(target.sockets[1]):
        head, first, second = (line.split() for line in ctl(target, "list").splitlines())
        assert head[:5] == ["NAME", "SIZE", "VECTORS", "PEERS", "STATE"]
        assert first[:5] == ["a", "1M", "1", "1", "serving"]
        assert second[:5] == ["b", "4M", "4", "1", "serving"]

        shown = ctl(target, "show", "a")
        assert re.search(r"^name +a$", shown, re.M) and re.search(r"^memory size +1M$", shown, re.M)
        assert ctl_json(target, "show", "a") == target.call("GetRegion", name="a")["region"]

        lines = ctl(target, "peers").splitlines()
        assert len(lines) == 4
        assert lines[1].split()[:5] == ["a", str(peer.id), "@1", "root", str(os.getpid())]
        assert "read-write" in lines[1] and "read-only*" in lines[2]
        assert lines[3].startswith("* ") and "root" in lines[3]
        assert len(ctl(target, "peers", "b").splitlines()) == 3
        assert len(ctl_json(target, "peers", "a")["peers"]) == 1


def test_ivshmctl_creates_and_takes_away(serve, tmp):
    target = serve(a="")
    path = str(tmp / "new")
    said = ctl(target, "create", "new", "--size", "3K", "--vectors", 2, "--listen", path,
               "--listen-mode", "0666", "--max-peers", 5, "--allow", "user=root,ring=0",
               "--allow", f"user={NOBODY.pw_uid},access=read-only,id=3,max-peers=1")
    assert said == path + "\n"
    region = ctl_json(target, "show", "new")
    assert (region["memory"]["size"], region["vectors"], region["max_peers"]) == (4096, 2, 5)
    assert (region["rules"], region["from_file"]) == (2, False)
    assert os.stat(path).st_mode & 0o777 == 0o666
    with wire.Peer(path) as peer:
        with acting_with(NOBODY.pw_uid, NOBODY.pw_gid):
            other = wire.Peer(path)
        with other:
            assert other.id == 3
            assert fcntl.fcntl(other.region, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            shown = {one["id"]: one for one in target.call("ListPeers", region="new")["peers"]}
            assert shown[3]["protected"] and shown[3]["protection"].startswith("holds")
            assert not shown[peer.id]["protected"]
        assert "peers are in" in ctl(target, "remove", "new", code=1)
        ctl(target, "remove", "new", "--force")
    assert not os.path.exists(path)
    assert ctl(target, "list", "--names").split() == ["a"]


def test_ivshmctl_drains_and_reloads(serve, tmp):
    target = serve(a="")
    ctl(target, "drain", "a")
    assert "draining" in ctl(target, "list")
    ctl(target, "drain", "a", "--off")
    with wire.Peer(target.socket):
        pass
    file = tmp / "ivshmem.conf"
    text = file.read_text(encoding="ascii")
    file.write_text(text + f'region b {{ socket = "{tmp}/b" }}\n', encoding="ascii")
    ctl(target, "reload")
    assert ctl(target, "list", "--names").split() == ["a", "b"]
    file.write_text(text + "region b { speed = 3 }\n", encoding="ascii")
    assert "speed" in ctl(target, "reload", code=1)
    assert ctl(target, "list", "--names").split() == ["a", "b"]
    file.write_text(text, encoding="ascii")
    ctl(target, "reload")
    assert ctl(target, "list", "--names").split() == ["a"]


def test_every_change_is_a_line_that_says_who(serve, tmp):
    target = serve(a="")
    with wire.Peer(target.socket) as peer:
        ctl(target, "list")
        ctl(target, "evict", "a", "@1", "--reason", "noise")
        assert peer.at_end()
    ctl(target, "create", "b", "--listen", tmp / "b")
    ctl(target, "drain", "b")
    ctl(target, "remove", "b")
    ctl(target, "reload")
    lines = re.findall(r"control: uid 0 \(pid \d+\) (.*)", target.log())
    assert lines == ["has evicted peer @1 from region a: noise",
                     f"has created region b on {tmp}/b", "drains region b",
                     "has removed region b with 0 peers",
                     "has had the configuration read again"]


def test_ivshmctl_says_what_is_wrong(serve, tmp):
    target = serve(a="")
    assert "ivshmem-server" in ctl(target, "version")
    assert "start ivshmem-server" in ctl(tmp / "nothing", "list", code=3)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp / "dead"))
    assert "start ivshmem-server" in ctl(tmp / "dead", "list", code=3)
    for arguments in ([], ["explode"], ["list", "a"], ["show"], ["show", "a", "b"],
                      ["list", "--force"], ["remove", "a", "--off", "--force"],
                      ["create", "b", "--size", "big"], ["create", "b", "--allow", "user"],
                      ["create", "b", "--allow", "user=no-such-user"], ["evict", "a", "x"],
                      ["create", "b", "--vectors", "3000"], ["--timeout", "soon", "list"]):
        ctl(target, *arguments, code=2)
    assert "no region x" in ctl(target, "show", "x", code=1)
    assert "'allow'" in ctl(target, "create", "b", "--allow", "access=all", code=1)
    error = subprocess.run([find_program("ivshmctl"), "-S", target.control, "--json", "show", "x"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                           check=False).stdout
    assert json.loads(error)["error"] == CONTROL + "NoSuchRegion"


def test_ivshmctl_does_not_wait_for_ever(tmp):
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp / "silent"))
    silent.listen(8)
    assert "no answer" in ctl(tmp / "silent", "--timeout", "0.2", "list", code=1)

    def babble():
        sock, _ = silent.accept()
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n\0")
        sock.recv(1000)
        sock.close()

    thread = threading.Thread(target=babble)
    silent.accept()[0].close()  # the one before
    thread.start()
    assert "Varlink" in ctl(tmp / "silent", "list", code=1)
    thread.join()


def test_top(serve):
    target = serve(a="", b="")
    process = subprocess.Popen([find_program("ivshmctl"), "-S", target.control, "--json", "top",
                                "--interval", "0.05"], stdout=subprocess.PIPE, text=True)
    try:
        first = json.loads(process.stdout.readline())
        assert "joins_per_s" not in first["regions"][0]
        with wire.Peer(target.socket):
            pass

        def joined():
            rates = json.loads(process.stdout.readline())["regions"]
            return [region.get("joins_per_s", 0) > 0 for region in rates] == [True, False]

        wait_until(joined, "a join to be seen")
    finally:
        kill(process)
        process.stdout.close()


def test_top_on_a_terminal(serve):
    target = serve(first="", second="")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        # Before it looks, which we can be too late for.
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        program = str(find_program("ivshmctl"))
        os.execl(program, program, "-S", target.control, "top")
    screen = b""
    with wire.Peer(target.sockets[1]):
        # The first region is chosen: the peer of the second shows once that is.
        while b"first" not in screen or b"second" not in screen:
            screen += os.read(terminal, 65536)
        assert b"not observable" in screen and b"read-write" not in screen
        os.write(terminal, b"\x1bOB")
        while b"read-write" not in screen:
            screen += os.read(terminal, 65536)
    os.write(terminal, b"q")
    with contextlib.suppress(OSError):  # the end of a terminal
        while os.read(terminal, 65536):
            pass
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)


def test_completion_knows_the_regions(serve):
    target = serve(frames="", foo="", other="")
    script = ('. "$1"; COMP_WORDS=("$2" -S "$3" show f); COMP_CWORD=4; _ivshmctl; '
              'echo "${COMPREPLY[@]}"')
    said = subprocess.run(["bash", "-c", script, "bash", TOP / "tools/ctl/completion/ivshmctl.bash",
                           find_program("ivshmctl"), target.control],
                          capture_output=True, text=True, check=True).stdout
    assert sorted(said.split()) == ["foo", "frames"]


# ---- who may ----


def test_others_are_turned_away_with_a_reason(serve):
    target = serve(a="")
    os.chmod(target.control, 0o666)
    for _ in range(50):
        with acting_with(NOBODY.pw_uid, NOBODY.pw_gid), target.client() as client:
            with pytest.raises(varlink.Error) as caught:
                client.call(CONTROL + "ListRegions")
            assert caught.value.name == CONTROL + "NotPermitted"
    lines = re.findall(rf"control: refused uid {NOBODY.pw_uid} ", target.log())
    assert 10 <= len(lines) < 40, "one line each is too much"
    os.chmod(target.control, 0o600)
    with acting_with(NOBODY.pw_uid, NOBODY.pw_gid), pytest.raises(PermissionError):
        target.client()


def test_the_group_sees_and_does_not_change(serve):
    target = serve(a="")
    assert os.stat(target.control).st_gid == READERS
    with acting_with(NOBODY.pw_uid, NOBODY.pw_gid, [READERS]):
        reader = target.client()
    with reader, wire.Peer(target.socket):
        assert reader.call(CONTROL + "GetRegion", name="a")["region"]["peers"] == 1
        assert len(reader.call(CONTROL + "ListPeers")["peers"]) == 1
        for method, parameters in (("RemoveRegion", {"name": "a", "force": True}),
                                   ("CreateRegion", {"spec": {"name": "b"}}),
                                   ("DrainRegion", {"name": "a", "on": True}),
                                   ("EvictPeer", {"region": "a", "id": 0}), ("Reload", {})):
            with pytest.raises(varlink.Error) as caught:
                reader.call(CONTROL + method, **parameters)
            assert caught.value.name == CONTROL + "NotPermitted"
        region = reader.call(CONTROL + "GetRegion", name="a")["region"]
        assert region["peers"] == 1 and not region["draining"]
    assert re.search(rf"uid {NOBODY.pw_uid} \(pid \d+\) may not call {CONTROL}Reload", target.log())


# ---- harm ----


@pytest.mark.parametrize("data", [
    b"\0", b"hello\0", b"[]\0", b"{}\0", b'{"method":1}\0', b"\xff\xfe\0", b'{"method":"a","method":"b"}\0',
    b'{"method":"a.B","parameters":' + b"[" * 3000 + b"\0", b'{"a":"' + b"x" * 8192 + b'"}\0',
    b'{"method":"a.B","parameters":{"a":[' + b"1," * 2000 + b"1]}}\0", b"\0" * 5000,
], ids=range(11))
def test_what_is_no_call_ends_that_connection_alone(serve, data):
    target = serve(a="")
    with target.client() as other:
        with target.client() as client, contextlib.suppress(ConnectionError):
            client.sock.sendall(data)
            assert client.sock.recv(1) == b""
        assert other.call(CONTROL + "ListRegions")["regions"]


def test_a_mebibyte_without_an_end(serve):
    target = serve(a="")
    before = target.status("RssAnon")
    with Joiner(target.socket) as joiner:
        for _ in range(20):
            with target.client() as client, contextlib.suppress(ConnectionError):
                client.sock.sendall(b" " * (1 << 20))
                assert client.sock.recv(1) == b""
        joiner.more()
    assert target.status("RssAnon") < before + 2048


def test_10000_calls_sent_ahead(serve):
    """Answers are made as they are read; nobody else waits, and none is missing."""
    target = serve(a="")
    count = 10000
    call = json.dumps({"method": CONTROL + "ListRegions"}).encode() + b"\0"
    with target.client() as client, Joiner(target.socket) as joiner:
        sender = threading.Thread(target=client.sock.sendall, args=(call * count,))
        sender.start()
        joiner.more()
        # It neither reads on nor keeps what it could answer.
        assert target.status("RssAnon") < 64 << 10
        with target.client() as other:
            other.call(CONTROL + "ListRegions")
        for _ in range(count):
            assert client.answer()["regions"]
        sender.join()


def test_half_a_call_and_silence(serve):
    target = serve("max-clients = 64", a="")
    with contextlib.ExitStack() as stack, Joiner(target.socket) as joiner:
        for _ in range(60):
            stack.enter_context(target.client()).sock.sendall(b'{"method":"ivsh')
        joiner.more()
        assert target.call("ListRegions")["regions"]
        wait_until(lambda: joiner.done > 30, "more joins")


def test_200_clients(serve):
    """As many as there are places are served, the others are told; places become free again."""
    target = serve("max-clients = 50", a="")
    served, turned_away = [], 0
    with Joiner(target.socket) as joiner:
        for _ in range(200):
            client = target.client()
            try:
                assert client.call(CONTROL + "ListRegions")["regions"]
                served.append(client)
            except varlink.Error as error:
                assert error.name == CONTROL + "TooManyClients"
                client.close()
                turned_away += 1
        assert (len(served), turned_away) == (50, 150)
        joiner.more()
        for client in served:
            assert client.call(CONTROL + "ListRegions")["regions"]
            client.close()
        wait_until(lambda: try_list(target), "a free place")


def try_list(target):
    try:
        return target.call("ListRegions")["regions"]
    except varlink.Error:
        return False


def test_a_watcher_that_does_not_read(serve):
    """It loses events and learns how many; the server keeps a bounded number of them."""
    target = serve(a="")
    with target.client() as client:
        client.send(CONTROL + "Watch", {}, more=True)
        assert client.answer()["event"] == "watching"
        before = target.status("RssAnon")
        changes = 6000
        with target.client() as other:
            for number in range(changes):
                other.call(CONTROL + "DrainRegion", name="a", on=number % 2 == 0)
        assert target.status("RssAnon") < before + 4096
        seen = 0
        event = client.answer()
        while event["event"] != "lost":
            seen += 1
            event = client.answer()
        assert 0 < event["lost"] <= changes - seen
        with wire.Peer(target.socket):
            while event["event"] != "joined":
                event = client.answer()


def test_descriptors_run_out(serve):
    """Clients of the control socket cannot take the last descriptors for long."""
    target = serve("max-clients = 1024", a="")
    with target.client() as client:
        assert client.call(CONTROL + "ListRegions")["regions"]
        old = target.limit_fds(target.fds() + 3)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect(target.control)
        target.wait_log("cannot accept for now")
        assert client.call(CONTROL + "ListRegions")["regions"]
        for sock in waiting:
            sock.close()
        target.limit_fds(old)
    with Joiner(target.socket) as joiner:
        joiner.more()
    wait_until(lambda: try_list(target), "the control socket")
