# SPDX-License-Identifier: Apache-2.0
"""The supervisor of a sandbox, and its control socket as a client sees it that may be slow, hostile or in a hurry.

Containers must not notice anything of it, whatever happens to it; one client must not notice another.
"""
import array
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from lib import Container, Failure, Rootless, check, poll, proc_stat

SANDBOX = "io.stasis.Sandbox."
SERVICE = "org.varlink.service."
HALF_SECONDS, STALL_SECONDS, CLIENTS, DESCRIPTORS, MESSAGE = 10, 30, 128, 16, 1 << 20


class Connection:
    """One client of the control socket."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.s.connect(str(path))
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def supervisor(self):
        return struct.unpack("3i", self.s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def send(self, method, parameters=None, fds=(), **flags):
        text = json.dumps({"method": method if "." in method else SANDBOX + method, "parameters": parameters or {}, **flags})
        self.raw(text.encode() + b"\0", fds)

    def raw(self, data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.s.sendmsg([data], rights)
        if data[sent:]:
            self.s.sendall(data[sent:])

    def receive(self, seconds=20):
        """The next reply; None: it has been closed."""
        self.s.settimeout(seconds)
        while b"\0" not in self.rest:
            try:
                data = self.s.recv(1 << 16)
            except ConnectionResetError:
                return None
            except socket.timeout:
                raise Failure(f"no reply for {seconds} s") from None
            if not data:
                return None
            self.rest += data
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.send(method, parameters)
        reply = self.receive()
        check(reply is not None, f"{method}: closed")
        check("error" not in reply, f"{method}: {reply}")
        return reply["parameters"]

    def error(self, method, **parameters):
        self.send(method, parameters)
        reply = self.receive()
        check(reply is not None and "error" in reply, f"{method} should fail: {reply}")
        return reply["error"], reply["parameters"]


class Pod:
    """A sandbox with one container, or none yet."""

    def __init__(self, env, sandbox="pod"):
        self.env, self.sandbox = env, sandbox
        self.dir = env.root / "@sandboxes" / sandbox
        self.socket = self.dir / "control.sock"

    def run(self, cid, *args, name=None):
        c = Container(self.env, cid, args or ("sleep", "1000"), busybox=True)
        c.run("--sandbox", self.sandbox, *(["--container-name", name] if name else []))
        return c

    def connect(self):
        poll("the control socket", self.socket.exists)
        return Connection(self.socket)

    def ctl(self, method, parameters=None, **kw):
        text = self.env.command("ctl", "--sandbox", self.sandbox, method, json.dumps(parameters or {}), **kw)[1]
        return json.loads(text) if text else None

    def supervisor(self):
        with self.connect() as k:
            return k.supervisor()

    def kill(self, sig=signal.SIGKILL):
        pid = self.supervisor()
        fd = os.pidfd_open(pid)
        signal.pidfd_send_signal(fd, sig)
        os.close(fd)
        poll("the supervisor is gone", lambda: gone(pid))
        return pid

    def supervisors(self):
        """All processes that supervise it, or would like to."""
        found = []
        for d in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                line = (d / "cmdline").read_bytes().split(b"\0")[:-1]
                if line[-1:] == [self.sandbox.encode()] and b"sandbox" in line and str(self.env.root).encode() in line:
                    found.append(int(d.name))
        return found


def gone(pid):
    stat = proc_stat(pid)
    return not stat or stat[1] in "ZX"


def wait_exit(pod, cid):
    with pod.connect() as k:
        return k.call("Wait", id=cid)["exit"]


def test_exit_statuses(env):
    """Of containers that are not its children, of which it hears before or after their end."""
    pod = Pod(env)
    keeper = pod.run("keeper")
    with pod.connect() as k, pod.connect() as other:
        ends = pod.run("ends", "sh", "-c", "while [ ! -e /end ]; do usleep 1000; done; exit 7")
        k.send("Wait", {"id": "ends"})
        other.call("List")
        (ends.rootfs / "end").write_text("")
        check(k.receive()["parameters"]["exit"]["code"] == 7, "exit code while waiting")
        check(other.call("Wait", id="ends")["exit"] == {"code": 7, "status": 7 << 8}, "exit code afterwards")
        state = other.call("State", id="ends")["state"]
        check((state["status"], state["pid"]) == ("stopped", 0), f"State of the dead: {state}")
        killed = pod.run("killed")
        k.send("Wait", {"id": "killed"})
        env.command("kill", "killed", "KILL")
        check(k.receive()["parameters"]["exit"] == {"signal": 9, "status": 9}, "killed")
        # Deleted while somebody waits.
        deleted = pod.run("deleted")
        k.send("Wait", {"id": "deleted"})
        env.command("delete", "-f", "deleted")
        reply = k.receive()
        check(reply["parameters"].get("exit", {}).get("signal") == 9, f"deleted: {reply}")
        check(other.error("Wait", id="deleted")[0] == SANDBOX + "ContainerNotFound", "wait for the deleted one")
        check(not (pod.dir / "exits/deleted").exists(), "the status of a deleted container is kept")
        # Its next life has a status of its own.
        ends.delete()
        (ends.rootfs / "end").unlink()
        ends.run("--sandbox", "pod")
        check(other.call("State", id="ends")["state"]["status"] == "running", "the second life")
        k.send("Wait", {"id": "ends"})
        env.command("kill", "ends", "TERM")
        env.command("kill", "ends", "KILL")
        check(k.receive()["parameters"]["exit"]["status"] == 9, "the second end")
    for c in ends, killed, keeper:
        c.delete()
    del deleted
    poll("the sandbox is gone", lambda: not pod.dir.exists())


def test_short_lives(env):
    """Exit statuses of programs that end at once are not lost."""
    pod = Pod(env)
    keeper = pod.run("keeper")
    with pod.connect() as k:
        for i in range(8):
            c = pod.run(f"c{i}", "sh", "-c", f"exit {i}")
            check(k.call("Wait", id=f"c{i}")["exit"].get("code") == i, f"exit code of a short program, {i}")
            c.delete()
    keeper.delete()


def test_takeover(env):
    """After SIGKILL the containers run on, and the next one knows what was known, and what goes on."""
    pod = Pod(env)
    lives = pod.run("lives", name="app")
    dies = pod.run("dies", "sh", "-c", "exit 3")
    check(wait_exit(pod, "dies")["code"] == 3, "before")
    pid = lives.pid()
    for sig in signal.SIGKILL, signal.SIGTERM:
        old = pod.kill(sig)
        check(lives.status() == "running" and lives.pid() == pid, "the container lives on")
        listed = pod.ctl("List")
        check(pod.supervisor() != old, "a new supervisor")
        check({(m["id"], m["name"], m["status"]) for m in listed["containers"]} ==
              {("lives", "app", "running"), ("dies", "dies", "stopped")}, f"List: {listed}")
        check(wait_exit(pod, "dies")["code"] == 3, f"the status after {sig}")
    # Who ends while nobody looks has a status that nobody knows: that is said, not made up.
    unseen = pod.run("unseen")
    pod.kill()
    env.command("kill", "unseen", "KILL")
    poll("unseen is dead", lambda: unseen.status() == "stopped")
    pod.ctl("List")
    with pod.connect() as k:
        check(k.error("Wait", id="unseen")[0] == SANDBOX + "ExitUnknown", "nobody saw it")
        k.send("Wait", {"id": "lives"})
        env.command("kill", "lives", "TERM")
        env.command("kill", "lives", "KILL")
        check(k.receive()["parameters"]["exit"]["signal"] == 9, "a container that an earlier one watched")
    # Deleting the last ones with no supervisor there leaves nothing either.
    pod.kill()
    for c in lives, dies, unseen:
        c.delete()
    check(not pod.dir.exists(), f"left: {list(pod.dir.iterdir()) if pod.dir.exists() else ''}")


def test_stopped(env):
    """A supervisor that hangs keeps nobody from making, running and deleting containers."""
    pod = Pod(env)
    c = pod.run("c")
    pid = pod.supervisor()
    os.kill(pid, signal.SIGSTOP)
    try:
        other = pod.run("other")
        check(other.status() == "running", "another one")
        c.delete()
    finally:
        os.kill(pid, signal.SIGCONT)
    with pod.connect() as k:
        check(k.supervisor() == pid, "it is the same")
        check([m["id"] for m in k.call("List")["containers"]] == ["other"], "and knows what has happened meanwhile")
    other.delete()


def test_only_one(env):
    """Many who want one at the same time get the same one."""
    pod = Pod(env)
    c = pod.run("c")
    for _ in range(3):
        pod.kill()
        with contextlib.ExitStack() as stack:
            calls = [stack.enter_context(subprocess.Popen([env.stasis, "--root", env.root, "ctl", "--sandbox", "pod", "List"],
                                                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)) for _ in range(10)]
            check(all(p.wait(20) == 0 for p in calls), "all are answered")
        poll("one supervisor", lambda: len(pod.supervisors()) == 1)
        check(pod.supervisors() == [pod.supervisor()], "and it answers")
    # Sandboxes that come and go at once.
    c.delete()
    for _ in range(10):
        c.run("--sandbox", "pod")
        c.delete()
    c.run("--sandbox", "pod")
    poll("the supervisor of the last one", lambda: pod.ctl("List")["containers"][0]["id"] == "c")
    poll("one supervisor", lambda: len(pod.supervisors()) == 1)
    c.delete()
    poll("none", lambda: not pod.supervisors())


def test_end(env):
    """It ends when nobody needs it, and only then."""
    pod = Pod(env)
    c = pod.run("c")
    with pod.connect() as k:
        k.call("List")
        pid = k.supervisor()
        c.delete()
        check(k.call("List") == {"sandbox": "pod", "containers": []}, "serves its last client")
        c.run("--sandbox", "pod")
        check(len(k.call("List")["containers"]) == 1, "and a member that comes then")
        check(pod.supervisor() == pid, "the same supervisor")
        c.delete()
        check(not gone(pid), "lives as long as its client")
    poll("it ends", lambda: gone(pid))
    check(not pod.dir.exists(), "the directory is gone")
    # A sandbox of which there is nothing yet, and an unknown one.
    check("does not exist" in env.command("ctl", "--sandbox", "none", "List", ok=False)[2], "unknown sandbox")
    text = env.command("ctl", "--sandbox", "fresh", "--new", "List")[1]
    check(json.loads(text)["containers"] == [], text)
    poll("it ends too", lambda: not (env.root / "@sandboxes").exists())


def test_service(env):
    """What a stranger finds out by asking, and the errors of Varlink."""
    pod = Pod(env)
    c = pod.run("c", name="app")
    with pod.connect() as k:
        info = k.call(SERVICE + "GetInfo")
        check(set(info) == {"vendor", "product", "version", "url", "interfaces"}, info)
        for name in info["interfaces"]:
            text = k.call(SERVICE + "GetInterfaceDescription", interface=name)["description"]
            check(f"\ninterface {name}\n" in text, name)
        check(k.error(SERVICE + "GetInterfaceDescription", interface="a.b") == (SERVICE + "InterfaceNotFound", {"interface": "a.b"}), "unknown")
        check(k.error("a.b.C") == (SERVICE + "InterfaceNotFound", {"interface": "a.b"}), "unknown interface")
        check(k.error("Nothing") == (SERVICE + "MethodNotFound", {"method": "Nothing"}), "unknown method")
        for wrong, named in ({}, "id"), ({"id": 1}, "id"), ({"id": "c", "x": 1}, "x"), ({"id": None}, "id"):
            error, parameters = k.error("State", **wrong)
            check(error == SERVICE + "InvalidParameter" and parameters["parameter"] == named, f"{wrong}: {error} {parameters}")
        check(k.error("State", id="c\0x")[0] == SERVICE + "InvalidParameter", "a NUL in an id")
        for cid in "", "x", "../c", "c/", "@sandboxes", "a" * 1000:
            error, parameters = k.error("State", id=cid)
            check(error == SANDBOX + "ContainerNotFound" and parameters["id"] == cid, f"{cid!r}: {error} {parameters}")
        state = k.call("State", id="c")["state"]
        check(state == env.state("c"), f"State is what state prints: {state}")
        check(k.call("State", id="app")["state"] == state, "by its name")
        env.command("pause", "c")
        check(k.call("State", id="c")["state"]["status"] == "paused", "paused")
        env.command("resume", "c")
        check(k.call("State", id="c")["state"]["status"] == "running", "resumed")
        made = Container(env, "made", ["sleep", "1000"], busybox=True)
        made.command("create", "--sandbox", "pod", "--bundle", made.bundle, "made")
        check(k.call("State", id="made")["state"]["status"] == "created", "created")
        made.command("start", "made")
        check(k.call("State", id="made")["state"]["status"] == "running", "started")
        check([m["name"] for m in k.call("List")["containers"]] == ["app", "made"], "sorted")
        # Nothing is sent for a oneway call; calls that are sent at once are answered in their order.
        k.send("List", oneway=True)
        for cid in "c", "x", "made":
            k.send("State", {"id": cid})
        replies = [k.receive() for _ in range(3)]
        check([r["parameters"].get("state", {}).get("id") for r in replies] == ["c", None, "made"], "in order")
    c.delete()
    made.delete()


MALFORMED = [
    b"", b"{", b"}", b"null", b"[]", b"1", b'"x"', b"{}", b'{"method":1}', b'{"method":"x"}', b'{"method":"."}', b'{"method":"a."}',
    b'{"method":".b"}', b'{"method":"a.b","parameters":[]}', b'{"method":"a.b","parameters":1}', b'{"method":"a.b","more":1}',
    b'{"method":"a.b","oneway":"yes"}', b'{"method":"a.b","upgrade":true}', b'{"method":"a.b"} x', b'{"method":"a.b"}{}', b"\xff\xfe",
    b'{"method":"a.b\\u0000c.d"}', b'{"method":"\xff.b"}', b"[" * 1000, b'{"a":' * 500, b'{"method":"a.b","parameters":' + b'{"a":' * 40 + b"1" + b"}" * 41,
    b"GET / HTTP/1.1\r\n\r\n",
]


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def still_well(k, before):
    """Another client is served, nothing has piled up."""
    check(k.call("State", id="c")["state"]["status"] == "running", "another client")
    poll(f"the supervisor has {before} descriptors again", lambda: descriptors(k.supervisor()) <= before)


def test_malformed(env):
    pod = Pod(env)
    c = pod.run("c")
    with pod.connect() as k:
        k.call("State", id="c")
        before = descriptors(k.supervisor())
        for data in MALFORMED:
            with pod.connect() as bad:
                bad.raw(data + b"\0")
                reply = bad.receive()
                check(reply and reply["error"] == SANDBOX + "InvalidMessage", f"{data[:40]}: {reply}")
                check(bad.receive() is None, f"{data[:40]}: closed afterwards")
        with pod.connect() as big:
            big.raw(b'{"method":"' + b"a" * (MESSAGE + 100))
            reply = big.receive()
            check(reply and "longer than" in reply["parameters"]["message"], f"oversized: {reply}")
        with pod.connect() as large:  # but what fits is taken, also byte by byte at its end
            text = b'{"method":"a.b","parameters":{"x":"' + b"a" * (MESSAGE - 100) + b'"}}\0'
            large.raw(text[:-40])
            for i in range(len(text) - 40, len(text)):
                large.raw(text[i:i + 1])
            check(large.receive()["error"] == SERVICE + "InterfaceNotFound", "a large message")
        still_well(k, before)
        with open("/dev/null", "rb") as f:
            with pod.connect() as rich:
                rich.send("List", fds=[f.fileno()] * DESCRIPTORS)
                check("error" not in rich.receive(), "many descriptors, wanted by nobody")
                rich.send("List", fds=[f.fileno()] * (DESCRIPTORS + 1))
                check(rich.receive()["error"] == SANDBOX + "InvalidMessage", "too many descriptors")
            with pod.connect() as greedy:  # collected over one message
                with contextlib.suppress(OSError):
                    for _ in range(DESCRIPTORS + 1):
                        greedy.raw(b" ", [f.fileno()])
                check((greedy.receive() or {}).get("error", SANDBOX + "InvalidMessage") == SANDBOX + "InvalidMessage", "one at a time")
        still_well(k, before)
    c.delete()


def test_crowd(env):
    """More clients than it takes: who is idle makes room, who waits for a reply does not."""
    pod = Pod(env)
    c = pod.run("c")
    with contextlib.ExitStack() as stack:
        waits = stack.enter_context(pod.connect())
        waits.send("Wait", {"id": "c"})
        waits.s.setblocking(False)
        idle = [stack.enter_context(pod.connect()) for _ in range(3 * CLIENTS)]
        last = stack.enter_context(pod.connect())
        check(last.call("State", id="c")["state"]["status"] == "running", "the last to come")
        pid = last.supervisor()
        check(descriptors(pid) <= CLIENTS + 20, f"{descriptors(pid)} descriptors")
        env.command("kill", "c", "KILL")
        waits.s.setblocking(True)
        check(waits.receive()["parameters"]["exit"]["signal"] == 9, "the one who waits")
        check(idle[0].receive() is None, "the first of the idle ones was dropped")
        # All wait: nobody else is taken, until one goes.
        d = pod.run("d")
        busy = []
        while len(busy) < CLIENTS + 5:
            k = stack.enter_context(pod.connect())
            with contextlib.suppress(OSError):
                k.send("Wait", {"id": "d"})
            busy.append(k)
        env.command("kill", "d", "KILL")
        replies = [k.receive() for k in busy]
        check(sum(r is not None for r in replies) >= CLIENTS - 2, "those who were taken are answered")
        check(pod.ctl("List")["sandbox"] == "pod", "afterwards")
    for x in c, d:
        x.delete()


def slow_bundle(env, cid):
    """A bundle whose creation stands still until the file "go" is there."""
    c = Container(env, cid, ("sleep", "1000"), busybox=True)
    at, go = env.t / f"{cid}.at", env.t / f"{cid}.go"
    c.config["hooks"] = {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo > {at}; while [ ! -e {go} ]; do sleep 0.02; done"]}]}
    c.write_config()
    return c, at, go


def workers(pid):
    found = []
    for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            if Path(f"/proc/{p}/comm").read_text().strip() == "stasis:worker":
                found.append(int(p))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return found


def test_workers(env):
    """What goes on in a process of its own: others are served meanwhile, and its end by any hand is an answer or undone."""
    pod = Pod(env)
    keeper = pod.run("keeper")
    with pod.connect() as k, pod.connect() as other:
        c, at, go = slow_bundle(env, "c")
        create = {"id": "c", "bundle": str(c.bundle)}
        k.send("Create", create)
        poll("the hook runs", at.exists)
        check(other.call("State", id="keeper")["state"]["status"] == "running", "others are served meanwhile")
        check(other.call("State", id="c")["state"]["status"] == "creating", "State of what is being made")
        pid = k.supervisor()
        check(len(workers(pid)) == 1, "one worker")
        go.write_text("")
        reply = k.receive()["parameters"]
        check(reply["hostPid"] == c.pid() and proc_stat(c.pid())[2] == pid, f"made, a child of the supervisor: {reply}")
        k.call("Start", id="c")
        k.send("Wait", {"id": "c"})
        env.command("kill", "c", "KILL")
        check(k.receive()["parameters"]["exit"]["signal"] == 9, "its own child's status")
        c.delete()
        # The worker is killed: its client hears so.
        half, half_at, half_go = slow_bundle(env, "half")
        k.send("Create", {"id": "half", "bundle": str(half.bundle)})
        poll("the hook runs", half_at.exists)
        os.kill(workers(pid)[0], signal.SIGKILL)
        reply = k.receive()
        check(reply["error"] == SANDBOX + "Internal" and "signal 9" in reply["parameters"]["message"], f"killed: {reply}")
        half_go.write_text("")  # nobody else ends its hook
        half.delete()
        poll("no worker is left", lambda: not workers(pid))
        # The client goes: what it wanted is undone.
        for f in at, go:
            f.unlink()
        with pod.connect() as leaves:
            leaves.send("Create", create)
            poll("the hook runs", at.exists)
        poll("undone when the client is gone", lambda: not (env.root / "c").exists() and not workers(pid))
        check([m["id"] for m in other.call("List")["containers"]] == ["keeper"], "only one is left")
        # The supervisor is killed: likewise, and other containers that it had made run on.
        made = Container(env, "made", ("sleep", "1000"), busybox=True)
        k.call("Create", id="made", bundle=str(made.bundle))
        k.call("Start", id="made")
        at.unlink()
        k.send("Create", create)
        poll("the hook runs", at.exists)
        pod.kill()
        poll("undone when the supervisor is gone", lambda: not (env.root / "c").exists())
        check(k.receive() is None, "the connection ends")
    check(made.status() == "running", "a container outlives the supervisor that made it")
    with pod.connect() if pod.ctl("List") else None as k:
        k.send("Wait", {"id": "made"})
        env.command("kill", "made", "KILL")
        reply = k.receive()
        check(reply["parameters"].get("exit", {}).get("signal") == 9, f"the status of another one's child: {reply}")
    for x in keeper, made:
        x.delete()


def resident(env, pid):
    """KiB; nothing where the sanitizers' own memory would count."""
    if b"__asan_init" in env.stasis.read_bytes():
        return 0
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1])


