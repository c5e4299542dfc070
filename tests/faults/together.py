# SPDX-License-Identifier: Apache-2.0
"""Faults while several containers are checkpointed at one moment: in one of the surgeons, in the guard, in a container.

All containers are the same before and after, run, and are not frozen or traced; and no image is left. Past the point where
it is decided (all images are complete, and are one) it is the other way: the image counts, and all have ended.
"""
import os
import signal
import subprocess
from pathlib import Path

from lib import check, poll
from observe import observe

NAMES = ("POD", "web", "db")
# Where a surgeon fails; with --leave-running only, or both ways.
POINTS = ("checkpoint-ready", "checkpoint-frozen", "checkpoint-seized", "checkpoint-thawed", "checkpoint-collected",
          "checkpoint-files", "checkpoint-memory", "checkpoint-image", "checkpoint-manifest", "together-committed")
LEAVING = ("checkpoint-snapshot", "checkpoint-removed", "checkpoint-late")


class Pod:
    """Three containers in one sandbox."""

    def __init__(self, env, h):
        self.env, self.h = env, h
        self.image = env.t / "image"
        self.containers = [h.PROGRAM.container(env, "c-" + name) for name in NAMES]
        for name, c in zip(NAMES, self.containers):
            c.run("--sandbox", "pod", "--container-name", name)
        for c in self.containers:
            c.wait_ready(1)
        self.before = [observe(c) for c in self.containers]

    def arguments(self, leave_running):
        return ["checkpoint", "--sandbox", "--image-path", self.image, *(["--leave-running"] if leave_running else []), "pod"]

    def as_before(self, what, image=False):
        check(image or not (self.image / "manifest.json").exists(), f"{what}: a manifest was left")
        if not image:
            poll(f"{what}: files of the image are left", lambda: not self.h.files_in(self.image), 3)
        for c, before in zip(self.containers, self.before):
            self.h.as_before(c, before, f"{what}: {c.cid}")

    def restored(self):
        """All have ended, and each goes on from its part of the image."""
        for name, c in zip(NAMES, self.containers):
            c.gone()
            c.delete(ok=None)
            c.restore(self.image / "containers" / name)

    def finish(self):
        """They check themselves, are checkpointed for good, and check themselves again."""
        for c in self.containers:
            c.verify(1)
        for c in self.containers:
            c.wait_ready(2)
        self.env.command(*self.arguments(False))
        self.restored()
        for c in self.containers:
            c.verify(2)
        for c in self.containers:
            self.h.cr.finish(c, 3)

    def begin(self, **env):
        """A checkpoint with --leave-running in the background."""
        return subprocess.Popen([self.env.stasis, "--root", self.env.root, *self.arguments(True)],
                                env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)


def children(pid):
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def stopped(pid):
    try:
        return "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def stopped_surgeon(command):
    found = []

    def there():
        found[:] = [p for p in children(command.pid) if stopped(p)]
        return found
    poll("the surgeon comes to the fault point", there, 10, 0.01)
    return found[0]


def let_go(pid):
    """Also where the same fault point is passed twice."""
    def gone():
        if stopped(pid):
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        return not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()
    poll("the surgeon ends", gone, 10, 0.02)


def surgeon(env, h, name, error, leave_running):
    pod = Pod(env, h)
    fault = {"FAULT": name + (":EIO" if error else "")}
    if name != "together-committed":  # in whoever comes last
        fault["FAULT_CONTAINER"] = "web"
    status, _, text = env.command(*pod.arguments(leave_running), ok=None, env=fault)
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    committed = (pod.image / "manifest.json").exists()
    check(status != 0, f"{what}: the fault point is never reached, or its failure is ignored")
    check("web" in text or name == "together-committed", f"{what}: the message does not name the container: {text}")
    check(not committed, f"{what}: a manifest was left")
    pod.as_before(what)
    pod.finish()


def decided(env, h):
    """A surgeon dies when all images are one already: its container ends all the same."""
    pod = Pod(env, h)
    env.command(*pod.arguments(False), env={"FAULT": "together-passed", "FAULT_CONTAINER": "web"})
    pod.restored()
    for c in pod.containers:
        c.verify(1)
        h.cr.finish(c, 2)


