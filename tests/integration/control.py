# SPDX-License-Identifier: Apache-2.0
"""The methods of the control socket, called by tests/varlink.py."""
import array
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import varlink
from lib import Failure, Skip, base_config, check, make_rootfs, poll

SID = "pod"
NAP = ["sleep", "1000"]
COUNT = 'i=0; while :; do i=$((i+1)); echo $i > /.count; mv /.count /count; usleep 10000; done'


class Pod:
    """A sandbox, and bundles for its containers."""
    def __init__(self, env, wrapper=()):
        self.env, self.clients = env, []
        env.command("ctl", "--sandbox", SID, "--new", "List", wrapper=wrapper)

    def path(self):
        return self.env.root / "@sandboxes" / SID / "control.sock"

    def client(self):
        client = varlink.Client(self.path())
        self.clients.append(client)
        return client

    def close(self):
        for client in self.clients:
            client.close()

    def bundle(self, name, args=None, **config):
        bundle = self.env.t / f"b-{name}"
        make_rootfs(bundle / "rootfs", busybox=True)
        edit = config.pop("edit", None)
        spec = base_config(args or NAP, f"{self.env.cgroup}/{name}", **config)
        if edit:
            edit(spec)
        (bundle / "config.json").write_text(json.dumps(spec))
        return str(bundle)

    def file(self, name, path):
        with contextlib.suppress(OSError):
            return (self.env.t / f"b-{name}" / "rootfs" / path).read_text()
        return ""


@contextlib.contextmanager
def pod(env, name="root", args=None, wrapper=(), **config):
    """A sandbox whose first container runs, and a client. wrapper: a command that runs the supervisor."""
    p = Pod(env, wrapper)
    try:
        c = p.client()
        c.call("StartRoot", {"id": name, "bundle": p.bundle(name, args, **config)})
        yield p, c
    finally:
        p.close()


def refused(error, c, method, parameters=None, fds=(), saying=""):
    """The call must fail with this error."""
    try:
        reply = c.call(method, parameters, fds)
    except varlink.Error as e:
        check(e.name == error, f"{method} {parameters}: {e}, not {error}")
        check(saying in e.message, f"{method} {parameters}: \"{e.message}\" does not say \"{saying}\"")
        return e.parameters
    raise Failure(f"{method} {parameters} succeeds: {reply}")


def status(c, cid):
    return c.call("State", {"id": cid})["state"]["status"]


def in_thread(f):
    """Runs it beside us; .result() waits, and has what it returned or raises what it raised."""
    box = {}

    def work():
        try:
            box["value"] = f()
        except BaseException as e:  # noqa: BLE001
            box["error"] = e
    t = threading.Thread(target=work, daemon=True)
    t.start()

    def result():
        t.join(30)
        check(not t.is_alive(), "no answer")
        if "error" in box:
            raise box["error"]
        return box["value"]
    t.result = result
    return t


# A container's life --------------------------------------------------------------------------------------------------

def life(env):
    with pod(env) as (p, c):
        check([(m["id"], m["name"], m["status"]) for m in c.call("List")["containers"]] == [("root", "POD", "running")], c.call("List"))
        made = c.call("Create", {"id": "web", "name": "www", "bundle": p.bundle("web", ["sh", "-c", "exit 7"])})
        check(status(c, "web") == "created", status(c, "web"))
        check(c.call("State", {"id": "web"})["state"]["pid"] == made["hostPid"], "another pid")
        check([m["name"] for m in c.call("List")["containers"]] == ["POD", "www"], c.call("List"))
        waiting = in_thread(lambda: p.client().call("Wait", {"id": "web"}))
        c.call("Start", {"id": "web"})
        check(waiting.result()["exit"] == {"code": 7, "status": 7 << 8}, waiting.result())
        check(c.call("Wait", {"id": "web"})["exit"]["code"] == 7, "it is not known any more")
        check(status(c, "web") == "stopped", status(c, "web"))
        refused("InvalidState", c, "Start", {"id": "web"}, saying="stopped")
        refused("InvalidState", c, "Start", {"id": "root"}, saying="already running")
        refused("InvalidState", c, "StartRoot", {"id": "web"}, saying="use Start")
        refused("InvalidState", c, "Destroy", {"id": "root", "force": False}, saying="not stopped")
        c.call("Destroy", {"id": "web", "force": False})
        refused("ContainerNotFound", c, "State", {"id": "web"})
        c.call("Destroy", {"id": "root"})
        check(c.call("List")["containers"] == [], c.call("List"))
    poll("the sandbox goes", lambda: not (env.root / "@sandboxes").exists())


def start_root(env):
    """In two steps: made by Create or the command line, started by StartRoot; and what it does when the start fails."""
    p = Pod(env)
    c = p.client()
    c.call("Create", {"id": "a", "name": "POD", "bundle": p.bundle("a")})
    refused("InvalidParameter", c, "StartRoot", {"id": "a", "noPivot": True}, saying="noPivot")
    refused("ContainerExists", c, "StartRoot", {"id": "b", "bundle": p.bundle("b")}, saying="POD already: a")
    c.call("StartRoot", {"id": "a"})
    check(status(c, "a") == "running", status(c, "a"))
    c.call("Destroy", {"id": "a"})
    refused("InvalidConfiguration", c, "StartRoot", {"id": "b", "bundle": p.bundle("c", ["/nothing"])}, saying="no such file")
    check(c.call("List")["containers"] == [], c.call("List"))
    p.close()


def create_refused(env):
    with pod(env) as (p, c):
        good = p.bundle("good")
        refused("ContainerExists", c, "Create", {"id": "root", "bundle": good}, saying="already exists")
        refused("InvalidParameter", c, "Create", {"id": "a/b", "bundle": good}, saying="id")
        refused("InvalidParameter", c, "Create", {"id": "", "bundle": good}, saying="id")
        refused("InvalidParameter", c, "Create", {"id": "x", "bundle": "good"}, saying="no absolute path")
        refused("InvalidParameter", c, "Create", {"id": "x", "bundle": good, "cgroupManager": "magic"}, saying="systemd")
        refused("InvalidParameter", c, "Create", {"id": "x", "bundle": good, "name": "a b"}, saying="name")
        refused("SystemError", c, "Create", {"id": "x", "bundle": "/nothing"}, saying="no such file")
        broken = p.bundle("broken", edit=lambda s: s["process"].update(cwd="x"))
        refused("InvalidConfiguration", c, "Create", {"id": "x", "bundle": broken}, saying="process.cwd")
        check([m["id"] for m in c.call("List")["containers"]] == ["root"], c.call("List"))
        check(sorted(env.containers()) == ["@sandboxes", "root"], env.containers())
        c.call("Destroy", {"id": "root"})


def other_sandbox(env):
    """A container of another sandbox, or of none, is not this one's."""
    with pod(env) as (p, c):
        env.command("run", "-d", "--bundle", p.bundle("alone"), "alone")
        for method in ("Start", "Wait", "State", "Destroy", "Event"):
            refused("ContainerNotFound", c, method, {"id": "alone"})
        refused("ContainerNotFound", c, "Signal", {"id": "alone", "signal": 9})
        check(env.state("alone")["status"] == "running", "it was touched")
        env.command("delete", "-f", "alone")
        c.call("Destroy", {"id": "root"})


# Descriptors ---------------------------------------------------------------------------------------------------------

def stdio(env):
    with pod(env) as (p, c):
        pipes = [os.pipe() for _ in range(5)]
        mine = [pipes[0][1], *(r for r, _ in pipes[1:])]
        theirs = [pipes[0][0], *(w for _, w in pipes[1:])]
        script = 'read x; echo "out $x"; echo err >&2; echo three >&3; echo four >&4; ls /proc/self/fd | wc -l >&3'
        c.call("Create", {"id": "io", "bundle": p.bundle("io", ["sh", "-c", script])}, theirs)
        for fd in theirs:
            os.close(fd)
        c.call("Start", {"id": "io"})
        os.write(mine[0], b"in\n")
        check(c.call("Wait", {"id": "io"})["exit"]["code"] == 0, "it failed")
        got = [os.read(fd, 100) for fd in mine[1:]]
        # 0 to 4, and that of the directory
        check(got == [b"out in\n", b"err\n", b"three\n6\n", b"four\n"], got)
        for fd in mine:
            os.close(fd)
        c.call("Create", {"id": "none", "bundle": p.bundle("none", ["sh", "-c", "readlink /proc/self/fd/0 > /links; readlink /proc/self/fd/2 >> /links; cat"])})
        c.call("Start", {"id": "none"})
        check(c.call("Wait", {"id": "none"})["exit"]["code"] == 0, "stdin is no /dev/null")
        check(p.file("none", "links").split() == ["/dev/null"] * 2, p.file("none", "links"))
        for cid in ("io", "none", "root"):
            c.call("Destroy", {"id": cid})


