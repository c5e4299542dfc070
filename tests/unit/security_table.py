#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""security_table.py TESTS SECURITY.MD: every test that docs/security.md names is there, and every row names one."""
import re
import sys
from pathlib import Path

tests, page = Path(sys.argv[1]), Path(sys.argv[2]).read_text()
known = set()
for script in (tests / "integration").glob("*.sh"):
    known |= {f"integration/{script.stem}/{f[5:]}" for f in re.findall(r"^(test_\w+)\(\)", script.read_text(), re.M)}
fields = (tests / "integration/fields.py").read_text()
known |= {f"integration/fields/{f}" for f in re.findall(r"^def (\w+)\(env\)", fields, re.M)}

rows = [line for line in page.splitlines() if line.startswith("| CVE-")]
named = set(re.findall(r"`(integration/[\w/*]+)`", page))
wrong = [n for n in named if n not in known and not (n.endswith("/*") and any(k.startswith(n[:-1]) for k in known))]
wrong += [r[:60] for r in rows if not re.search(r"`integration/", r)]
# An attack that the table does not name was found by ourselves, or its row is missing.
attacks = {k for k in known if k.startswith("integration/attacks/")} - named
print(f"{len(rows)} rows, {len(named)} tests; not named: {sorted(attacks)}")
if wrong or len(rows) < 25:
    sys.exit(f"docs/security.md: no such test, or none in the row: {wrong}")
