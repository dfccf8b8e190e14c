# SPDX-License-Identifier: MIT
"""
docs/observability.md: metrics over HTTP and as a file, the dashboard and alerts that use them, the
probes, the fields of log lines.
"""

import http.client
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

import openmetrics
import wire
from conftest import TIMEOUT, TOP, Server, find_program, free_port, wait_until
from kept import Kept
from procs import children_of, has_ended

pytestmark = pytest.mark.ours

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
ANY_PORT = ("--metrics", "127.0.0.1:0")


LISTENS = r"metrics: http://127\.0\.0\.1:(\d+)/metrics"


def port_of(target):
    """The present one, if the server has been restarted."""
    target.wait_log(LISTENS)
    return int(re.findall(LISTENS, target.log())[-1])


def request(target, method="GET", path="/metrics", body=None):
    """(status, headers, text)"""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(target), timeout=TIMEOUT)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode("utf-8")
    finally:
        connection.close()


def scrape(target):
    """{name: Family} of a page that is right in all respects."""
    status, headers, text = request(target)
    assert status == 200
    assert headers["Content-Type"] == CONTENT_TYPE
    return openmetrics.parse(text)


def region(families, name, of="default"):
    return families[f"ivshmem_region_{name}"].samples[frozenset({("region", of)})]


def connect(target):
    sock = socket.create_connection(("127.0.0.1", port_of(target)), timeout=TIMEOUT)
    return sock


def is_open(sock):
    """Whether the other side has not ended the connection."""
    if not select.select([sock], [], [], 0)[0]:
        return True
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except ConnectionResetError:
        return False


def read_all(sock):
    data = b""
    try:
        while True:
            part = sock.recv(65536)
            if not part:
                return data
            data += part
    except ConnectionResetError:
        return data


@pytest.fixture
def regions(server_command, launch, tmp):
    """Start a server with many regions: regions(n, *options) is a Server; sockets in order."""

    def start(count, *options):
        conf = tmp / "conf"
        sockets = [str(tmp / f"{number}.sock") for number in range(count)]
        conf.write_text("".join(
            f'region r{number:04} {{ size = 4K  vectors = 1  max-peers = 2  socket = "{path}" }}\n'
            for number, path in enumerate(sockets)))
        return launch(Server, sockets, [*server_command, "-F", "--config", conf,
                                        "--control", tmp / "control", *options])

    return start


# ---- what it says ----


def test_numbers_of_a_region(server, join):
    target = server(*ANY_PORT, "--max-peers", 3, vectors=2)
    peers = [join(target) for _ in range(3)]
    for peer in peers:
        peer.drain()
    with pytest.raises(wire.ProtocolError):
        join(target)
    peers[1].close()
    wait_until(lambda: region(scrape(target), "leaves") == 1, "the leave to be seen")
    for peer in (peers[0], peers[2]):
        peer.drain()
    families = scrape(target)
    assert {name: region(families, name) for name in (
        "peers", "max_peers", "vectors", "size_bytes", "joins", "leaves", "evictions", "refusals",
        "queued_messages", "waiting_peers", "stalled_seconds", "quarantined_ids", "restarts",
        "draining")} == {
            "peers": 2, "max_peers": 3, "vectors": 2, "size_bytes": 1 << 20, "joins": 3,
            "leaves": 1, "evictions": 0, "refusals": 1, "queued_messages": 0, "waiting_peers": 0,
            "stalled_seconds": 0, "quarantined_ids": 0, "restarts": 0, "draining": 0}
    # Three each for the hello; two for each of 9 pairs, itself included; two leaves.
    assert region(families, "messages") == 3 * 3 + 2 * 9 + 2