def test_slow_clients(env):
    """Half a message, and replies that nobody takes: both are bounded in memory and in time, and others do not wait."""
    pod = Pod(env)
    c = pod.run("c")
    with contextlib.ExitStack() as stack:
        k = stack.enter_context(pod.connect())
        k.call("State", id="c")
        pid, before = k.supervisor(), descriptors(k.supervisor())
        half = [stack.enter_context(pod.connect()) for _ in range(20)]
        for h in half:
            h.raw(b'{"method":"io.stasis')
        deaf = [stack.enter_context(pod.connect()) for _ in range(5)]
        call = json.dumps({"method": SERVICE + "GetInterfaceDescription", "parameters": {"interface": SANDBOX[:-1]}}).encode() + b"\0"
        for d in deaf:
            d.s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    d.s.send(call * 100)
            d.s.setblocking(True)
        for _ in range(100):
            k.call("State", id="c")
        check(resident(env, pid) < 12 << 10, f"{resident(env, pid)} KiB")
        for h in half:
            check(h.receive(HALF_SECONDS + 20) is None, "half a message")
        check(k.call("State", id="c")["state"]["status"] == "running", "who was idle for longer is still served")
        # They hear nothing; when they look they find what fits into the socket, and its end.
        poll("those who take no replies are dropped", lambda: descriptors(pid) <= before, STALL_SECONDS + 20)
        check(resident(env, pid) < 4 << 10, f"{resident(env, pid)} KiB afterwards")
    c.delete()


