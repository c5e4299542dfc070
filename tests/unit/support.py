#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""support.py [--write] STASIS SUPPORT.MD SRC: docs/support.md says what the program says (TAP; --write makes it so).

`stasis features --support` prints "group<TAB>kind<TAB>verdict<TAB>note" lines from the code's tables. The document has
the same rows between its two markers. Every kind that an obstacle in the sources names has to be in a table as well."""
import re
import subprocess
import sys
from pathlib import Path

BEGIN, END = "<!-- from stasis features --support -->", "<!-- end -->"
GROUPS = {"process": "Processes and threads", "memory": "Memory", "file": "Open files", "namespace": "Namespaces",
          "mount": "Mounts", "container": "The container as a whole"}


def table(stasis):
    out = subprocess.run([stasis, "features", "--support"], check=True, capture_output=True, text=True).stdout
    return [line.split("\t") for line in out.splitlines()]


def markdown(rows):
    lines = []
    for group in list(GROUPS) + sorted({r[0] for r in rows} - GROUPS.keys()):
        of_group = [r for r in rows if r[0] == group]
        if not of_group:
            continue
        lines += [f"### {GROUPS.get(group, group)}", "", "| kind | native engine | |", "|---|---|---|"]
        lines += [f"| {kind} | {verdict} | {note.replace('|', chr(92) + '|')} |" for _, kind, verdict, note in of_group] + [""]
    return "\n".join(lines)


def kinds_in_sources(src):
    """The kind (or at least its group) is the first string of dump_refuse() and preflight_add() calls; res->kind is a table's own."""
    found = set()
    for path in Path(src, "checkpoint").rglob("*.c"):
        for m in re.finditer(r'\b(?:dump_refuse|preflight_add)\(([^"();]*(?:\([^()]*\))?[^"();]*)"([^"]*)"', path.read_text()):
            if "->kind" not in m[1]:
                found.add(m[2])
    return found


def main():
    write = sys.argv[1] == "--write"
    stasis, page, src = sys.argv[1 + write:]
    rows, text = table(stasis), Path(page).read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    written, _, after = rest.partition(END)
    want = f"\n\n{markdown(rows)}\n"
    if write:
        Path(page).write_text(before + BEGIN + want + END + after, encoding="utf-8")
        return 0
    print("1..2")
    if written == want:
        print("ok 1 - docs/support.md has the code's tables")
    else:
        have, should = set(written.splitlines()), set(want.splitlines())
        for line in sorted(should - have):
            print(f"# missing: {line}")
        for line in sorted(have - should):
            print(f"# not (any more) in the code: {line}")
        print("not ok 1 - docs/support.md has the code's tables (make it so: tests/unit/support.py --write "
              "build/stasis docs/support.md src)")
    missing = kinds_in_sources(src) - {r[1] for r in rows} - {r[0] for r in rows}
    print(f"{'not ok' if missing else 'ok'} 2 - the kinds of obstacles are in the tables "
          f"{': missing: ' + ', '.join(sorted(missing)) if missing else ''}")
    return 0


sys.exit(main())
