# SPDX-License-Identifier: Apache-2.0
"""A second client of the control socket, made by somebody who has read docs/control.md and nothing else: it shares no code with tests/varlink.py,
and does what a small orchestrator does with a pod, from its beginning over a checkpoint to a restore. What the page did not say was added there."""
import contextlib
import json
import os
import socket
import threading
import time

from lib import base_config, check, make_rootfs, poll


class Refused(Exception):
    """An error reply."""
    def __init__(self, reply):
        super().__init__(json.dumps(reply))
        self.name, self.about = reply["error"].rpartition(".")[2], reply.get("parameters", {})


class Connection:
    """One connection, one call at a time."""
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.rest = b""

    def close(self):
        self.socket.close()

    def say(self, method, parameters, fds=(), **flags):
        message = json.dumps({"method": method, "parameters": parameters, **flags}).encode() + b"\0"
        sent = socket.send_fds(self.socket, [message], list(fds)) if fds else 0
        self.socket.sendall(message[sent:])

    def hear(self):
        while b"\0" not in self.rest:
            more = self.socket.recv(4096)
            if not more:
                raise EOFError("the server has closed the connection")
            self.rest += more
        message, _, self.rest = self.rest.partition(b"\0")
        reply = json.loads(message)
        if "error" in reply:
            raise Refused(reply)
        return reply

    def ask(self, method, fds=(), **parameters):
        self.say(method if "." in method else "io.stasis.Sandbox." + method, parameters, fds)
        return self.hear().get("parameters", {})

    def ask_for_all(self, method, **parameters):
        self.say("io.stasis.Sandbox." + method, parameters, more=True)
        while True:
            reply = self.hear()
            yield reply.get("parameters", {})
            if not reply.get("continues"):
                return


class Orchestrator:
    def __init__(self, env):
        self.env, self.path, self.open = env, str(env.root / "@sandboxes" / "pod" / "control.sock"), []
        env.command("ctl", "--sandbox", "pod", "--new", "List")
        self.main = self.connect()

    def connect(self):
        self.open.append(Connection(self.path))
        return self.open[-1]

    def close(self):
        for connection in self.open:
            connection.close()

    def bundle(self, name, *command):
        place = self.env.t / f"bundle-{name}"
        make_rootfs(place / "rootfs", busybox=True)
        (place / "config.json").write_text(json.dumps(base_config(list(command), f"{self.env.cgroup}/{name}")))
        return str(place)

    def same_bundle(self, name):
        return str(self.env.t / f"bundle-{name}")

    def number(self, name):
        with contextlib.suppress(OSError, ValueError):
            return int((self.env.t / f"bundle-{name}" / "rootfs" / "count").read_text())
        return 0

    def status(self):
        return {c["name"]: c["status"] for c in self.main.ask("List")["containers"]}


COUNT = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /.count; mv /.count /count; usleep 10000; done")


