#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""manpage.py STASIS STASIS.8: the man page knows every option of every command, and no others. (TAP)

The program prints its options with the hidden command __options, as "command<TAB>option[<TAB>values]" lines; the global ones have no
command. In the man page an option is the tag of a .TP below the .SS of its command, or below .SH GLOBAL OPTIONS."""
import re
import subprocess
import sys


def of_program(stasis):
    found = {}
    for line in subprocess.run([stasis, "__options"], check=True, capture_output=True, text=True).stdout.splitlines():
        command, option = line.split("\t")[:2]
        found.setdefault(command, set())
        if option and not (command and option == "--help"):
            found[command].add(option)
    return found


def of_page(path):
    found, command, tag = {}, None, False
    for line in open(path, encoding="utf-8"):
        plain = re.sub(r"\\f[A-Z]|\\&", "", line.rstrip("\n")).replace("\\-", "-").replace('"', "")
        if plain.startswith(".SH"):
            command = "" if "GLOBAL OPTIONS" in plain else None
        elif plain.startswith(".SS"):
            command = plain.split()[1]
        if command is not None:
            found.setdefault(command, set())
        if tag and command is not None:
            found[command] |= set(re.findall(r"(?<![\w-])(--[a-zA-Z][\w-]*)", plain))
        tag = plain.startswith(".TP")
    return found


def main():
    program, page = of_program(sys.argv[1]), of_page(sys.argv[2])
    commands = sorted(program.keys() | page.keys())
    print(f"1..{len(commands)}")
    for n, command in enumerate(commands, 1):
        name = command or "global options"
        if command not in page or command not in program:
            print(f"not ok {n} - {name}: not in the {'man page' if command not in page else 'program'}")
            continue
        missing, extra = program[command] - page[command], page[command] - program[command]
        text = "".join(f", not in the man page: {o}" for o in sorted(missing))
        text += "".join(f", not in the program: {o}" for o in sorted(extra))
        print(f"{'not ok' if text else 'ok'} {n} - {name}{text}")
    return 0


sys.exit(main())
