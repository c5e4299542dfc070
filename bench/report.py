#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""report.py RAW.jsonl: tables in markdown and a plot in SVG from one run of measure.py. A complete run goes to results.md and
results.svg beside this script, a partial one to the raw file's folder."""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = ["stasis", "runc", "crun", "runsc"]
TITLES = {
    "true": "`true`, back to back", "true-spaced": "`true`, after idle seconds",
    "seccomp": "`true` with podman's default seccomp profile", "exec": "`exec true`",
    "many": "100 x `true`, 10 at a time: for each",
    "tick": "1 process", "procs10": "10 processes", "procs50": "50 processes", "threads100": "100 threads",
    "fds1000": "1000 fds", "redis100k": "redis, 100k keys", "pydict1m": "python, 1M-entry dict", "mem256": "256 MiB",
}
COLD = ["true", "true-spaced", "seccomp", "exec", "many"]
CYCLES = [c for c in TITLES if c not in COLD]
COMPLETE_RUNS = 5

# key of the plot, title, cases, suffix of the case in the raw data, field, note
TABLES = [
    ("cold", "Cold start", COLD, "", "life_us", "`run` of `true`: create, start, exit, delete. `exec true`: in a running container."),
    ("memory", "Peak memory, MiB", ["true", "exec"], "", "maxrss_kb",
     "Largest resident set of the command and the processes that it waits for."),
    ("stopped", "Checkpoint: how long the program stands still", CYCLES, "-pause", "pause_us",
     "With `--leave-running`, seen from outside: the longest time in which the program, which counts every millisecond, did "
     "not count. So it is about 1.1 ms with no checkpoint at all."),
    ("frozen", "Checkpoint: time frozen, by the runtime's own account", CYCLES, "", "frozen_us",
     "`statistics.frozen_us` in stasis' manifest.json; `freezing_time` + `frozen_time` in CRIU's stats-dump; runsc gives none. "
     "The program is not left running here."),
    ("checkpoint", "Checkpoint: the command", CYCLES, "", "checkpoint_us", "From its start to its end."),
    ("restore", "Restore: until the program makes progress", CYCLES, "", "restore_prog_us",
     "From the start of the command to the first count of the restored program."),
    ("size", "Size of the image, MiB", CYCLES, "", "image_bytes", "Of all files; uncompressed."),
]
MIB = 1048576
SCALE = {"image_bytes": MIB, "maxrss_kb": 1024}     # of the others: 1000, from us to ms


def quantile(sorted_values, q):
    x = q * (len(sorted_values) - 1)
    i = int(x)
    rest = sorted_values[i + 1] - sorted_values[i] if i + 1 < len(sorted_values) else 0
    return sorted_values[i] + (x - i) * rest


def digits(x):
    return "%.0f" % x if x >= 100 else "%.1f" % x if x >= 10 else "%.2f" % x


class Data:
    def __init__(self, path):
        with open(path) as f:
            rows = [json.loads(line) for line in f]
        self.meta = rows[0]
        self.peers = [p for p in PEERS if p in self.meta["peers"]]
        self.rows = {}
        for r in rows[1:]:
            self.rows.setdefault((r["case"], r["peer"]), []).append(r)

    def cell(self, case, peer, field):
        """(median, p10, p90) in ms or MiB, None when nothing was measured"""
        scale = SCALE.get(field, 1000)
        rows = self.rows.get((case, peer), [])
        v = sorted(r[field] / scale for r in rows if "error" not in r and r.get("ok", True) and r.get(field, -1) >= 0)
        return (quantile(v, 0.5), quantile(v, 0.1), quantile(v, 0.9)) if v else None

    def best_peer(self, case, field):
        cells = [(self.cell(case, p, field), p) for p in self.peers if p != "stasis"]
        cells = [(c[0], p) for c, p in cells if c]
        return min(cells) if cells else None

    def ratio(self, case, field):
        """best peer / stasis: how many times faster stasis is"""
        ours, best = self.cell(case, "stasis", field), self.best_peer(case, field)
        return best[0] / ours[0] if ours and best else None

    def complete(self):
        return self.peers == PEERS and self.meta["runs"] >= COMPLETE_RUNS and \
            all((c, p) in self.rows for c in TITLES for p in PEERS)