def test_strangers(env):
    """Only root and its owner may use it, whatever the permissions of the file have become."""
    pod = Pod(env)
    c = pod.run("c")
    poll("the control socket", pod.socket.exists)
    check(pod.socket.stat().st_mode & 0o777 == 0o600, "permissions")
    for d in pod.socket, pod.dir, pod.dir.parent, env.root, env.t, env.t.parent:
        d.chmod(0o777)
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(1234, 1234, 1234)
            with Connection(pod.socket) as k:
                with contextlib.suppress(OSError):
                    k.send("List")
                os.write(w, json.dumps(k.receive()).encode())
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        check(f.read() == "null", "a stranger is served")
    os.waitpid(child, 0)
    c.delete()


def test_ordinary_user(env):
    """An ordinary user's sandbox is served to him and to root; a process of his is watched like any other."""
    pod = Pod(env)
    c = Rootless(env, "c", ("sh", "-c", "while [ ! -e /end ]; do usleep 1000; done; exit 5"), busybox=True)
    c.run("--sandbox", "pod", "--container-name", "app")
    with pod.connect() as k:
        check(os.stat(f"/proc/{k.supervisor()}").st_uid == c.USER, "the supervisor is his")
        check(k.call("State", id="c")["state"]["status"] == "running", "served to root")
        k.send("Wait", {"id": "c"})
        listed = json.loads(c.command("ctl", "--sandbox", "pod", "List")[1])
        check([m["name"] for m in listed["containers"]] == ["app"], f"served to him: {listed}")
        (c.rootfs / "end").write_text("")
        reply = k.receive()
        check(reply["parameters"]["exit"]["code"] == 5, f"the exit status: {reply}")
    c.delete()
    poll("the sandbox is gone", lambda: not pod.dir.exists())


