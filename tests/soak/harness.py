# SPDX-License-Identifier: Apache-2.0
"""Containers made at random (random.c), checkpointed at random moments, until one of their processes finds a difference.

A test is a seed, which is its name: soak/SEED. SOAK_SEEDS="1 2 3" names them; else there are SOAK_TESTS of new ones (6).
The same seed makes the same container; where in it a checkpoint comes is chance. "make soak" goes on for an hour.
"""
import os
import random
import time

from lib import Container, check

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


def tests():
    seeds = os.environ.get("SOAK_SEEDS", "").split()
    if not seeds:
        seeds = [random.randrange(1 << 32) for _ in range(int(os.environ.get("SOAK_TESTS", "6")))]
    for seed in seeds:
        yield f"soak/{seed}", lambda env, s=int(seed): soak(env, s), 300