def wrong_descriptors(env):
    with pod(env) as (p, c), open("/dev/null", "rb") as null:
        b, fd = p.bundle("x"), null.fileno()
        for n in (1, 2):
            e = refused("InvalidDescriptors", c, "Create", {"id": "x", "bundle": b}, [fd] * n, saying="stdin, stdout and stderr")
            check(e["received"] == n, e)
            refused("InvalidDescriptors", c, "ExecuteAsync", {"id": "root", "args": ["true"]}, [fd] * n)
        refused("InvalidDescriptors", c, "Create", {"id": "x", "bundle": b, "terminal": True}, saying="unix socket")
        refused("InvalidDescriptors", c, "Create", {"id": "x", "bundle": b, "terminal": True}, [fd], saying="unix socket")
        refused("InvalidParameter", c, "Create", {"id": "x", "bundle": b, "terminal": True, "consoleSocket": "/x"}, [fd], saying="consoleSocket")
        for method, parameters in (("Start", {"id": "root"}), ("Pause", {}), ("Destroy", {"id": "root"}), ("Processes", {}),
                                   ("Signal", {"id": "root", "signal": 9}), ("WaitPID", {"id": "root", "pid": 1})):
            refused("InvalidDescriptors", c, method, parameters, [fd], saying="takes no descriptors")
        check(status(c, "root") == "running", "it was done all the same")
        # more than a message may have: the connection ends, and nobody else's
        other = p.client()
        try:
            other.call("Create", {"id": "x", "bundle": b}, [fd] * 100)
            raise Failure("100 descriptors are taken")
        except (varlink.Error, varlink.Closed, OSError):
            pass
        check([m["id"] for m in c.call("List")["containers"]] == ["root"], c.call("List"))
        c.call("Destroy", {"id": "root"})


def receive_master(sock):
    sock.settimeout(20)
    _, control, _, _ = sock.recvmsg(4096, socket.CMSG_SPACE(4))
    fds = array.array("i")
    fds.frombytes(control[0][2][:4])
    return fds[0]


def read_until(fd, text):
    got = b""
    while text not in got:
        got += os.read(fd, 4096)
    return got


def terminal(env):
    """A terminal through a descriptor, the signal to its foreground process group, and an exec with a terminal of its own."""
    script = 'trap "echo caught >> /log" INT; sh -c \'trap "echo inner >> /log; exit 0" INT; echo ready; while :; do usleep 10000; done\'; sleep 1000'
    with pod(env) as (p, c):
        ours, theirs = socket.socketpair()
        bundle = p.bundle("tty", ["sh", "-c", script], terminal=True)
        refused("InvalidConfiguration", c, "Create", {"id": "tty", "bundle": bundle}, saying="tty")
        c.call("Create", {"id": "tty", "bundle": bundle, "terminal": True}, [theirs.fileno()])
        master = receive_master(ours)
        c.call("Start", {"id": "tty"})
        read_until(master, b"ready")
        c.call("Signal", {"id": "tty", "signal": signal.SIGINT, "mode": "foreground"})
        poll("the signal", lambda: "inner" in p.file("tty", "log") and "caught" in p.file("tty", "log"))
        refused("InvalidState", c, "Signal", {"id": "root", "signal": 2, "mode": "foreground"}, saying="no terminal")
        # a shell with jobs: the job has a process group of its own, and the shell is not in it
        pid = c.call("ExecuteAsync", {"id": "tty", "args": ["sh", "-i"], "terminal": True}, [theirs.fileno()])["pid"]
        job = receive_master(ours)
        os.write(job, b"set -m; sh -c 'echo be''gun; sleep 1000'; echo ended $?\n")
        read_until(job, b"begun")
        c.call("Signal", {"id": "tty", "pid": pid, "signal": signal.SIGTERM, "mode": "foreground"})
        read_until(job, b"ended 143")
        os.write(job, b"exit 5\n")
        check(c.call("WaitPID", {"id": "tty", "pid": pid})["exit"] == {"code": 5, "status": 5 << 8}, "another status")
        # its end is not the container's
        check(status(c, "tty") == "running", status(c, "tty"))
        c.call("Destroy", {"id": "tty"})
        c.call("Destroy", {"id": "root"})


# Further processes ---------------------------------------------------------------------------------------------------

def execute(env):
    with pod(env) as (p, c):
        r, w = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)

        def output(**parameters):
            pid = c.call("ExecuteAsync", {"id": "root", **parameters}, [null, w, null])["pid"]
            check(c.call("WaitPID", {"id": "root", "pid": pid})["exit"]["code"] == 0, f"{parameters} failed")
            return os.read(r, 4096).decode()
        check(output(args=["sh", "-c", "pwd; echo $A; id -u; id -g; id -G"], cwd="/tmp", env=["A=b c"], user="12:13", groups=[14, 15])
              == "/tmp\nb c\n12\n13\n13 14 15\n", "options")
        check(output(process={"args": ["sh", "-c", "pwd; id -u"], "cwd": "/bin", "user": {"uid": 3, "gid": 4}, "env": ["PATH=/bin"]}) == "/bin\n3\n", "process")
        caps = output(args=["sh", "-c", "grep CapEff /proc/self/status"], capabilities=["CAP_SYS_TIME"])
        check(int(caps.split()[1], 16) >> 25 & 1 == 1, caps)
        check(output(args=["sh", "-c", "grep NoNewPrivs /proc/self/status"], noNewPrivileges=True).split()[1] == "1", "no_new_privs")
        refused("InvalidParameter", c, "ExecuteAsync", {"id": "root"}, saying="args: is missing")
        refused("InvalidParameter", c, "ExecuteAsync", {"id": "root", "args": []}, saying="args: is empty")
        refused("InvalidParameter", c, "ExecuteAsync", {"id": "root", "args": ["id"], "process": {"args": ["id"], "cwd": "/"}}, saying="args")
        refused("InvalidParameter", c, "ExecuteAsync", {"id": "root", "process": {"cwd": "/"}}, saying="args: missing")
        refused("InvalidParameter", c, "ExecuteAsync", {"id": "root", "args": ["id"], "groups": [-1]}, saying="group id")
        refused("InvalidParameter", c, "ExecuteAsync", {"id": "root", "args": ["id"], "groups": ["x"]}, saying="groups[0]: a whole number")
        refused("InvalidConfiguration", c, "ExecuteAsync", {"id": "root", "args": ["id"], "user": "root"}, saying="UID[:GID]")
        refused("InvalidConfiguration", c, "ExecuteAsync", {"id": "root", "args": ["id"], "cwd": "x"}, saying="absolute")
        refused("InvalidConfiguration", c, "ExecuteAsync", {"id": "root", "args": ["/nothing"]}, saying="no such file")
        for fd in (r, w, null):
            os.close(fd)
        c.call("Signal", {"id": "root", "signal": 9})
        check(c.call("Wait", {"id": "root"})["exit"] == {"signal": 9, "status": 9}, "how it ended")
        refused("InvalidState", c, "ExecuteAsync", {"id": "root", "args": ["id"]}, saying="stopped container")
        c.call("Destroy", {"id": "root"})


def options(env):
    """The less common parameters: another config, a console socket by its path, a process in a paused container."""
    with pod(env) as (p, c):
        bundle = p.bundle("other")
        spec = json.loads((env.t / "b-other/config.json").read_text())
        spec["process"]["args"] = ["sh", "-c", "exit 21"]
        (env.t / "second.json").write_text(json.dumps(spec))
        c.call("Create", {"id": "other", "bundle": bundle, "config": str(env.t / "second.json"), "noPivot": True, "noNewKeyring": True})
        c.call("Start", {"id": "other"})
        check(c.call("Wait", {"id": "other"})["exit"]["code"] == 21, "not the other config")
        c.call("Destroy", {"id": "other"})
        refused("SystemError", c, "Create", {"id": "other", "bundle": bundle, "config": "/nothing.json"}, saying="/nothing.json")
        path = env.t / "console"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            pid = c.call("ExecuteAsync", {"id": "root", "args": ["sh", "-c", "tty; exit 6"], "consoleSocket": str(path)})["pid"]
            connection, _ = listener.accept()
            master = receive_master(connection)
            read_until(master, b"/dev/pts/")
            check(c.call("WaitPID", {"id": "root", "pid": pid})["exit"]["code"] == 6, "exit")
            connection.close()
            os.close(master)
        refused("SystemError", c, "ExecuteAsync", {"id": "root", "args": ["true"], "consoleSocket": "/nothing/here"}, saying="/nothing/here")
        c.call("Pause")
        late = in_thread(lambda: p.client().call("ExecuteAsync", {"id": "root", "args": ["sh", "-c", "exit 4"], "ignorePaused": True}))
        time.sleep(0.1)
        c.call("Resume")
        check(c.call("WaitPID", {"id": "root", "pid": late.result()["pid"]})["exit"]["code"] == 4, "exit")
        c.call("Destroy", {"id": "root"})


