#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""readme.py RESULTS.md README.md: a short table of the medians in RESULTS.md, between README.md's two markers. Nothing is
done as long as there are no results."""
import os
import re
import sys

BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
COLD, STILL, CHECKPOINT, RESTORE = ("Cold start", "Checkpoint: how long the program stands still", "Checkpoint: the command",
                                    "Restore: until the program makes progress")


def tables(text):
    """{title: {row: {column: median}}}"""
    found = {}
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        title, _, body = section.partition("\n")
        rows = [[c.strip() for c in line.strip().strip("|").split("|")] for line in body.splitlines() if line.startswith("|")]
        if len(rows) < 3:
            continue
        head = rows[0]
        found[title] = {}
        for row in rows[2:]:
            medians = {name: re.match(r"\**([\d.]+)", cell) for name, cell in zip(head[1:], row[1:])}
            found[title][row[0]] = {name: float(m[1]) for name, m in medians.items() if m}
    return found


def cell(table, row):
    """(ours, the best peer's name and median)"""
    values = {k: v for k, v in table.get(row, {}).items() if k in ("stasis", "runc", "crun", "runsc")}
    ours = values.pop("stasis", None)
    best = min(values.items(), key=lambda kv: kv[1]) if values else None
    return ("-" if ours is None else f"**{ours:g}**"), ("-" if best is None else f"{best[1]:g} {best[0]}")


def figures(text):
    t = tables(text)
    written = re.search(r"^Written by.*$", text, re.M)
    machine = re.sub(r".*?\)\): ", "", written[0]) if written else ""
    lines = ["Medians in milliseconds, all runtimes in turns on one machine, against the best of runc and crun (both over CRIU) "
             f"and gVisor's runsc: {machine} All of it, with spread and goals: [bench/results.md](bench/results.md).", "",
             "| | stands still | best peer | checkpoint | best peer | restore, until progress | best peer |", "|---|---|---|---|---|---|---|"]
    for row in t.get(CHECKPOINT, {}):
        cells = [c for table in (STILL, CHECKPOINT, RESTORE) for c in cell(t.get(table, {}), row)]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    if COLD in t:
        lines += ["", "| | stasis | best peer |", "|---|---|---|"]
        lines += [f"| {row} | " + " | ".join(cell(t[COLD], row)) + " |" for row in t[COLD]]
    return "\n".join(lines + ["", "![The same as a plot](bench/results.svg)"])


def main():
    results, readme = sys.argv[1:]
    if not os.path.exists(results):
        return
    with open(results, encoding="utf-8") as f:
        table = figures(f.read())
    with open(readme, encoding="utf-8") as f:
        text = f.read()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    with open(readme, "w", encoding="utf-8") as f:
        f.write(f"{before}{BEGIN}\n{table}\n{END}{after}")


main()
