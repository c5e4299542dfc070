# SPDX-License-Identifier: Apache-2.0
"""A pod of three small containers: checkpointed at one moment and restored together; beside one of them alone. Then the control socket:
how long a call takes, and what a hundred idle sandboxes cost. Called by measure.py (BENCH_CASES=pod, control, or all).

Each container counts in a file of its own. The containers share a network namespace; who is a member is said by the annotations of Kubernetes,
which runsc reads as well. runc and crun have no sandboxes."""
import json
import os
import shutil
import socket
import statistics
import subprocess
import time

import peers

CASES = ["pod", "control"]
NAMES = ["first", "second", "third"]    # the first one is what the sandbox begins with
PEERS = ("stasis", "runsc")
CALLS, IDLE_SANDBOXES, IDLE_SECONDS = 2000, 100, 10
ANNOTATION = "io.kubernetes.cri."


class Member:
    """One container of the pod, or one alone (sandbox: None)."""

    def __init__(self, m, pod, name):
        self.name = name
        # runsc finds a container by the beginning of its id, too: no one begins with another one
        self.cid = pod.sandbox if name == NAMES[0] else "bench-%s-%s" % (name, pod.sandbox[len("bench-"):])
        self.bundle = "%s/bundle-%s" % (peers.STATE, self.cid)
        self.tmp = self.bundle + "/tmp"
        self.n, self.v = self.tmp + "/n", self.tmp + "/v"
        shutil.rmtree(self.bundle, ignore_errors=True)
        os.makedirs(self.tmp)
        open(self.n, "w").close()
        root, args = m.WORKLOADS["tick"]
        config = m.config("/cache/" + root, args, self.cid)
        config["mounts"].append(m.mount("/tmp", "bind", self.tmp, "bind", "rw"))
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"] + [
            {"type": "network", "path": pod.netns}]
        if not pod.alone:
            config["annotations"] = {ANNOTATION + "container-type": "sandbox" if name == NAMES[0] else "container",
                                     ANNOTATION + "sandbox-id": pod.sandbox, ANNOTATION + "container-name": name}
        with open(self.bundle + "/config.json", "w") as f:
            json.dump(config, f)

    def count(self):
        with open(self.n) as f:
            return int(f.read().strip("\0\n") or 0)


