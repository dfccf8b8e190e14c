#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Compare a program's --help with its manual page, and let mandoc look at the page.

    manpages.py PAGE.scd [PROGRAM]

Fails if an option, its argument or its default stands in one of the two and not in the other.
Without PROGRAM, as for a library, only mandoc looks.
"""

import re
import subprocess
import sys

HELP_OPTION = re.compile(r"^  (?:-(\w), |    )--([\w-]+)(?: (\S+))?(?:  +(\S.*))?$")
DEFAULT = re.compile(r"\(default: ([^)]*)\)")
# What mandoc says about every page that scdoc makes; nothing that the source could change.
SCDOC_HABITS = re.compile(
    r"skipping paragraph macro: PP|input text line longer than 80 bytes|"
    r"lower case character in document title")


def plain(text):
    """Text of a page without its marks, on one line."""
    text = re.sub(r"\\(.)", r"\1", text.replace("*", ""))
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", "", text)
    return " ".join(text.split())


def describe(letter, argument, text):
    defaults = DEFAULT.findall(" ".join(text.split()))
    return {"short": letter or "none", "argument": argument or "none",
            "default": "; ".join(defaults) or "none"}


def options_of_help(program):
    """{long name: {property: value}}"""
    run = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    found, text = {}, {}
    name = None
    for line in run.stdout.splitlines():
        match = HELP_OPTION.match(line)
        if match:
            letter, name, argument, first = match.groups()
            found[name], text[name] = (letter, argument), first or ""
        elif name and line.startswith(" " * 20):
            text[name] += " " + line
        else:
            name = None
    return {name: describe(*found[name], text[name]) for name in found}


def options_of_page(page):
    with open(page, encoding="utf-8") as source:
        match = re.search(r"^# OPTIONS\n(.*?)^# ", source.read(), re.M | re.S)
    if not match:
        sys.exit(f"{page}: no section OPTIONS")
    options = {}
    for paragraph in re.split(r"^(?=\*-)", match.group(1), flags=re.M)[1:]:
        heading, _, text = paragraph.partition("\n")
        head = re.fullmatch(r"(?:-(\w), )?--([\w-]+)(?: (\S+))?", plain(heading))
        if not head:
            sys.exit(f"{page}: heading not understood: {heading}")
        letter, name, argument = head.groups()
        options[name] = describe(letter, argument, plain(text))
    return options


def compare(program, page):
    in_help, in_page = options_of_help(program), options_of_page(page)
    if len(in_help) < 3:
        yield f"{program} --help: only {len(in_help)} options found in what it prints"
    for name in sorted(in_help.keys() | in_page.keys()):
        if name not in in_page:
            yield f"{page}: --{name} is missing"
        elif name not in in_help:
            yield f"{page}: --{name} is no option of {program}"
        else:
            for what, value in in_help[name].items():
                if in_page[name][what] != value:
                    yield (f"{page}: --{name}: {what} is '{in_page[name][what]}', "
                           f"in --help it is '{value}'")


def lint(page):
    with open(page, "rb") as source:
        roff = subprocess.run(["scdoc"], stdin=source, capture_output=True, check=False)
    if roff.returncode != 0:
        yield f"{page}: scdoc: {roff.stderr.decode().strip()}"
        return
    run = subprocess.run(["mandoc", "-T", "lint"], input=roff.stdout, capture_output=True, check=False)
    for line in run.stdout.decode().splitlines():
        if not SCDOC_HABITS.search(line):
            yield f"{page}: {line}"


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__.strip())
    page, *programs = sys.argv[1:]
    try:
        problems = list(lint(page))
        for program in programs:
            problems += compare(program, page)
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing; scripts/setup installs what the tests need")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
