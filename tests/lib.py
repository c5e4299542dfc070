# SPDX-License-Identifier: Apache-2.0
"""What the tests in Python share: a test's own environment, bundles, containers and the cleaning up.

A test gets an Env: a temporary directory, a state root (--root) and a cgroup of its own, all below names that no
other test and nobody else on the machine uses. Whatever is found below these names when the test is over was left
behind by the command under test; Env.leftovers() lists it and Env.clean() removes it. Nothing else is ever touched:
processes are signalled through pidfds, and only those in our own cgroups or descended from the test's supervisor.
"""
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36


class Failure(Exception):
    """The thing under test did wrong."""


class Skip(Exception):
    """This test cannot run here; the text is the reason, looked up in tests/skips."""


def cycles(usual):
    """How many cycles a test of a real program makes, and how many times the usual number that is: CYCLES=50 for a thorough run."""
    wanted = int(os.environ.get("CYCLES", usual))
    return wanted, max(1.0, wanted / usual)


def check(condition, message):
    if not condition:
        raise Failure(message)


def poll(what, condition, seconds=10.0, step=0.002):
    """Waits until condition() is true (its value is returned)."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"timed out after {seconds:g} s: {what}")
        time.sleep(step)


# Bundles ---------------------------------------------------------------------------------------------------------

CAPABILITIES = """CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE
    SYS_CHROOT KILL AUDIT_WRITE""".split()

BASE_MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
     "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]


def base_config(args, cgroup, caps=(), user=(0, 0, ()), mounts=(), env=(), cwd="/", terminal=False, hostname="stasis"):
    """A config.json as 'spec' would write it, for the program args."""
    names = ["CAP_" + c for c in [*CAPABILITIES, *caps]]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": user[0], "gid": user[1], "additionalGids": list(user[2])},
            "args": list(args),
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", *env],
            "cwd": cwd,
            "capabilities": {s: names for s in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}],
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": hostname,
        "mounts": [*BASE_MOUNTS, *mounts],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def libraries(binary):
    """The shared libraries and the loader that a host binary needs, as paths."""
    out = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
    return sorted(set(re.findall(r"(/\S+) \(0x", out)))


def make_rootfs(rootfs, binaries=(), busybox=False):
    """A root file system with the given (destination, source) programs and what they need."""
    for d in ("proc", "sys", "dev", "tmp", "cr", "bin", "etc", "run", "var/tmp", "root"):
        (rootfs / d).mkdir(parents=True, exist_ok=True)
    for d in ("tmp", "cr", "var/tmp"):
        (rootfs / d).chmod(0o1777)
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    (rootfs / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    for destination, source in binaries:
        target = rootfs / destination.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        for lib in libraries(source):
            copy = rootfs / lib.lstrip("/")
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(lib, copy)
    if busybox:
        shutil.copy2("/bin/busybox", rootfs / "bin/busybox")
        for applet in busybox_applets():
            link = rootfs / "bin" / applet
            if not link.exists():
                link.symlink_to("busybox")


_APPLETS = []


def busybox_applets():
    if not _APPLETS:
        out = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout
        _APPLETS.extend(a for a in out.split() if a != "busybox")
    return _APPLETS


# cgroups ---------------------------------------------------------------------------------------------------------

def cgroup_bases():
    """Every directory below which a cgroup named by cgroupsPath may appear: per hierarchy its root and our own."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path.lstrip("/")
    bases = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        target = left.split()[4]
        fstype, _, options = right.split()[:3]
        if fstype == "cgroup2":
            names = [""]
        elif fstype == "cgroup":
            names = [c for c in own if c and set(c.split(",")) <= set(options.split(","))]
        else:
            continue
        for n in names:
            for path in {"", own.get(n, "")}:
                bases.append(Path(target) / path)
    return bases


def cgroup_dirs(name):
    """The existing cgroup directories called name ('/a/b') in all hierarchies."""
    return sorted({d for b in cgroup_bases() for d in [b / name.lstrip("/")] if d.is_dir()})


def cgroup_tree(directory):
    """The directory and all below it, deepest first."""
    return [Path(root) for root, _, _ in os.walk(directory, topdown=False)]


def cgroup_pids(name):
    pids = set()
    for top in cgroup_dirs(name):
        for d in cgroup_tree(top):
            try:
                pids |= {int(p) for p in (d / "cgroup.procs").read_text().split()}
            except OSError:
                pass
    return pids - {0}


