# SPDX-License-Identifier: Apache-2.0
"""A pod: nginx in front of a Python application in front of redis, each in a container of its own, under wrk.

They have in common what containers of a Kubernetes pod have: the network (the test's; wrk comes from another namespace by a veth), the
IPC and UTS namespace of a container that only sleeps, /dev/shm, and a volume with a FIFO and unix sockets. pod_app.py counts each
request in all of them at once, so containers that were captured at different moments don't fit together.
"""
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from lib import TESTS, Container, Skip, check, cycles, poll
from programs import tcp

HERE = TESTS / "programs"
LIVE_CYCLES, _ = cycles(12)
CYCLES, _ = cycles(5)
ALL = ("tcp", "unix", "shm", "fifo")
LINKS = tuple(os.environ.get("POD_LINKS", ",".join(ALL)).split(","))  # of those that are checkpointed
NAMES = ("POD", "redis", "app", "web")
NGINX = """daemon off; user root; worker_processes 2; pid /run/nginx.pid; error_log /tmp/error.log info;
events { worker_connections 256; }
http { access_log /tmp/access.log; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; keepalive_requests 1000000000; keepalive_timeout 3600s; send_timeout 3600s;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 3600s; proxy_next_upstream off;
upstream tcp { server 127.0.0.1:8000 max_fails=0; keepalive 16; keepalive_requests 1000000000; keepalive_timeout 3600s; }
upstream unix { server unix:/shared/app.sock max_fails=0; keepalive 16; keepalive_requests 1000000000; keepalive_timeout 3600s; }
server { listen 10.77.0.1:8080; location /tcp/ { proxy_pass http://tcp; } location /unix/ { proxy_pass http://unix; } } }
"""


class Pod:
    """The containers by their names in the pod; links: how they are joined beside the network."""

    def __init__(self, env, host_root, sandbox, netns, links=ALL):
        self.env, self.sandbox, self.netns, self.links = env, sandbox, netns, links
        self.volume, self.shm = env.t / f"{sandbox}-volume", env.t / f"{sandbox}-shm"
        for d in (self.volume, self.shm):
            d.mkdir()
        self.fresh_shm()
        joined = ",".join(links)
        self.c = {}
        self.add(Container(env, f"{sandbox}-pod", ["/bin/sleep", "100000"], busybox=True), "POD")
        redis = f"""redis-server --port 6379 --bind 127.0.0.1 --unixsocket /shared/redis.sock --save '' --dir /tmp --logfile /tmp/redis.log &
            {"exec python3 -u -B /cr/pod_reader.py " + joined if "fifo" in links else "wait"}"""
        self.add(host_root(env, f"{sandbox}-redis", ["/bin/sh", "-c", redis], files=["pod_reader.py", "pod_app.py"]), "redis")
        self.add(host_root(env, f"{sandbox}-app", ["/usr/bin/python3", "-u", "-B", "/cr/pod_app.py", joined],
                           files=["pod_app.py"]), "app")
        self.add(host_root(env, f"{sandbox}-web", ["/usr/sbin/nginx", "-c", "/cr/nginx.conf", "-e", "/tmp/error.log"]), "web")
        self.c["web"].file("nginx.conf").write_text(NGINX)

    def add(self, c, name):
        self.c[name] = c
        spaces = [n for n in c.config["linux"]["namespaces"] if n["type"] != "network"]
        if name != "POD":
            spaces = [n for n in spaces if n["type"] not in ("ipc", "uts")]
            del c.config["hostname"]
            c.config["mounts"] = [m for m in c.config["mounts"] if m["destination"] != "/dev/shm"] + [
                {"destination": "/dev/shm", "type": "bind", "source": str(self.shm), "options": ["rbind", "rw"]},
                {"destination": "/shared", "type": "bind", "source": str(self.volume), "options": ["rbind", "rw"]}]
        c.config["linux"]["namespaces"] = [*spaces, {"type": "network", "path": f"/run/netns/{self.netns}"}]
        c.write_config()

    def fresh_shm(self):
        subprocess.run(["umount", self.shm], check=False, capture_output=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777,size=64m", "shm", self.shm], check=True)

    def join(self, name):
        """The namespaces of the container that sleeps, as its init has them now."""
        if name == "POD":
            return
        linux, pid = self.c[name].config["linux"], self.c["POD"].pid()
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] not in ("ipc", "uts")] + [
            {"type": t, "path": f"/proc/{pid}/ns/{t}"} for t in ("ipc", "uts")]
        self.c[name].write_config()

    def options(self, name):
        return ["--sandbox", self.sandbox, "--container-name", name]

    def run(self):
        if "fifo" in self.links:
            os.mkfifo(self.volume / "fifo")
        for name, c in self.c.items():
            self.join(name)
            self.env.command("run", "-d", *self.options(name), "--bundle", c.bundle, c.cid, stdout=c.out)
            if name == "app":
                c.wait("the application", lambda c=c: c.file("count").exists() or self.error(), 60)
        check(not self.error(), f"at the start: {self.error()}")

    def checkpoint(self, image, *options, **kw):
        """All at one moment, named by the sandbox."""
        return self.env.command("checkpoint", "--sandbox", "--image-path", image, "--work-path", self.env.t, "--tcp-established",
                                *options, self.sandbox, timeout=60, **kw)

    def restore(self, image, *options, new=()):
        """One command a container: the one that sleeps first, as its namespaces are the others'; else in any order. new: those that
        begin anew, as the pod's own container does when a runtime has made the pod already."""
        names = list(NAMES[1:])
        random.shuffle(names)
        for name in ("POD", *names):
            c = self.c[name]
            self.join(name)
            if name in new:
                c.run(*self.options(name))
                continue
            self.env.command("restore", "-d", "--image-path", image, "--work-path", self.env.t, "--tcp-established", *self.options(name),
                             *options, "--bundle", c.bundle, c.cid, stdout=c.out, timeout=60)

    def start(self):
        """What kubelet does with prepared ones: one after the other."""
        names = list(NAMES)
        random.shuffle(names)
        for name in names:
            status = self.c[name].status()
            check(status == "created", f"{name} is prepared, and {status}")
        for name in names:
            self.env.command("start", self.c[name].cid, timeout=60)

    def rename(self, sandbox):
        """Other ids, for it and its containers, and other cgroups; only the names in the pod stay."""
        self.sandbox = sandbox
        for name, c in self.c.items():
            c.cid = f"{sandbox}-{name}"
            c.config["linux"]["cgroupsPath"] = f"{self.env.cgroup}/{c.cid}"
            c.write_config()

    def gone(self):
        for c in self.c.values():
            c.gone()

    def error(self):
        """What the programs have found wrong."""
        for name, c in self.c.items():
            if c.file("error").exists():
                return f"{name}: {c.file('error').read_text()}"
        return ""

    def pids(self):
        return {p for c in self.c.values() for p in c.pids()}

    def delete(self):
        for c in reversed(self.c.values()):
            c.delete(ok=None)
        subprocess.run(["umount", self.shm], check=True)


