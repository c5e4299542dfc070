#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""control_doc.py docs/control.md INTERFACE...: the document describes each method, with its parameters, and each error. (TAP)"""
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import varlink  # noqa: E402


def main():
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    sections = {m[1]: m[2] for m in re.finditer(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S)}
    absent, known = [], set()
    for path in sys.argv[2:]:
        interface = varlink.Interface(Path(path).read_text(encoding="utf-8"))
        for method, ((_, parameters), _) in interface.methods.items():
            known.add(method)
            if interface.name == "org.varlink.service":
                absent += [] if f"`{method}(" in text else [f"the method {method}"]
            elif method not in sections:
                absent.append(f"the method {method}: a section \"### {method}\"")
            else:
                absent += [f"{method}: its parameter {p}" for p in parameters if not re.search(rf"\b{p}\b", sections[method])
                           and not (method == "StartRoot" and "...as of Create" in sections[method])]
        absent += [f"the error {e}" for e in interface.errors if not re.search(rf"\b{e}\b", text)]
    absent += [f"nothing of the kind: {s}" for s in sections if s not in known]
    print("1..1")
    for a in absent:
        print(f"# not in docs/control.md: {a}")
    print("not ok 1 - docs/control.md" if absent else "ok 1 - docs/control.md")
    return bool(absent)


sys.exit(main())
