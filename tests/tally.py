#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
List the test cases in logs of meson (meson-logs/NAME.json) and pytest (--junit-xml), one a line:
"passed", "failed" or "skipped", then the name, and for a skip why.

    tally.py LOG...

meson counts programs; what a program prints as cmocka does is counted here case by case. A program
that failed without a failing case (it crashed, it leaked) counts as one failure more.
"""

import json
import re
import sys
import xml.etree.ElementTree

CMOCKA = re.compile(r"^\[ *(RUN|OK|SKIPPED) *\] (\S+)$")
BAD = {"FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS"}


def of_cmocka(output):
    """Outcome and name of each case in what a cmocka program printed; with a skip, why."""
    running, last = None, None
    for line in output.splitlines():
        match = CMOCKA.match(line)
        event, case = match.groups() if match else (None, None)
        if event == "RUN":
            if running:
                yield "failed", running
            running, last = case, "no reason given"
        elif event and case == running:
            yield ("passed", case) if event == "OK" else ("skipped", f"{case}: {last}")
            running = None
        else:
            last = line
    if running:
        yield "failed", running


def of_program(test):
    """Cases of one entry in meson's log."""
    name, output = test["name"], test.get("stdout", "")
    cases = list(of_cmocka(output))
    for outcome, case in cases:
        yield outcome, f"{name}.{case}"
    if test["result"] in BAD and "failed" not in dict(cases):
        yield "failed", f"{name} ({test['result'].lower()})"
    elif not cases:
        skipped = test["result"] == "SKIP"
        why = output.strip().splitlines()[-1:] if skipped else []
        yield ("skipped" if skipped else "passed"), ": ".join([name, *why])


def of_pytest(path):
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}".lstrip(".")
        if case.find("failure") is not None or case.find("error") is not None:
            yield "failed", name
        elif case.find("skipped") is not None:
            yield "skipped", f"{name}: {case.find('skipped').get('message')}"
        else:
            yield "passed", name


def of_meson(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield from of_program(json.loads(line))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.strip())
    for path in sys.argv[1:]:
        for outcome, name in of_pytest(path) if path.endswith(".xml") else of_meson(path):
            print(outcome, " ".join(name.split()))


if __name__ == "__main__":
    main()
