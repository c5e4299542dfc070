# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint and a restore fare with much memory: three workloads of 1 GiB, then sizes from 64 MiB to 8 GiB as far as they
fit; beside the machine's limits in the same run. Called by measure.py (BENCH_CASES=memory, sizes, or all).

Every runtime is measured, and stasis also in its other ways (peers.WAYS: a line for each)."""
import json
import os
import subprocess
import time

import peers

CASES = ["memory", "sizes"]
WORKLOADS = {
    "mem1024": ("rootfs-min", ["/bin/work", "mem", "1024"]),            # 4 KiB pages
    "memhuge1024": ("rootfs-min", ["/bin/work", "memhuge", "1024"]),    # huge pages
    "memwrite1024": ("rootfs-min", ["/bin/work", "memwrite", "1024"]),  # 50 MB/s are written to it
}
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
    (run_memory if case == "memory" else run_sizes)(bench, m)
