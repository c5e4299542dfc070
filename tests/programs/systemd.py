# SPDX-License-Identifier: Apache-2.0
"""systemd as the init of a container (Debian 12's), with journald, dbus and logind, a service with PrivateTmp, ProtectSystem
and limits, and a timer: checkpointed and restored in the middle of it all, and then still able to do its work."""
import fcntl
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

from lib import Container, Skip, check, cycles, poll

CYCLES, _ = cycles(10)
CACHE = Path(os.environ.get("STASIS_GUEST_CACHE", "/var/cache/stasis-guest")) / "systemd-bookworm"
CAPS = """DAC_READ_SEARCH SYS_ADMIN SYS_PTRACE NET_ADMIN IPC_LOCK SYS_NICE SYS_TTY_CONFIG LEASE LINUX_IMMUTABLE SYS_BOOT
    AUDIT_CONTROL SYS_RESOURCE""".split()

UNITS = {
    "counter.service": """[Service]
ExecStart=/bin/sh -c 'i=0; while sleep 0.1; do i=$((i+1)); echo $i > /tmp/count; done'
PrivateTmp=yes
ProtectSystem=full
Restart=always
RestartSec=1
MemoryMax=50M
TasksMax=20
""",
    "tick.timer": "[Timer]\nOnBootSec=1\nOnUnitActiveSec=1\nAccuracySec=100ms\n",
    "tick.service": "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo tick >> /cr/ticks'\n",
}


def root_file_system():
    """By debootstrap, once; kept beside the guest's."""
    if not shutil.which("debootstrap"):
        raise Skip("debootstrap is not installed")
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with open(CACHE.parent / "systemd.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not CACHE.exists():
            new = CACHE.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            made = subprocess.run(["unshare", "-m", "--propagation", "private", "debootstrap", "--variant=minbase",
                                   "--include=systemd,systemd-sysv,dbus", "bookworm", new],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if made.returncode != 0:
                raise Skip(f"debootstrap: no Debian mirror? {made.stdout[-300:]}")
            shutil.rmtree(new / "var/cache/apt", ignore_errors=True)
            new.rename(CACHE)
    return CACHE


def edit(config):
    config["process"]["env"].append("container=stasis")
    config["linux"].update(maskedPaths=[], readonlyPaths=[])
    # programs of BPF would be refused: systemd does without
    config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                                  "syscalls": [{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}


def container(env):
    mounts = [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
               "options": ["nosuid", "noexec", "nodev", "rw"]},
              {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
              {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}]
    c = Container(env, "systemd", ["/lib/systemd/systemd"], mounts=mounts, caps=CAPS, edit=edit)
    shutil.rmtree(c.rootfs)
    subprocess.run(["cp", "-a", "--reflink=auto", root_file_system(), c.rootfs], check=True)
    (c.rootfs / "cr").mkdir()
    for name, text in UNITS.items():
        (c.rootfs / "etc/systemd/system" / name).write_text(text)
    return c


def inside(c, *command, ok=0):
    return c.env.command("exec", c.cid, *command, ok=ok, timeout=60)[1].strip()


def checkpoint(c, image):
    """What waits to be read in an inotify queue is a reason to try again."""
    for _ in range(20):
        status, _, text = c.checkpoint(image, ok=None, timeout=60)
        if status == 0:
            return
        check("have not been read" in text, text)
        time.sleep(0.1)
    check(False, f"checkpoint: {text}")


def works(c):
    said = c.env.command("exec", c.cid, "systemctl", "is-system-running", ok=None, timeout=60)[1].strip()
    check(said == "running", f"systemd is {said}: {inside(c, 'sh', '-c', 'systemctl --failed; journalctl -n 20 --no-pager')}")
    for unit in ("counter.service", "tick.timer", "systemd-journald.service", "systemd-logind.service", "dbus.service"):
        check(inside(c, "systemctl", "is-active", unit) == "active", f"{unit} is not active")
    count = "cat /tmp/systemd-private-*counter*/tmp/count"
    before = int(inside(c, "sh", "-c", count) or "0")
    poll("the service's progress", lambda: int(inside(c, "sh", "-c", count) or "0") > before, 10)


def systemd(env):
    c = container(env)
    c.run()
    poll("systemd", lambda: c.env.command("exec", c.cid, "systemctl", "is-system-running", ok=None)[1].strip() == "running", 60)
    inside(c, "systemctl", "start", "counter.service", "tick.timer")
    pids = inside(c, "systemctl", "show", "-P", "MainPID", "counter", "systemd-logind", "systemd-journald")
    ticks = c.rootfs / "cr/ticks"
    poll("the timer", ticks.exists, 10)
    chance = random.Random(env.t.name)
    for n in range(CYCLES):
        time.sleep(chance.random())
        before = ticks.read_text().count("tick")
        checkpoint(c, env.t / f"image{n}")
        c.gone()
        c.restore(env.t / f"image{n}", timeout=60)
        works(c)
        check(inside(c, "systemctl", "show", "-P", "MainPID", "counter", "systemd-logind", "systemd-journald") == pids,
              "the services have other processes")
        poll("the timer", lambda: ticks.read_text().count("tick") > before, 10)
        shutil.rmtree(env.t / f"image{n}")
    check(inside(c, "systemctl", "show", "-P", "NRestarts", "counter") == "0", "the service was restarted")
    inside(c, "systemctl", "kill", "-s", "KILL", "counter")
    poll("the service's restart", lambda: inside(c, "systemctl", "show", "-P", "NRestarts", "counter") == "1", 10)
    poll("the service", lambda: c.env.command("exec", c.cid, "systemctl", "is-active", "counter", ok=None)[0] == 0, 10)
    inside(c, "systemctl", "stop", "counter")
    check("Stopped counter.service" in inside(c, "journalctl", "--no-pager", "-n", "50"), "the journal has not the stop")
    c.delete()
