# SPDX-License-Identifier: MIT
"""
Strict readers of the two text formats of metrics. They know nothing of our metrics and take nothing
that the formats do not allow: OpenMetrics 1.0, and the older format of Prometheus, in which
node_exporter reads files.
"""

import math
import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (\S+)")
METADATA = re.compile(rf"# (TYPE|UNIT|HELP) ({NAME}) (.*)")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?([eE][+-]?\d+)?|Inf|NaN)")
SUFFIXES = {"gauge": ("",), "counter": ("_total",), "info": ("_info",)}
HELP_ESCAPES = re.compile(r'(?:[^\\"\n]|\\[\\n"])*')


class FormatError(Exception):
    """The text is not in the format."""


@dataclass
class Family:
    """A metric: its description, and {frozenset of (label, value): number}."""

    kind: str = None
    unit: str = None
    help: str = None
    samples: dict = field(default_factory=dict)


def need(condition, line):
    if not condition:
        raise FormatError(line)


def labels_of(text, line):
    pairs = [label.split("=", 1) for label in re.findall(LABEL, text or "")]
    names = [name for name, _ in pairs]
    need(len(names) == len(set(names)), line)
    unescape = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}
    return frozenset((name, re.sub(r"\\.", lambda match: unescape[match.group()], value[1:-1]))
                     for name, value in pairs)


def add_metadata(families, present, match, line):
    """One line that describes a family: it begins one, or belongs to the present one."""
    keyword, name, value = match.groups()
    if keyword == "TYPE":
        need(name not in families, line)
        families[name] = Family(kind=value)
        need(value in SUFFIXES, line)
        return name
    need(name == present and not families[name].samples, line)
    what = keyword.lower()
    need(getattr(families[name], what) is None, line)
    if keyword == "UNIT":
        need(value and name.endswith("_" + value), line)
    else:
        need(HELP_ESCAPES.fullmatch(value), line)
    setattr(families[name], what, value)
    return name


def add_sample(family, name, suffixes, line):
    match = SAMPLE.fullmatch(line)
    need(match and match.group(1) in [name + suffix for suffix in suffixes], line)
    labels = labels_of(match.group(2), line)
    need(labels not in family.samples and NUMBER.fullmatch(match.group(3)), line)
    value = float(match.group(3))
    need(family.kind == "gauge" or (value >= 0 and not math.isnan(value)), line)
    need(family.kind != "info" or value == 1, line)
    family.samples[labels] = value


def read(text, suffixes_of):
    """{name: Family}. `suffixes_of` a kind: how the names of its samples end."""
    families, present = {}, None
    need(text.endswith("\n"), text[-80:])
    for line in text[:-1].split("\n"):
        match = METADATA.fullmatch(line)
        if match:
            present = add_metadata(families, present, match, line)
        else:
            need(present, line)
            add_sample(families[present], present, suffixes_of[families[present].kind], line)
    return families


def parse(text):
    """A page in OpenMetrics 1.0."""
    end = "# EOF\n"
    need(text.endswith(end) and text.count(end) == 1, text[-80:])
    return read(text[:-len(end)], SUFFIXES)


def parse_textfile(text):
    """What a textfile may say. A counter is found by the name of its samples."""
    families = read(text, {"gauge": ("",), "counter": ("",)})
    for name, family in families.items():
        need(family.unit is None, f"unit of {name}")
        need((family.kind == "counter") == name.endswith("_total"), name)
    return families