def test_numbers_of_the_process(server, join):
    target = server(*ANY_PORT)
    one = join(target)
    families = scrape(target)
    one.close()

    def number(name):
        return families[f"ivshmem_process_{name}"].samples[frozenset()]

    version = subprocess.run([find_program("ivshmem-server"), "--version"], capture_output=True,
                             text=True, check=True).stdout.split()[-1]
    assert families["ivshmem_build"].samples == {frozenset({("version", version)}): 1}
    # Its peer's two, and the connection that asks.
    assert number("open_fds") == target.base_fds + 2 + 1
    assert number("max_fds") == resource.prlimit(target.pid, resource.RLIMIT_NOFILE)[0]
    assert number("resident_memory_bytes") > 1 << 20
    assert 0 <= number("cpu_seconds") < 100
    assert abs(number("start_time_seconds") - time.time()) < 300


def test_a_peer_that_reads_nothing(server, join):
    target = server(*ANY_PORT, vectors=8)
    sleeper = join(target, keep=False)
    peers = [join(target, keep=False) for _ in range(60)]

    def only_the_sleeper_waits():
        for peer in peers:
            peer.drain()
        page = scrape(target)
        return region(page, "waiting_peers") == 1 and page

    families = wait_until(only_the_sleeper_waits, "only the sleeper to have messages waiting")
    assert region(families, "queued_messages") > 0
    stalled = region(families, "stalled_seconds")
    wait_until(lambda: region(scrape(target), "stalled_seconds") >= stalled + 1, "it to go on")

    def sleeper_has_all():
        sleeper.drain()
        return region(scrape(target), "waiting_peers") == 0

    wait_until(sleeper_has_all, "the sleeper to catch up")
    families = scrape(target)
    assert region(families, "queued_messages") == region(families, "stalled_seconds") == 0


def test_peers_only_if_asked_for(server, join):
    silent, asked = server(*ANY_PORT), server(*ANY_PORT, "--metrics-peers", vectors=3)
    join(silent)
    assert not [name for name in scrape(silent) if name.startswith("ivshmem_peer")]
    peers = [join(asked) for _ in range(70)]
    families = scrape(asked)
    everybody = {frozenset({("region", "default"), ("peer", str(peer.id)),
                            ("uid", str(os.getuid()))}) for peer in peers}
    names = {"queued_messages", "messages", "stalled_seconds", "descriptors"}
    assert {name for name in families if name.startswith("ivshmem_peer")} == {
        f"ivshmem_peer_{name}" for name in names}
    for name in names:
        assert families[f"ivshmem_peer_{name}"].samples.keys() == everybody
    assert set(families["ivshmem_peer_descriptors"].samples.values()) == {4}


def test_many_regions(regions, join):
    """A page of many pieces; each region once for each metric."""
    target = regions(300, *ANY_PORT)
    peer = wire.Peer(target.sockets[123])
    families = scrape(target)
    peer.close()
    everyone = {frozenset({("region", f"r{number:04}")}) for number in range(300)}
    for name, family in families.items():
        if name.startswith("ivshmem_region_"):
            assert family.samples.keys() == everyone, name
    assert region(families, "peers", "r0123") == 1
    assert sum(families["ivshmem_region_peers"].samples.values()) == 1


def test_scrapes_during_a_storm(server, swarm):
    """All pages are whole, and counters only grow."""
    target = server(*ANY_PORT, "--metrics-peers", vectors=4)
    port_of(target)
    done = threading.Event()
    pages = []

    def watch():
        while not done.is_set():
            pages.append(scrape(target))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(4):
            swarm(target, 50, 4)
    finally:
        done.set()
        watcher.join()
    wait_until(lambda: region(scrape(target), "leaves") == 200, "all to have left")
    for name in ("joins", "leaves", "messages"):
        values = [region(page, name) for page in pages]
        assert values == sorted(values)
    assert region(scrape(target), "joins") == 200


@pytest.fixture
def kept(server_command, launch, tmp):
    """Start a server that a keeper (docs/restart.md) starts again: kept(*options)."""

    def start(*options):
        path = str(tmp / "s")
        return launch(Kept, path, [find_program("ivshmem-keeper"), "--", *server_command, "-F",
                                   "-S", path, *options], ready_fd=False)

    return start


def kill_worker(target):
    (worker,) = children_of(target.pid)
    os.kill(worker, signal.SIGKILL)
    return worker


