# SPDX-License-Identifier: Apache-2.0
"""The runtimes that are measured, and how each is made to work. One class each; measure.py knows no runtime by name."""
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import time

STATE = "/run/bench"        # state roots and bundles: a tmpfs, as /run is everywhere
LOGS = "/cache/logs"


def quiet(cmd, env=None):
    """Runs cmd for its status alone. Without a library path: that is for the timed commands and those like them."""
    return subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env,
                          check=False).returncode


def output(cmd, env=None):
    r = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True,
                       check=False)
    return r.stdout.strip()


def foreign_hierarchies(mounted):
    """Named v1 hierarchies of others (a test suite's, say): crun must see them mounted, else its restore puts the container
    into the root of all cgroups; runc must not see them, as it cannot mount them into a container."""
    with open("/proc/self/cgroup") as f:
        names = [line.split(":")[1] for line in f]
    for name in names:
        if not name.startswith("name=") or name == "name=systemd":
            continue
        d = "/sys/fs/cgroup/" + name[5:]
        if mounted and not os.path.isdir(d):
            os.mkdir(d)
            quiet(["mount", "-t", "cgroup", "-o", "none," + name, "cgroup", d])
        elif not mounted and os.path.isdir(d):
            quiet(["umount", d])
            os.rmdir(d)


def sweep_cgroups(name):
    """Removes what a runtime (or CRIU) left in the cgroup trees under our container's name, once it is empty."""
    trees = ["/sys/fs/cgroup/%s/%s" % (h, name) for h in os.listdir("/sys/fs/cgroup")]
    trees += ["/sys/fs/cgroup/" + name, "/run/cgroup2/" + name]
    for tree in trees:
        for _ in range(40):                     # its last tasks may still be on their way out
            for d, _, _ in os.walk(tree, topdown=False):
                try:
                    os.rmdir(d)
                except OSError:
                    pass
            if not os.path.isdir(tree):
                break
            time.sleep(0.01)


def criu_frozen_us(path):
    """freezing_time + frozen_time of CRIU's stats-dump: two magics, a length, and a protobuf stats_entry { dump = 1 } whose
    first two fields are these."""
    with open(path, "rb") as f:
        data = f.read()
    size, = struct.unpack_from("<I", data, 8)
    body = data[12:12 + size]

    def varint(i):
        value = shift = 0
        while True:
            value |= (body[i] & 0x7f) << shift
            shift += 7
            i += 1
            if not body[i - 1] & 0x80:
                return value, i

    tag, i = varint(0)
    if tag != (1 << 3 | 2):
        raise ValueError(path + ": not the statistics of a dump")
    _, i = varint(i)
    total = 0
    for field in (1, 2):
        tag, i = varint(i)
        if tag != field << 3:
            raise ValueError(path + ": unknown layout")
        value, i = varint(i)
        total += value
    return total


def sweep_leftovers():
    """Empty cgroups of a bench that was killed in the middle of a restore; `run` sees to it that no other is running."""
    for hierarchy in ["/run/cgroup2"] + ["/sys/fs/cgroup/" + h for h in os.listdir("/sys/fs/cgroup")]:
        for name in os.listdir(hierarchy) if os.path.isdir(hierarchy) else []:
            if name.startswith("bench-") and os.path.isdir(hierarchy + "/" + name):
                sweep_cgroups(name)