def table(data, cases, suffix, field):
    lines = ["| | " + " | ".join(data.peers) + " | best peer / stasis |", "|---" * (len(data.peers) + 2) + "|"]
    for case in cases:
        if not any((case + suffix, p) in data.rows for p in data.peers):
            continue
        cells = []
        for p in data.peers:
            c = data.cell(case + suffix, p, field)
            failed = [r for r in data.rows.get((case + suffix, p), []) if "error" in r or not r.get("ok", True)]
            text = "%s (%s..%s)" % tuple(map(digits, c)) if c else "failed" if failed else "-"
            cells.append(("**%s**" % text if p == "stasis" and c else text) + (" *" if c and failed else ""))
        r = data.ratio(case + suffix, field)
        lines.append("| %s | %s | %s |" % (TITLES[case], " | ".join(cells), "%.1f" % r if r else "-"))
    return lines if len(lines) > 2 else []


def goals(data):
    """the figures of issues 2 and 3"""
    rows = []

    def goal(what, value, text, reached):
        rows.append("| %s | %s | %s |" % (what, text if value is not None else "not measured",
                                        "" if value is None else "yes" if reached else "**no**"))

    def limit(what, case, field, ms):
        c = data.cell(case, "stasis", field)
        goal("%s <= %g ms" % (what, ms), c, c and digits(c[0]) + " ms", c and c[0] <= ms)

    def factor(what, case, field, least):
        r = data.ratio(case, field)
        goal("%s <= 1/%d of the best peer's" % (what, least), r, r and "1/%.1f" % r, r and r >= least)

    ours, runc = (data.cell("tick", p, "checkpoint_us") for p in ("stasis", "runc"))
    r = runc[0] / ours[0] if ours and runc else None
    goal("checkpoint of one ticking process, the command <= 1/10 of runc + CRIU's", r, r and "1/%.1f" % r, r and r >= 10)
    limit("the same", "tick", "checkpoint_us", 10)
    limit("time frozen in it", "tick", "frozen_us", 2)
    factor("restore of it until progress", "tick", "restore_prog_us", 10)
    limit("the same", "tick", "restore_prog_us", 12)
    for case in ("threads100", "fds1000", "procs50"):
        factor(TITLES[case] + ": checkpoint", case, "checkpoint_us", 8)
        factor(TITLES[case] + ": restore until progress", case, "restore_prog_us", 8)
    for case, field, unit, share in (("true", "life_us", "ms", 0.8), ("true-spaced", "life_us", "ms", 1),
                                     ("seccomp", "life_us", "ms", 0.8), ("exec", "life_us", "ms", 0.8),
                                     ("many", "life_us", "ms", 1), ("true", "maxrss_kb", "MiB", 1)):
        ours, crun = (data.cell(case, p, field) for p in ("stasis", "crun"))
        both = (ours, crun) if ours and crun else None
        goal("%s%s <= %scrun's" % (TITLES[case], ", peak memory" if field == "maxrss_kb" else "", "%g of " % share if share < 1 else ""),
             both, both and "%s against %s %s" % (digits(ours[0]), digits(crun[0]), unit), both and ours[0] <= share * crun[0])
    return ["| goal | here | reached |", "|---|---|---|"] + rows


def phases(data):
    """where the time of stasis' checkpoint goes, from the statistics in its images"""
    keys, lines = [], []
    for case in CYCLES:
        rows = [r["statistics"] for r in data.rows.get((case, "stasis"), []) if r.get("statistics")]
        if not rows:
            continue
        if not keys:
            keys = [k for k in rows[0] if k.endswith("_us")]
            lines = ["| | " + " | ".join(k[:-3] for k in keys) + " |", "|---" * (len(keys) + 1) + "|"]
        lines.append("| %s | %s |" % (TITLES[case], " | ".join(
            digits(quantile(sorted(r.get(k, 0) for r in rows), 0.5) / 1000) for k in keys)))
    return lines


