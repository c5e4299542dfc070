# SPDX-License-Identifier: Apache-2.0
"""Every step of create, start, run, exec and delete fails, or is killed, and what is left is compared with what was there.

A test runs in a mount namespace of its own, whose mounts are shared with nobody but the container's, and in which /tmp,
/run, /dev/shm and /var/tmp are empty but for the test: so mounts, cgroups, processes and files can be compared whole.

An error: everything is as before the command. A kill: processes and mounts are gone at once, and after delete --force
all else is; until then a create with the same id works, or says that the id is taken. Then the container is made again.
"""
import ctypes
import os
import socket
from pathlib import Path

from lib import LIBC, Container, Failure, cgroup_dirs, cgroup_tree, check, descendants, poll

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 0x1000, 0x4000, 1 << 18, 1 << 20
QUIET = ("/tmp", "/run", "/dev/shm", "/var/tmp")
ALLOW = {"defaultAction": "SCMP_ACT_ALLOW",
         "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]}


def mount(source, target, fstype=None, flags=0):
    words = [x.encode() if x else None for x in (source, str(target), fstype)]
    if LIBC.mount(words[0], words[1], words[2], flags, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}")


class Surroundings:
    """The test's own view of the machine."""

    def __init__(self, env):
        self.env = env
        if LIBC.unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        t = os.open(env.t, os.O_PATH)
        stasis = os.open(env.stasis, os.O_PATH)
        for d in QUIET:
            mount("tmpfs", d, "tmpfs")
        env.t.mkdir(parents=True)
        mount(f"/proc/self/fd/{t}", env.t, None, MS_BIND)
        if not env.stasis.exists():  # a build below /tmp
            env.stasis.parent.mkdir(parents=True)
            env.stasis.touch()
            mount(f"/proc/self/fd/{stasis}", env.stasis, None, MS_BIND)
        os.close(t)
        os.close(stasis)
        os.chdir("/")
        # What init mounts without care would come back to us.
        mount(None, "/", None, MS_REC | MS_SHARED)

    def files(self):
        found = {}
        for top in QUIET:
            for root, dirs, names in os.walk(top):
                for n in dirs + names:
                    path = Path(root) / n
                    if path.parent == self.env.t and (n.startswith("cmd.") or n.endswith(".out")):
                        continue  # what the commands said
                    if path.parent == self.env.t / "work":
                        continue  # logs and statistics
                    st = path.lstat()
                    found[str(path)] = (oct(st.st_mode), st.st_uid, st.st_nlink if path.is_file() else 0,
                                        st.st_size if path.is_file() else 0)
        return found

    def look(self):
        """{what: how} of everything that a command could leave."""
        found = {"file " + k: v for k, v in self.files().items()}
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, right = line.split(" - ", 1)
            words = left.split()
            key = f"mount {words[4]} of {right}"
            found[key] = found.get(key, ()) + (words[3], words[5])
        for top in cgroup_dirs(self.env.cgroup):
            for d in cgroup_tree(top):
                if d != top:
                    found[f"cgroup {d}"] = ()
        # The supervisor is the subreaper: orphans of the command are below it.
        for pid, comm in descendants(os.getppid()).items():
            if pid != os.getpid():
                found[f"process {pid} {comm}"] = ()
        return found

    def compare(self, before, what, only=""):
        def changed():
            now = self.look()
            return [f"{k}: {before.get(k, 'was not there')} -> {now.get(k, 'gone')}" for k in sorted(now.keys() | before.keys())
                    if now.get(k) != before.get(k) and k.startswith(only)]
        try:
            poll(what, lambda: not changed(), 5, 0.01)
        except Failure:
            raise Failure(f"{what}: {changed()[:12]}") from None


def listen(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(path))
    s.listen(16)
    return s


class Case:
    """A container that goes through every step, and what there is before it."""

    def __init__(self, env, terminal=True):
        self.env = env
        self.around = Surroundings(env)
        self.c = c = Container(env, "one", ["sleep", "1000"], busybox=True, terminal=terminal)
        hook = [{"path": "/bin/true"}]
        (c.rootfs / "bin/true").exists() or (c.rootfs / "bin/true").symlink_to("busybox")
        c.config["hooks"] = {h: hook for h in ("prestart", "createRuntime", "createContainer", "startContainer",
                                               "poststart", "poststop")}
        c.config["linux"]["seccomp"] = ALLOW
        c.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"}
        c.config["linux"]["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
        c.config["linux"]["resources"]["memory"] = {"limit": 100 << 20}
        c.config["mounts"].append({"destination": "/cr", "type": "bind", "source": str(env.t / "volume"), "options": ["rbind"]})
        (env.t / "volume").mkdir()
        c.write_config()
        self.sockets = [listen(env.t / n) for n in ("console", "pidfd")]
        self.pid_file = env.t / "pid"
        self.options = ["--bundle", c.bundle, "--pid-file", self.pid_file, "--pidfd-socket", env.t / "pidfd"]
        if terminal:
            self.options += ["--console-socket", env.t / "console"]
        # The first container makes mount points and the parent cgroup.
        self.command("create", *self.options, "one")
        self.command("delete", "--force", "one")
        self.pid_file.unlink()
        self.before = self.around.look()

    def command(self, *args, **kw):
        return self.env.command(*args, stdout=self.c.out, **kw)

    def fault(self, name, error, *args):
        """The command with the fault, and its status."""
        status, _, text = self.command(*args, env={"FAULT": name + (":EIO" if error else "")}, ok=None)
        if error and status != 0:
            check(status in (1, 255) and f"fault point {name}" in text,
                  f"FAULT={name}:EIO: exit {status}, and the message is '{text.strip()}'")
        return status

    def ends(self, what):
        """All is as before, and the container can be made, run and removed."""
        self.around.compare(self.before, what)
        self.command("create", *self.options, "one")
        self.command("start", "one")
        check(self.c.status() == "running", f"{what}: made again it is {self.c.status()}")
        self.command("delete", "--force", "one")
        self.pid_file.unlink()
        self.around.compare(self.before, f"{what}, made again and deleted")


def create(way):
    def test(env, name, error):
        case = Case(env)
        status = case.fault(name, error, *way, *case.options, "one")
        what = f"after FAULT={name}{':EIO' if error else ''} of {way[0]} (exit {status})"
        check(status != 0, f"{what}: the fault point is never reached, or its failure is ignored")
        if error:
            case.ends(what)
            return
        case.pid_file.unlink(missing_ok=True)  # nobody knows any more that it was ours
        case.around.compare(case.before, f"{what}: before delete", "mount")
        case.around.compare(case.before, f"{what}: before delete", "process")
        status, _, text = case.command("create", *case.options, "one", ok=None)
        if status != 0:
            check("container with given ID already exists: one" in text, f"{what}: create again says '{text.strip()}'")
        case.command("delete", "--force", "one")
        case.pid_file.unlink(missing_ok=True)
        case.ends(what)
    return test


def restore(env, name, error):
    """The same steps, when a container is made from an image."""
    case = Case(env, terminal=False)
    image = env.t / "image"
    (env.t / "work").mkdir()
    case.command("run", "-d", *case.options, "one")
    case.command("checkpoint", "--image-path", image, "--work-path", env.t / "work", "one")
    case.command("delete", "--force", "one")
    case.pid_file.unlink()
    case.before = case.around.look()
    way = ["restore", "-d", "--image-path", image, "--work-path", env.t / "work", "--bundle", case.c.bundle,
           "--pid-file", case.pid_file, "one"]
    status = case.fault(name, error, *way)
    what = f"after FAULT={name}{':EIO' if error else ''} of restore (exit {status})"
    check(status != 0, f"{what}: the fault point is never reached, or its failure is ignored")
    if not error:
        case.pid_file.unlink(missing_ok=True)
        case.around.compare(case.before, f"{what}: before delete", "mount")
        case.around.compare(case.before, f"{what}: before delete", "process")
        case.command("delete", "--force", "one")
    case.around.compare(case.before, what)
    case.command(*way)
    check(case.c.status() == "running", f"{what}: restored again it is {case.c.status()}")
    case.command("delete", "--force", "one")
    case.pid_file.unlink(missing_ok=True)
    case.ends(f"{what}, restored again and deleted")


def start(env, name, error):
    case = Case(env)
    case.command("create", *case.options, "one")
    status = case.fault(name, error, "start", "one")
    what = f"after FAULT={name}{':EIO' if error else ''} of start (exit {status})"
    in_init = name in ("start-go", "start-hooks")  # init has no FAULT: it was given to start
    check((status == 0) == in_init, f"{what}: the fault point is never reached, or its failure is ignored")
    now = case.c.status()
    if name == "start-start":
        check(now == "created", f"{what}: the container is {now}")
        case.command("start", "one")
    else:
        poll(f"{what}: it runs, as it was told to", lambda: case.c.status() == "running", 5)
    case.command("delete", "--force", "one")
    case.pid_file.unlink()
    case.ends(what)


def start_of_init(env, name, error):
    """The fault is init's: it was there when it was created."""
    case = Case(env)
    status = case.fault(name, error, "create", *case.options, "one")
    if name not in ("start-go", "start-hooks"):
        check(status == 0, f"create with FAULT={name}: exit {status}")
    status, _, text = case.command("start", "one", ok=None)
    what = f"after FAULT={name}{':EIO' if error else ''} in init (exit {status}: {text.strip()})"
    if name in ("start-go", "start-hooks"):
        check(not error or (status == 1 and f"fault point {name}" in text), f"{what}: its error is not told")
        poll(f"{what}: the container is stopped", lambda: case.c.status() == "stopped", 5)
    case.command("delete", "--force", "one")
    case.pid_file.unlink()
    case.ends(what)


def run(env, name, error):
    case = Case(env)
    status = case.fault(name, error, "run", "-d", *case.options, "one")
    what = f"after FAULT={name}{':EIO' if error else ''} of run (exit {status})"
    check(status != 0 or not error, f"{what}: the fault point is never reached, or its failure is ignored")
    if not error:
        case.command("delete", "--force", "one")
    case.pid_file.unlink(missing_ok=True)
    case.ends(what)


def exec_(terminal):
    def test(env, name, error):
        case = Case(env, terminal)
        case.command("run", "-d", *case.options, "one")
        case.pid_file.unlink()
        options = ["--detach", "--pid-file", case.pid_file, "--pidfd-socket", env.t / "pidfd"]
        if terminal:
            options += ["--tty", "--console-socket", env.t / "console"]
        running = case.around.look()
        status = case.fault(name, error, "exec", *options, "one", "sleep", "1001")
        what = f"after FAULT={name}{':EIO' if error else ''} of exec (exit {status})"
        # Of its process' death exec knows no more than of that of the program.
        died = not error and name in ("exec-namespaces", "exec-console", "exec-closed", "exec-process")
        check(status != 0 or died, f"{what}: the fault point is never reached, or its failure is ignored")
        # Killed when all was done: then the process is there, as after a success.
        started = not error and name in ("exec-ready", "exec-pid-file")
        if started:
            check(len(case.c.pids()) == 2, f"{what}: processes {case.c.pids()}")
        if not error:
            case.pid_file.unlink(missing_ok=True)
        if not started:
            case.around.compare(running, what)
        check(case.c.status() == "running", f"{what}: the container is {case.c.status()}")
        case.command("exec", "one", "true")
        case.command("delete", "--force", "one")
        case.ends(what)
    return test


def delete(way):
    def test(env, name, error):
        case = Case(env)
        case.command("run", "-d", *case.options, "one")
        case.pid_file.unlink()
        if not way:
            case.command("kill", "one", "KILL")
            poll("it stops", lambda: case.c.status() == "stopped", 5)
        status = case.fault(name, error, "delete", *way, "one")
        what = f"after FAULT={name}{':EIO' if error else ''} of delete (exit {status})"
        check(status != 0, f"{what}: the fault point is never reached, or its failure is ignored")
        if name != "delete-end":
            check(case.c.status() in ("stopped", "running"), f"{what}: the container is {case.c.status()}")
            case.command("delete", *way, "one")
        else:
            case.command("delete", "--force", "one")
        case.ends(what)
    return test


# What restore does in another way: the program's descriptors, identity and limits come from the image.
NOT_OF_RESTORE = ("create-closed", "create-process")

WAYS = {
    "create": {"": create(["create"]), "/run": create(["run", "-d"]), "/restore": restore},
    "start": {"": start, "/init": start_of_init, "/run": run},
    "exec": {"": exec_(False), "/terminal": exec_(True)},
    "delete": {"": delete([]), "/force": delete(["--force"])},
}
