# SPDX-License-Identifier: Apache-2.0
"""Containers made at random (random.c), checkpointed at random moments, until one of their processes finds a difference.

A test is a seed, which is its name: soak/SEED. SOAK_SEEDS="1 2 3" names them; else there are SOAK_TESTS of new ones (6).
The same seed makes the same container; where in it a checkpoint comes is chance. "make soak" goes on for an hour.

soak/sandbox-SEED: containers of one sandbox, joined by pipes, sockets, shared memory and queues at random (between.c), checkpointed at one
moment and restored together. SOAK_LINKS="fifo tcp" leaves the other kinds out.

soak/kills: the process that makes a checkpoint is killed at random moments, SOAK_KILLS times (200) or for a minute, and the
container's processes (tests/cr/calls.c, which notice any other register or mask) go on each time.
"""
import os
import random
import signal
import subprocess
import time
from pathlib import Path

from lib import Container, check, poll

CYCLES = 8
OPTIONS = ("--file-locks", "--tcp-established")
SIZES = ((1, 8), (2, 30), (6, 12), (16, 8), (30, 4))  # processes, things of each at most


def counts(c):
    found = {}
    for f in (c.rootfs / "cr").glob("count.*"):
        text = f.read_text()
        found[f.name] = int(text) if text else 0
    return found


def failed(c):
    result = c.rootfs / "cr" / "result.0"
    return result.read_text() if result.exists() and "FAIL" in result.read_text() else ""


def goes_on(c, before):
    """Every process has taken turns since."""
    def moved():
        check(not failed(c), failed(c))
        now = counts(c)
        return all(now[k] > v for k, v in before.items())
    c.wait("turns of every process", moved, 60)


def soak(env, seed):
    chance = random.Random(seed)
    processes, things = chance.choice(SIZES)
    c = Container(env, "random", ["/bin/random", str(seed), str(processes), str(things)],
                  binaries=[("/bin/random", env.build / "tests/cr/random")], caps=["SYS_ADMIN"])
    c.run()
    c.wait("the first process", lambda: counts(c) or failed(c), 30)
    moments = random.Random()
    for n in range(CYCLES):
        time.sleep(moments.random() * 0.05)
        image = env.t / f"image{n}"
        before = counts(c)
        if moments.random() < 0.4:
            c.checkpoint(image, "--leave-running", *OPTIONS, timeout=120)
        else:
            c.checkpoint(image, *OPTIONS, timeout=120)
            check(not failed(c), failed(c))
            c.restore(image, *OPTIONS, timeout=120)
        goes_on(c, before)
    (c.rootfs / "cr" / "stop").touch()
    c.wait("the end", lambda: c.status() == "stopped", 120)
    check(not failed(c), failed(c))
    check((c.rootfs / "cr" / "result.0").read_text() == "PASS", "init has not seen its end")
    c.delete()


# Sandboxes ----------------------------------------------------------------------------------------------------------------------

SANDBOX_CYCLES = int(os.environ.get("SANDBOX_CYCLES", "6"))


class Between:
    """Containers that share a network and an IPC namespace (those of the first), /dev/shm and a volume."""

    def __init__(self, env, seed):
        chance = random.Random(seed)
        self.env, self.seed, self.n, self.links = env, seed, chance.choice((2, 2, 3, 4)), chance.choice((1, 3, 8, 20))
        self.volume, self.shm = env.t / "volume", env.t / "shm"
        for d in (self.volume, self.shm):
            d.mkdir()
        self.mount_shm()
        self.all = [self.container(i) for i in range(self.n)]

    def mount_shm(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777,size=64m", "shm", self.shm], check=True)

    def container(self, i):
        args = ["/bin/between", str(self.seed), str(i), str(self.n), str(self.links), *os.environ.get("SOAK_LINKS", "").split()]
        c = Container(self.env, f"between-{i}", args, binaries=[("/bin/between", self.env.build / "tests/cr/between")])
        c.config["mounts"] = [m for m in c.config["mounts"] if m["destination"] != "/dev/shm"] + [
            {"destination": d, "type": "bind", "source": str(s), "options": ["rbind", "rw"]}
            for d, s in (("/dev/shm", self.shm), ("/shared", self.volume))]
        c.write_config()
        return c

    def options(self, i):
        # The first one may be the one that a pod begins with, which owns nothing but the namespaces.
        return ["--sandbox", "between", "--container-name", f"name-{i}" if i or self.seed % 2 else "POD"]

    def join(self, i):
        """The namespaces of the first one, as its init has them now."""
        c, first = self.all[i], self.all[0]
        if i:
            linux = c.config["linux"]
            linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] not in ("ipc", "network")] + [
                {"type": t, "path": f"/proc/{first.pid()}/ns/{k}"} for t, k in (("ipc", "ipc"), ("network", "net"))]
            c.write_config()

    def run(self):
        for i, c in enumerate(self.all):
            self.join(i)
            c.run(*self.options(i))

    def failed(self):
        return "; ".join(f"{c.cid}: {failed(c)}" for c in self.all if failed(c))

    def turns(self):
        return [int((c.file("count").read_text() if c.file("count").exists() else "") or 0) for c in self.all]

    def goes_on(self, before):
        def moved():
            check(not self.failed(), self.failed())
            return all(now > b + 5 for now, b in zip(self.turns(), before))
        self.all[0].wait("turns of every container", moved, 60)

    def checkpoint(self, image, *options):
        self.env.command("checkpoint", "--sandbox", "--image-path", image, "--work-path", self.env.t, "--tcp-established", *options, "between",
                         timeout=120)

    def restore(self, image):
        order = list(range(1, self.n))
        random.shuffle(order)
        for i in (0, *order):
            self.join(i)
            self.all[i].restore(image, "--tcp-established", *self.options(i), timeout=120)

    def through(self):
        """{(link, kind): {container: (written, read)}}"""
        found = {}
        for c in self.all:
            for line in c.file("through").read_text().splitlines():
                number, kind, me, sent, received = line.split()
                found.setdefault((int(number), kind), {})[int(me)] = (int(sent), int(received))
        return found

    def all_has_come(self):
        check(not self.failed(), self.failed())
        ends = [tuple(e.values()) for e in self.through().values()]
        return all(len(e) == 2 and e[0] == e[1][::-1] for e in ends)


