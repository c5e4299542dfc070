# SPDX-License-Identifier: Apache-2.0
"""Faults while the containers of a sandbox are restored together: in one of them, in a process that waits, in the supervisor.

All that was made is removed, of all containers; the image is as good as before, and restores.
"""
import os
import signal
import subprocess
import time
from pathlib import Path

from lib import check, poll
from together import NAMES, Pod, stopped

# Of the last one that comes: while it is created, in its init, in the process that restores it.
POINTS = ("create-clone", "create-ready", "restore-created", "restore-files", "restore-tree", "restore-memory", "restore-threads",
          "restore-registers", "restore-end", "restore-told")


class Image(Pod):
    """Their image; they have ended."""

    def __init__(self, env, h):
        super().__init__(env, h)
        env.command(*self.arguments(False))
        for c in self.containers:
            c.gone()
            c.delete(ok=None)
        self.files = self.contents()

    def contents(self):
        return {f.relative_to(self.image): f.read_bytes() for f in self.image.rglob("*") if f.is_file()}

    def come(self, name, *options, **kw):
        c = self.containers[NAMES.index(name)]
        return c.restore(self.image, "--sandbox", "again", "--container-name", name, *options, **kw)

    def nothing_left(self, what):
        for c in self.containers:
            poll(f"{what}: {c.cid} is left", lambda c=c: not (self.env.root / c.cid).exists(), 10)
            self.h.nothing_left(self.env, c, what)
        check(self.files == self.contents(), f"{what}: the image was changed")

    def go_on(self):
        for name in reversed(NAMES):
            self.come(name)
        for c in self.containers:
            c.verify(1)
            self.h.cr.finish(c, 2)

    def supervisor(self):
        for f in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                args = f.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"again" in args and b"sandbox" in args and str(self.env.root).encode() in args:
                return int(f.parent.name)
        raise AssertionError("no supervisor")

    def come_and_stop(self, name, point):
        """That process of it which comes to the fault point stops there."""
        c = self.containers[NAMES.index(name)]
        command = subprocess.Popen(
            [self.env.stasis, "--root", self.env.root, "restore", "-d", "--image-path", self.image, "--bundle", c.bundle, "--sandbox", "again",
             "--container-name", name, c.cid], env={**os.environ, "FAULT": point + ":stop"}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        found = []

        def there():
            found[:] = [p for p in descendants(command.pid) if stopped(p)]
            return found
        poll(f"it comes to {point}", there, 20, 0.01)
        return command, found[0]


def descendants(pid):
    parents = {}
    for f in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(f.parent.name)] = int(f.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for p in found:
        found += [child for child, parent in parents.items() if parent == p]
    return found[1:]


def last(env, h, name, error):
    image = Image(env, h)
    image.come("POD")
    image.come("db")
    status, _, text = image.come("web", ok=None, env={"FAULT": name + (":EIO" if error else "")})
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    check(status != 0, f"{what}: the fault point is never reached, or its failure is ignored")
    if error:
        check("fault point" in text, f"{what}: {text}")
    image.nothing_left(what)
    image.go_on()


def prepared(env, h, error):
    image = Image(env, h)
    image.come("POD", "--prepare")
    image.come("db", "--prepare")
    status, _, _ = image.come("web", "--prepare", ok=None, env={"FAULT": "restore-files" + (":EIO" if error else "")})
    check(status != 0, "its failure is ignored")
    image.nothing_left("prepared")
    image.go_on()


def end_stops(command, also):
    while command.poll() is None:
        for p in {*descendants(command.pid), *also}:
            try:
                os.kill(p, signal.SIGCONT)
            except ProcessLookupError:
                pass
        time.sleep(0.02)


def other_dies(env, h, point, whom):
    """While the last one comes so far somebody else is killed."""
    image = Image(env, h)
    image.come("POD")
    image.come("db")
    command, one = image.come_and_stop("web", point)
    victim = image.containers[NAMES.index("db")].pid()
    if whom == "supervisor":
        victim = image.supervisor()
    elif whom == "restorer":
        victim = int(Path(f"/proc/{victim}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(victim, signal.SIGKILL)
    # Others of it may have come there as well, or come there now.
    end_stops(command, {one})
    text = command.stderr.read()
    what = f"after the {whom}'s end at {point}"
    check(command.wait() == 1, f"{what}: exit {command.returncode}: {text}")
    check("supervisor" in text if whom == "supervisor" else '"db"' in text, f"{what}: {text}")
    image.nothing_left(what)
    image.go_on()


def tests(h):
    for error in (False, True):
        suffix = "EIO" if error else "kill"
        for name in POINTS:
            yield f"faults/restore_together/{name}/{suffix}", lambda env, n=name, e=error: last(env, h, n, e), 60
        yield f"faults/restore_together/prepared/{suffix}", lambda env, e=error: prepared(env, h, e), 60
    for whom in ("supervisor", "restorer", "init"):
        for point in ("restore-memory", "restore-threads"):
            yield f"faults/restore_together/{point}/{whom}", lambda env, p=point, w=whom: other_dies(env, h, p, w), 60
