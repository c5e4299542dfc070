# SPDX-License-Identifier: Apache-2.0
"""Programs that ask for checkpoints of themselves, by examples/ask.py (docs/application.md), and such as only want to do harm."""
import json
import os
import shutil
import signal
import time
from pathlib import Path

from lib import TESTS, check, poll

ASK = TESTS.parent / "examples/ask.py"
PYTHON = "/usr/bin/python3"


def made(env, host_root, cid, program, annotations=()):
    """A container that runs a program of this folder, and may ask for checkpoints into the folder "image"."""
    c = host_root(env, cid, [PYTHON, "-u", "-B", f"/cr/{program}"], files=[program])
    shutil.copy2(ASK, c.rootfs / "cr/ask.py")
    said = {"application": "true", "application.image-path": str(env.t / "image")} | dict(annotations)
    c.config["annotations"] = {f"io.stasis.{k}": v for k, v in said.items()}
    c.config["process"]["env"].append("WHERE=here")
    c.write_config()
    return c


class Asker:
    """The program asks.py."""

    def __init__(self, c):
        self.c = c
        self.seen = 0

    def answers(self):
        try:
            return self.c.file("answers").read_text().splitlines()
        except FileNotFoundError:
            return []

    def ask(self, line):
        with open(self.c.file("ask"), "a", encoding="ascii") as f:
            f.write(line + "\n")

    def told(self, *expected):
        """The next answers, in any order."""
        poll(f"answers {expected} after {self.answers()}", lambda: len(self.answers()) >= self.seen + len(expected), 20)
        new = self.answers()[self.seen:self.seen + len(expected)]
        self.seen += len(expected)
        for text in expected:
            check(any(line == text or text.endswith("...") and line.startswith(text[:-3]) for line in new), f"told {new}, not {text}")

    def goes_on(self):
        before = int(self.c.file("count").read_text())
        poll("progress", lambda: int(self.c.file("count").read_text()) > before + 2, 10)


def settle(seconds=1.05):
    """Another request is not too soon then."""
    time.sleep(seconds)


def asks(env, host_root):
    """It goes on and is told so; the restored copy is told that it is one, has another generation and the new environment."""
    c = made(env, host_root, "asks", "asks.py")
    c.run()
    a = Asker(c)
    a.ask("checkpoint")
    a.told("checkpointed 0 generation 0 where here")
    a.goes_on()
    a.ask("checkpoint")
    a.told("refused too soon: wait ...")
    image = env.t / "image"
    check(json.loads((image / "manifest.json").read_text())["attempts"] == {"checkpoints": 1, "failed": 0}, "attempts")
    a.ask("status")
    a.told("status id=asks name=asks generation=0 restored=0 checkpoints=1 failed=0 generation 0 where here")
    c.delete()
    shutil.copytree(image, env.t / "first")
    for f in ("ask", "answers"):
        c.file(f).unlink()
    c.file("ask").write_text("checkpoint\n")  # as it was
    a.seen = 0
    c.config["process"]["env"][-1] = "WHERE=there"
    c.write_config()
    c.restore(env.t / "first")
    a.told("restored 1 generation 1 where there", "waited restored 1 generation 1")
    a.goes_on()
    a.ask("checkpoint")
    a.told("checkpointed 1 generation 1 where there")
    c.delete()
    c.file("answers").unlink()
    a.seen = 0
    c.restore(image)
    a.told("restored 2 generation 2 where there", "waited restored 2 generation 2")
    a.ask("status")
    a.told("status id=asks name=asks generation=2 restored=1 checkpoints=2 failed=0 generation 2 where there")
    # One that the operator makes says the same to whoever waits, and is no answer to anything in the container that goes on.
    c.checkpoint(env.t / "other", "--leave-running")
    a.goes_on()
    check(len(a.answers()) == a.seen, f"told {a.answers()}")
    c.delete()


