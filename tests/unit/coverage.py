#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""coverage.py STASIS TESTS/CR: every row of "stasis features --support" has its test in tests/cr/coverage (TAP)."""
import re
import subprocess
import sys
from pathlib import Path


def main():
    stasis, folder = sys.argv[1], Path(sys.argv[2])
    out = subprocess.run([stasis, "features", "--support"], check=True, capture_output=True, text=True).stdout
    rows = {f"{r[0]}/{r[1]}": r[2] for r in (line.split("\t") for line in out.splitlines())}
    odd = set(re.findall(r'^\t{"(\w+)", set_', (folder / "odd.c").read_text(encoding="utf-8"), re.M))
    known = {p.stem for p in folder.glob("*.c")} | {f"odd/{n}" for n in odd}
    covered, wrong = {}, []
    for line in (folder / "coverage").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        row, tests = line.rsplit(": ", 1)
        covered[row] = tests.split()
        if not tests.startswith("- "):
            wrong += [f"{row}: there is no program {t}" for t in tests.split() if t not in known]
    wrong += [f"{r}: the program does not list it" for r in covered if r not in rows]
    wrong += [f"{r} ({rows[r]}): no test" for r in rows if rows[r] in ("supported", "refused") and r not in covered]
    print("1..1")
    for w in wrong:
        print(f"# {w}")
    print(f"{'not ' if wrong else ''}ok 1 - every kind of object has a test in tests/cr/coverage")
    return 1 if wrong else 0


sys.exit(main())
