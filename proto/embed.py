#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py OUTPUT FILE...: a C file with the texts of the interface files, so that the program can tell its clients."""
import os
import sys


def main() -> None:
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write('#include "sandbox/call.h"\n\nconst struct interface interfaces[] = {\n')
        for path in sys.argv[2:]:
            name = os.path.basename(path).removesuffix(".varlink")
            out.write(f'\t{{"{name}",\n')
            with open(path, encoding="utf-8") as f:
                for line in f:
                    line = line.rstrip("\n").replace("\\", "\\\\").replace('"', '\\"')
                    out.write(f'\t\t"{line}\\n"\n')
            out.write("\t},\n")
        out.write("\t{},\n};\n")


main()