def floor(data):
    """what floor.c measured"""
    lines = ["| | ms |", "|---|---|"]
    for name, us in data.rows[("floor", "kernel")][0]["us"].items():
        lines.append("| %s | %s (%s..%s) |" % (name, *(digits(x / 1000) for x in us)))
    return lines


def failures(data):
    lines = []
    for (case, peer), rows in data.rows.items():
        bad = [r for r in rows if "error" in r or not r.get("ok", True)]
        if bad:
            why = bad[0].get("error", "the restored program found a part of its state wrong")
            lines.append("- %s, %s: %d of %d: %s" % (peer, case, len(bad), len(rows), why.replace("|", "/")))
    return lines


def markdown(data, plot):
    m = data.meta
    versions = ", ".join("%s %s" % (p, m["versions"][p]) for p in data.peers)
    busy = sorted(r["busy"] for rows in data.rows.values() for r in rows if r.get("busy") is not None)
    out = ["# Measurements", "",
           "Written by `make bench` ([how it measures](README.md)): %s UTC, %s, %d CPUs, %d GiB, Linux %s. %s." %
           (m["date"], m["cpu"], m["cpus"], m["memory_gib"], m["kernel"], versions),
           "",
           "Milliseconds: median (p10..p90) of %d runs, %d for `true` back to back; the runtimes take turns. Images are on %s, "
           "with a warm cache. Every checkpointed program checks itself afterwards; a run in which it finds a fault counts as "
           "failed. Other load before a measurement: median %.0f %%, p90 %.0f %% of the CPUs." %
           (m["runs"], 2 * m["runs"], m["store"], 100 * quantile(busy, 0.5) if busy else 0,
            100 * quantile(busy, 0.9) if busy else 0),
           "", "![plot](%s)" % plot]
    for _, title, cases, suffix, field, note in TABLES:
        lines = table(data, cases, suffix, field)
        if lines:
            out += ["", "## " + title, "", note, ""] + lines
    if "stasis" in data.peers:
        out += ["", "## Goals", ""] + goals(data)
    lines = phases(data)
    if lines:
        out += ["", "## Where stasis' checkpoint spends its time", "",
                "Medians of `statistics` in manifest.json; `total` is from the command's start to the manifest.", ""] + lines
    if ("floor", "kernel") in data.rows:
        out += ["", "## The kernel's floor", "",
                "What the kernel alone takes here for work that no runtime can leave out (`floor.c`: bare system calls, all "
                "else prepared).", ""] + floor(data)
    lines = failures(data)
    if lines:
        out += ["", "## Failures (*)", ""] + lines
    return "\n".join(out) + "\n"


def plot(data, path):
    """Data blocks, then plot.gp, which knows how they look."""
    text = ["peers = '%s'" % " ".join(data.peers), "output = '%s'" % path]
    for key, title, cases, suffix, field, _ in TABLES:
        rows = []
        for case in cases:
            cells = [data.cell(case + suffix, p, field) for p in data.peers]
            if any(cells):
                rows.append('"%s" ' % TITLES[case].replace("`", "") +
                            " ".join("%g %g %g" % c if c else "- - -" for c in cells))
        text += ['%s_title = "%s"' % (key, title), "%s_rows = %d" % (key, len(rows)), "$%s << END" % key] + rows + ["END"]
    with open(HERE + "/plot.gp") as f:
        text.append(f.read())
    subprocess.run(["gnuplot"], input="\n".join(text), text=True, check=True)


def main():
    raw = sys.argv[1]
    data = Data(raw)
    base = HERE + "/results" if data.complete() else os.path.splitext(raw)[0]
    plot(data, base + ".svg")
    text = markdown(data, os.path.basename(base) + ".svg")
    with open(base + ".md", "w") as f:
        f.write(text)
    print(text)
    print("bench: written to %s.md and .svg" % base)


if __name__ == "__main__":
    main()