def test_numbers_live_through_a_kill(kept, join):
    target = kept(*ANY_PORT)
    one, two = join(target), join(target)
    one.close()
    wait_until(lambda: region(scrape(target), "leaves") == 1, "the leave to be seen")
    two.drain()
    before = scrape(target)
    for restarts in (1, 2):
        kill_worker(target)
        wait_until(lambda n=restarts: len(re.findall(LISTENS, target.log())) == n + 1,
                   "the next process")
        after = scrape(target)
        assert region(after, "restarts") == restarts
        for name in ("peers", "joins", "leaves", "messages", "refusals"):
            assert region(after, name) == region(before, name), name


def test_a_port_that_is_taken_after_a_kill(kept, join):
    """Peers come before metrics."""
    target = kept("--metrics", f"127.0.0.1:{free_port()}")
    one = join(target)
    os.kill(target.pid, signal.SIGSTOP)  # before it sees the end
    try:
        worker = kill_worker(target)
        wait_until(lambda: has_ended(worker), "the server's end")
        other = socket.create_server(("127.0.0.1", port_of(target)))
    finally:
        os.kill(target.pid, signal.SIGCONT)
    with other:
        target.wait_log("cannot listen there")
        two = join(target)
        wait_until(lambda: one.drain() == 0 and two.id in one.peers, "it to hear of the other")


# ---- HTTP ----


def test_what_else_is_asked_for(server):
    target = server(*ANY_PORT)
    assert request(target, "HEAD")[::2] == (200, "")
    assert request(target, path="/metrics?x=1")[0] == 200
    for path in ("/", "/metrics/", "/metricsx", "/../etc/passwd", "/METRICS"):
        assert request(target, path=path)[0] == 404
    for method, body in (("POST", b"x" * 100000), ("PUT", b"x"), ("DELETE", None),
                         ("OPTIONS", None), ("BREW", None)):
        status, headers, _ = request(target, method, body=body)
        assert (status, headers["Allow"]) == (405, "GET, HEAD"), method
    scrape(target)


@pytest.mark.parametrize("data", [
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * (1 << 17) + b"\r\n",
    b"a" * (1 << 20),
    b"\n" * (1 << 20),
    b"\0" * 4096,
    b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
], ids=["long-field", "many-fields", "no-line", "empty-lines", "zeros", "long-path", "length",
        "chunk"])
def test_what_no_browser_sends(server, join, data):
    """The connection ends or waits; the server takes no notice."""
    target = server(*ANY_PORT)
    memory = target.status("RssAnon")
    with connect(target) as sock:
        try:
            sock.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            pass
        join(target)
        scrape(target)
    assert target.status("RssAnon") - memory < 1024


def test_hoarders_keep_nobody_away(regions):
    """Requests that never end and pages that nobody reads, more than there may be."""
    target = regions(300, *ANY_PORT)
    hoarded = []
    try:
        for number in range(40):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(TIMEOUT)
            sock.connect(("127.0.0.1", port_of(target)))
            if number % 3 > 0:
                sock.sendall(b"GET /metrics HTTP/1.1\r\n" + b"Host: x\r\n\r\n" * (number % 3 - 1))
            hoarded.append(sock)
        wait_until(lambda: target.fds() <= target.base_fds + 8, "most of them to be cut")
        # Who has just come may seem to be at work still.
        families = wait_until(lambda: try_to_scrape(target), "a page")
        assert len(families["ivshmem_region_peers"].samples) == 300
        for path in target.sockets[:20]:
            wire.Peer(path).close()
    finally:
        for sock in hoarded:
            sock.close()


def try_to_scrape(target):
    try:
        return scrape(target)
    except (ConnectionError, http.client.RemoteDisconnected):
        return None


def test_a_connection_ends_some_time(server):
    """Half a minute, whatever it does; one that does something little by little, too."""
    target = server(*ANY_PORT)
    with connect(target) as idle, connect(target) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")

        def are_over():
            try:
                slow.sendall(b"x")
            except (ConnectionResetError, BrokenPipeError):
                pass
            time.sleep(0.5)
            return not is_open(idle) and not is_open(slow)

        wait_until(are_over, "both to be cut", 90)
    scrape(target)