def guard(env, h, name, leave_running_over):
    """The guard is killed: the surgeons notice, undo all, and remove the files; an older image comes back."""
    pod = Pod(env, h)
    if leave_running_over:
        env.command(*pod.arguments(True))
    command = pod.begin(FAULT=name + ":stop", FAULT_CONTAINER="web")
    one = stopped_surgeon(command)
    command.kill()
    command.wait()
    let_go(one)
    pod.as_before(f"after the guard was killed at {name}", image=leave_running_over)
    pod.finish()


def cancelled(env, h, name, sig):
    pod = Pod(env, h)
    command = pod.begin(FAULT=name + ":stop", FAULT_CONTAINER="db")
    one = stopped_surgeon(command)
    command.send_signal(sig)
    let_go(one)
    text = command.stderr.read()
    check(command.wait() == 1 and "cancelled" in text, f"cancelled: {text}")
    pod.as_before(f"cancelled at {name}")
    pod.finish()


def deadline(env, h, name, hangs):
    """One surgeon comes to no end: all others run on at the deadline, and it is killed if it does not hear of that."""
    pod = Pod(env, h)
    command = subprocess.Popen([env.stasis, "--root", env.root, *pod.arguments(True)[:-1], "--deadline", "500ms", "pod"],
                               env={**os.environ, "FAULT": name + ":stop", "FAULT_CONTAINER": "db"}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    one = stopped_surgeon(command)
    for c, before in zip(pod.containers[:2], pod.before):
        h.as_before(c, before, f"at the deadline: {c.cid}")
    if not hangs:
        let_go(one)
    text = command.stderr.read()
    check(command.wait() == 1 and "deadline" in text, f"deadline: {text}")
    pod.as_before(f"after the deadline at {name}")
    pod.finish()


def container_killed(env, h, name):
    """One container dies in the middle: the others run on, and are checkpointed without it."""
    pod = Pod(env, h)
    command = pod.begin(FAULT=name + ":stop", FAULT_CONTAINER="web")
    one = stopped_surgeon(command)
    os.kill(pod.containers[1].pid(), signal.SIGKILL)
    let_go(one)
    text = command.stderr.read()
    status = command.wait()
    rest = [0, 2]
    if status != 0:
        check("web" in text, f"the message does not name the container: {text}")
        check(not (pod.image / "manifest.json").exists(), "a manifest was left")
    for i in rest:
        h.as_before(pod.containers[i], pod.before[i], f"after the end of web at {name}")
    pod.containers[1].gone()
    env.command(*pod.arguments(False))
    for i in rest:
        pod.containers[i].gone()
        pod.containers[i].restore(pod.image / "containers" / NAMES[i])
        pod.containers[i].verify(1)
        h.cr.finish(pod.containers[i], 2)
    pod.containers[1].delete(ok=None)


def tests(h):
    for error in (False, True):
        suffix = "EIO" if error else "kill"
        for i, name in enumerate(POINTS):
            leave = error == bool(i % 2)  # one way each: there are many
            yield (f"faults/together/{name}/{suffix}{'-leave-running' if leave else ''}",
                   lambda env, n=name, e=error, r=leave: surgeon(env, h, n, e, r), 60)
        for name in LEAVING:
            yield (f"faults/together/{name}/{suffix}-leave-running",
                   lambda env, n=name, e=error: surgeon(env, h, n, e, True), 60)
    for name in ("checkpoint-ready", "checkpoint-memory", "checkpoint-manifest"):
        for over in (False, True):
            yield (f"faults/together/{name}/guard{'-over' if over else ''}",
                   lambda env, n=name, o=over: guard(env, h, n, o), 60)
        yield f"faults/together/{name}/int", lambda env, n=name: cancelled(env, h, n, signal.SIGINT), 60
        yield f"faults/together/{name}/container", lambda env, n=name: container_killed(env, h, n), 60
    yield "faults/together/together-passed/kill", lambda env: decided(env, h), 60
    yield "faults/together/checkpoint-files/term", lambda env: cancelled(env, h, "checkpoint-files", signal.SIGTERM), 60
    for name in ("checkpoint-ready", "checkpoint-collected"):
        yield f"faults/together/{name}/deadline", lambda env, n=name: deadline(env, h, n, False), 60
        yield f"faults/together/{name}/deadline-hangs", lambda env, n=name: deadline(env, h, n, True), 60
