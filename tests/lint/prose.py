#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Check that lines of documents and manual pages have at most 100 characters.

    prose.py FILE...

Tables, code, and what a program has written between its marks may be wider. Prints each line that is
too long as FILE:LINE, and exits with 1 if there was one.
"""

import re
import sys

WIDTH = 100
FENCE = re.compile(r"\s*```")
WRITTEN = re.compile(r"<!-- (\w+: written by|end of) ")


def long_lines(text):
    """Numbers and lengths of the lines of prose that are too long."""
    in_code = in_written = False
    for number, line in enumerate(text.split("\n"), 1):
        mark = WRITTEN.match(line)
        if mark:
            in_written = not mark.group(1).startswith("end")
        elif FENCE.match(line):
            in_code = not in_code
        elif len(line) > WIDTH and not (in_code or in_written or line.startswith("|")):
            yield number, len(line)


def main():
    found = 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as source:
            for number, length in long_lines(source.read()):
                print(f"{path}:{number}: {length} characters; prose has at most {WIDTH}")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