def soak_sandbox(env, seed):
    b = Between(env, seed)
    b.run()
    b.goes_on([0] * b.n)
    moments = random.Random()
    for n in range(SANDBOX_CYCLES):
        time.sleep(moments.random() * 0.05)
        image = env.t / f"image{n}"
        before = b.turns()
        if moments.random() < float(os.environ.get("SOAK_LIVE", "0.4")):
            b.checkpoint(image, "--leave-running")
        else:
            b.checkpoint(image)
            check(not b.failed(), b.failed())
            for c in b.all:
                c.gone()
            if moments.random() < 0.5:
                subprocess.run(["umount", b.shm], check=True)
                b.mount_shm()
            b.restore(image)
        b.goes_on(before)
    (b.volume / "stop").touch()
    b.all[0].wait(f"everything that was written to be read: {b.through()}", b.all_has_come, 60)
    for c in reversed(b.all):
        c.delete()
    subprocess.run(["umount", b.shm], check=True)


# Kills --------------------------------------------------------------------------------------------------------------------------

def surgeon_of(command):
    """The process that makes the checkpoint; None: the command has ended."""
    while command.poll() is None:
        try:
            found = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
        except OSError:
            return None
        if found:
            return int(found[0])
    return None


def kill_one(c, options, after):
    """How long it lived; None: it was done before."""
    command = subprocess.Popen([c.env.stasis, "--root", c.env.root, "checkpoint", "--image-path", c.env.t / "image", "--work-path", c.env.t,
                                *options, c.cid], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    surgeon = surgeon_of(command)
    time.sleep(after)
    if surgeon and command.poll() is None:
        try:
            os.kill(surgeon, signal.SIGKILL)
        except ProcessLookupError:
            pass
    text = command.communicate(timeout=60)[1]
    check(command.returncode in (0, 1), f"exit {command.returncode}: {text}")
    return command.returncode == 1 and "signal 9" in text


def is_left_alone(c):
    status = [(t / "status").read_text() for p in c.pids() for t in Path(f"/proc/{p}/task").iterdir()]
    return all("TracerPid:\t0\n" in s for s in status) and c.status() == "running"


def soak_kills(env):
    c = Container(env, "calls", ["/bin/calls", "lenient"], binaries=[("/bin/calls", env.build / "tests/cr/calls")])
    c.run()
    c.wait_ready(1)
    moments, killed, n, end, longest = random.Random(), 0, 1, time.monotonic() + 60, 0.02
    while killed < int(os.environ.get("SOAK_KILLS", "200")) and time.monotonic() < end:
        options = moments.choice((["--leave-running"], ["--leave-running"], ["--pre-dump"]))
        if kill_one(c, options, moments.random() * longest):
            killed += 1
        else:  # too late
            longest = max(longest * 0.95, 0.002)
        longest *= 1.02
        poll("everybody runs", lambda: is_left_alone(c), 10)
        c.verify(n, 60)
        n += 1
        c.wait_ready(n, 60)
    print(f"{killed} kills in {n - 1} checkpoints")
    check(killed > 0, "none was killed")
    c.checkpoint(env.t / "last")
    c.gone()
    c.restore(env.t / "last")
    c.verify(n, 60)
    c.delete()


def tests():
    yield "soak/kills", soak_kills, 300
    seeds = os.environ.get("SOAK_SEEDS", "").split()
    if not seeds:
        seeds = [random.randrange(1 << 32) for _ in range(int(os.environ.get("SOAK_TESTS", "6")))]
    for seed in seeds:
        yield f"soak/{seed}", lambda env, s=int(seed): soak(env, s), 300
    for seed in seeds:
        yield f"soak/sandbox-{seed}", lambda env, s=int(seed): soak_sandbox(env, s), 300