class Pod:
    serial = 0

    def __init__(self, m, runtime, store, alone=False, at_once=False):
        """at_once: the commands of a restore are given together, instead of one after the other"""
        Pod.serial += 1
        self.m, self.runtime, self.alone, self.at_once = m, runtime, alone, at_once
        self.sandbox = "bench-pod-%x-%d" % (m.START, Pod.serial)
        self.netns = "%s/netns-%d" % (peers.STATE, Pod.serial)
        base = "/cache/images" if store == "disk" else "/images"
        self.image, self.work = base + "/image", base + "/work"

    def __enter__(self):
        self.runtime.prepare()
        open(self.netns, "w").close()
        subprocess.run(["unshare", "--net=" + self.netns, "ip", "link", "set", "lo", "up"], check=True)
        self.members = [Member(self.m, self, name) for name in (NAMES[:1] if self.alone else NAMES)]
        for d in (self.image, self.work):
            shutil.rmtree(d, ignore_errors=True)
            os.makedirs(d, 0o700)
        return self

    def __exit__(self, *_):
        self.delete()
        for c in self.members:
            shutil.rmtree(c.bundle, ignore_errors=True)
        subprocess.run(["umount", self.netns], check=False)
        os.unlink(self.netns)
        shutil.rmtree(self.image, ignore_errors=True)

    def delete(self):
        for c in reversed(self.members):
            self.runtime.signal(c.cid, "KILL")
        time.sleep(0.05)
        for c in reversed(self.members):
            self.runtime.delete(c.cid)

    def timed(self, what, commands, *options):
        """All commands, by a shell if they are several."""
        for path in (self.runtime.log, self.runtime.stderr):
            if os.path.exists(path):
                os.truncate(path, 0)
        command = commands[0]
        if len(commands) > 1 and self.at_once:
            command = ["sh", "-c", "%s & %s & %s & wait $! && wait %%2 && wait %%1" % tuple(" ".join(c) for c in commands)]
        elif len(commands) > 1:
            command = ["sh", "-c", " && ".join(" ".join(c) for c in commands)]
        r = subprocess.run([self.m.TIMER, *options, "--"] + command, stdout=subprocess.PIPE, env=self.runtime.env, check=True, text=True)
        r = json.loads(r.stdout)
        if r["rc"]:
            raise self.m.Failed("%s: status %d: %s" % (what, r["rc"], self.runtime.why(self.work)))
        if "-f" in options and r["prog_us"] < 0:
            raise self.m.Failed("%s: no progress after it" % what)
        return r

    def files(self):
        return [x for c in self.members for x in ("-f", c.n)]

    def start(self):
        for c in self.members:
            self.timed("run", [self.runtime.run_cmd(c.bundle, c.cid)])
        end = time.monotonic() + 60
        while min(c.count() for c in self.members) < self.m.WARM_TICKS:
            if time.monotonic() > end:
                raise self.m.Failed("run: no progress after it")
            time.sleep(0.01)

    def checkpoint(self, leave_running=False):
        if self.alone:
            command = self.runtime.checkpoint_cmd(self.sandbox, self.image, self.work, leave_running)
        else:
            command = self.runtime.checkpoint_pod_cmd(self.sandbox, self.image, self.work, leave_running)
        return self.timed("checkpoint", [command], "-e", self.runtime.stderr, *(self.files() + ["-g"] if leave_running else []))

    def restore(self):
        return self.timed("restore", [self.runtime.restore_cmd(c.bundle, c.cid, self.image, self.work) for c in self.members],
                          *self.files())

    def verify(self):
        """Each checks itself."""
        def says_ok(c):
            if not os.path.exists(c.v):
                return None
            with open(c.v) as f:
                return f.read().strip() == "ok"
        for c in self.members:
            if os.path.exists(c.v):
                os.unlink(c.v)
            if not self.runtime.signal(c.cid, "USR1"):
                return False
        end = time.monotonic() + 30
        while time.monotonic() < end:
            said = [says_ok(c) for c in self.members]
            if None not in said:
                return all(said)
            time.sleep(0.01)
        return False

    def image_bytes(self):
        return sum(os.lstat(os.path.join(d, f)).st_size for d, _, files in os.walk(self.image) for f in files)


def frozen_us(pod):
    """by the runtime's own account: of all, else the longest of any container"""
    folders = [pod.image, *("%s/containers/%s" % (pod.image, c.name) for c in pod.members)]
    said = [pod.runtime.statistics(d, pod.work).get("frozen_us", -1) for d in folders if os.path.exists(d + "/manifest.json")]
    return said[0] if said and said[0] >= 0 else max(said, default=-1)


def measure_cycle(pod):
    """run, checkpoint, restore, self-check"""
    d = {}
    pod.start()
    d["busy"] = pod.m.settle("tick")
    d["checkpoint_us"] = pod.checkpoint()["us"]
    d["frozen_us"] = frozen_us(pod)
    before = [c.count() for c in pod.members]
    d["image_bytes"] = pod.image_bytes()
    pod.delete()
    d["busy"] = max(d["busy"], pod.m.settle("tick"))
    r = pod.restore()
    d["restore_us"], d["restore_prog_us"] = r["us"], r["prog_us"]
    time.sleep(0.15)
    if any(c.count() <= b for c, b in zip(pod.members, before)):
        raise pod.m.Failed("the restored programs do not go on: %s" % before)
    d["ok"] = pod.verify()
    return d


def measure_pause(pod):
    """how long it stands still when it is left running: the longest gap of any of the counters"""
    d = {}
    pod.start()
    d["busy"] = pod.m.settle("tick")
    r = pod.checkpoint(leave_running=True)
    d["pause_us"], d["pause_checkpoint_us"] = r["gap_us"], r["us"]
    d["frozen_us"] = frozen_us(pod)
    d["ok"] = pod.verify()
    return d


