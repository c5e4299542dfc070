#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""report.py RAW.jsonl: tables in markdown and a plot in SVG from one run of measure.py. A complete run goes to results.md and
results.svg beside this script, a partial one to the raw file's folder."""
import json
import os
import subprocess
import sys

import pod

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = ["stasis", "runc", "crun", "runsc"]
TITLES = {
    "true": "`true`, back to back", "true-spaced": "`true`, after idle seconds",
    "seccomp": "`true` with podman's default seccomp profile", "exec": "`exec true`",
    "many": "100 x `true`, 10 at a time: for each",
    "tick": "1 process", "procs10": "10 processes", "procs50": "50 processes", "threads100": "100 threads",
    "fds1000": "1000 fds", "redis100k": "redis, 100k keys", "pydict1m": "python, 1M-entry dict", "mem256": "256 MiB",
    "pod": "pod of 3 small containers",
}
PODS = ["pod"]                  # of runtimes that have such
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
MEMORY = {"mem1024": "1 GiB", "memhuge1024": "1 GiB in huge pages", "memwrite1024": "1 GiB, of which 50 MB/s are written"}
# title, suffix of the case, field
MEMORY_FIGURES = [
    ("checkpoint", "", "checkpoint_us"), ("stands still, left running", "-pause", "pause_us"),
    ("frozen, left running", "-pause", "frozen_us"), ("restore until progress", "", "restore_prog_us"),
    ("until all memory is there", "", "restore_all_us"), ("image, MiB", "", "image_bytes"),
    ("memory of checkpoint, MiB", "", "checkpoint_rss_kb"), ("of restore, MiB", "", "restore_rss_kb"),
]
MIB = 1048576
SCALE = {"image_bytes": MIB, "maxrss_kb": 1024, "idle_rss_kb": 1024, "checkpoint_rss_kb": 1024, "restore_rss_kb": 1024}     # of the others: 1000, from us to ms


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
        self.ways = self.meta.get("ways", [])
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
            all((c, p) in self.rows for c in TITLES for p in (pod.PEERS if c in PODS else PEERS))


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


def sizes(data):
    """MiB of those that were measured"""
    return sorted({int(case[4:]) for case, _ in data.rows if case.startswith("size")})


def memory_tables(data):
    """a table for each workload: a row for each runtime, and for each other way of stasis"""
    lines = []
    for case, title in MEMORY.items():
        names = [n for n in data.peers + data.ways if (case, n) in data.rows]
        if not names:
            continue
        lines += ["", "### " + title, "", "| | " + " | ".join(t for t, _, _ in MEMORY_FIGURES) + " |",
                  "|---" * (len(MEMORY_FIGURES) + 1) + "|"]
        for name in names:
            cells = [data.cell(case + suffix, name, field) for _, suffix, field in MEMORY_FIGURES]
            lines.append("| %s | %s |" % ("**%s**" % name if name == "stasis" else name,
                                          " | ".join(digits(c[0]) if c else "-" for c in cells)))
    return lines


def limits(data):
    """what the machine can do with 1 GiB"""
    lines = ["", "### The machine's limits", "", "| | ms |", "|---|---|"]
    for name, us in data.rows[("limits", "kernel")][0]["us"].items():
        lines.append("| %s | %s (%s..%s) |" % (name, *(digits(x / 1000) for x in us)))
    c = data.cell("cp", "kernel", "us")
    if c:
        lines.append("| `cp` of 1 GiB from a tmpfs to where the images are | %s (%s..%s) |" % tuple(map(digits, c)))
    return lines


def size_table(data):
    lines = ["", "### By size", "", "| MiB | " + " | ".join(
        "%s: %s" % (n, what) for n in ["stasis"] + data.ways if any(("size%d" % s, n) in data.rows for s in sizes(data))
        for what in ("frozen", "restore until progress", "all memory")) + " |"]
    lines.append("|---" * (lines[-1].count("|") - 1) + "|")
    for size in sizes(data):
        cells = [data.cell("size%d" % size, n, field) for n in ["stasis"] + data.ways
                 if any(("size%d" % s, n) in data.rows for s in sizes(data))
                 for field in ("frozen_us", "restore_prog_us", "restore_all_us")]
        lines.append("| %d | %s |" % (size, " | ".join(digits(c[0]) if c else "-" for c in cells)))
    return lines