def cgroup_remove(name):
    for top in cgroup_dirs(name):
        freezer = [d / "freezer.state" for d in cgroup_tree(top)]
        for f in freezer:
            if f.exists():
                try:
                    f.write_text("THAWED")
                except OSError:
                    pass
        if (top / "cgroup.freeze").exists():
            try:
                (top / "cgroup.freeze").write_text("0")
            except OSError:
                pass
    end = time.monotonic() + 5
    while cgroup_pids(name) and time.monotonic() < end:
        for pid in cgroup_pids(name):
            kill_pidfd(pid, lambda p=pid: p in cgroup_pids(name))
        reap()
        time.sleep(0.01)
    for top in cgroup_dirs(name):
        for d in cgroup_tree(top):
            for _ in range(100):
                try:
                    d.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)


# Processes -------------------------------------------------------------------------------------------------------

def kill_pidfd(pid, still_ours):
    """SIGKILL by pidfd: the identity is checked again after the fd is taken, so that a reused pid is never hit."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if still_ours():
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)


def become_subreaper():
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def reap():
    """Collects children that ended (as a subreaper we get the orphans of the test)."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def proc_stat(pid):
    """(comm, state, ppid) or None."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    comm = text[text.index("(") + 1:text.rindex(")")]
    rest = text[text.rindex(")") + 2:].split()
    return comm, rest[0], int(rest[1])


def descendants(of):
    """Living descendants of a process: {pid: comm}."""
    stats = {int(p): proc_stat(p) for p in os.listdir("/proc") if p.isdigit()}
    found, front = {}, {of}
    while front:
        front = {p for p, s in stats.items() if s and s[2] in front and p not in found}
        found.update({p: stats[p] for p in front})
    return {p: s[0] for p, s in found.items() if s[1] not in "ZX"}


# One test's surroundings -----------------------------------------------------------------------------------------

class Env:
    def __init__(self, name, top, build, cgroup_parent, stasis=None):
        self.name = name
        self.build = Path(build).resolve()
        self.stasis = (stasis or self.build / "stasis").resolve()
        self.t = top / re.sub(r"[^A-Za-z0-9_.-]", "_", name)
        self.root = self.t / "root"
        self.cgroup = cgroup_parent + "/" + re.sub(r"[^A-Za-z0-9_-]", "_", name)
        if cgroup_parent.endswith(".slice"):
            self.cgroup = f"{cgroup_parent}{cgroup_parent[:-6]}-{re.sub('[^A-Za-z0-9_]', '_', name)}.slice"

    def prepare(self):
        self.t.mkdir(parents=True)
        self.t.chmod(0o755)
        self.root.mkdir(mode=0o700)

    def variables(self):
        return dict(os.environ, STASIS=str(self.stasis), T=str(self.t), ROOT=str(self.root), CGROUP=self.cgroup,
                    TESTS=str(TESTS), BUILD=str(self.build), TMPDIR=str(self.t), LC_ALL="C")

    def command(self, *args, env=None, ok=True, timeout=20, stdin=None, stdout=None, wrapper=()):
        """Runs 'stasis --root ROOT args'; ok: True: must succeed, False: must fail, None: either; wrapper: a command that runs it. Output goes to
        files and not to pipes, as a detached container keeps what it was given. Returns (status, out, err)."""
        n = Env.counter = getattr(Env, "counter", 0) + 1
        out, err = stdout or self.t / f"cmd.{n}.out", self.t / f"cmd.{n}.err"
        line = [*map(str, wrapper), str(self.stasis), "--root", str(self.root), *map(str, args)]
        with open(out, "ab") as o, open(err, "ab") as e, open(stdin or "/dev/null", "rb") as i:
            p = subprocess.Popen(line, stdin=i, stdout=o, stderr=e, env=dict(os.environ, **(env or {})))
            try:
                status = p.wait(timeout)
            except subprocess.TimeoutExpired:
                state = describe(p.pid)
                p.kill()
                p.wait()
                raise Failure(f"hangs: stasis {' '.join(map(str, args))}: {state}: "
                              f"{err.read_text(errors='replace')[-600:]}") from None
        text = err.read_text(errors="replace")
        if (ok is True and status != 0) or (ok is False and status == 0):
            raise Failure(f"exit {status}: stasis {' '.join(map(str, args))}: {text.strip()[-1200:]}")
        return status, out.read_text(errors="replace"), text

    def state(self, cid):
        """The state as JSON, or None if the container does not exist."""
        status, out, _ = self.command("state", cid, ok=None)
        return json.loads(out) if status == 0 else None

    def containers(self):
        return [d.name for d in self.root.iterdir() if d.is_dir() and ":" not in d.name] if self.root.is_dir() else []

    def mounts(self):
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.split()[4].startswith(str(self.t) + "/")]

    def leftovers(self):
        """What is still there of the test, as text lines. Gives what is just ending a moment."""
        found = []
        for _ in range(100):
            reap()
            found = [f"container {c}" for c in self.containers()]
            found += [f"process {p} ({c})" for p, c in descendants(os.getpid()).items()]
            found += [f"process {p} in {self.cgroup}" for p in cgroup_pids(self.cgroup)]
            found += [f"mount {m}" for m in self.mounts()]
            # The common parent stays, as with runc: who made the first container below it cannot know who else uses it.
            found += [f"cgroup {x}" for d in cgroup_dirs(self.cgroup) for x in d.iterdir() if x.is_dir()]
            if not found:
                break
            time.sleep(0.01)
        return found

    def clean(self):
        for cid in self.containers():
            try:
                self.command("delete", "-f", cid, ok=None, timeout=5)
            except (Failure, OSError):
                pass
        cgroup_remove(self.cgroup)
        for _ in range(50):
            reap()
            ours = descendants(os.getpid())
            if not ours:
                break
            for pid in ours:
                kill_pidfd(pid, lambda p=pid: p in descendants(os.getpid()))
            time.sleep(0.01)
        for m in sorted(self.mounts(), key=len, reverse=True):
            subprocess.run(["umount", "-l", m], check=False, stderr=subprocess.DEVNULL)
        reap()


def describe(pid):
    """Where a process hangs, for messages."""
    def text(name):
        try:
            return Path(f"/proc/{pid}/{name}").read_text().strip()
        except OSError:
            return "?"
    return f"pid {pid} wchan {text('wchan')} syscall {text('syscall').split(' ')[0]} stack {text('stack')[:300]}"


class Container:
    """A container of a test: its bundle, its id, and the files by which the harness talks with the program in it."""

    def __init__(self, env, cid, args, bundle=None, binaries=(), busybox=False, edit=None, **config):
        self.env, self.cid = env, cid
        self.bundle = bundle or env.t / f"bundle-{cid}"
        self.rootfs = self.bundle / "rootfs"
        self.out = env.t / f"{cid}.out"
        if bundle is None:
            make_rootfs(self.rootfs, binaries, busybox)
            self.config = base_config(args, f"{env.cgroup}/{cid}", **config)
            if edit:
                edit(self.config)
            for m in self.config["mounts"]:  # as in most root file systems: tmpfs gets the mode of what it covers
                if m["type"] == "tmpfs":
                    (self.rootfs / m["destination"].lstrip("/")).mkdir(parents=True, exist_ok=True)
            self.write_config()
        else:
            self.config = json.loads((self.bundle / "config.json").read_text())

    def write_config(self):
        (self.bundle / "config.json").write_text(json.dumps(self.config, indent=1))

    def clone(self, cid):
        """Another container with a copy of the bundle as it is now."""
        bundle = self.env.t / f"bundle-{cid}"
        subprocess.run(["cp", "-a", "--reflink=auto", self.bundle, bundle], check=True)
        other = type(self)(self.env, cid, (), bundle=bundle)
        other.config["linux"]["cgroupsPath"] = f"{self.env.cgroup}/{cid}"
        other.write_config()
        return other

    def command(self, *args, **kw):
        return self.env.command(*args, **kw)

    def run(self, *options, **kw):
        return self.command("run", "-d", "--bundle", self.bundle, *options, self.cid, stdout=self.out, **kw)

    def checkpoint(self, image, *options, **kw):
        return self.command("checkpoint", "--image-path", image, "--work-path", self.env.t, *options, self.cid, **kw)

    def restore(self, image, *options, **kw):
        return self.command("restore", "-d", "--image-path", image, "--work-path", self.env.t,
                                "--bundle", self.bundle, *options, self.cid, stdout=self.out, **kw)

    def delete(self, **kw):
        return self.command("delete", "-f", self.cid, **kw)

    def status(self):
        state = self.env.state(self.cid)
        return state["status"] if state else None

    def pid(self):
        state = self.env.state(self.cid)
        return state["pid"] if state else 0

    def pids(self):
        return cgroup_pids(self.config["linux"]["cgroupsPath"])

    def gone(self):
        """After a checkpoint: no process is left, and state says so."""
        poll("the container's processes end", lambda: not self.pids(), 5)
        state = self.env.state(self.cid)
        check(state is None or state["status"] == "stopped", f"after the checkpoint the container is {state}")

    # The program's side: tests/cr/cr.h
    def file(self, name):
        return self.rootfs / "cr" / name

    def wait_ready(self, n, seconds=10):
        def there():
            failed = self.failed(n) or self.failed(n - 1)
            check(not failed, f"before round {n}: {failed}")
            if self.file("unavailable.1").exists():
                raise Skip("not on this machine: " + self.file("unavailable.1").read_text())
            return self.file(f"ready.{n}").exists()
        self.wait(f"ready.{n} of the program", there, seconds)

    def go(self, n, text="go"):
        tmp = self.file(f".go.{n}")
        tmp.write_text(text)
        tmp.rename(self.file(f"go.{n}"))

    def failed(self, n):
        try:
            text = self.file(f"result.{n}").read_text().strip()
        except OSError:
            return None
        return text if text and not text.startswith("PASS") else None

    def verify(self, n, seconds=15):
        """Round n: let the program check, and read what it says."""
        self.go(n)

        def result():
            try:
                return self.file(f"result.{n}").read_text().strip()
            except OSError:
                return None
        text = self.wait(f"result.{n} of the program", result, seconds)
        check(text == "PASS", f"round {n}: {text}")

    def wait(self, what, condition, seconds):
        try:
            return poll(what, condition, seconds)
        except Failure as e:
            pids = sorted(self.pids())
            tasks = "; ".join(f"{(proc_stat(p) or ('?', '?', 0))[:2]} {describe(p)}" for p in pids[:6])
            said = self.out.read_text(errors="replace")[-500:] if self.out.exists() else ""
            raise Failure(f"{e}; processes: {tasks or 'none'}; output: {said}") from None


class Rootless(Container):
    """A container of an ordinary user, who is in no file of the machine: without a cgroup, in a user namespace with his
    own id. Commands on it are his, too."""
    USER = 12345
    MAPS = {"uidMappings": [{"containerID": 0, "hostID": USER, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": USER, "size": 1}]}

    def __init__(self, env, cid, args, bundle=None, **config):
        super().__init__(env, cid, args, bundle=bundle, **config)
        if bundle is None:
            linux = self.config["linux"]
            del linux["cgroupsPath"], linux["resources"]
            linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "cgroup"] + [{"type": "user"}]
            linux.update(self.MAPS)
            self.write_config()
        for top in (self.bundle, env.root) if bundle is None else ():
            subprocess.run(["chown", "-R", f"{self.USER}:{self.USER}", top], check=True)
        env.t.chmod(0o777)

    def clone(self, cid):
        other = super().clone(cid)
        del other.config["linux"]["cgroupsPath"]
        other.write_config()
        return other

    def command(self, *args, **kw):
        user = str(self.USER)
        way = [*self.way(), "setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all"]
        return self.env.command(*args, wrapper=[*way, *kw.pop("wrapper", ())], **kw)

    def way(self):
        return ()

    def pids(self):
        """All that are in the pid namespace of its init."""
        def namespace(pid):
            try:
                return os.readlink(f"/proc/{pid}/ns/pid")
            except OSError:
                return None
        init = self.pid()
        mine = namespace(init) if init else None
        found = {int(p) for p in os.listdir("/proc") if p.isdigit() and namespace(p) == mine} if mine else set()
        return {p for p in found if (proc_stat(p) or "  ")[1] not in "ZX"}


class RootlessIds(Rootless):
    """The same with more ids, which newuidmap grants: its files are others for our commands."""
    MAPS = {"uidMappings": [*Rootless.MAPS["uidMappings"], {"containerID": 1, "hostID": 300000, "size": 3000000}],
            "gidMappings": [*Rootless.MAPS["gidMappings"], {"containerID": 1, "hostID": 4000000, "size": 3000000}]}
    ETC = """set -e
        mount -t tmpfs none "$0" && mkdir "$0/upper" "$0/work"
        mount -t overlay -o "lowerdir=/etc,upperdir=$0/upper,workdir=$0/work" overlay /etc
        umount -l "$0"
        echo 'rootless:x:12345:12345::/:/bin/sh' >> /etc/passwd
        echo 'rootless:x:12345:' >> /etc/group
        echo 'rootless:300000:3000000' > /etc/subuid
        echo 'rootless:4000000:3000000' > /etc/subgid
        exec "$@" """

    def way(self):
        (self.env.t / "etc").mkdir(exist_ok=True)
        return ["unshare", "-m", "sh", "-c", self.ETC, self.env.t / "etc"]