def run_pod(bench, m):
    def one(case, i, runtime, measure, **how):
        def in_pod():
            with Pod(m, runtime, bench.options.store, **how) as pod:
                return measure(pod)
        bench.record(case, i, runtime, in_pod)

    for i in range(bench.options.runs):
        for runtime in bench.turns(i):
            if runtime.name not in PEERS:
                continue
            for case, alone in (("pod", False), ("pod-alone", True)):
                one(case, i, runtime, measure_cycle, alone=alone)
                one(case + "-pause", i, runtime, measure_pause, alone=alone)
            if isinstance(runtime, peers.Stasis):   # runsc's first container has to be there before the others
                one("pod-at-once", i, runtime, measure_cycle, at_once=True)


# The control socket ---------------------------------------------------------------------------------------------------------

def control_socket(runtime, sandbox):
    """A connected client, once the supervisor is there."""
    path = "%s/@sandboxes/%s/control.sock" % (runtime.root, sandbox)
    end = time.monotonic() + 10
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            return s
        except OSError:
            s.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def call(s, method, parameters):
    s.sendall(json.dumps({"method": method, "parameters": parameters}).encode() + b"\0")
    answer = b""
    while not answer.endswith(b"\0"):
        part = s.recv(65536)
        if not part:
            raise ConnectionError("the supervisor closed the connection")
        answer += part
    answer = json.loads(answer[:-1])
    if "error" in answer:
        raise ValueError(answer)
    return answer["parameters"]


def measure_calls(pod):
    """us of one State after another on one connection, this client's time included"""
    pod.start()
    times = []
    with control_socket(pod.runtime, pod.sandbox) as s:
        for _ in range(CALLS):
            begin = time.perf_counter()
            call(s, "io.stasis.Sandbox.State", {"id": pod.sandbox})
            times.append((time.perf_counter() - begin) * 1e6)
    return {"call_us": statistics.median(times), "call_p90_us": sorted(times)[CALLS * 9 // 10]}


def supervisors(root):
    """pids of the supervisors of this state root"""
    found = []
    for p in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % p, "rb") as f:
                words = f.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "sandbox" in words and root in words:
            found.append(int(p))
    return found


def cpu_ns(pid):
    with open("/proc/%d/schedstat" % pid) as f:
        return int(f.read().split()[0])


def rss_kb(pid):
    with open("/proc/%d/status" % pid) as f:
        return [int(line.split()[1]) for line in f if line.startswith("VmRSS")][0]


def measure_idle(m, runtime):
    """a hundred sandboxes of one sleeping container each: CPU time and memory of their supervisors"""
    runtime.prepare()
    pods = ["bench-idle-%x-%d" % (m.START, i) for i in range(IDLE_SANDBOXES)]
    bundle = peers.STATE + "/bundle-idle"
    os.makedirs(bundle, exist_ok=True)
    try:
        for p in pods:
            with open(bundle + "/config.json", "w") as f:
                config = m.config("/cache/rootfs-min", ["/bin/sleep", "10000"], p)
                config["annotations"] = {ANNOTATION + "container-type": "sandbox", ANNOTATION + "sandbox-id": p}
                json.dump(config, f)
            if peers.quiet(runtime.run_cmd(bundle, p), runtime.env):
                raise m.Failed("run failed")
        for p in pods:
            control_socket(runtime, p).close()
        time.sleep(1)
        all_pids = supervisors(runtime.root)
        before = {p: cpu_ns(p) for p in all_pids}
        time.sleep(IDLE_SECONDS)
        used = sum(cpu_ns(p) - b for p, b in before.items())
        return {"supervisors": len(all_pids), "idle_cpu_us": used / 1000, "idle_seconds": IDLE_SECONDS,
                "idle_rss_kb": max(map(rss_kb, all_pids))}
    finally:
        for p in pods:
            runtime.delete(p)
        shutil.rmtree(bundle, ignore_errors=True)


def run_control(bench, m):
    for runtime in bench.runtimes:
        if not isinstance(runtime, peers.Stasis):
            continue
        for i in range(bench.options.runs):
            def calls(runtime=runtime):
                with Pod(m, runtime, bench.options.store) as pod:
                    return measure_calls(pod)
            bench.record("control", i, runtime, calls)
        bench.record("idle", 0, runtime, measure_idle, m, runtime)


def run(bench, case, m):
    (run_pod if case == "pod" else run_control)(bench, m)