def wait_pid(env):
    """Whoever made the process, and whether it has ended before or not; several clients at once."""
    with pod(env, args=["sh", "-c", "(while [ ! -e /go ]; do usleep 10000; done; exit 9) & wait $!; sleep 1000"]) as (p, c):
        before = [c.call("ExecuteAsync", {"id": "root", "args": ["sh", "-c", f"exit {n}"]}) for n in (1, 2, 3)]
        for n, x in enumerate(before, 1):
            check(x["pid"] != x["hostPid"], x)
            for _ in range(2):
                check(c.call("WaitPID", {"id": "root", "pid": x["pid"]})["exit"]["code"] == n, x)
        later = c.call("ExecuteAsync", {"id": "root", "args": ["sh", "-c", "while [ ! -e /go ]; do usleep 10000; done; kill -TERM $$"]})["pid"]
        child = next(x["pid"] for x in c.call("Processes", {"id": "root"})["processes"] if x["parent"] == 1)
        waiting = [in_thread(lambda q=q: p.client().call("WaitPID", {"id": "root", "pid": q})["exit"]) for q in (later, later, child, child)]
        gone = p.client()
        gone.send("io.stasis.Sandbox.WaitPID", {"id": "root", "pid": later})
        gone.close()
        refused("ProcessNotFound", c, "WaitPID", {"id": "root", "pid": 9999})
        refused("InvalidParameter", c, "WaitPID", {"id": "root", "pid": 0}, saying="no pid")
        refused("InvalidParameter", c, "WaitPID", {"id": "root", "pid": -1}, saying="no pid")
        refused("ContainerNotFound", c, "WaitPID", {"id": "nosuch", "pid": 1})
        time.sleep(0.2)  # they wait by now, or find out in their first look
        c.call("ExecuteAsync", {"id": "root", "args": ["touch", "/go"]})
        for w in waiting[:2]:
            check(w.result() == {"signal": 15, "status": 15}, w.result())
        for w in waiting[2:]:
            try:
                check(w.result() == {"code": 9, "status": 9 << 8}, w.result())
            except varlink.Error as e:  # Linux before 6.15 tells the parent only; later ones may have reaped it before the search
                check(e.name in ("ExitUnknown", "ProcessNotFound"), e)
        c.call("Destroy", {"id": "root"})


def many_ended(env):
    """The statuses of so many ended processes only: the supervisor does not grow. The newest one is known."""
    with pod(env) as (_, c):
        def rss():
            with open(f"/proc/{c.pid()}/status", encoding="ascii") as f:
                return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        first = c.call("ExecuteAsync", {"id": "root", "args": ["sh", "-c", "exit 3"]})["pid"]
        check(c.call("WaitPID", {"id": "root", "pid": first})["exit"]["code"] == 3, "the first")
        for n in range(300):
            last = c.call("ExecuteAsync", {"id": "root", "args": ["true"]})["pid"]
            check(c.call("WaitPID", {"id": "root", "pid": last})["exit"]["code"] == 0, f"number {n}")
        refused("ProcessNotFound", c, "WaitPID", {"id": "root", "pid": first})
        with open(f"/proc/{c.pid()}/stat", encoding="ascii") as f:
            check(f.read().split()[2] in "SR", "the supervisor")
        zombies = subprocess.run(["ps", "--ppid", str(c.pid()), "-o", "stat="], capture_output=True, text=True, check=False).stdout
        check("Z" not in zombies, zombies)
        if b"__asan_init" not in env.stasis.read_bytes():  # a sanitizers' build is larger
            check(rss() < 8192, f"{rss()} KiB")
        c.call("Destroy", {"id": "root"})


def processes(env):
    with pod(env, args=["sh", "-c", "sleep 1000 & sleep 1000 & wait"]) as (p, c):
        c.call("Create", {"id": "web", "bundle": p.bundle("web")})
        poll("three processes", lambda: [q["name"] for q in c.call("Processes", {"id": "root"})["processes"]].count("sleep") == 2)
        inside = c.call("Processes", {"id": "root"})["processes"]
        check([q["pid"] for q in inside] == [1, 2, 3] and [q["parent"] for q in inside] == [0, 1, 1], inside)
        check(all(q["id"] == "root" and q["hostPid"] != q["pid"] and q["threads"] == 1 and q["uid"] == 0 for q in inside), inside)
        check(inside[1]["command"] == ["sleep", "1000"] and inside[0]["command"][0] == "sh", inside)
        check(sorted({q["id"] for q in c.call("Processes")["processes"]}) == ["root", "web"], "all of the sandbox")
        c.call("Destroy", {"id": "web"})
        c.call("Signal", {"id": "root", "signal": 9})
        c.call("Wait", {"id": "root"})
        refused("InvalidState", c, "Processes", {"id": "root"}, saying="stopped")
        check(c.call("Processes")["processes"] == [], "of a stopped container")
        c.call("Destroy", {"id": "root"})


def signals(env):
    script = 'trap "echo init >> /log" USR1; (trap "echo child >> /log" USR1; echo up >> /log; while :; do usleep 10000; done) & echo up >> /log; while :; do usleep 10000; done'
    with pod(env, args=["sh", "-c", script]) as (p, c):
        poll("both", lambda: p.file("root", "log").count("up") == 2)

        def log():
            return p.file("root", "log").split()[2:]
        c.call("Signal", {"id": "root", "signal": signal.SIGUSR1})
        poll("init's", lambda: log() == ["init"])
        child = next(q["pid"] for q in c.call("Processes", {"id": "root"})["processes"] if q["name"] == "sh" and q["parent"] == 1)
        c.call("Signal", {"id": "root", "signal": signal.SIGUSR1, "pid": child, "mode": "process"})
        poll("the child's", lambda: log() == ["init", "child"])
        c.call("Signal", {"id": "POD", "signal": 0})  # by name
        refused("ProcessNotFound", c, "Signal", {"id": "root", "signal": 10, "pid": 9999})
        refused("InvalidParameter", c, "Signal", {"id": "root", "signal": 10, "pid": 1, "mode": "all"}, saying="pid")
        refused("InvalidParameter", c, "Signal", {"id": "root", "signal": 10, "mode": "some"}, saying="foreground")
        for wrong in (-1, 65, 1 << 40):
            refused("InvalidParameter", c, "Signal", {"id": "root", "signal": wrong}, saying="no signal")
        for wrong in (0, -1, 1 << 40):
            refused("InvalidParameter", c, "Signal", {"id": "root", "signal": 10, "pid": wrong}, saying="no pid")
        # a pid of the host that is none of the container's
        refused("ProcessNotFound", c, "Signal", {"id": "root", "signal": 9, "pid": os.getpid()})
        c.call("Signal", {"id": "root", "signal": signal.SIGKILL, "mode": "all"})
        check(c.call("Wait", {"id": "root"})["exit"]["signal"] == 9, "killed")
        refused("InvalidState", c, "Signal", {"id": "root", "signal": 9}, saying="not running")
        c.call("Destroy", {"id": "root"})


# The whole sandbox ---------------------------------------------------------------------------------------------------