class Load:
    """wrk, whose connections last; every answer is looked at."""

    def __init__(self, env, netns, links, connections=4, address="10.77.0.1:8080"):
        self.out = env.t / f"wrk-{netns}.out"
        routes = [r for r in ("tcp", "unix") if r in links]
        with open(self.out, "wb") as out:
            self.p = subprocess.Popen(["ip", "netns", "exec", netns, "wrk", "-t", str(connections), "-c", str(connections), "-d", "3600",
                                       "--timeout", "60", "-s", HERE / "pod.lua", f"http://{address}", "--", *routes],
                                      stdout=out, stderr=out)

    def going(self):
        return self.p.poll() is None

    def end(self):
        """Number of answers; no other one was wrong."""
        self.p.send_signal(signal.SIGINT)
        status = self.p.wait(60)
        said = self.out.read_text(errors="replace")
        found = dict(re.findall(r"^(\w+)=(\d+)$", said, re.M))
        answers = int(found.pop("answers", 0))
        check(status == 0 and len(found) == 6 and not any(map(int, found.values())), f"wrk ends with {status}: {said[-2000:]}")
        return answers

    def kill(self):
        self.p.kill()
        self.p.wait()


@contextlib.contextmanager
def pod_under_load(env, host_root, links=ALL):
    for program in ("nginx", "redis-server", "wrk", "/usr/bin/python3"):
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")
    with tcp.two_namespaces(env) as (server, client):
        pod = Pod(env, host_root, "pod", server, links)
        pod.run()
        at = ["ip", "netns", "exec", client]
        one = ["wrk", "-d", "1", "-t", "1", "-c", "1", "http://10.77.0.1:8080/tcp/x"]
        poll("nginx", lambda: subprocess.run([*at, *one], capture_output=True, check=False).returncode == 0, 30)
        load = Load(env, client, links)
        try:
            yield pod, load
        finally:
            load.kill()


def number(c, name):
    return int(c.file(name).read_text() or 0) if c.file(name).exists() else 0


