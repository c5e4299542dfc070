# SPDX-License-Identifier: Apache-2.0
"""A surgeon that is killed in the middle of a single system call of its own in a task, or of a batch of them: before and after each
step of the call that maps memory for batches, and of the one that unmaps it. The processes (tests/cr/calls.c) notice if they go on anywhere
else, with other registers, or another mask.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

from lib import TESTS, Container, Skip, check, poll

STEPS = ("call-parked", "call-masked", "call-waiting", "call-stopped", "call-entered", "call-made", "call-unmasked", "call-over")
BATCH = ("call-batch-placed", "call-batch", "call-batch-unmasked")
CLOSE, MMAP, MPROTECT, MUNMAP, WAIT4, USERFAULTFD = 3, 9, 10, 11, 61, 323


def leftovers(c):
    """What the container's processes have of us."""
    found = []
    for p in c.pids():
        for t in Path(f"/proc/{p}/task").iterdir():
            status = (t / "status").read_text()
            if not re.search(r"^TracerPid:\s0$", status, re.M):
                found.append(f"{t} is traced")
        found += [f"{p}: {line}" for line in Path(f"/proc/{p}/maps").read_text().splitlines() if " rwxp " in line]
        found += [f"{p}: {fd}" for fd in Path(f"/proc/{p}/fd").iterdir() if "userfaultfd" in os.readlink(fd)]
    return found


def goes_on(c, n, before, what):
    poll(f"{what}: nothing of the checkpoint is left: {leftovers(c)}", lambda: leftovers(c) == before, 5)
    check(c.status() == "running", f"{what}: the container is {c.status()}")
    c.verify(n)
    c.wait_ready(n + 1)


def killed(env, h, source, names, calls, *options):
    """All on one container: what goes wrong unseen in one is seen in the next."""
    program = h.cr.Program(TESTS / f"cr/{source}.c")
    c = program.container(env, "one")
    n = kill_all(env, c, names, calls, *options)
    h.cr.cycle(program, c, env.t / "image2")
    c.verify(n)
    h.cr.finish(c, n + 1)


def of_go(env):
    if not shutil.which("go"):
        raise Skip("not on this machine: go")
    binary = env.t / "calls"
    subprocess.run(["go", "build", "-o", binary, TESTS / "faults/calls.go"], check=True, stdin=subprocess.DEVNULL,
                   env={**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(env.t / "cache"), "HOME": str(env.t)})
    c = Container(env, "one", ["/bin/calls"], binaries=[("/bin/calls", binary)])
    n = kill_all(env, c, (*STEPS, *BATCH), (MMAP, MUNMAP))
    c.checkpoint(env.t / "image2")
    c.gone()
    c.restore(env.t / "image2")
    c.verify(n)
    c.delete()


def kill_all(env, c, names, calls, *options):
    n = 1
    c.run()
    c.wait_ready(n)
    for name in names:
        for call in calls:
            before = leftovers(c)  # what is like ours
            status, _, text = c.checkpoint(env.t / "image", *options or ["--leave-running"], ok=None, env={"FAULT": name, "FAULT_CALL": str(call)})
            what = f"after FAULT={name} in call {call} (exit {status})"
            check(status == 1 and "signal 9" in text, f"{what}: the fault point is not reached: {text}")
            goes_on(c, n, before, what)
            n += 1
    return n


def tests(h):
    for name in STEPS:
        yield f"faults/{name}/kill", lambda env, s=name: killed(env, h, "calls", [s], (MMAP, MUNMAP)), 120
    for source in ("calls", "faulty", "ia32", "seccomp"):
        yield f"faults/call-batch/kill-{source}", lambda env, s=source: killed(env, h, s, BATCH, (0,)), 120
    for source, seen in (("faulty", (MMAP, MUNMAP, WAIT4)), ("ia32", (MMAP, MUNMAP)), ("seccomp", (MMAP, MUNMAP)), ("seccomp_notify", (MMAP, MUNMAP)), ("states", (MPROTECT,))):
        yield f"faults/call/kill-{source}", lambda env, s=source, c=seen: killed(env, h, s, STEPS, c), 180
    yield "faults/call/kill-go", of_go, 300
    yield "faults/call/kill-pre-dump", lambda env: killed(env, h, "calls", STEPS, (USERFAULTFD, CLOSE), "--pre-dump"), 180