def test_a_slow_reader_gets_its_page(regions):
    """A little at a time, and as a whole; regions are removed meanwhile (test_exposition.c)."""
    target = regions(300, *ANY_PORT)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", port_of(target)))
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        time.sleep(2)
        scrape(target)
        text = read_all(sock).decode()
    head, _, body = text.partition("\r\n\r\n")
    assert " 200 " in head.splitlines()[0]
    assert len(openmetrics.parse(body)["ivshmem_region_peers"].samples) == 300


def test_no_descriptors_left(server, join):
    """A client waits, costs nothing, and is served once there are some."""
    target = server(*ANY_PORT)
    port_of(target)
    old = target.limit_fds(target.fds())
    with connect(target) as sock:
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        target.wait_log("cannot accept for now")
        before = target.cpu_time()
        time.sleep(2)
        assert target.cpu_time() - before < 0.5
        target.limit_fds(old)
        assert b" 200 " in read_all(sock)
    join(target)


def test_idle_with_metrics(server):
    """No wake-ups between two scrapes, once the connection is over."""
    target = server(*ANY_PORT)
    scrape(target)
    target.settle()

    def activity():
        return target.status("voluntary_ctxt_switches"), target.cpu_time()

    def is_idle():
        before = activity()
        time.sleep(1)
        return activity() == before

    wait_until(is_idle, "a second without a wake-up")


# ---- options ----


def test_a_port_alone_is_loopback(server):
    port = free_port()
    target = server("--metrics", str(port))
    assert port_of(target) == port
    scrape(target)
    addresses = re.findall(r"metrics: http://(\S+)/metrics", target.log())
    assert addresses in ([f"127.0.0.1:{port}", f"[::1]:{port}"], [f"127.0.0.1:{port}"])