def pause(env):
    with pod(env, args=["sh", "-c", COUNT]) as (p, c):
        c.call("Create", {"id": "web", "bundle": p.bundle("web", ["sh", "-c", COUNT])})
        c.call("Start", {"id": "web"})
        c.call("Create", {"id": "idle", "bundle": p.bundle("idle")})
        c.call("Create", {"id": "done", "bundle": p.bundle("done", ["true"])})
        c.call("Start", {"id": "done"})
        c.call("Wait", {"id": "done"})
        refused("InvalidState", c, "Resume", saying="paused")

        def all_status():
            return {m["id"]: m["status"] for m in c.call("List")["containers"]}

        def counts():
            return [int(p.file(x, "count") or 0) for x in ("root", "web")]
        poll("counting", lambda: min(counts()) > 2)
        check(sorted(c.call("Pause")["containers"]) == ["idle", "root", "web"], "which ones")
        check(all_status() == {"root": "paused", "web": "paused", "idle": "paused", "done": "stopped"}, all_status())
        before = counts()
        time.sleep(0.1)
        check(counts() == before, "they count")
        refused("InvalidState", c, "Pause", saying="paused or stopped")
        refused("InvalidState", c, "ExecuteAsync", {"id": "root", "args": ["true"]}, saying="paused")
        check(sorted(c.call("Resume")["containers"]) == ["idle", "root", "web"], "which ones")
        poll("counting on", lambda: min(counts()) > max(before))
        env.command("pause", "web")
        check(sorted(c.call("Pause")["containers"]) == ["idle", "root"], "web was paused")
        check(sorted(c.call("Resume")["containers"]) == ["idle", "root", "web"], "all go on")
        # one that cannot be paused: none is
        c.call("Create", {"id": "zz", "bundle": p.bundle("zz"), "cgroupManager": "disabled"})
        refused("InvalidState", c, "Pause", saying="zz: cannot pause a container without a cgroup")
        check(all_status() == {"root": "running", "web": "running", "idle": "created", "done": "stopped", "zz": "created"}, all_status())
        for cid in ("zz", "done", "idle", "web", "root"):
            c.call("Destroy", {"id": cid})


def events(env):
    with pod(env) as (p, c):
        data = c.call("Event", {"id": "root"})["data"]
        check(data["pids"]["current"] == 1, data)
        refused("InvalidParameter", c, "Event", {"id": "root", "interval": 100}, saying="interval")
        stream = p.client().replies("io.stasis.Sandbox.Event", {"id": "root", "interval": 20})
        for _ in range(5):
            check(next(stream)["type"] == "stats", "stats")
        c.call("Signal", {"id": "root", "signal": 9})
        rest = [e["type"] for e in stream]
        check(rest[-1] == "exit" and set(rest[:-1]) <= {"stats"}, rest)
        refused("InvalidState", c, "Event", {"id": "root"}, saying="stopped")
        with contextlib.suppress(StopIteration):
            try:
                next(p.client().replies("io.stasis.Sandbox.Event", {"id": "root", "interval": 1}))
                raise Failure("an interval of 1 ms is taken")
            except varlink.Error as e:
                check(e.name == "InvalidParameter", e)
        c.call("Destroy", {"id": "root"})


def events_of_sandbox(env):
    """One call tells of all containers: what they use, and what happens to them."""
    with pod(env) as (p, c):
        total = c.call("Event")
        check(total["type"] == "total" and total["id"] == SID and "name" not in total and total["data"]["pids"]["current"] == 1, total)
        refused("InvalidParameter", c, "Event", {"interval": 100}, saying="interval")
        refused("InvalidParameter", c, "Event", {"id": "root", "interval": 0}, saying="interval")
        c.call("Create", {"id": "two", "name": "web", "bundle": p.bundle("two", ["sh", "-c", "sleep 1000 & wait"])})
        c.call("Start", {"id": "two"})
        poll("two processes", lambda: len(c.call("Processes", {"id": "two"})["processes"]) == 2)
        stream = p.client().replies("io.stasis.Sandbox.Event", {"interval": 50})
        seen = [next(stream) for _ in range(3)]
        check([(x["type"], x["id"], x.get("name")) for x in seen] == [("stats", "root", "POD"), ("stats", "two", "web"), ("total", SID, None)], seen)
        one, two, both = (x["data"] for x in seen)
        check(both["pids"]["current"] == one["pids"]["current"] + two["pids"]["current"] == 3, both["pids"])
        check(both["memory"]["usage"]["usage"] == one["memory"]["usage"]["usage"] + two["memory"]["usage"]["usage"], both["memory"])
        check("psi" not in both["cpu"], both["cpu"])

        quiet = in_thread(lambda: [x for x in p.client().replies("io.stasis.Sandbox.Event", {"interval": 0})])
        time.sleep(0.3)
        c.call("Create", {"id": "three", "bundle": p.bundle("three", ["sh", "-c", "exit 7"])})
        c.call("Start", {"id": "three"})
        c.call("Wait", {"id": "three"})
        time.sleep(0.1)
        c.call("Destroy", {"id": "three"})
        image = str(env.t / "image")
        c.call("Checkpoint", {"imagePath": image, "leaveRunning": True})
        c.call("Signal", {"id": "two", "signal": 9})
        time.sleep(0.1)
        c.call("Destroy", {"id": "two"})
        c.call("Checkpoint", {"imagePath": image})
        check(set(x["type"] for x in stream) >= {"stats", "total", "create", "start", "exit", "delete", "checkpoint", "end"}, "the stream")
        happened = quiet.result()
    check(happened[-1] == {"id": SID, "type": "end"}, happened)

    def of(cid):
        return [(x["type"], x.get("data", {}).get("outcome") or x.get("data", {}).get("status")) for x in happened if x["id"] == cid]
    check(of("three") == [("create", None), ("start", None), ("exit", 7 << 8), ("delete", None)], happened)
    check(of("two") == [("checkpoint", "begun"), ("checkpoint", "completed"), ("exit", 9), ("delete", None)], happened)
    check(sorted(of("root")) == sorted([("checkpoint", "begun"), ("checkpoint", "completed")] * 2 + [("exit", 9), ("delete", None)]), happened)
    check([x["data"]["checkpoints"] for x in happened if x["id"] == "root" and x["type"] == "checkpoint"] == [1, 1, 2, 2], happened)
    poll("the sandbox goes", lambda: not (env.root / "@sandboxes").exists())


def events_of_restore(env):
    """A restore that succeeds, one that fails, a checkpoint that fails."""
    with pod(env) as (p, c):
        image = str(env.t / "image")
        stream = in_thread(lambda: [x for x in p.client().replies("io.stasis.Sandbox.Event", {"interval": 0})])
        poll("a worker", lambda: "stasis:worker" in subprocess.run(["ps", "--ppid", str(c.pid()), "-o", "comm="], capture_output=True, text=True, check=False).stdout)
        time.sleep(0.2)
        c.call("Create", {"id": "web", "bundle": p.bundle("web")})
        c.call("Start", {"id": "web"})
        refused("SystemError", c, "Checkpoint", {"id": "web", "imagePath": "/proc/nothing"})
        c.call("Checkpoint", {"id": "web", "imagePath": image})
        time.sleep(0.1)
        c.call("RestoreSubcontainer", {"id": "again", "name": "web", "bundle": p.bundle("web"), "imagePath": image})
        env.command("restore", "--detach", "--image-path", image, "--bundle", p.bundle("no"), "--sandbox", SID, "--container-name", "no", "no",
                    ok=False, env={"FAULT": "restore-memory:EIO"})
        for text in (c.call("Metrics")["text"], env.command("metrics")[1]):
            check(f'stasis_sandbox_restores_total{{sandbox="{SID}"}} 2\n' in text and f'stasis_sandbox_restores_failed_total{{sandbox="{SID}"}} 1\n' in text, text)
        c.call("Destroy", {"id": "again"})
        c.call("Destroy", {"id": "root"})
        happened = [(x["type"], x["id"], x.get("data", {}).get("outcome")) for x in stream.result()]
    check(("checkpoint", "web", "failed") in happened, happened)
    check(("restore", "again", "completed") in happened and ("create", "again", None) not in happened, happened)
    check(("restore", "no", "failed") in happened, happened)


def out_of_memory(env):
    """An OOM kill is told as it happens, and the stream goes on; how the process ended is known."""
    def limited(spec):
        spec["linux"]["resources"]["memory"] = {"limit": 32 << 20, "swap": 32 << 20}
    with pod(env, edit=limited) as (p, c):
        stream = p.client().replies("io.stasis.Sandbox.Event", {"id": "root", "interval": 60000})
        first = next(stream)
        check(first["type"] == "stats", first)
        if not first["data"].get("memory", {}).get("usage", {}).get("limit"):
            raise Skip("not on this machine: a memory cgroup")
        whole = p.client().replies("io.stasis.Sandbox.Event", {"interval": 60000})
        check([next(whole)["type"] for _ in range(2)] == ["stats", "total"], "of the sandbox")
        # tail keeps the whole of a line without an end
        x = c.call("ExecuteAsync", {"id": "root", "args": ["tail", "/dev/zero"]})
        check(next(stream) == {"id": "root", "type": "oom"}, "oom")
        check(next(whole) == {"id": "root", "name": "POD", "type": "oom"}, "oom, of the sandbox")
        check(c.call("WaitPID", {"id": "root", "pid": x["pid"]})["exit"]["signal"] == 9, "killed")
        check(status(c, "root") == "running", "the container went too")
        c.call("Destroy", {"id": "root"})
        check([e["type"] for e in stream][-1] == "exit", "the end")


