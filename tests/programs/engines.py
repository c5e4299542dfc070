# SPDX-License-Identifier: Apache-2.0
"""Container engines and other makers of namespaces in a container, which is checkpointed and restored while what they run goes on."""
import os
import shutil

from lib import Skip, check
from observe import compare, observe
from programs import sandboxes

LOOP = sandboxes.LOOP % False
ALL_CAPS = """DAC_READ_SEARCH SYS_ADMIN SYS_PTRACE NET_ADMIN IPC_LOCK SYS_NICE SYS_TTY_CONFIG LEASE LINUX_IMMUTABLE SYS_BOOT
    AUDIT_CONTROL SYS_RESOURCE IPC_OWNER SYS_TIME SYSLOG SYS_RAWIO SYS_PACCT""".split()


def podman(*options):
    return ["podman", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", *options[:-1], "run", "--rm", "--network", "none", "--log-driver",
            "none", "-v", "/cr:/cr", "-v", "/usr:/usr:ro", "--security-opt", "seccomp=unconfined", *options[-1], "--rootfs", "/inner", "/usr/bin/python3", "-u", "-c", LOOP]


TMPFS, CGROUP = "tmpfs", "cgroup"
# Programs, command, what is mounted on /sys/fs/cgroup.
PROGRAMS = {
    "unshare": (["unshare"], ["unshare", "-Urnimpf", "--mount-proc", "/usr/bin/python3", "-u", "-c", LOOP], TMPFS),
    "podman": (["podman", "conmon", "crun"], podman("--runtime", "crun", ["--cgroups=disabled"]), TMPFS),
    "podman_runc": (["podman", "conmon", "runc"], podman("--runtime", "runc", []), CGROUP),
}


def edit(config, cgroup):
    config["mounts"].append({"destination": "/sys/fs/cgroup", "type": cgroup, "source": cgroup, "options": ["rw"]})
    config["linux"].update(maskedPaths=[], readonlyPaths=[])
    config["linux"]["resources"]["devices"] = [{"allow": True, "access": "rwm"}]
    config["process"]["env"].append("HOME=/root")
    config["mounts"].append({"destination": "/etc/containers", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]})


def inner_root(c):
    """What the inner container sees."""
    for d in ("usr", "proc", "sys", "dev", "cr", "etc", "tmp", "run"):
        (c.rootfs / "inner" / d).mkdir(parents=True)
    for d in ("bin", "lib", "lib64"):
        (c.rootfs / "inner" / d).symlink_to(f"usr/{d}")
    for d in ("var/lib/containers", "var/tmp", "run/lock", "root"):
        (c.rootfs / d).mkdir(parents=True, exist_ok=True)


def count(c):
    try:
        return int(c.file("count").read_text())
    except (OSError, ValueError):
        return 0


def goes_on(c):
    before = count(c)
    c.wait("progress of the program", lambda: count(c) > before + 2, 30)


def inner_sysfs(c):
    """Whether what the innermost process sees as /sys is another one than the container's."""
    devices = {os.stat(f"/proc/{p}/root/sys").st_dev for p in c.pids()}
    return len(devices) > 1


def engine(env, name, host_root):
    programs, command, cgroup = PROGRAMS[name]
    for p in programs:
        if not shutil.which(p):
            raise Skip(f"{p} is not installed")
    c = host_root(env, "engine", ["/bin/sh", "-c", '"$@" > /cr/log 2>&1; sleep 10000', "sh", *command],
                  edit=lambda config: edit(config, cgroup), caps=ALL_CAPS)
    inner_root(c)
    c.run()
    c.wait("the program", lambda: count(c) > 0, 60)
    inner = inner_sysfs(c)
    for n, options in enumerate(([], ["--leave-running"], ["--lazy=yes"])):
        image, lazy = env.t / f"image{n}", options == ["--lazy=yes"]
        look = observe(c, IGNORED)
        c.checkpoint(image, *([] if lazy else options), timeout=60)
        if not options or lazy:
            c.gone()
            c.restore(image, *options, timeout=60)
        if not options:
            compare(look, c, IGNORED, f"round {n}")
        goes_on(c)
        check(inner_sysfs(c) == inner, "the interfaces that are seen inside are others now")
    c.file("stop").write_text("")
    c.wait("the verdict", lambda: c.file("verdict").exists() and c.file("verdict").read_text(), 20)
    check(c.file("verdict").read_text().strip() == "PASS", c.file("verdict").read_text())
    c.delete()


# What the loop changes all the time; and a proc of a nested pid namespace comes last in the list of mounts.
IGNORED = ["memory", "thread", "Pss", "size", "mounts"]


def tests(host_root):
    for name in PROGRAMS:
        yield f"programs/engine_{name}", lambda env, n=name: engine(env, n, host_root), 120
