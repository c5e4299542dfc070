#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the runtimes beside each other; runs in the peers' root (see `enter`). One JSON line per measurement.

The runtimes take turns within every run, so that what drifts (other load, the host, the page cache) hits all alike; who
begins moves on by one each run. Everything runs at nice -20, and the containers with the largest cpu.shares, so that other
load on a shared machine weighs little; what it was is recorded ("busy")."""
import argparse
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time

import memory
import peers
import pod

TIMER = "/cache/bin/timer"
CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

# name: (the root below /cache, arguments)
WORKLOADS = {
    "tick": ("rootfs-min", ["/bin/work", "tick"]),
    "procs10": ("rootfs-min", ["/bin/work", "procs", "10"]),
    "procs50": ("rootfs-min", ["/bin/work", "procs", "50"]),
    "threads100": ("rootfs-min", ["/bin/work", "threads", "100"]),
    "fds1000": ("rootfs-min", ["/bin/work", "fds", "1000"]),
    "redis100k": ("rootfs-app", ["/data/work", "redis", "100000"]),
    "pydict1m": ("rootfs-app", ["/usr/bin/python3", "/data/pydict.py", "1000000"]),
    "mem256": ("rootfs-min", ["/bin/work", "mem", "256"]),
}
CYCLES = list(WORKLOADS)
WORKLOADS.update(memory.WORKLOADS)
TRUE = ("rootfs-min", ["/bin/true"])
COLD = ["true", "seccomp", "exec", "many"]      # cases of a runtime without its checkpoints
PROFILE = "/usr/share/containers/seccomp.json"  # podman's default one
MANY, AT_ONCE = 100, 10
START = int(time.time())
IDLE_S = 2.0        # between two of `true-spaced`
WARM_TICKS = 50     # a workload is measured once it has counted this far

# Memory that a guest has given back to its host (free page reporting) is several times slower at first touch. Where the
# memory counts, as much of it is touched and freed before each timed command, for all runtimes alike.
WARM_MIB = {"redis100k": 128, "pydict1m": 512, "mem256": 768}


def mount(destination, fstype, source, *options):
    return {"destination": destination, "type": fstype, "source": source, "options": list(options)}


def config(rootfs, args, cid):
    """What `runc spec` writes (mounts, namespaces, masks), without a terminal."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False, "user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "capabilities": {k: CAPS for k in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 8192, "soft": 8192}], "noNewPrivileges": True},
        "root": {"path": rootfs, "readonly": False},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", "proc"),
            mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
            mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")],
        "linux": {
            "cgroupsPath": "/" + cid,
            "resources": {"devices": [{"allow": False, "access": "rwm"}], "cpu": {"shares": 262144}},
            "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]}}


def seccomp():
    """podman's default profile as it is for a container with these capabilities on this architecture"""
    with open(PROFILE) as f:
        profile = json.load(f)

    def applies(rule):
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        return set(includes.get("caps") or []) <= set(CAPS) and "amd64" in includes.get("arches", ["amd64"]) and \
            not set(excludes.get("caps") or []) & set(CAPS) and "amd64" not in (excludes.get("arches") or [])

    own = [a for a in profile["archMap"] if a["architecture"] == "SCMP_ARCH_X86_64"][0]
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": [own["architecture"]] + own["subArchitectures"],
            "syscalls": [{k: r[k] for k in ("names", "action", "errnoRet", "args") if r.get(k)}
                         for r in profile["syscalls"] if applies(r)]}


def busy(seconds):
    """the share of all CPU time in use"""
    def snapshot():
        with open("/proc/stat") as f:
            v = [int(x) for x in f.readline().split()[1:9]]
        return sum(v), v[3] + v[4]
    a = snapshot()
    time.sleep(seconds)
    b = snapshot()
    return 1 - (b[1] - a[1]) / max(1, b[0] - a[0])


def warm(mib):
    with mmap.mmap(-1, max(1, mib) << 20) as m:
        for i in range(0, mib << 20, mmap.PAGESIZE):
            m[i] = 1