class Runtime:
    """A runtime with runc's command line. Methods ending in _cmd give a command for the timer; the others run at once."""
    name = ""
    env = None          # None: ours

    def __init__(self):
        self.root = "%s/%s" % (STATE, self.name)
        self.log = "%s/%s.log" % (LOGS, self.name)
        self.stderr = "%s/%s.stderr" % (LOGS, self.name)
        self.cmd = [self.name, "--root", self.root, "--log", self.log]

    def version(self):
        return output([self.cmd[0], "--version"], self.env).splitlines()[0].split("version")[-1].strip()

    def prepare(self):
        """before anything is timed"""
        foreign_hierarchies(False)

    def run_cmd(self, bundle, cid, detach=True):
        return self.cmd + ["run"] + (["-d"] if detach else []) + ["--bundle", bundle, cid]

    def exec_cmd(self, cid, args):
        return self.cmd + ["exec", cid] + args

    def checkpoint_cmd(self, cid, image, work, leave_running=False):
        return self.cmd + ["checkpoint", "--image-path", image, "--work-path", work] + \
            (["--leave-running"] if leave_running else []) + [cid]

    def checkpoint_pod_cmd(self, sandbox, image, work, leave_running=False):
        """of all containers of a sandbox, which is named by its first one"""
        return self.checkpoint_cmd(sandbox, image, work, leave_running)

    def restore_cmd(self, bundle, cid, image, work):
        return self.cmd + ["restore", "-d", "--bundle", bundle, "--image-path", image, "--work-path", work, cid]

    def wait_for_memory_cmd(self, cid):
        """after a restore: returns when all memory is there; None: it is there when the restore has ended"""
        return None

    def migrate_cmd(self, cid, bundle, cid_there, image, work):
        """the container goes on as another one, of another bundle: by an image in between, as a file that both can see"""
        return ["sh", "-c", "%s && exec %s" % (shlex.join(self.checkpoint_cmd(cid, image, work)),
                                               shlex.join(self.restore_cmd(bundle, cid_there, image, work)))]

    def statistics(self, image, work):
        """What the runtime itself says of its checkpoint; frozen_us is how long it had the program stopped."""
        return {"frozen_us": criu_frozen_us(work + "/stats-dump")}

    def signal(self, cid, sig):
        return quiet(self.cmd + ["kill", cid, sig], self.env) == 0

    def delete(self, cid):
        quiet(self.cmd + ["delete", "-f", cid], self.env)
        sweep_cgroups(cid)

    def why(self, work):
        """the last words of a failed command: its stderr where there is one, else the runtime's log, and CRIU's own"""
        said = []
        for path in (self.stderr, self.log, work + "/dump.log", work + "/restore.log"):
            try:
                with open(path, errors="replace") as f:
                    lines = [x.strip() for x in f if path == self.stderr or ("rror" in x and "RLIMIT" not in x)]
            except OSError:
                continue
            if lines and not (path == self.log and said):
                said.append(lines[-1][:300])
        return " / ".join(said)


class Runc(Runtime):
    name = "runc"

    def version(self):
        return super().version() + " + CRIU " + output(["criu", "--version"]).splitlines()[0].split()[-1]


class Crun(Runc):
    """No --root: under another than the default one, crun 1.24..1.28 loses its masked directories at restore ("No mapping for
    N:(null) mountpoint", crun pull 2239). And never `crun kill` or `crun delete` of a restored container: its idea of that
    container's cgroup may be "/"."""
    name = "crun"

    def __init__(self):
        super().__init__()
        self.root = "/run/crun"
        self.cmd = ["crun", "--log", self.log]

    def prepare(self):
        foreign_hierarchies(True)

    def pid(self, cid):
        try:
            with open("%s/%s/status" % (self.root, cid)) as f:
                return json.load(f)["pid"]
        except (OSError, ValueError, KeyError):
            return 0

    def signal(self, cid, sig):
        pid = self.pid(cid)
        if pid <= 1:
            return False
        try:
            os.kill(pid, getattr(signal, "SIG" + sig))
        except ProcessLookupError:
            return False
        return True

    def delete(self, cid):
        self.signal(cid, "KILL")
        shutil.rmtree("%s/%s" % (self.root, cid), ignore_errors=True)
        sweep_cgroups(cid)


class Runsc(Runtime):
    """systrap, its default platform (kvm hangs in a nested guest); images uncompressed, as everybody else's are; no network
    stack and no overlay, as the others have none. It makes no cgroups, which the others do."""
    name = "runsc"

    def __init__(self):
        super().__init__()
        self.cmd = ["runsc", "--root", self.root, "--ignore-cgroups", "--network=none", "--overlay2=none"]

    def run_cmd(self, bundle, cid, detach=True):
        return self.cmd + ["run"] + (["--detach"] if detach else []) + ["--bundle", bundle, cid]

    def checkpoint_cmd(self, cid, image, work, leave_running=False):
        return self.cmd + ["checkpoint", "--compression=none", "--image-path", image] + \
            (["--leave-running"] if leave_running else []) + [cid]

    def restore_cmd(self, bundle, cid, image, work):
        return self.cmd + ["restore", "--detach", "--bundle", bundle, "--image-path", image, cid]

    def statistics(self, image, work):
        return {}

    def delete(self, cid):
        quiet(self.cmd + ["delete", "-force", cid])
        sweep_cgroups(cid)