def moved(pod, by=50):
    """The application and the reader of its numbers go on, and nobody has found a fault."""
    watched = [(pod.c["app"], "count"), *([(pod.c["redis"], "read")] if "fifo" in pod.links else [])]
    before = [number(c, name) for c, name in watched]

    def beyond():
        check(not pod.error(), pod.error())
        return all(number(c, name) >= b + by for (c, name), b in zip(watched, before))
    pod.c["app"].wait(f"progress beyond {before}", beyond, 30)


def plain(env, host_root):
    """Without a checkpoint: the workload itself holds."""
    with pod_under_load(env, host_root) as (pod, load):
        for _ in range(5):
            moved(pod, 200)
        check(load.end() > 1000, "wrk got nothing")
        check(not pod.error(), pod.error())
        pod.delete()


def two_moments(env, host_root):
    """What this test is worth: each container checkpointed for itself, one after the other, is no pod, and that is seen."""
    links = ("tcp", "shm")
    with pod_under_load(env, host_root, links) as (pod, load):
        inner = {name: c for name, c in pod.c.items() if name != "web"}  # that one goes on writing to files
        for name, c in inner.items():
            c.checkpoint(env.t / f"image-{name}", "--leave-running", "--tcp-established", timeout=60)
            moved(pod)
        load.kill()
        for c in pod.c.values():
            c.delete()
        for name, c in inner.items():
            pod.join(name)
            c.restore(env.t / f"image-{name}", "--tcp-established", *pod.options(name), timeout=60)
        # It finds numbers that do not fit, or never gets an answer, because the ends of its connection do not fit.
        p = subprocess.run(["ip", "netns", "exec", pod.netns, "busybox", "wget", "-q", "-T", "5", "-O", "-", "http://127.0.0.1:8000/x"],
                           capture_output=True, check=False, timeout=60)
        check(pod.error() or p.returncode != 0, f"the application has found nothing wrong: {p.stdout}")
        pod.delete()


def live(env, host_root):
    """--leave-running again and again: nobody notices; and each image is one moment, as those that are restored show (see restored())."""
    with pod_under_load(env, host_root, LINKS) as (pod, load):
        for n in range(LIVE_CYCLES):
            time.sleep(random.uniform(0, 0.2))
            pod.checkpoint(env.t / "image", "--leave-running")
            check(load.going(), f"cycle {n}: the load has ended")
            moved(pod)
        check(load.end() > 100 * LIVE_CYCLES, "wrk got too little")
        check(not pod.error(), pod.error())
        pod.delete()


def restored(env, host_root):
    """Ended and restored under load; wrk's connections last, and every counter is where the others are."""
    with pod_under_load(env, host_root, LINKS) as (pod, load):
        for n in range(CYCLES):
            time.sleep(random.uniform(0, 0.5))
            image = env.t / f"image{n}"
            pod.checkpoint(image)
            pod.gone()
            if n % 2:  # also where the pod's memory is new
                pod.fresh_shm()
            if n % 3 == 1:
                pod.rename(f"pod{n}")
            if n % 4 == 2:
                pod.restore(image, "--prepare")
                pod.start()
            else:
                pod.restore(image, new=["POD"] if n % 4 == 3 else [])
            check(load.going(), f"cycle {n}: the load has ended")
            moved(pod)
            shutil.rmtree(image)
        check(load.end() > 100 * CYCLES, "wrk got too little")
        check(not pod.error(), pod.error())
        pod.delete()


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        if pid > 1:
            os.kill(pid, signal.SIGKILL)


def supervisor_of(pod):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.connect(str(pod.env.root / "@sandboxes" / pod.sandbox / "control.sock"))
        return struct.unpack("iii", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return 0


def interrupted(env, host_root):
    """The command or the supervisor is killed at any moment of a checkpoint: the pod goes on, and so does its load."""
    with pod_under_load(env, host_root, LINKS) as (pod, load):
        complete = 0
        for n in range(LIVE_CYCLES):
            command = [env.stasis, "--root", env.root, "checkpoint", "--sandbox", "--image-path", env.t / f"image{n}", "--tcp-established",
                       "--leave-running", pod.sandbox]
            with open(env.t / "interrupted.err", "ab") as err:
                p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
            time.sleep(random.expovariate(1 / 0.06))
            kill(supervisor_of(pod) if n % 4 == 3 else p.pid)
            complete += p.wait(60) == 0
            moved(pod)
            check(load.going(), f"cycle {n}: the load has ended")
        pod.checkpoint(env.t / "image", "--leave-running")
        moved(pod)
        check(load.end() > 10 * LIVE_CYCLES, "wrk got too little")
        check(complete < LIVE_CYCLES, "no checkpoint was interrupted")
        check(not pod.error(), pod.error())
        pod.delete()