def settle(workload):
    """Gives other load a moment to pass; says what there is of it. Then warms the memory."""
    end = time.monotonic() + 0.6
    x = busy(0.08)
    while x > 0.2 and time.monotonic() < end:
        time.sleep(0.1)
        x = busy(0.1)
    mib = memory.size_of(workload)
    warm(WARM_MIB.get(workload) or min(mib + mib // 4, memory.available_mib() // 2))
    return round(x, 2)


def machine():
    with open("/proc/cpuinfo") as f:
        cpu = [line.split(":")[1].strip() for line in f if line.startswith("model name")]
    with open("/proc/meminfo") as f:
        kib = int(f.readline().split()[1])
    return {"date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "kernel": os.uname().release,
            "cpu": cpu[0] if cpu else os.uname().machine, "cpus": os.cpu_count(), "memory_gib": round(kib / 1048576)}


class Failed(Exception):
    pass


class Container:
    """One container of one runtime, seen from outside: its counter is /tmp/n in its root."""
    serial = 0

    def __init__(self, runtime, workload, store, **linux):
        """linux: what its config.json's section of that name has in addition; None takes something out"""
        root, args = WORKLOADS.get(workload, TRUE)
        self.runtime, self.workload = runtime, workload
        self.rootfs = "/cache/" + root
        self.base = "/cache/images" if store == "disk" else "/images"
        self.image, self.work = self.base + "/image", self.base + "/work"
        self.runs = 0
        Container.serial += 1
        self.cid = "bench-%x-%d" % (START, Container.serial)        # a new name each time: no left-over is met
        self.bundle = "%s/bundle-%s" % (peers.STATE, self.cid)
        self.n, self.v = self.rootfs + "/tmp/n", self.rootfs + "/tmp/v"
        os.makedirs(self.bundle)
        spec = config(self.rootfs, args, self.cid)
        spec["linux"] = {k: v for k, v in {**spec["linux"], **linux}.items() if v is not None}
        with open(self.bundle + "/config.json", "w") as f:
            json.dump(spec, f)

    def __enter__(self):
        self.runtime.prepare()
        for d in (self.image, self.work, self.rootfs + "/tmp", self.rootfs + "/data/r.sock"):
            if os.path.isdir(d):
                shutil.rmtree(d)
            elif os.path.exists(d):
                os.unlink(d)
        os.makedirs(self.work)
        os.makedirs(self.image, 0o700)
        os.makedirs(self.rootfs + "/tmp")
        open(self.n, "w").close()
        return self

    def __exit__(self, *_):
        self.runtime.signal(self.cid, "KILL")
        time.sleep(0.05)
        self.runtime.delete(self.cid)
        shutil.rmtree(self.bundle, ignore_errors=True)
        shutil.rmtree(self.image, ignore_errors=True)

    def timed(self, what, cmd, *options):
        for path in (self.runtime.log, self.runtime.stderr):
            if os.path.exists(path):
                os.truncate(path, 0)
        r = subprocess.run([TIMER, *options, "--"] + cmd, stdout=subprocess.PIPE, env=self.runtime.env, check=True, text=True)
        r = json.loads(r.stdout)
        if r["rc"]:
            raise Failed("%s: status %d: %s" % (what, r["rc"], self.runtime.why(self.work)))
        if "-f" in options and r["prog_us"] < 0:
            raise Failed("%s: no progress after it" % what)
        return r

    def start(self):
        r = self.timed("run", self.runtime.run_cmd(self.bundle, self.cid), "-f", self.n)
        end = time.monotonic() + 60
        while self.count() < WARM_TICKS:
            if time.monotonic() > end:
                raise Failed("run: no progress after it")
            time.sleep(0.01)
        return r

    def checkpoint(self, leave_running=False):
        watch = ["-e", self.runtime.stderr] + (["-f", self.n, "-g"] if leave_running else [])
        return self.timed("checkpoint", self.runtime.checkpoint_cmd(self.cid, self.image, self.work, leave_running), *watch)

    def restore(self):
        return self.timed("restore", self.runtime.restore_cmd(self.bundle, self.cid, self.image, self.work), "-f", self.n)

    def count(self):
        try:
            with open(self.n) as f:
                return int(f.read() or 0)
        except ValueError:
            return 0

    def image_bytes(self):
        return sum(os.lstat(os.path.join(d, f)).st_size for d, _, files in os.walk(self.image) for f in files)

    def verify(self):
        """Has the program check itself."""
        if os.path.exists(self.v):
            os.unlink(self.v)
        if not self.runtime.signal(self.cid, "USR1"):
            return False
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if os.path.exists(self.v):
                with open(self.v) as f:
                    return f.read().strip() == "ok"
            time.sleep(0.01)
        return False


def measure_cycle(c):
    """run, checkpoint, restore, self-check"""
    d = {}
    r = c.start()
    d["run_us"], d["run_prog_us"] = r["us"], r["prog_us"]
    if c.workload.startswith("mem"):
        os.sync()
    d["busy"] = settle(c.workload)
    d["checkpoint_us"] = c.checkpoint()["us"]
    d["statistics"] = c.runtime.statistics(c.image, c.work)
    d["frozen_us"] = d["statistics"].get("frozen_us", -1)
    before = c.count()
    d["image_bytes"] = c.image_bytes()
    c.runtime.delete(c.cid)
    d["busy"] = max(d["busy"], settle(c.workload))
    r = c.restore()
    d["restore_us"], d["restore_prog_us"] = r["us"], r["prog_us"]
    time.sleep(0.15)
    if c.count() <= before:
        raise Failed("the restored program does not go on: %d, then %d" % (before, c.count()))
    d["ok"] = c.verify()
    return d


def measure_pause(c):
    """how long a program stands still that is checkpointed and left running, seen from outside"""
    d = {}
    c.start()
    if c.workload.startswith("mem"):
        os.sync()
    d["busy"] = settle(c.workload)
    r = c.checkpoint(leave_running=True)
    d["pause_us"], d["pause_checkpoint_us"] = r["gap_us"], r["us"]
    d["frozen_us"] = c.runtime.statistics(c.image, c.work).get("frozen_us", -1)
    d["ok"] = c.verify()
    return d


def measure_true(c, idle):
    """run + exit + delete: `run` waits for the exit and deletes the container itself"""
    time.sleep(idle)
    d = {"busy": busy(0.08) if idle else None}
    c.runs += 1
    r = c.timed("run", c.runtime.run_cmd(c.bundle, "%s-%d" % (c.cid, c.runs), detach=False))
    d.update(life_us=r["us"], user_us=r["user_us"], sys_us=r["sys_us"], maxrss_kb=r["maxrss_kb"])
    return d


def measure_exec(c):
    """exec of true in a running container"""
    d = {"busy": None}
    r = c.timed("exec", c.runtime.exec_cmd(c.cid, ["/bin/true"]))
    d.update(life_us=r["us"], maxrss_kb=r["maxrss_kb"])
    return d


def measure_many(c):
    """how many containers a second are started and ended; each has a cgroup of its own, named after its id"""
    c.runs += 1
    name = "%s-%d" % (c.cid, c.runs)
    r = c.timed("run", c.runtime.run_cmd(c.bundle, name + "-%", detach=False), "-n", str(MANY), "-j", str(AT_ONCE))
    for i in range(MANY):
        peers.sweep_cgroups("%s-%d" % (name, i))
    return {"busy": None, "life_us": r["us"] / MANY}


class Bench:
    def __init__(self, options):
        os.makedirs(peers.STATE, exist_ok=True)
        os.makedirs(peers.LOGS, exist_ok=True)
        os.makedirs("/cache/images", exist_ok=True)
        peers.sweep_leftovers()
        self.options = options
        self.runtimes = [peers.ALL[n]() for n in options.peers.split(",")]
        self.ways = [w for w in peers.ways() if w.of in options.peers.split(",") and w.is_supported()]
        self.out = open(options.out, "a", buffering=1)

    def emit(self, **d):
        self.out.write(json.dumps(d) + "\n")

    def say(self, case, runtime, i, d):
        keys = ("life_us", "call_us", "idle_cpu_us", "checkpoint_us", "frozen_us", "restore_prog_us", "pause_us")
        values = " ".join("%s %.2f" % (k[:-3], d[k] / 1000) for k in keys if d.get(k, -1) >= 0)
        note = d.get("error") or ("" if d.get("ok", True) else "SELF-CHECK FAILED")
        print("%-12s %-7s %2d  %s %s" % (case, runtime.name, i, values, note), flush=True)

    def record(self, case, i, runtime, measure, *args):
        d = {}
        try:
            d = measure(*args)
        except (Failed, OSError, ValueError, KeyError) as e:
            d["error"] = "%s" % (e if isinstance(e, Failed) else repr(e))
        d["load"] = os.getloadavg()[0]
        self.emit(case=case, peer=runtime.name, run=i, store=self.options.store, **d)
        self.say(case, runtime, i, d)

    def one(self, case, i, runtime, measure, workload):
        def in_container():
            with Container(runtime, workload, self.options.store) as c:
                return measure(c)
        self.record(case, i, runtime, in_container)

    def turns(self, i):
        k = i % len(self.runtimes)
        return self.runtimes[k:] + self.runtimes[:k]

    def cold_true(self):
        for i in range(self.options.runs):
            for runtime in self.turns(i):       # three with nothing between; the first pays for the idleness before
                with Container(runtime, "true", self.options.store) as c:
                    self.record("true-first", i, runtime, measure_true, c, 0)
                    for k in range(2):
                        self.record("true", 2 * i + k, runtime, measure_true, c, 0)
        for i in range(self.options.runs):
            for runtime in self.turns(i):
                with Container(runtime, "true", self.options.store) as c:
                    self.record("true-spaced", i, runtime, measure_true, c, IDLE_S)

    def cold_seccomp(self):
        for i in range(self.options.runs):
            for runtime in self.turns(i):
                with Container(runtime, "true", self.options.store, seccomp=seccomp()) as c:
                    for k in range(3):      # the first one fills a cache of compiled filters, where there is one
                        self.record("seccomp" if k else "seccomp-first", 3 * i + k, runtime, measure_true, c, 0)

    def cold_exec(self):
        for i in range(self.options.runs):
            for runtime in self.turns(i):
                with Container(runtime, "tick", self.options.store) as c:
                    c.start()
                    for k in range(3):
                        self.record("exec" if k else "exec-first", 3 * i + k, runtime, measure_exec, c)

    def cold_many(self):
        for i in range(self.options.runs):
            for runtime in self.turns(i):
                with Container(runtime, "true", self.options.store, cgroupsPath=None) as c:
                    self.record("many", i, runtime, measure_many, c)

    def floor(self):
        r = subprocess.run(["/cache/bin/floor", "/cache/images", str(self.options.runs)], stdout=subprocess.PIPE, check=True)
        self.emit(case="floor", peer="kernel", us=json.loads(r.stdout))

    def run(self):
        cases = self.options.cases.split(",") if self.options.cases else COLD + CYCLES + pod.CASES + memory.CASES
        self.emit(case="meta", versions={r.name: r.version() for r in self.runtimes}, runs=self.options.runs,
                  store=self.options.store, peers=[r.name for r in self.runtimes], ways=[w.name for w in self.ways],
                  **machine())
        if not self.options.cases:
            self.floor()
        for case in cases:
            if case in COLD:
                getattr(self, "cold_" + case)()
                continue
            if case in memory.CASES:
                memory.run(self, case, sys.modules[__name__])
                continue
            if case in pod.CASES:
                pod.run(self, case, sys.modules[__name__])
                continue
            for i in range(self.options.runs):
                for runtime in self.turns(i):
                    self.one(case, i, runtime, measure_cycle, case)
                    self.one(case + "-pause", i, runtime, measure_pause, case)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--peers", required=True)
    p.add_argument("--cases", default="")
    p.add_argument("--runs", type=int, default=10)
    p.add_argument("--store", choices=("disk", "tmpfs"), default="disk")
    p.add_argument("--out", required=True)
    options = p.parse_args()
    for sig in (signal.SIGINT, signal.SIGTERM):     # by way of an exception, so that the container is deleted
        signal.signal(sig, lambda sig, _: sys.exit(128 + sig))
    os.umask(0o022)
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    Bench(options).run()


if __name__ == "__main__":
    main()
