# SPDX-License-Identifier: Apache-2.0
"""Looking into a sandbox: stacks of its tasks, the supervisor's log and profile, and metrics."""
import json

from lib import check, poll

SID = pod = refused = status = None  # of control.py
SPIN = ["sh", "-c", "while :; do :; done"]


def stacks(env):
    with pod(env) as (p, c):
        c.call("Create", {"id": "busy", "name": "busy", "bundle": p.bundle("busy", SPIN)})
        c.call("Start", {"id": "busy"})
        poll("it spins", lambda: any(t["state"] == "R" for t in c.call("io.stasis.Debug.Stacks", {"id": "busy"})["tasks"]))
        tasks = c.call("io.stasis.Debug.Stacks")["tasks"]
        check({t["id"] for t in tasks} == {"root", "busy"}, tasks)
        sleeping, = (t for t in tasks if t["id"] == "root")
        check(sleeping["pidInside"] == 1 and sleeping["state"] == "S" and sleeping["systemCall"] is not None, sleeping)
        check(any("nanosleep" in f or "syscall" in f for f in sleeping["kernel"]), sleeping)
        # The instruction that is certain, in the program, and others behind it.
        first = sleeping["user"][0]
        check(not first["found"] and "busybox" in first["file"] and int(first["offset"], 16) > 0, sleeping)
        check(all(f["found"] for f in sleeping["user"][1:]), sleeping)
        # A task that runs has user frames only when it is stopped for it; and then runs on.
        busy, = c.call("io.stasis.Debug.Stacks", {"id": "busy", "stop": True})["tasks"]
        check(busy["user"] and not busy["user"][0]["found"], busy)
        check(status(c, "busy") == "running", status(c, "busy"))
        before = c.call("Processes", {"id": "busy"})["processes"][0]
        poll("it runs on", lambda: c.call("Processes", {"id": "busy"})["processes"][0]["cpuTime"] > before["cpuTime"])
        refused("ContainerNotFound", c, "io.stasis.Debug.Stacks", {"id": "nosuch"})
        refused("InvalidParameter", c, "io.stasis.Debug.Stacks", {"stop": 1})
        c.call("Destroy", {"id": "busy"})
        c.call("Destroy", {"id": "root"})


def log_and_profile(env):
    with pod(env) as (p, c):
        log, profile = env.t / "log", env.t / "profile"
        check(c.call("io.stasis.Logging.Change", {"level": "debug", "file": str(log)})["before"] == "info", "before")
        check(c.call("io.stasis.Logging.Change", {"level": "error"})["before"] == "debug", "before")
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        check(lines and "debug" in lines[0]["msg"], lines)
        check((log.stat().st_mode & 0o777) == 0o600, oct(log.stat().st_mode))
        refused("InvalidParameter", c, "io.stasis.Logging.Change", {"level": "loud"}, saying="loud")
        refused("InvalidParameter", c, "io.stasis.Logging.Change", {"level": "info", "file": "log"}, saying="absolute")
        (env.t / "link").symlink_to("log")
        refused("SystemError", c, "io.stasis.Logging.Change", {"level": "info", "file": str(env.t / "link")})
        refused("NotNow", c, "io.stasis.Profile.End")
        c.call("io.stasis.Profile.Begin", {"file": str(profile)})
        refused("NotNow", c, "io.stasis.Profile.Begin", {"file": str(profile)})
        for _ in range(5):
            c.call("List")
        # A worker does not write into it.
        c.call("Processes")
        used = c.call("io.stasis.Profile.End")
        check(used["maxRss"] > 0 and used["userTime"] + used["systemTime"] > 0, used)
        events = json.loads(profile.read_text())
        names = [e["name"] for e in events if e["ph"] == "X"]
        check(names.count("List") == 5 and "event" in names, names)
        check(len({e["pid"] for e in events}) == 1, events)
        c.call("Destroy", {"id": "root"})


def metrics(env):
    with pod(env) as (p, c):
        c.call("Create", {"id": "web", "name": "www", "bundle": p.bundle("web")})
        text = c.call("Metrics")["text"]
        printed = env.command("metrics", "--sandbox", SID)[1]
        check(printed.splitlines()[:3] == text.splitlines()[:3] and printed.endswith("# EOF\n"), printed)
        lines = text.splitlines()
        check(lines[-1] == "# EOF" and text.endswith("\n"), lines[-1])
        samples, families, current = {}, {}, None
        for line in lines[:-1]:
            if line.startswith("# "):
                _, what, name, value = line.split(" ", 3)
                current = name
                families.setdefault(name, {})[what] = value
                continue
            check(line.startswith(current), f"{line} in the family {current}")
            name = line.split("{", 1)[0]
            samples.setdefault(name, []).append(line)
            check((families[current]["TYPE"] == "counter") == name.endswith("_total"), line)
        check(all({"TYPE", "HELP"} <= set(f) for f in families.values()), families)
        check(len(samples["stasis_container_status"]) == 2 and any('status="running"' in s for s in samples["stasis_container_status"]), samples)
        check(any('id="root"' in s and f'sandbox="{SID}"' in s for s in samples["stasis_container_cpu_seconds_total"]), samples)
        memory, = (s for s in samples["stasis_container_memory_usage_bytes"] if 'id="root"' in s)
        check(float(memory.split()[-1]) > 0, memory)
        c.call("Destroy", {"id": "web"})
        c.call("Destroy", {"id": "root"})


def tests(control):
    """control: integration/control.py, which knows how to make a sandbox."""
    globals().update({name: getattr(control, name) for name in ("SID", "pod", "refused", "status")})
    for f in (stacks, log_and_profile, metrics):
        yield f"integration/debugging/{f.__name__}", f, 60