def user_namespace(env, host_root):
    """Whose root is nobody here, and whose program is not its root; the server is nobody there."""
    c = made(env, host_root, "userns", "asks.py")
    mapping = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    c.config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    c.config["linux"]["namespaces"].append({"type": "user"})
    c.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    c.write_config()
    for p in (c.rootfs, *c.rootfs.rglob("*")):
        os.chown(p, 200000, 200000, follow_symlinks=False)
    for p in (env.t, *env.t.parents):
        if p != Path("/") and p.stat().st_uid == 0 and not p.stat().st_mode & 1:
            p.chmod(p.stat().st_mode | 0o011)
    c.run()
    a = Asker(c)
    a.ask("checkpoint")
    a.told("checkpointed 0 generation 0 where here")
    a.goes_on()
    check((env.root / c.cid / "application/socket").stat().st_uid == 201000, "whose socket it is")
    c.command("exec", "--user", "1001", c.cid, PYTHON, "-B", "/cr/ask.py", "status", ok=False)
    c.command("exec", c.cid, PYTHON, "-B", "/cr/ask.py", "status")
    c.command("exec", "--user", "0", c.cid, PYTHON, "-B", "/cr/ask.py", "status")
    c.checkpoint(env.t / "other")
    c.restore(env.t / "other")
    a.told("waited restored 1 generation 1")
    a.goes_on()
    a.ask("checkpoint")
    a.told("checkpointed 1 generation 1 where here")
    c.delete()


def ends(env, host_root):
    """leave-running false: what asks is gone after it."""
    c = made(env, host_root, "ends", "asks.py", {"application.leave-running": "false"})
    c.run()
    a = Asker(c)
    a.ask("checkpoint")
    poll("the end of the container", lambda: c.status() is None, 20)
    check(not a.answers(), f"told {a.answers()}")
    c.restore(env.t / "image")
    a.told("restored 1 generation 1 where here", "waited restored 1 generation 1")
    c.delete()


def fails(env, host_root):
    """It learns of its own obstacles and hooks, and of nothing of the host; and goes on."""
    c = made(env, host_root, "fails", "asks.py",
             {"hooks.save": json.dumps(["/bin/sh", "-c", "test ! -e /cr/no || { echo not now; exit 3; }"]),
              "hooks.resume": json.dumps(["/bin/sh", "-c", "echo $STASIS_RESULT >> /cr/resumed"])})
    c.run()
    a = Asker(c)
    c.file("no").touch()
    a.ask("checkpoint")
    a.told("failed save hook /bin/sh: exit status 3: not now generation 0 where here")
    a.goes_on()
    c.file("no").unlink()
    (env.t / "image").write_text("in the way")
    settle()
    a.ask("checkpoint")
    a.told("failed system: not a directory generation 0 where here")
    text = (env.root / c.cid / "last-request").read_text()
    check(f"image directory {env.t}/image" in text, f"for the operator: {text}")
    (env.t / "image").unlink()
    settle()
    a.ask("checkpoint sandbox")
    a.told("refused nothing says where ...")
    a.ask("please")
    a.told("error unknown request generation 0 where here")
    a.ask("checkpoint")
    a.told("checkpointed 0 generation 0 where here")
    check(c.file("resumed").read_text() == "failed\nfailed\ndone\n", c.file("resumed").read_text())
    a.ask("status")
    a.told("status id=fails name=fails generation=0 restored=0 checkpoints=3 failed=2 generation 0 where here")
    c.delete()


def whole(env, host_root):
    """One asks for a checkpoint of all; the others need not know."""
    image = env.t / "all"
    c, d = (made(env, host_root, cid, "asks.py", {"application.image-path": "/nowhere/to/be", "application.sandbox-image-path": str(image)})
            for cid in ("one", "two"))
    c.run("--sandbox", "pod")
    d.run("--sandbox", "pod")
    a, b = Asker(c), Asker(d)
    b.ask("status")
    b.told("status ...")
    a.ask("checkpoint sandbox")
    a.told("checkpointed 0 generation 0 where here")
    a.goes_on()
    b.goes_on()
    check([x["name"] for x in json.loads((image / "manifest.json").read_text())["containers"]] == ["one", "two"], "both are in the image")
    _, out, _ = env.command("ctl", "--sandbox", "pod", "Attempts", json.dumps({"id": "two"}))
    check(json.loads(out) == {"generation": 0, "restored": False, "checkpoints": 1, "failed": 0}, out)
    check(len(b.answers()) == b.seen, f"told {b.answers()}")
    c.delete()
    d.delete()
    for x, lines in (a, "checkpoint sandbox\n"), (b, "status\n"):  # as it was
        x.c.file("ask").write_text(lines)
        x.c.file("answers").unlink()
        x.seen = 0
    for x, name in (b, "two"), (a, "one"):
        x.c.restore(image, "--sandbox", "other", "--container-name", name)
    a.told("restored 1 generation 1 where here", "waited restored 1 generation 1")
    b.told("waited restored 1 generation 1")
    a.goes_on()
    b.goes_on()
    b.ask("status")
    b.told("status id=two name=two generation=1 restored=1 checkpoints=1 failed=0 generation 1 where here")
    a.ask("checkpoint sandbox")
    a.told("checkpointed 1 generation 1 where here")
    c.delete()
    d.delete()


