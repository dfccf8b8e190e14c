#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Check that each file says its licence in its first lines, and that LICENSES/ has the text of it.

    spdx.py FILE...

Names are relative to the top of the tree, which is where to run it.
"""

import fnmatch
import pathlib
import re
import sys

# Files that have no place for the line; they are under the project's licence, MIT.
EXEMPT = {
    "LICENSES/*": "the licences themselves",
    "*.json": "JSON has no comments",
    "tests/fuzz/corpus/*": "bytes for a decoder",
    "*.png": "an image",
    "debian/changelog": "has a form of its own",
    "debian/source/format": "likewise",
    "packaging/recipes/s6/notification-fd": "a number",
    "packaging/recipes/s6-device/notification-fd": "a number",
}
LINE = re.compile(r"SPDX-License-Identifier: ([^\s*<>]+(?: (?:AND|OR|WITH) [^\s*<>]+)*)")
FIRST_LINES = 5


def problem(name):
    """What is wrong with the file, or None."""
    head = pathlib.Path(name).read_bytes()
    if any(fnmatch.fnmatch(name, pattern) for pattern in EXEMPT):
        return None
    if b"\0" in head:
        return "binary, and not among the exemptions in tests/lint/spdx.py"
    lines = head.decode("utf-8", errors="replace").split("\n")[:FIRST_LINES]
    match = LINE.search("\n".join(lines))
    if not match:
        return f"no SPDX-License-Identifier in its first {FIRST_LINES} lines"
    for licence in re.split(r" (?:AND|OR|WITH) ", match.group(1)):
        if not pathlib.Path("LICENSES", licence + ".txt").exists():
            return f"LICENSES/{licence}.txt is missing"
    return None


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.strip())
    problems = [(name, problem(name)) for name in sys.argv[1:]]
    for name, text in problems:
        if text:
            print(f"{name}: {text}")
    return 1 if any(text for _, text in problems) else 0


if __name__ == "__main__":
    sys.exit(main())