def whole_cycle(env):
    pod = Orchestrator(env)
    ask, heard = pod.main.ask, []

    def listen(connection):
        with contextlib.suppress(EOFError, OSError):
            heard.extend(connection.ask_for_all("Event", interval=0))

    # Somebody watches from the beginning. His call has come in when there is an answer to one that was made later on the same sandbox.
    watcher = threading.Thread(target=listen, args=(pod.connect(),), daemon=True)
    watcher.start()
    time.sleep(0.3)

    # start
    info = ask("org.varlink.service.GetInfo")
    check("io.stasis.Sandbox" in info["interfaces"], info)
    check(ask("StartRoot", id="pod", bundle=pod.bundle("pod", *COUNT))["hostPid"] > 0, "StartRoot")
    read, write = os.pipe()
    with open("/dev/null", "rb") as null:
        ask("Create", fds=[null.fileno(), write, write], id="web-1", name="web", bundle=pod.bundle("web", "sh", "-c", "echo hello; " + COUNT[2]))
    os.close(write)
    check(pod.status() == {"POD": "running", "web": "created"}, pod.status())
    ask("Start", id="web")
    check(os.read(read, 100) == b"hello\n", "its output")
    os.close(read)
    poll("both count", lambda: min(pod.number("pod"), pod.number("web")) > 2)

    # list, state
    check([(c["id"], c["name"], c["status"]) for c in ask("List")["containers"]] == [("pod", "POD", "running"), ("web-1", "web", "running")], ask("List"))
    state = ask("State", id="web")["state"]
    check(state["id"] == "web-1" and state["status"] == "running" and state["pid"] > 0, state)
    try:
        ask("State", id="nobody")
        check(False, "a container that there is not has a state")
    except Refused as e:
        check(e.name == "ContainerNotFound" and e.about["id"] == "nobody" and e.about["message"], e)

    # a process in it
    started = ask("ExecuteAsync", id="web", args=["sh", "-c", "exit 9"])
    check(ask("WaitPID", id="web", pid=started["pid"])["exit"] == {"code": 9, "status": 9 << 8}, "WaitPID")

    # pause
    check(sorted(ask("Pause")["containers"]) == ["pod", "web-1"], "Pause")
    check(set(pod.status().values()) == {"paused"}, pod.status())
    still = pod.number("web")
    time.sleep(0.1)
    check(pod.number("web") == still, "it counts")
    check(sorted(ask("Resume")["containers"]) == ["pod", "web-1"], "Resume")
    poll("it counts on", lambda: pod.number("web") > still)

    # checkpoint of all; whoever waits for one of them hears how it ended
    image = str(env.t / "image")
    waiting = pod.connect()
    waiting.say("io.stasis.Sandbox.Wait", {"id": "web"})
    done = ask("Checkpoint", imagePath=image, leaveRunning=True)
    check(sorted(done["containers"]) == ["pod", "web-1"] and 0 < done["stoppedTime"] <= done["totalTime"], done)
    check(set(pod.status().values()) == {"running"}, pod.status())
    attempts = ask("Attempts", id="web")
    check(attempts == {"generation": 0, "restored": False, "checkpoints": 1, "failed": 0}, attempts)
    ask("Checkpoint", imagePath=image)
    check(waiting.hear()["parameters"]["exit"] == {"signal": 9, "status": 9}, "Wait")
    check(ask("List")["containers"] == [], ask("List"))
    watcher.join(10)
    check(not watcher.is_alive(), "the events have no end")

    # restore, in any order; the last one is answered when all run
    before = {name: pod.number(name) for name in ("pod", "web")}
    first = ask("RestoreSubcontainer", id="web-2", name="web", bundle=pod.same_bundle("web"), imagePath=image)
    check((first["status"], first["place"], first["count"]) == ("created", 1, 2), first)
    last = ask("Restore", id="pod-2", bundle=pod.same_bundle("pod"), imagePath=image)
    check((last["status"], last["place"], last["count"]) == ("running", 2, 2), last)
    ask("WaitRestore")
    check(pod.status() == {"POD": "running", "web": "running"}, pod.status())
    poll("they count on", lambda: all(pod.number(name) > before[name] for name in before))
    check(ask("Attempts", id="web")["restored"] is True, ask("Attempts", id="web"))

    # the end
    ask("Signal", id="web", signal=15, mode="all")
    ask("Destroy", id="web")
    ask("Destroy", id="POD")
    pod.close()

    def told(cid):
        return [e["type"] for e in heard if e["id"] == cid and e["type"] not in ("checkpoint", "exit")]
    check(told("pod") == ["create", "start", "delete", "end"] and told("web-1") == ["create", "start", "delete"], heard)
    outcomes = [e["data"]["outcome"] for e in heard if e["type"] == "checkpoint" and e["name"] == "web"]
    check(outcomes == ["begun", "completed", "begun", "completed"], heard)
    poll("the sandbox goes", lambda: not (env.root / "@sandboxes").exists())


def tests():
    yield "integration/control_newcomer/whole_cycle", whole_cycle, 90