def busy(env, host_root):
    """Checkpoints of a program that has requests in every state, most of them not even accepted."""
    c = made(env, host_root, "busy", "asks_often.py")
    c.run()

    def number(name):
        check(not c.file("error").exists(), lambda: c.file("error").read_text())
        return int(c.file(name).read_text()) if c.file(name).exists() else 0

    def goes_on():
        before = number("count")
        poll("answers", lambda: number("count") > before + 5, 20)
    goes_on()
    for n in range(10):
        c.checkpoint(env.t / "image", "--leave-running")
        check(number("restored") == 0 and number("none") == 0, "nothing was restored")
        time.sleep(n * 0.013)
    goes_on()
    for n in range(1, 4):
        c.checkpoint(env.t / f"image{n}")
        before = number("restored")
        c.restore(env.t / f"image{n}")
        poll("restored requests", lambda b=before: number("restored") > b, 20)
        goes_on()
    c.delete()


def again(env, host_root):
    """One after the other with the same id, in a sandbox whose supervisor goes on."""
    keeper = made(env, host_root, "keeper", "asks.py")
    keeper.run("--sandbox", "pod")
    c = made(env, host_root, "again", "asks.py")
    for _ in range(8):
        for f in ("ask", "answers"):
            c.file(f).unlink(missing_ok=True)
        c.run("--sandbox", "pod")
        a = Asker(c)
        a.ask("status")
        a.told("status id=again name=again generation=0 restored=0 checkpoints=0 failed=0 generation 0 where here")
        c.delete()
    check(len(supervisors(env)) == 1, f"supervisors: {supervisors(env)}")
    keeper.delete()


def supervisors(env):
    found = []
    for p in Path("/proc").iterdir():
        if not p.name.isdigit():
            continue
        try:
            words = (p / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"sandbox" in words and bytes(env.root) in words:
            found.append(int(p.name))
    return found


def server_dies(env, host_root):
    """Who had asked is not left waiting; the next supervisor serves."""
    c = made(env, host_root, "dies", "asks.py")
    c.run()
    a = Asker(c)
    a.ask("status")
    a.told("status ...")
    for p in supervisors(env):
        os.kill(p, signal.SIGKILL)
    a.told("waited generation 0")  # no answer
    env.command("ctl", "--sandbox", c.cid, "GetInfo", ok=None)
    env.command("ctl", "--sandbox", c.cid, "State", json.dumps({"id": c.cid}), ok=None)
    a.ask("checkpoint")
    a.told("checkpointed 0 generation 0 where here")
    a.goes_on()
    c.delete()


def hostile(env, host_root):
    """Many connections, half lines, long ones, nonsense, ends at any moment: others are served, the supervisor stays small."""
    c = made(env, host_root, "hostile", "asks_badly.py")
    c.run()
    c.wait("the end of the attack", c.file("verdict").exists, 50)
    check(c.file("verdict").read_text() == "PASS", c.file("verdict").read_text())
    [p] = supervisors(env)
    rss = int(Path(f"/proc/{p}/status").read_text().split("VmRSS:")[1].split()[0])
    check(rss < 8 << 10 and len(list(Path(f"/proc/{p}/fd").iterdir())) < 40, f"the supervisor has {rss} KiB")
    check((env.t / "image/manifest.json").exists(), "no checkpoint was made")
    c.delete()


def tests(host_root):
    for f in (asks, user_namespace, ends, fails, whole, again, busy, server_dies, hostile):
        yield f"programs/application_{f.__name__}", lambda env, f=f: f(env, host_root), 120
