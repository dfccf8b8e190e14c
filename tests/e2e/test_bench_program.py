# SPDX-License-Identifier: MIT
"""
ivshmem-bench: measures alone, and as two commands that start in any order. Never how fast: only that
each shape and size is there, once, with times that can be.
"""

import json
import subprocess
import time

import pytest

from conftest import TIMEOUT, ended_with_test, find_program, kill

pytestmark = pytest.mark.ours

SHAPES = {"stream", "gather", "call", "latest"}
OPTIONS = ["--json", "--ms", "1", "--sizes", "8,4K"]


def bench(*arguments):
    return [find_program("ivshmem-bench"), *OPTIONS, *arguments]


def check(text, waits):
    results = [json.loads(line) for line in text.splitlines()]
    assert sorted((r["wait"], r["shape"], r["bytes"]) for r in results) == sorted(
        (wait, shape, size) for wait in waits for shape in SHAPES for size in (8, 4096))
    for result in results:
        assert 0 < result["median_us"] <= result["p99_us"]
        assert ("rate" in result) == (result["shape"] in ("stream", "gather"))
        assert result.get("rate", 1) > 0


def test_alone_it_starts_all_by_itself():
    done = subprocess.run(bench("--server", find_program("ivshmem-server"), "--wait", "sleep", "run"),
                          stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    check(done.stdout, ["sleep"])


@pytest.fixture
def start():
    yield from ended_with_test(subprocess.Popen, kill)


def test_two_commands_whoever_comes_first(server, start):
    """The first runner comes before there is anybody to answer, the second finds what it left."""
    uri = f"unix:{server(size='4M').socket}"
    run = start(bench("run", uri), stdout=subprocess.PIPE, text=True)
    start(bench("serve", uri))
    check(run.communicate(timeout=TIMEOUT)[0], ["adaptive"])
    again = subprocess.run(bench("run", uri), stdout=subprocess.PIPE, text=True,
                           timeout=TIMEOUT, check=True)
    check(again.stdout, ["adaptive"])


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_killed_in_the_middle(server, start, shape):
    """The next one is served, whatever the one before has left."""
    uri = f"unix:{server(size='4M').socket}"
    start(bench("serve", uri))
    one = bench("run", "--shape", shape, uri)
    for busy in 0.05, 0.1:
        killed = start([*one, "--ms", "5000"], stdout=subprocess.DEVNULL)
        time.sleep(busy)
        kill(killed)
        again = subprocess.run(one, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
        assert len(again.stdout.splitlines()) == 2


def test_no_server_to_start_is_said():
    done = subprocess.run(bench("--server", "/nonexistent", "run"), stderr=subprocess.PIPE,
                          text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    assert "/nonexistent does not start" in done.stderr