@pytest.mark.parametrize("options, wanted", [
    (("--metrics", "localhost:9464"), "--metrics localhost:9464: give PORT"),
    (("--metrics", "65536"), "--metrics 65536: give PORT"),
    (("--metrics", ""), "--metrics : give PORT"),
    (("--metrics-file", ""), "--metrics-file '': give a path"),
    (("--metrics-interval", "5"), "--metrics-interval: of which --metrics-file"),
    (("--metrics-file", "/tmp/x", "--metrics-interval", "0"), "--metrics-interval 0"),
    (("--metrics-peers",), "--metrics-peers: to where"),
    (("--metrics-file", "/tmp/" + "x" * 5000), "--metrics-file: the path is too long"),
])
def test_wrong_options(server_command, tmp, options, wanted):
    result = subprocess.run([*server_command, "-F", "-S", tmp / "s", *options], text=True,
                            stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    assert result.returncode in (1, 2)
    assert wanted in result.stderr
    assert not (tmp / "s").exists()


def test_a_port_in_use(server_command, tmp):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        result = subprocess.run(
            [*server_command, "-F", "-S", tmp / "s", "--metrics", address], text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    assert result.returncode == 1
    assert re.fullmatch(
        f"ivshmem-server: error: --metrics {re.escape(address)}: cannot listen there: "
        "Address (already )?in use", result.stderr.splitlines()[-1])  # glibc's words, musl's
    assert not (tmp / "s").exists()


# ---- the file ----


def test_textfile(server, join, tmp):
    path = tmp / "ivshmem.prom"
    target = server("--metrics-file", path, "--metrics-interval", 1)

    def joins():
        families = openmetrics.parse_textfile(path.read_text(encoding="ascii"))
        return families["ivshmem_region_joins_total"].samples[frozenset({("region", "default")})]

    wait_until(path.exists, "the file")
    assert joins() == 0
    join(target)
    wait_until(lambda: joins() == 1, "the file to be written again")
    assert target.stop() == 0
    assert not path.exists()
    assert not [name for name in os.listdir(tmp) if "prom" in name]


def test_both_say_the_same(server, tmp):
    path = tmp / "ivshmem.prom"
    target = server(*ANY_PORT, "--metrics-file", path)
    wait_until(path.exists, "the file")
    families = openmetrics.parse_textfile(path.read_text(encoding="ascii"))
    suffix = {"counter": "_total", "info": "_info", "gauge": ""}
    page = {name + suffix[family.kind]: family for name, family in scrape(target).items()}
    assert families.keys() == page.keys()
    for name, family in families.items():
        assert family.samples.keys() == page[name].samples.keys()
        assert family.help == page[name].help


# ---- what uses them ----

METRIC = re.compile(r"\bivshmem_[a-z_]+\b")


def exported_names(server):
    """What a query can name."""
    suffix = {"counter": "_total", "info": "_info", "gauge": ""}
    families = scrape(server(*ANY_PORT, "--metrics-peers"))
    return {name + suffix[family.kind] for name, family in families.items()}


def panels_of(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def test_dashboard(server):
    """It asks for metrics that there are, of the data source that is chosen, in a sane layout."""
    dashboard = json.loads((TOP / "packaging/grafana/ivshmem.json").read_text(encoding="utf-8"))
    names = exported_names(server)
    used = set()
    panels = list(panels_of(dashboard))
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        position = panel["gridPos"]
        assert position["x"] + position["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["targets"] and panel["title"] and panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            found = set(METRIC.findall(target["expr"]))
            assert found and found <= names, target["expr"]
            used |= found
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("instance", "region"):
        assert set(METRIC.findall(variables[name]["definition"])) <= names
    # Nothing that goes up and down like this may stay unseen.
    assert names - used <= {name for name in names if name.startswith("ivshmem_peer_")} | {
        "ivshmem_region_vectors", "ivshmem_region_max_peers"}


def test_alerts(server):
    text = (TOP / "packaging/prometheus/ivshmem-rules.yml").read_text(encoding="utf-8")
    code = "\n".join(line.partition(" #")[0] for line in text.splitlines()
                     if not line.startswith("#"))
    found = set(METRIC.findall(code))
    assert found and found <= exported_names(server)
    assert len(re.findall(r"^ +- alert: \w+$", code, re.M)) == code.count("expr:") == \
        code.count("summary:") == code.count("severity:") > 3


def test_documentation(server):
    """docs/observability.md lists exactly the metrics that there are."""
    text = (TOP / "docs/observability.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(ivshmem_\w+)` \| (\w+) \|", text, re.M)
    families = scrape(server(*ANY_PORT, "--metrics-peers"))
    suffix = {"counter": "_total", "info": "_info", "gauge": ""}
    assert listed == [(name + suffix[family.kind], family.kind)
                      for name, family in families.items()]


# ---- probes ----


def test_probes():
    """The program has those that docs/observability.md lists, with as many arguments."""
    text = (TOP / "docs/observability.md").read_text(encoding="utf-8")
    table = re.search(r"\| probe \| arguments \|\n(.*?)\n\n", text, re.S).group(1)
    listed = {name: arguments.count(",") + 1
              for name, arguments in re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.M)}
    notes = subprocess.run(["readelf", "-n", find_program("ivshmem-server")], capture_output=True,
                           text=True, check=True).stdout
    found = re.findall(r"Provider: ivshmem\n +Name: (\w+)\n.*\n +Arguments: (.*)", notes)
    assert {name: len(arguments.split()) for name, arguments in found} == listed


# ---- log lines ----


def test_fields_of_log_lines(server, join):
    """Always these, in this order, one object a line."""
    target = server("--log-format", "json")
    join(target)
    target.wait_log("joined")
    lines = [line for line in target.log().splitlines() if line]
    assert lines
    for line in lines:
        fields = json.loads(line)
        assert list(fields) == ["time", "level", "program", "pid", "message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields["time"])
        assert fields["level"] in ("error", "warning", "info", "debug")
        assert (fields["program"], fields["pid"]) == ("ivshmem-server", target.pid)
        assert fields["message"]
