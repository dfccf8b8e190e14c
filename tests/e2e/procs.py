# SPDX-License-Identifier: MIT
"""
What /proc says of a process that may end while it is read.

Asked for in two steps ("is it there? then read"), the process ends between them one time in some
thousand. So every question here has an answer for a process that is gone, and none asks twice.
"""

import pathlib
import re
import time


def _text(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):  # gone before open(), or before read()
        return None


def state_of(pid):
    """R, S, D, T, Z or another letter of proc(5), or None: it is gone."""
    text = _text(pid, "stat")
    return text.rsplit(")", 1)[1].split()[0] if text else None  # there may be spaces in the name


def has_ended(pid):
    """Nothing of it runs any more; whoever is its parent may not have asked for its status yet."""
    return state_of(pid) in (None, "Z", "X")


def children_of(pid):
    """PIDs of the processes that its first thread has started, those that nobody waited for too."""
    return [int(word) for word in (_text(pid, f"task/{pid}/children") or "").split()]


def cpu_time(pid):
    """
    Seconds of processor time that it has used, by the clock that clock_getcpuclockid(3) names. In
    /proc they are two counts of ticks, of which either can change within a microsecond.
    """
    return time.clock_gettime(~pid << 3 | 2)


def status_of(pid):
    """/proc/PID/status, a text for each field; empty for a process that is gone."""
    return dict(re.findall(r"^(\w+):\s+(.*)$", _text(pid, "status") or "", re.M))