class Stasis(Runtime):
    name = "stasis"

    def __init__(self):
        super().__init__()
        self.cmd[0] = "/cache/stasis/stasis"
        if os.listdir("/cache/stasis/lib"):     # a build that is not static brings the libraries it was linked against
            self.env = dict(os.environ, LD_LIBRARY_PATH="/cache/stasis/lib")

    def version(self):
        return os.environ.get("BENCH_STASIS_VERSION") or super().version()

    def statistics(self, image, work):
        with open(image + "/manifest.json") as f:
            return json.load(f).get("statistics", {})

    def checkpoint_pod_cmd(self, sandbox, image, work, leave_running=False):
        return self.checkpoint_cmd("--sandbox", image, work, leave_running) + [sandbox]

    def wait_for_memory_cmd(self, cid):
        return self.cmd + ["wait", "--restore", cid]

    def pre_dump_cmd(self, cid, image, work):
        return self.cmd + ["checkpoint", "--pre-dump", "--image-path", image, "--work-path", work, cid]

    def migrate_cmd(self, cid, bundle, cid_there, image, work):
        """by a pipe, with rounds of pre-copy"""
        there = self.cmd + ["restore", "-d", "--lazy", "--bundle", bundle, "--image-path", "-", cid_there]
        here = self.cmd + ["checkpoint", "--pre-copy", "--image-path", "-", "--work-path", work, cid]
        return ["sh", "-c", "%s | %s" % (shlex.join(here), shlex.join(there))]


class Way(Stasis):
    of = "stasis"
    """stasis with other options: those of checkpoint and of restore. while_running: it is of interest for a checkpoint that
    leaves the program running; in_plot: its times are drawn over the size."""

    def __init__(self, name, checkpoint=(), restore=(), while_running=False, in_plot=False):
        super().__init__()
        self.name = "stasis, " + name
        self.checkpoint, self.restore = list(checkpoint), list(restore)
        self.while_running, self.in_plot = while_running, in_plot

    def checkpoint_cmd(self, cid, image, work, leave_running=False):
        cmd = super().checkpoint_cmd(cid, image, work, leave_running)
        return cmd[:-1] + self.checkpoint + cmd[-1:]

    def restore_cmd(self, bundle, cid, image, work):
        cmd = super().restore_cmd(bundle, cid, image, work)
        return cmd[:-1] + self.restore + cmd[-1:]

    def is_supported(self):
        """Has this stasis the options?"""
        known = {tuple(line.split("\t")[:2]) for line in output(self.cmd[:1] + ["__options"], self.env).splitlines()}
        return all((command, o.split("=")[0]) in known for command, given in
                   (("checkpoint", self.checkpoint), ("restore", self.restore)) for o in given if o.startswith("--"))


class LazyRunc(Runc):
    """runc with CRIU's lazy pages: a daemon of CRIU's gives out the pages of the image. crun has no such option. The image and its work
    directory are where the container is."""
    of = "runc"
    while_running = in_plot = False

    def __init__(self):
        super().__init__()
        self.name = "runc, lazy pages"

    def restore_cmd(self, bundle, cid, image, work):
        daemon = ["criu", "lazy-pages", "--images-dir", image, "--work-dir", work, "--daemon", "--pidfile", work + "/lazy.pid"]
        restore = super().restore_cmd(bundle, cid, image, work)
        return ["sh", "-c", "%s && exec %s" % (shlex.join(daemon), shlex.join(restore[:-1] + ["--lazy-pages"] + restore[-1:]))]

    def wait_for_memory_cmd(self, cid):
        """the daemon ends when all is there"""
        return ["sh", "-c", "while kill -0 $(cat /cache/images/work/lazy.pid /images/work/lazy.pid 2>/dev/null) 2>/dev/null; "
                "do sleep 0.005; done"]

    def is_supported(self):
        return True


ALL = {c.name: c for c in (Stasis, Runc, Crun, Runsc)}


def ways():
    """The other ways of stasis and of a peer for much memory, one a line; those that the binary does not know are left out."""
    return [
        Way("eager restore", restore=["--lazy=no"], in_plot=True),
        Way("pre-copy", checkpoint=["--pre-copy"], while_running=True),
        Way("lz4", checkpoint=["--compress=lz4"]),
        Way("zstd", checkpoint=["--compress=zstd"]),
        LazyRunc(),
    ]