def live(data):
    """migration, and what tracking costs"""
    lines = []
    if any(("migration", p) in data.rows for p in data.peers):
        lines += ["", "### Migration of 1 GiB, of which 50 MB/s are written", "",
                  "Into another container on the same machine: stasis by `checkpoint --pre-copy --image-path - | restore --lazy --image-path -`, "
                  "the others by an image. \"Stands still\" is from the last count of the one to the first count of the other.", "",
                  "| | stands still | the commands |", "|---|---|---|"]
        for name in data.peers:
            cells = [data.cell("migration", name, field) for field in ("downtime_us", "migration_us")]
            lines.append("| %s | %s |" % ("**%s**" % name if name == "stasis" else name,
                                          " | ".join(digits(c[0]) if c else "-" for c in cells)))
    cells = [data.cell("tracked", "stasis", "tracked_%s_permille" % name) for name in ("first", "then", "all")]
    if all(cells):
        lines += ["", "### 512 MiB, written as fast as one CPU can, while tracked after `--pre-dump`", "",
                  "Pages written in a second of CPU time, less than before: %.1f %% while the command runs, when each page is written for the "
                  "first time, %.1f %% in the three seconds after it; together %.1f %%." % tuple(100 * c[0] for c in cells)]
    return lines


def memory(data):
    """the whole section"""
    lines = memory_tables(data) + live(data)
    if ("limits", "kernel") in data.rows:
        lines += limits(data)
    if sizes(data):
        lines += size_table(data)
    return lines