def stream_ends(env):
    """A client that goes, or takes nothing, has no worker for long."""
    with pod(env) as (p, c):
        def workers():
            out = subprocess.run(["ps", "--ppid", str(c.pid()), "-o", "comm="], capture_output=True, text=True, check=False).stdout
            return out.split().count("stasis:worker")
        clients = [p.client() for _ in range(5)]
        for other in clients:
            other.send("io.stasis.Sandbox.Event", {"id": "root", "interval": 10}, more=True)
            other.receive()
        check(workers() == 5, workers())
        check(status(c, "root") == "running", "others are served")
        for other in clients:
            other.close()
        poll("no workers", lambda: workers() == 0)
        c.call("Destroy", {"id": "root"})


def update(env):
    with pod(env) as (p, c):
        def limit():
            return c.call("Event", {"id": "root"})["data"]["pids"].get("limit")
        c.call("Update", {"id": "root", "resources": {"pids": {"limit": 77}}})
        check(limit() == 77, limit())
        refused("InvalidConfiguration", c, "Update", {"id": "root", "resources": {"pids": {"limit": "x"}}}, saying="pids.limit")
        refused("InvalidParameter", c, "Update", {"id": "root", "resources": []}, saying="resources")
        check(limit() == 77, limit())
        c.call("Signal", {"id": "root", "signal": 9})
        c.call("Wait", {"id": "root"})
        refused("InvalidState", c, "Update", {"id": "root", "resources": {"pids": {"limit": 78}}}, saying="")
        c.call("Destroy", {"id": "root"})


# Network -------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def other_network():
    """A command that runs another one in a network namespace of its own, which stays as long as this does."""
    holder = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    try:
        def there():
            with contextlib.suppress(OSError):
                return os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        poll("a network namespace", there)
        yield ["nsenter", "-n", "-t", str(holder.pid)]
    finally:
        holder.kill()
        holder.wait()


def has_kind(kind, *options):
    return subprocess.run(["unshare", "-n", "ip", "link", "add", "x0", "type", kind, *options], capture_output=True, check=False).returncode == 0


class Inside:
    """What "ip" says in the network namespace of a process (a pid, or a container of the client)."""
    def __init__(self, c, of):
        self.pid = str(c.call("State", {"id": of})["state"]["pid"] if c else of)

    def settings(self):
        """What must be as before after a restore."""
        links = self.ip("addr")
        return {"links": [(x["ifindex"], x["ifname"], x["address"], x["mtu"]) for x in links],
                "addresses": [sorted((a["local"], a["prefixlen"]) for a in x["addr_info"] if a["scope"] == "global") for x in links],
                # flags: whether the link has a carrier yet
                "routes": [{k: v for k, v in r.items() if k != "flags"} for r in self.ip("route") + self.ip("-6", "route")
                           if not r["dst"].startswith("fe80:")],
                "neighbours": self.ip("neigh", "show", "nud", "permanent")}

    def ip(self, *args):
        out = subprocess.run(["nsenter", "-n", "-t", self.pid, "ip", "-j", *args], capture_output=True, text=True, check=True).stdout
        return json.loads(out or "[]")

    def everything(self):
        """What must be as before after a failure: without the link-local addresses that the kernel makes by itself, sooner or later."""
        links = self.ip("addr")
        for x in links:
            x.pop("qdisc")
            x["addr_info"] = [a for a in x["addr_info"] if not a["local"].startswith("fe80:")]
        rest = [x for w in (("route", "show", "table", "all"), ("-6", "route", "show", "table", "all"), ("neigh", "show", "nud", "permanent"))
                for x in self.ip(*w) if not x["dst"].startswith("fe80:")]
        return [json.dumps(x, sort_keys=True) for x in links + rest]


def network(env):
    if not has_kind("veth") or not has_kind("bridge"):
        raise Skip("not in this kernel: veth and bridges")
    net, name = "io.stasis.Network.CreateLinksAndRoutes", "host0"
    with other_network() as on_host, pod(env, wrapper=on_host) as (p, c):
        inside = Inside(c, "root")
        c.call(net, {
            "links": [{"name": "lo", "addresses": ["10.255.0.1/32"]},
                      {"name": "br0", "kind": "bridge", "addresses": ["10.8.0.1/24", "fd08::1/64"]},
                      {"name": "eth0", "kind": "veth", "peer": name, "mtu": 1400, "mac": "02:00:00:00:00:07", "addresses": ["10.9.0.2/24", "fd09::2/64"]},
                      {"name": "port", "kind": "veth", "peer": name + "b", "bridge": "br0", "up": False}],
            "routes": [{"gateway": "10.9.0.1"}, {"gateway": "fd09::1", "destination": "::/0", "device": "eth0"},
                       {"destination": "10.77.0.0/16", "device": "eth0", "metric": 5, "source": "10.9.0.2"},
                       {"destination": "10.78.0.0/16", "gateway": "10.9.0.9", "table": 1000}],
            "neighbors": [{"device": "eth0", "address": "10.9.0.5", "mac": "02:00:00:00:00:99"},
                          {"device": "eth0", "address": "fd09::5", "mac": "02:00:00:00:00:98"}]})
        links = {x["ifname"]: x for x in inside.ip("addr")}
        eth, port = links["eth0"], links["port"]
        check(eth["mtu"] == 1400 and eth["address"] == "02:00:00:00:00:07" and "UP" in eth["flags"], eth)
        check({(a["local"], a["prefixlen"]) for a in eth["addr_info"]} >= {("10.9.0.2", 24), ("fd09::2", 64)}, eth)
        check(not any(a.get("tentative") for a in eth["addr_info"] if a["local"] == "fd09::2"), eth)
        check(port["master"] == "br0" and "UP" not in port["flags"], port)
        check(any(a["local"] == "10.255.0.1" for a in links["lo"]["addr_info"]), links["lo"])
        routes = inside.ip("route")
        check(any(r["dst"] == "default" and r["gateway"] == "10.9.0.1" for r in routes), routes)
        check(any(r["dst"] == "10.77.0.0/16" and r["metric"] == 5 and r["prefsrc"] == "10.9.0.2" for r in routes), routes)
        check(any(r["dst"] == "default" and r["gateway"] == "fd09::1" for r in inside.ip("-6", "route")), "IPv6")
        check(any(r["dst"] == "10.78.0.0/16" for r in inside.ip("route", "show", "table", "1000")), "table 1000")
        check({x["dst"] for x in inside.ip("neigh", "show", "nud", "permanent")} == {"10.9.0.5", "fd09::5"}, "neighbours")
        # packets really go: the host's end answers
        subprocess.run([*on_host, "ip", "addr", "add", "10.9.0.1/24", "dev", name], check=True)
        pid = c.call("ExecuteAsync", {"id": "root", "args": ["ping", "-c", "1", "-W", "5", "10.9.0.1"]})["pid"]
        check(c.call("WaitPID", {"id": "root", "pid": pid})["exit"]["code"] == 0, "no ping")
        # existing ones are configured further
        c.call(net, {"links": [{"name": "eth0", "mtu": 1300, "addresses": ["10.9.1.2/24"]}]})
        check({x["ifname"]: x for x in inside.ip("addr")}["eth0"]["mtu"] == 1300, "mtu")
        network_failures(c, inside, on_host)
        c.call("Destroy", {"id": "root"})