def cpu(pid):
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0])


def test_idle(env):
    """No CPU at all, and little memory."""
    pods = [Pod(env, f"pod{i}") for i in range(4)]
    containers = [p.run(f"c{i}") for i, p in enumerate(pods)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(p.connect()) for p in pods]
        pids = [k.supervisor() for k in clients]
        for k, i in zip(clients, range(4)):
            k.call("State", id=f"c{i}")
        for p in pids:
            check(resident(env, p) <= 4096, f"{resident(env, p)} KiB")
        used = [cpu(p) for p in pids]
        time.sleep(1)
        check([cpu(p) for p in pids] == used, "an idle supervisor runs")
    for c in containers:
        c.delete()


def test_many_at_once(env):
    """Clients in parallel, while containers come and go."""
    pod = Pod(env)
    c = pod.run("c")
    failures = []

    def client():
        try:
            with pod.connect() as k:
                for _ in range(300):
                    check(k.call("State", id="c")["state"]["id"] == "c", "State")
                    check(any(m["id"] == "c" for m in k.call("List")["containers"]), "List")
        except Exception as e:  # pylint: disable=broad-except
            failures.append(repr(e))

    threads = [threading.Thread(target=client) for _ in range(6)]
    for t in threads:
        t.start()
    other = pod.run("other")
    for _ in range(3):
        other.delete()
        other.run("--sandbox", "pod")
    for t in threads:
        t.join()
    check(not failures, failures[:1])
    for x in c, other:
        x.delete()


def tests():
    for name, function in sorted(globals().items()):
        if name.startswith("test_"):
            yield f"integration/supervisor/{name[5:]}", function, 120