def memory_goals(data, goal):
    """the figures of issue 5"""
    def median(case, name, field):
        c = data.cell(case, name, field)
        return c[0] if c else None

    def compare(what, ours, than, factor, unit="ms"):
        both = ours is not None and than is not None
        goal(what, True if both else None, "%s against %s %s" % (digits(ours), digits(than), unit) if both else "",
             both and ours <= factor * than)

    def at_most(what, ours, most, unit="ms"):
        goal("%s <= %g %s" % (what, most, unit), ours, ours is not None and digits(ours) + " " + unit,
             ours is not None and ours <= most)

    def best(case, field):
        found = data.best_peer(case, field)
        return found[0] if found else None

    eager = "stasis, eager restore"
    read = [us[0] / 1000 for r in data.rows.get(("limits", "kernel"), []) for name, us in r["us"].items() if name.startswith("read")]
    compare("1 GiB, checkpoint <= 1.2 of `cp`", median("mem1024", "stasis", "checkpoint_us"), median("cp", "kernel", "us"), 1.2)
    compare("the same <= 1/2 of the best peer's", median("mem1024", "stasis", "checkpoint_us"), best("mem1024", "checkpoint_us"), 0.5)
    at_most("1 GiB, left running: stands still", median("mem1024-pause", "stasis", "pause_us"), 30)
    at_most("the same with huge pages", median("memhuge1024-pause", "stasis", "pause_us"), 5)
    at_most("1 GiB written at 50 MB/s, pre-copy: last freeze", median("memwrite1024-pause", "stasis, pre-copy", "frozen_us"), 3)
    c = data.cell("tracked", "stasis", "tracked_all_permille")
    at_most("slowdown of a program that writes all the time, from a pre-dump to 3 s after it", c and 100 * c[0], 5, "%")
    for size in (1024, 4096, 8192):
        at_most("%d GiB, restore until progress" % (size // 1024), median("size%d" % size, "stasis", "restore_prog_us"), 15)
    compare("8 GiB against 1 GiB, the same within 20%", median("size8192", "stasis", "restore_prog_us"),
            median("size1024", "stasis", "restore_prog_us"), 1.2)
    compare("1 GiB, until all is there <= 1.3 of a read", median("mem1024", "stasis", "restore_all_us"), read[0] if read else None, 1.3)
    compare("the same, eager, <= 1/2 of the best peer's", median("mem1024", eager, "restore_all_us"), best("mem1024", "restore_prog_us"), 0.5)
    for case in ("pydict1m", "redis100k"):
        compare(TITLES[case] + ": restore until the first answer <= 1/10 of the best peer's",
                median(case, "stasis", "restore_prog_us"), best(case, "restore_prog_us"), 0.1)
    for what, field in (("checkpoint", "checkpoint_rss_kb"), ("restore", "restore_rss_kb")):
        values = [v for v in (median("size%d" % s, "stasis", field) for s in sizes(data)) if v is not None]
        at_most("memory of %s itself, of any size" % what, max(values) if values else None, 64, "MiB")


def goals(data):
    """the figures of issues 2, 3 and 5"""
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
    memory_goals(data, goal)
    pod_goals(data, goal)
    return ["| goal | here | reached |", "|---|---|---|"] + rows


def pod_goals(data, goal):
    """the figures of issue 6"""
    def at_most(what, case, peer, field, most, unit="ms", scale=1):
        c = data.cell(case, peer, field)
        ours = c[0] * scale if c else None
        goal("%s <= %g %s" % (what, most, unit), c, c and digits(ours) + " " + unit, c and ours <= most)

    def alone(what, suffix, field, case="pod"):
        ours, one = data.cell(case + suffix, "stasis", field), data.cell("pod-alone" + suffix, "stasis", field)
        both = (ours, one) if ours and one else None
        goal("the same <= 1.3 of one container's alone: " + what, both, both and "%s against %s ms" % (digits(ours[0]), digits(one[0])),
             both and ours[0] <= 1.3 * one[0])

    at_most("pod of 3: stands still", "pod-pause", "stasis", "pause_us", 3)
    alone("stands still", "-pause", "pause_us")
    alone("checkpoint", "", "checkpoint_us")
    at_most("pod of 3: restore until progress", "pod", "stasis", "restore_prog_us", 25)
    alone("restore until progress, the commands one after the other", "", "restore_prog_us")
    alone("restore until progress, the commands given at once", "", "restore_prog_us", "pod-at-once")
    at_most("control socket: State", "control", "stasis", "call_us", 100, "us", 1000)
    at_most("100 idle sandboxes: CPU time in 10 s", "idle", "stasis", "idle_cpu_us", 0)
    at_most("memory of a supervisor", "idle", "stasis", "idle_rss_kb", 4, "MiB")


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
    lines = memory(data)
    if lines:
        out += ["", "## Memory", "", "Medians, in ms where nothing else is said. \"Until all memory is there\": `stasis wait --restore` has "
                "returned, too; the others' restore ends with that. \"Frozen\" is the runtime's own account.", ""]
        if sizes(data):
            out.append("![plot by size](%s)" % plot.replace(".svg", "-memory.svg"))
        out += lines
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


def plot_sizes(data, path):
    """The same with plot-memory.gp: a block for each line, of size and ms."""
    text, names = ["output = '%s'" % path], []
    for field, key in (("frozen_us", "frozen"), ("restore_prog_us", "progress"), ("restore_all_us", "all")):
        for n, name in enumerate(data.peers + data.ways):
            rows = [(s, data.cell("size%d" % s, name, field)) for s in sizes(data)]
            rows = ["%d %g %g %g" % (s, *c) for s, c in rows if c]
            if rows:
                text += ["$%s%d << END" % (key, n)] + rows + ["END"]
                names.append((key, n, name))
    for key in ("frozen", "progress", "all"):
        text.append("plot_%s = \"plot %s\"" % (key, ", ".join(
            "$%s%d using 1:2:3:4 with yerrorlines title '%s' lw 2 pt 7 ps 0.6 lc rgb color(%d)" % (k, n, name, n)
            for k, n, name in names if k == key) if any(k == key for k, _, _ in names) else ""))
    with open(HERE + "/plot-memory.gp") as f:
        text.append(f.read())
    subprocess.run(["gnuplot"], input="\n".join(text), text=True, check=True)


def main():
    raw = sys.argv[1]
    data = Data(raw)
    base = HERE + "/results" if data.complete() else os.path.splitext(raw)[0]
    plot(data, base + ".svg")
    if sizes(data):
        plot_sizes(data, base + "-memory.svg")
    text = markdown(data, os.path.basename(base) + ".svg")
    with open(base + ".md", "w") as f:
        f.write(text)
    print(text)
    print("bench: written to %s.md and .svg" % base)


if __name__ == "__main__":
    main()
