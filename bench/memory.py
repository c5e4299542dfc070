# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint and a restore fare with much memory: three workloads of 1 GiB, then sizes from 64 MiB to 8 GiB as far as they
fit; beside the machine's limits in the same run. Called by measure.py (BENCH_CASES=memory, sizes, or all).

Every runtime is measured, and stasis also in its other ways (peers.WAYS: a line for each)."""
import json
import os
import subprocess
import time

import peers

CASES = ["memory", "sizes", "live"]
WORKLOADS = {
    "mem1024": ("rootfs-min", ["/bin/work", "mem", "1024"]),            # 4 KiB pages
    "memhuge1024": ("rootfs-min", ["/bin/work", "memhuge", "1024"]),    # huge pages
    "memwrite1024": ("rootfs-min", ["/bin/work", "memwrite", "1024"]),  # 50 MB/s are written to it
    "membusy512": ("rootfs-min", ["/bin/work", "membusy", "512"]),      # as fast as one CPU can
}
TRACKED_S = 3           # how long its speed is watched before tracking begins, and after the command that begins it
SIZES = [64, 256, 1024, 4096, 8192]     # MiB
PEERS_UP_TO = 1024                      # larger ones take the others minutes
RESIDENT_TIMES = 2.6                    # container, image and what is restored, for some moments
SOURCE, TARGET = "/images/cp-source", "/cache/images/cp-target"
LIMITS = "1 GiB"                        # rows of floor.c with that name

WORKLOADS.update({"mem%d" % mib: ("rootfs-min", ["/bin/work", "mem", str(mib)]) for mib in SIZES})


def size_of(workload):
    """MiB, 0: not one of ours"""
    digits = workload.lstrip("abcdefghijklmnopqrstuvwxyz")
    return int(digits) if workload in WORKLOADS and digits else 0


def available_mib():
    with open("/proc/meminfo") as f:
        return [int(line.split()[1]) for line in f if line.startswith("MemAvailable")][0] >> 10


def measure(c, settle):
    """checkpoint, restore until progress, until all memory is there, self-check"""
    d = {}
    c.start()
    os.sync()
    d["busy"] = settle(c.workload)
    r = c.checkpoint()
    d["checkpoint_us"], d["checkpoint_rss_kb"] = r["us"], r["maxrss_kb"]
    d["statistics"] = c.runtime.statistics(c.image, c.work)
    d["frozen_us"] = d["statistics"].get("frozen_us", -1)
    d["image_bytes"] = c.image_bytes()
    c.runtime.delete(c.cid)
    settle(c.workload)
    began = time.monotonic()
    r = c.restore()
    d["restore_us"], d["restore_prog_us"], d["restore_rss_kb"] = r["us"], r["prog_us"], r["maxrss_kb"]
    rest = c.runtime.wait_for_memory_cmd(c.cid)
    if rest:
        subprocess.run(rest, check=True, env=c.runtime.env, stdin=subprocess.DEVNULL)
    d["restore_all_us"] = round((time.monotonic() - began) * 1e6) if rest else r["us"]
    d["ok"] = c.verify()
    return d


def limits(bench, runs):
    r = subprocess.run(["/cache/bin/floor", "/cache/images", str(runs), LIMITS], stdout=subprocess.PIPE, check=True)
    bench.emit(case="limits", peer="kernel", us=json.loads(r.stdout))


def copy(bench, i, timer, warm):
    """`cp` of 1 GiB from a tmpfs to where the images go"""
    if not os.path.exists(SOURCE):
        with open("/dev/urandom", "rb") as source, open(SOURCE, "wb") as f:
            for _ in range(1024):
                f.write(source.read(1 << 20))
    if os.path.exists(TARGET):
        os.unlink(TARGET)
    os.sync()
    warm(1280)
    r = subprocess.run([timer, "--", "cp", SOURCE, TARGET], stdout=subprocess.PIPE, check=True, text=True)
    bench.emit(case="cp", peer="kernel", run=i, **json.loads(r.stdout))
    os.unlink(TARGET)


def run_memory(bench, m):
    runs = max(1, bench.options.runs // 3)
    limits(bench, runs)
    for i in range(runs):
        copy(bench, i, m.TIMER, m.warm)
        for workload in ("mem1024", "memhuge1024", "memwrite1024"):
            for runtime in bench.turns(i) + bench.ways:
                bench.one(workload, i, runtime, lambda c: measure(c, m.settle), workload)
            for runtime in bench.turns(i) + [w for w in bench.ways if w.while_running]:
                bench.one(workload + "-pause", i, runtime, m.measure_pause, workload)
    if os.path.exists(SOURCE):
        os.unlink(SOURCE)


class Speed:
    """pages that the program writes in a second of its own CPU time, which other load takes nothing of"""

    def __init__(self, c):
        self.path = c.rootfs + "/tmp/w"

    def now(self):
        while True:
            with open(self.path) as f:
                words = f.read().split()
            if len(words) == 3 and words[0] == words[2].split(".")[0]:      # not in the middle of being written
                return int(words[0]), int(words[1])
            time.sleep(0.001)

    def after(self, seconds):
        time.sleep(seconds)
        return self.now()


def measure_tracked(c, settle):
    """how much slower a program writes that is tracked, in thousandths: while the command runs that begins it, in which each page is
    written for the first time; after it; and all of that"""
    def rate(a, b):
        return (b[0] - a[0]) / max(1, b[1] - a[1])

    d = {}
    c.start()
    speed = Speed(c)
    d["busy"] = settle(c.workload)
    first = speed.after(1)
    begin = speed.after(TRACKED_S)
    c.timed("pre-dump", c.runtime.pre_dump_cmd(c.cid, c.image, c.work))
    made = speed.now()
    end = speed.after(TRACKED_S)
    for name, a, b in (("first", begin, made), ("then", made, end), ("all", begin, end)):
        d["tracked_%s_permille" % name] = max(0, round(1000 * (1 - rate(a, b) / rate(first, begin))))
    d["ok"] = c.verify()
    return d


def measure_migration(c, settle, there):
    """how long the program stands still that goes on in another container"""
    d = {}
    c.start()
    d["busy"] = settle(c.workload)
    there.runtime = c.runtime
    r = c.timed("migrate", c.runtime.migrate_cmd(c.cid, there.bundle, there.cid, c.image, c.work), "-f", c.n, "-g")
    d["migration_us"], d["downtime_us"] = r["us"], r["gap_us"]
    rest = c.runtime.wait_for_memory_cmd(there.cid)
    if rest:
        subprocess.run(rest, check=True, env=c.runtime.env, stdin=subprocess.DEVNULL)
    d["ok"] = there.verify()
    return d


def migrated(bench, m, runtime, workload):
    """The other container has the same root: what counts on there is the same file."""
    there = m.Container(runtime, workload, bench.options.store)
    with m.Container(runtime, workload, bench.options.store) as c:
        try:
            return measure_migration(c, m.settle, there)
        finally:
            runtime.signal(there.cid, "KILL")
            time.sleep(0.05)
            runtime.delete(there.cid)


def run_live(bench, m):
    for i in range(max(1, bench.options.runs // 3)):
        for runtime in bench.turns(i):
            if isinstance(runtime, peers.Stasis):
                bench.one("tracked", i, runtime, lambda c: measure_tracked(c, m.settle), "membusy512")
            bench.record("migration", i, runtime, migrated, bench, m, runtime, "memwrite1024")


def run_sizes(bench, m):
    for i in range(max(1, bench.options.runs // 3)):
        for mib in SIZES:
            if mib * RESIDENT_TIMES > available_mib():
                print("%d MiB do not fit here" % mib, flush=True)
                continue
            for runtime in bench.turns(i) + [w for w in bench.ways if w.in_plot]:
                if mib <= PEERS_UP_TO or isinstance(runtime, peers.Stasis):
                    bench.one("size%d" % mib, i, runtime, lambda c: measure(c, m.settle), "mem%d" % mib)


def run(bench, case, m):
    {"memory": run_memory, "sizes": run_sizes, "live": run_live}[case](bench, m)