def network_failures(c, inside, on_host):
    """All or nothing: whatever fails, the rest is taken back."""
    def host_links():
        return subprocess.run([*on_host, "ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    net, name, before, host_before = "io.stasis.Network.CreateLinksAndRoutes", "host0", inside.everything(), host_links()
    made = [{"name": "new0", "kind": "veth", "peer": name + "c", "addresses": ["10.10.0.2/24", "fd10::2/64"]}, {"name": "br1", "kind": "bridge"},
            {"name": "eth0", "mtu": 1290, "addresses": ["10.9.2.2/24", "fd09:2::2/64"]},
            {"name": "port", "mtu": 1280, "bridge": "br1"}]
    wrong = [
        ({"links": [*made, {"name": "nosuch0"}]}, "links[4]", "no interface nosuch0"),
        ({"links": [*made, {"name": "new0", "kind": "bridge"}]}, "links[4]", "already"),
        ({"links": [*made, {"name": "eth0", "addresses": ["10.11.0.1/24", "10.9.0.2/24"]}]}, "links[4].addresses[1]", "already"),
        ({"links": [*made, {"name": "new1", "kind": "bridge", "bridge": "br9"}]}, "links[4]", "br9"),
        ({"links": made, "routes": [{"destination": "10.99.0.0/16", "gateway": "10.10.0.1"}, {"destination": "10.98.0.0/16", "gateway": "192.0.2.1"}]}, "routes[1]", "route"),
        ({"links": made, "routes": [{"gateway": "10.9.0.1"}]}, "routes[0]", "already"),
        ({"links": made, "neighbors": [{"device": "new0", "address": "10.10.0.9", "mac": "02:00:00:00:00:01"},
                                       {"device": "eth0", "address": "10.9.0.5", "mac": "02:00:00:00:00:01"}]}, "neighbors[1]", "already"),
        ({"links": [*made, {"name": "v9", "kind": "macvlan", "parent": "nosuch0"}]}, "links[4]", "nosuch0"),
    ]
    for parameters, item, saying in wrong:
        e = refused("Failed", c, net, parameters, saying=saying)
        check(e["item"] == item and e["errno"] > 0, e)
        after = inside.everything()
        check(after == before, f"{item}: {[x for x in after if x not in before]}\nwas {[x for x in before if x not in after]}")
        check(host_links() == host_before, host_links())


def network_killed(env):
    """One of the two processes that make the links is killed in the middle: all is as before."""
    if not has_kind("bridge"):
        raise Skip("not in this kernel: veth and bridges")
    links = [{"name": f"br{n}", "kind": "bridge", "addresses": [f"10.8.{n}.1/24"]} for n in range(200)]
    with other_network() as on_host, pod(env, wrapper=on_host) as (p, c):
        inside = Inside(c, "root")
        before = inside.everything()

        def children(pid):
            return [int(x) for x in subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False).stdout.split()]
        root = c.call("State", {"id": "root"})["state"]["pid"]
        for which in ("child", "worker"):
            making = in_thread(lambda: p.client().call("io.stasis.Network.CreateLinksAndRoutes", {"links": links}))
            poll("some links", lambda: len(inside.ip("link")) > 20)
            [worker] = [x for x in children(c.pid()) if x != root]
            [child] = children(worker)
            victim = os.pidfd_open(child if which == "child" else worker)
            signal.pidfd_send_signal(victim, signal.SIGKILL)
            os.close(victim)
            try:
                raise Failure(f"the dead answers: {making.result()}")
            except varlink.Error as e:
                check(e.name == "Internal" and "killed" in e.message, e)
            poll(f"as before ({which})", lambda: inside.everything() == before)
        c.call("io.stasis.Network.CreateLinksAndRoutes", {"links": links[:3]})
        check(len(inside.ip("link")) == 4, inside.ip("link"))
        c.call("Destroy", {"id": "root"})


def network_kept(env):
    """It is the same after a checkpoint and a restore; the veth that leads to the host is asked for."""
    if not has_kind("veth") or not has_kind("bridge"):
        raise Skip("not in this kernel: veth and bridges")
    with other_network() as on_host, pod(env, wrapper=on_host) as (p, c):
        c.call("io.stasis.Network.CreateLinksAndRoutes", {
            "links": [{"name": "br0", "kind": "bridge", "addresses": ["10.8.0.1/24"]},
                      {"name": "eth0", "kind": "veth", "peer": "host0", "addresses": ["10.9.0.2/24", "fd09::2/64"]}],
            "routes": [{"gateway": "10.9.0.1"}, {"destination": "fd77::/64", "gateway": "fd09::9"}],
            "neighbors": [{"device": "eth0", "address": "10.9.0.5", "mac": "02:00:00:00:00:99"}]})
        before = Inside(c, "root").settings()
        env.command("checkpoint", "--image-path", env.t / "image", "root")
        p.close()
        poll("the veth goes", lambda: subprocess.run([*on_host, "ip", "link", "show", "host0"], capture_output=True, check=False).returncode != 0)
        env.command("restore", "-d", "--image-path", env.t / "image", "--bundle", env.t / "b-root", "--veth-pair", "eth0=host0", "root", wrapper=on_host)
        after = Inside(None, env.state("root")["pid"]).settings()
        check(after == before, f"{after}\nwas {before}")
        env.command("delete", "-f", "root")


def network_refused(env):
    net = "io.stasis.Network.CreateLinksAndRoutes"
    with pod(env) as (p, c):
        def wrong(path, saying, **parameters):
            e = refused("InvalidParameter", c, net, parameters, saying=saying)
            check(e["parameter"] == path, e)
        wrong("links[0].name", "missing", links=[{}])
        wrong("links[0].kind", "veth", links=[{"name": "a", "kind": "gre"}])
        for bad in ("", "a/b", "a b", "..", "x" * 16, "eth%d", "a:1"):
            wrong("links[0].name", "no name", links=[{"name": bad}])
        wrong("links[1].peer", "missing", links=[{"name": "lo"}, {"name": "a", "kind": "veth"}])
        wrong("links[0].peer", "only a veth", links=[{"name": "a", "kind": "bridge", "peer": "b"}])
        wrong("links[0].parent", "missing", links=[{"name": "a", "kind": "vlan", "vlan": 3}])
        wrong("links[0].vlan", "missing", links=[{"name": "a", "kind": "vlan", "parent": "b"}])
        wrong("links[0].vlan", "4094", links=[{"name": "a", "kind": "vlan", "parent": "b", "vlan": 4095}])
        wrong("links[0].mtu", "68", links=[{"name": "a", "mtu": 1}])
        wrong("links[0].mtu", "IPv6", links=[{"name": "a", "mtu": 1279}])
        wrong("links[0].mac", "that is made", links=[{"name": "a", "mac": "02:00:00:00:00:01"}])
        wrong("links[0].mac", "hardware", links=[{"name": "a", "mac": "02:00:00:00:00"}])
        wrong("links[0].mac", "one interface", links=[{"name": "a", "mac": "01:00:00:00:00:01"}])
        wrong("links[0].name", "lo", links=[{"name": "lo", "kind": "bridge"}])
        for bad in ("10.0.0.1", "10.0.0.1/33", "10.0.0.1/", "10.0.0.1/-1", "10.0.0/24", "fd00::1/129", "x", "", "10.0.0.1/0", "1" * 100 + "/24"):
            wrong("links[0].addresses[1]", "prefix", links=[{"name": "a", "addresses": ["10.0.0.9/24", bad]}])
        wrong("routes[0].gateway", "default", routes=[{}])
        wrong("routes[0].gateway", "family", routes=[{"destination": "10.0.0.0/8", "gateway": "fd00::1"}])
        wrong("routes[0].gateway", "no address", routes=[{"gateway": "10.0.0.1/24"}])
        wrong("routes[0].device", "missing", routes=[{"destination": "10.0.0.0/8"}])
        wrong("routes[0].scope", "global", routes=[{"destination": "10.0.0.0/8", "gateway": "10.0.0.1", "scope": "link"}])
        wrong("routes[0].source", "family", routes=[{"gateway": "10.0.0.1", "source": "fd00::1"}])
        wrong("routes[0].metric", "not from", routes=[{"gateway": "10.0.0.1", "metric": -1}])
        wrong("routes[0].table", "not from", routes=[{"gateway": "10.0.0.1", "table": 0}])
        wrong("neighbors[0].mac", "hardware", neighbors=[{"device": "a", "address": "10.0.0.1", "mac": "x"}])
        wrong("neighbors[0].address", "no address", neighbors=[{"device": "a", "address": "x", "mac": "02:00:00:00:00:01"}])
        refused("ContainerNotFound", c, net, {"id": "nosuch"})

        def on_host(spec):
            spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
        c.call("Create", {"id": "host", "bundle": p.bundle("host", edit=on_host)})
        refused("HostNetwork", c, net, {"id": "host", "links": [{"name": "lo", "addresses": ["10.255.1.1/32"]}]})
        c.call("Destroy", {"id": "host"})
        c.call("Signal", {"id": "root", "signal": 9})
        c.call("Wait", {"id": "root"})
        refused("InvalidState", c, net, {"links": [{"name": "lo"}]}, saying="no container")
        refused("InvalidState", c, net, {"id": "root", "links": [{"name": "lo"}]}, saying="stopped")
        c.call("Destroy", {"id": "root"})


# Bad input -----------------------------------------------------------------------------------------------------------

def example(interface, t):
    """A value of the type, and one of another."""
    kind, of = t
    if kind == "?":
        return example(interface, of)
    if kind == "[]":
        return [], {}
    if kind == "[string]":
        return {}, []
    if kind == "enum":
        return of[0], 5
    if kind == "struct":
        return {n: example(interface, m)[0] for n, m in of.items() if m[0] != "?"}, 5
    if of in interface.types:
        return example(interface, interface.types[of])
    return {"bool": (True, "x"), "int": (1, 1.5), "float": (1.5, "x"), "string": ("x", 5), "object": ({}, "x")}[of]


def arguments(env):
    """Of every method of every interface: each parameter absent, of another type, null; and one that there is not. It is named."""
    with pod(env) as (p, c):
        cases = 0
        for name in c.call("org.varlink.service.GetInfo")["interfaces"]:
            interface = c.interface(name)
            for method, ((_, parameters), _) in interface.methods.items():
                good = {n: example(interface, t)[0] for n, t in parameters.items() if t[0] != "?"}

                def wrong(named, given, what):
                    # an asked-for stream, so that this is not what is wrong
                    c.send(f"{name}.{method}", given, more=True)
                    reply = c.receive()
                    said = reply.get("error", "no error"), reply["parameters"].get("parameter")
                    check(said == ("org.varlink.service.InvalidParameter", named), f"{method} with {named} {what}: {reply}")
                for n, t in parameters.items():
                    if t[0] != "?":
                        wrong(n, {k: v for k, v in good.items() if k != n}, "absent")
                        wrong(n, {**good, n: None}, "null")
                    wrong(n, {**good, n: example(interface, t)[1]}, "of another type")
                    cases += 1
                wrong("nosuch", {**good, "nosuch": 1}, "unknown")
                cases += 1
        check(cases > 50, f"only {cases} cases")
        check(status(c, "root") == "running", "it was done all the same")
        c.send("io.stasis.Sandbox.NoSuch")
        reply = c.receive()
        check(reply["error"] == "org.varlink.service.MethodNotFound", reply)
        c.call("Destroy", {"id": "root"})


def methods_are_there(env):
    """What the interfaces declare exists."""
    with pod(env) as (p, c):
        absent = []
        for name in c.call("org.varlink.service.GetInfo")["interfaces"]:
            for method in c.interface(name).methods:
                c.send(f"{name}.{method}", {"nosuch": 1}, more=True)
                if c.receive().get("error") != "org.varlink.service.InvalidParameter":
                    absent.append(f"{name}.{method}")
        check(not absent, f"declared, and not there: {absent}")
        c.call("Destroy", {"id": "root"})


def being_made(env):
    """A container that another command is making: an answer at once, and nothing happens to it."""
    with pod(env) as (p, c):
        fifo = env.t / "fifo"
        os.mkfifo(fifo)
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat < {fifo}"]}
        bundle = p.bundle("slow", edit=lambda s: s.update(hooks={"createRuntime": [hook]}))
        making = in_thread(lambda: env.command("create", "--bundle", bundle, "--sandbox", SID, "slow"))
        poll("creating", lambda: (env.state("slow") or {}).get("status") == "creating")
        calls = {"Start": {}, "Signal": {"signal": 9}, "ExecuteAsync": {"args": ["true"]}, "Update": {"resources": {}}, "Event": {}, "Processes": {},
                 "WaitPID": {"pid": 5}}
        for method, parameters in calls.items():
            refused("InvalidState", c, method, {"id": "slow", **parameters}, saying="still being created or restored")
        refused("InvalidState", c, "Pause", saying="still being created or restored")
        check(status(c, "root") == "running", "the others were paused")
        fifo.write_text("")
        making.result()
        check(status(c, "slow") == "created", status(c, "slow"))
        c.call("Start", {"id": "slow"})
        c.call("Destroy", {"id": "slow"})
        c.call("Destroy", {"id": "root"})


def client_goes(env):
    """In the middle of a Create: it is undone."""
    with pod(env) as (p, c):
        fifo = env.t / "fifo"
        os.mkfifo(fifo)
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {env.t}/began; cat < {fifo}"]}
        bundle = p.bundle("slow", edit=lambda s: s.update(hooks={"createRuntime": [hook]}))
        other = p.client()
        other.send("io.stasis.Sandbox.Create", {"id": "slow", "bundle": bundle})
        poll("the hook", (env.t / "began").exists)
        other.close()
        poll("it is undone", lambda: not (env.root / "slow").exists())
        check([m["id"] for m in c.call("List")["containers"]] == ["root"], c.call("List"))
        c.call("Destroy", {"id": "root"})


def worker_dies(env):
    """By SIGKILL in the middle of a Create: the client hears of it, others are served, and Destroy removes what is there."""
    with pod(env) as (p, c):
        fifo = env.t / "fifo"
        os.mkfifo(fifo)
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {env.t}/began; cat < {fifo}"]}
        bundle = p.bundle("slow", edit=lambda s: s.update(hooks={"createRuntime": [hook]}))
        making = in_thread(lambda: p.client().call("Create", {"id": "slow", "bundle": bundle}))
        poll("the hook", (env.t / "began").exists)
        children = subprocess.run(["ps", "--ppid", str(c.pid()), "-o", "pid=,comm="], capture_output=True, text=True, check=True).stdout
        [worker] = [int(line.split()[0]) for line in children.splitlines() if line.split()[1] == "stasis:worker"]
        os.kill(worker, signal.SIGKILL)
        try:
            raise Failure(f"the dead answers: {making.result()}")
        except varlink.Error as e:
            check(e.name == "Internal" and "signal 9" in e.message, e)
        with open(fifo, "w", encoding="ascii"):  # the hook goes on
            pass
        check(status(c, "root") == "running", "the others")
        c.call("Destroy", {"id": "slow"})
        c.call("Create", {"id": "slow", "bundle": p.bundle("good")})
        c.call("Destroy", {"id": "slow"})
        c.call("Destroy", {"id": "root"})


def client_goes_later(env):
    """When a container has been told to start, and in the middle of an all-or-nothing: that is done to its end."""
    with pod(env) as (p, c):
        fifo = env.t / "fifo"
        os.mkfifo(fifo)
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo > {env.t}/began; cat < {fifo}; echo > {env.t}/ended"]}
        c.call("Create", {"id": "slow", "bundle": p.bundle("slow", edit=lambda s: s.update(hooks={"poststart": [hook]}))})
        other = p.client()
        other.send("io.stasis.Sandbox.Start", {"id": "slow"})
        poll("the hook", (env.t / "began").exists)
        other.close()
        check(status(c, "root") == "running", "others are served")
        fifo.write_text("")
        poll("the rest", (env.t / "ended").exists)
        check(status(c, "slow") == "running", status(c, "slow"))
        c.call("Destroy", {"id": "slow"})
        c.call("Destroy", {"id": "root"})


def checkpoint(env):
    """Of the sandbox, and of one container of it; what stands in the way; a client that goes."""
    with pod(env, args=["sh", "-c", COUNT]) as (p, c):
        c.call("Create", {"id": "web", "name": "www", "bundle": p.bundle("web", ["sh", "-c", COUNT])})
        image = env.t / "image"
        refused("InvalidState", c, "Checkpoint", {"imagePath": str(image)}, saying="www")  # it is created only
        c.call("Start", {"id": "web"})

        def counts():
            return [int(p.file(x, "count") or 0) for x in ("root", "web")]

        def runs_on():
            before = counts()
            poll("counting on", lambda: min(a - b for a, b in zip(counts(), before)) > 2)
        runs_on()
        done = c.call("Checkpoint", {"imagePath": str(image), "leaveRunning": True, "compress": "lz4", "deadline": 20000})
        check(done["containers"] == ["root", "web"] and 0 < done["stoppedTime"] < done["totalTime"], done)
        check(json.loads((image / "manifest.json").read_text())["container_count"] == 2, "the manifest")
        runs_on()
        refused("InvalidParameter", c, "Checkpoint", {"imagePath": "relative"})
        refused("InvalidParameter", c, "Checkpoint", {"imagePath": str(image), "cgroups": "some"})
        refused("InvalidParameter", c, "Checkpoint", {"imagePath": str(image), "compress": "rar"})
        refused("InvalidParameter", c, "Checkpoint", {"imagePath": str(image), "deadline": -1})
        refused("ContainerNotFound", c, "Checkpoint", {"imagePath": str(image), "id": "nosuch"})

        for x in ("web", "root"):
            shutil.copy(env.build / "tests/cr/odd", env.t / f"b-{x}/rootfs/bin/odd")
            c.call("ExecuteAsync", {"id": x, "args": ["/bin/odd", "flock"]})
        poll("locks", lambda: all((env.t / f"b-{x}/rootfs/cr/ready.1").exists() for x in ("root", "web")))
        why = refused("CannotCheckpoint", c, "Checkpoint", {"imagePath": str(env.t / "no"), "leaveRunning": True}, saying="lock")
        check({o["container"] for o in why["obstacles"]} == {"POD", "www"} and all(o["remedy"] and o["pid"] for o in why["obstacles"]), why)
        check(not (env.t / "no").exists(), "something was left")
        runs_on()
        # the client goes in the middle
        other = p.client()
        other.send("io.stasis.Sandbox.Checkpoint", {"imagePath": str(env.t / "gone"), "fileLocks": True})
        other.close()
        poll("it is over", lambda: not (env.t / "gone").exists() or (env.t / "gone/manifest.json").exists())
        if c.call("List")["containers"]:
            runs_on()
            done = c.call("Checkpoint", {"imagePath": str(env.t / "one"), "id": "web", "fileLocks": True})
            check(done["containers"] == ["web"], done)
            check([m["id"] for m in c.call("List")["containers"]] == ["root"], c.call("List"))
            done = c.call("Checkpoint", {"imagePath": str(image), "fileLocks": True})
            check(done["containers"] == ["root"], done)
        check(c.call("List")["containers"] == [], c.call("List"))


def patience(env):
    """What passes by itself is waited for as long as the caller says, and the container runs meanwhile."""
    with pod(env, args=["sh", "-c", COUNT]) as (p, c):
        image = env.t / "image"
        refused("InvalidParameter", c, "Checkpoint", {"imagePath": str(image), "patience": -1}, saying="patience")
        shutil.copy(env.build / "tests/cr/odd", env.t / "b-root/rootfs/bin/odd")
        c.call("ExecuteAsync", {"id": "root", "args": ["/bin/odd", "inotify_queued"]})
        cr = env.t / "b-root/rootfs/cr"
        poll("events", lambda: (cr / "ready.1").exists())
        begin = time.monotonic()
        refused("CannotCheckpoint", c, "Checkpoint", {"imagePath": str(image), "patience": 2500, "leaveRunning": True},
                saying="have not been read")
        check(time.monotonic() - begin >= 2.5, f"given up after {time.monotonic() - begin} s")
        done = in_thread(lambda: p.client().call("Checkpoint", {"imagePath": str(image), "patience": 60000}))
        time.sleep(1.5)
        check(not (image / "manifest.json").exists(), "it did not wait")
        (cr / ".go").write_text("c")
        (cr / ".go").rename(cr / "go.1")
        check(done.result()["containers"] == ["root"], "not of this container")


def supervisor_dies(env):
    """Containers run on; the next one knows how they end."""
    with pod(env, args=["sh", "-c", 'trap "exit 6" TERM; while :; do usleep 10000; done']) as (p, c):
        pid = c.pid()
        os.kill(pid, signal.SIGKILL)
        try:
            c.receive()
            raise Failure("an answer of the dead")
        except (varlink.Closed, OSError):
            pass
        check(env.state("root")["status"] == "running", "it went too")
        out = json.loads(env.command("ctl", "--sandbox", SID, "List")[1])
        check(out["containers"][0]["status"] == "running", out)
        c = p.client()
        check(c.pid() != pid, "the same pid")
        x = c.call("ExecuteAsync", {"id": "root", "args": ["sh", "-c", "exit 4"]})
        check(c.call("WaitPID", {"id": "root", "pid": x["pid"]})["exit"]["code"] == 4, "exec")
        waiting = in_thread(lambda: p.client().call("Wait", {"id": "root"}))
        c.call("Signal", {"id": "root", "signal": 15})
        try:
            check(waiting.result()["exit"]["code"] == 6, waiting.result())
        except varlink.Error as e:
            check(e.name == "ExitUnknown" and tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15), e)
        c.call("Destroy", {"id": "root"})


