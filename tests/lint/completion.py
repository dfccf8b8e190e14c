#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Compare the shells' completions of ivshmctl with what its --help says.

    completion.py PROGRAM BASH-COMPLETION ZSH-COMPLETION

The one for bash is run, by bash; the other is read, since not everybody has zsh. Fails if a command
or an option, or a command's option, stands in one of the two and not in the other.
"""

import re
import subprocess
import sys

OPTION = re.compile(r"^  (?:-(\w), |    )--([\w-]+)(?: (\S+))?(?:  |$)")
COMMAND = re.compile(r"^  (\w+) ")


def read_help(program):
    """({command: its options, "" for those of all}, {option: takes an argument})"""
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    options, takes, commands, group = {"": set()}, {}, [], None
    for line in text.splitlines():
        if re.match(r"^\S.*:$", line):
            group = line[:-1]
            continue
        match = OPTION.match(line)
        if match:
            owner = "" if group in ("All commands", "Information") else group
            options.setdefault(owner, set()).add("--" + match[2])
            takes["--" + match[2]] = match[3] is not None
        elif group == "Commands" and COMMAND.match(line):
            commands.append(COMMAND.match(line)[1])
    for command in commands:
        options.setdefault(command, set())
    return options, takes


def bash_completes(file, *words):
    """What bash offers for the last of these words."""
    script = ('. "$1"; shift; COMP_WORDS=(ivshmctl "$@"); COMP_CWORD=$#; _ivshmctl; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    run = subprocess.run(["bash", "-c", script, "bash", file, *words], capture_output=True,
                         text=True, check=True)
    return set(run.stdout.split())


def compare(what, given, wanted):
    for name in sorted(wanted - given):
        yield f"{what}: {name} is missing"
    for name in sorted(given - wanted):
        yield f"{what}: {name} is not in --help"


def check_bash(file, options, takes):
    commands = set(options) - {""}
    yield from compare(f"{file}: commands", bash_completes(file, ""), commands)
    for command in sorted(commands):
        yield from compare(f"{file}: options of {command}", bash_completes(file, command, "--"),
                           options[command] | options[""])
    # After an option with an argument no option comes, after one without the next does.
    for option, argument in sorted(takes.items()):
        offered = bash_completes(file, option, "--")
        if bool(offered) == argument:
            yield f"{file}: {option} takes {'an' if argument else 'no'} argument"


def check_zsh(file, options, takes):
    with open(file, encoding="utf-8") as source:
        text = source.read()
    yield from compare(f"{file}: commands", set(re.findall(r"^\t\t'(\w+):", text, re.M)),
                       set(options) - {""})
    common = re.search(r"common=\((.*?)\n\t\)", text, re.S)[1]
    parts = {"": common}
    for names, body in re.findall(r"^\t\t([\w |]+)\)\n(.*?);;", text, re.M | re.S):
        for name in names.split(" | "):
            parts[name] = body
    for command, wanted in sorted(options.items()):
        body = parts.get(command, "")
        given = set(re.findall(r"(?<![\w-])(--[\w-]+)(?=[\[}])", body))
        yield from compare(f"{file}: options of {command or 'all'}", given, wanted)
        for option in given & set(takes):
            entry = re.search(rf"{option}\}}?'?\[[^\]]*\](:?)", body)
            if bool(entry[1]) != takes[option]:
                yield f"{file}: {option} takes {'an' if takes[option] else 'no'} argument"


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__.strip())
    program, bash, zsh = sys.argv[1:]
    options, takes = read_help(program)
    if len(takes) < 10 or len(options) < 10:
        sys.exit(f"{program} --help was not understood")
    problems = [*check_bash(bash, options, takes), *check_zsh(zsh, options, takes)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
