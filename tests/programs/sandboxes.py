# SPDX-License-Identifier: Apache-2.0
"""Programs that make a user namespace with others in it: unshare and bwrap, as root and as an ordinary user of the container."""
import shutil

from lib import Skip, check
from observe import compare, observe

ROUNDS = 3
LOOP = r"""
import os, time
n, own = 0, %s
while not os.path.exists("/cr/stop"):
    n += 1
    with open("/cr/count", "w") as f:
        f.write(str(n))
    time.sleep(0.02)
pids = [p for p in os.listdir("/proc") if p.isdigit()] if own else []
with open("/cr/verdict", "w") as f:
    f.write("PASS" if not own or (len(pids) <= 3 and str(os.getpid()) in pids) else f"FAIL: {os.getpid()} sees {pids}")
time.sleep(1000)
"""
BWRAP = ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink",
         "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
         "--bind", "/cr", "/cr"]

PROGRAMS = {
    "unshare_pid": (["unshare", "-Ur", "--pid", "--fork"], False, 0),
    "unshare_mount": (["unshare", "-Ur", "--mount"], False, 0),
    "unshare_slave": (["unshare", "-Ur", "--mount", "--propagation", "slave"], False, 0),
    "unshare_all": (["unshare", "-Ur", "--pid", "--fork", "--mount", "--mount-proc", "--uts", "--ipc", "--net"], True, 0),
    "bwrap": (BWRAP, True, 0),
    "bwrap_user": (BWRAP, True, 1000),
    "bwrap_session": ([*BWRAP, "--new-session", "--unshare-user", "--uid", "7", "--hostname", "inner"], True, 0),
}


def open_proc(config):
    """A user namespace may mount proc only where nothing of it is hidden."""
    config["linux"]["maskedPaths"] = []
    config["linux"]["readonlyPaths"] = []
    config["mounts"].append({"destination": "/shared", "type": "tmpfs", "source": "tmpfs", "options": ["rshared"]})


def sandbox(env, name, host_root):
    command, checks, uid = PROGRAMS[name]
    if not shutil.which(command[0]):
        raise Skip(f"{command[0]} is not installed")
    c = host_root(env, "sandbox", ["/bin/sh", "-c", '"$@"; true', "sh", f"/usr/bin/{command[0]}", *command[1:], "/usr/bin/python3", "-u", "-c", LOOP % checks],
                  edit=open_proc, user=(uid, uid, []))
    c.file("").chmod(0o777)
    c.run()

    def count():
        try:
            return int(c.file("count").read_text())
        except (OSError, ValueError):
            return 0

    # A proc of its own comes last in the list of mounts (mounts-late.c), where bwrap mounts others later.
    ignored = [*IGNORED, *(["mounts"] if command[0] == "bwrap" else [])]
    for n in range(ROUNDS):
        before = count()
        c.wait("progress of the program", lambda b=before: count() > b + 2, 20)
        look = observe(c, ignored)
        c.checkpoint(env.t / f"image{n}")
        c.gone()
        c.restore(env.t / f"image{n}")
        compare(look, c, ignored, f"round {n}")
    before = count()
    c.wait("progress of the program", lambda: count() > before + 2, 20)
    c.file("stop").write_text("")
    c.wait("the verdict", lambda: c.file("verdict").exists() and c.file("verdict").read_text(), 20)
    check(c.file("verdict").read_text() == "PASS", c.file("verdict").read_text())
    c.delete()


# What a loop of a shell changes all the time.
IGNORED = ["memory", "thread", "children", "Pss", "size", "fd"]


def tests(host_root):
    for name in PROGRAMS:
        yield f"programs/sandbox_{name}", lambda env, n=name: sandbox(env, n, host_root), 120