def at_once(env):
    """Several clients do everything side by side."""
    with pod(env) as (p, c):
        bundles = {f"c{n}": p.bundle(f"c{n}", ["sh", "-c", "sleep 0.1; exit 3"]) for n in range(4)}

        def whole_life(cid):
            with varlink.Client(p.path()) as mine:
                for _ in range(3):
                    mine.call("Create", {"id": cid, "bundle": bundles[cid]})
                    mine.call("Start", {"id": cid})
                    x = mine.call("ExecuteAsync", {"id": "root", "args": ["sh", "-c", "exit 8"]})
                    check(mine.call("WaitPID", {"id": "root", "pid": x["pid"]})["exit"]["code"] == 8, "exec")
                    check(mine.call("Wait", {"id": cid})["exit"]["code"] == 3, "wait")
                    mine.call("Processes")
                    mine.call("Destroy", {"id": cid})
            return True
        check(all(t.result() for t in [in_thread(lambda x=x: whole_life(x)) for x in bundles]), "all")
        check([m["id"] for m in c.call("List")["containers"]] == ["root"], c.call("List"))
        c.call("Destroy", {"id": "root"})


def command_line(env):
    """stasis ctl: bare names, other interfaces, descriptors, streams, errors."""
    with pod(env) as (p, c):
        def ctl(*args, **kw):
            return env.command("ctl", "--sandbox", SID, *args, **kw)
        check(json.loads(ctl("List")[1])["containers"][0]["id"] == "root", "List")
        check("io.stasis.Network" in json.loads(ctl("org.varlink.service.GetInfo")[1])["interfaces"], "GetInfo")
        for args, saying in ((("Nothing",), "MethodNotFound"), (("State",), "id: is missing"), (("State", '{"id": 1}'), "id: a string"),
                             (("State", '{"id": '), "no JSON object"), (("State", "[]"), "no JSON object"), (("State", "{} {}"), "no JSON object"), (("State", '{"id": "x"}'), "does not exist"),
                             (("a.b.C",), "InterfaceNotFound"), (("--fds", "77", "List"), "fds"), (("--fds", "x", "List"), "fds")):
            _, _, err = ctl(*args, ok=False)
            check(saying in err, f"{args}: {err}")
        parameters = env.t / "parameters"
        for text, saying in (('{"id": "root"}\n', None), ('{"id": "root"} x', "no JSON object"), ("", "no JSON object"), ('{"id": "\xff"}', "no JSON object")):
            parameters.write_text(text, encoding="latin-1")
            _, out, err = ctl("State", "-", stdin=parameters, ok=saying is None)
            check(saying in err if saying else '"running"' in out, f"{text!r}: {out} {err}")
        out = ctl("--fds", "0,1,2", "ExecuteAsync", '{"id": "root", "args": ["echo", "hello"]}')[1]
        poll("its output", lambda: True)
        check('"pid"' in out, out)
        stream = in_thread(lambda: ctl("--more", "Event", '{"id": "root", "interval": 50}'))
        time.sleep(0.3)
        c.call("Signal", {"id": "root", "signal": 9})
        text = stream.result()[1]
        check('"stats"' in text and '"exit"' in text, text)
        _, _, err = env.command("ctl", "List", ok=False)
        check("--sandbox" in err, err)
        _, _, err = env.command("ctl", "--sandbox", "nosuch", "List", ok=False)
        check("does not exist" in err, err)
        c.call("Destroy", {"id": "root"})


def tests():
    for f in (life, start_root, create_refused, other_sandbox, stdio, wrong_descriptors, terminal, execute, options, wait_pid, many_ended, processes, signals,
              pause, events, events_of_sandbox, events_of_restore, out_of_memory, stream_ends, update, network, network_killed, network_kept, network_refused, arguments, methods_are_there, being_made, worker_dies, client_goes, client_goes_later, supervisor_dies, at_once,
              checkpoint, patience, command_line):
        yield f"integration/control/{f.__name__}", f, 90
