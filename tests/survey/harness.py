# SPDX-License-Identifier: Apache-2.0
"""Every stressor of stress-ng in a container, checkpointed and restored while it works: tests/run BUILD --only survey.

Not part of "make test": it takes an hour, and what a stressor does is no contract. It finds kernel objects in states that nobody has
thought of. Each stressor is checkpointed twice and left running, then once more, and restored (plain, lazily, after pre-copy, compressed in
turns); it fails if stress-ng says that the stressor failed, or if it ends by a signal, and did not without a checkpoint. A checkpoint that
is refused before anything has stopped is no failure: SURVEY_LOG=FILE gets a line of JSON for each stressor, with the refusals.
SURVEY_CAPS=1 gives the containers CAP_SYS_ADMIN and others, for stressors that do nothing without.
"""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lib
from lib import TESTS, Container, Failure, check, poll

sys.path.insert(0, str(TESTS))
from programs.harness import host_root  # noqa: E402

# They could harm a machine that others use (fill its disk, for one), or only make the container's limit kill them.
HARMFUL = set("""bigheap binderfs brk cpu-online dev efivar idle-page ioport klog kvm memhotplug oom-pipe physpage pageswap reboot rtc smi
    softlockup stack swap sysfs watchdog module race-sched resched bad-ioctl pci apparmor forkheavy resources""".split())
CAPS = "SYS_ADMIN NET_ADMIN SYS_PTRACE SYS_NICE IPC_LOCK DAC_READ_SEARCH LEASE LINUX_IMMUTABLE SETFCAP BPF PERFMON".split()
MODES = [((), ()), ((), ("--lazy",)), (("--pre-copy",), ()), (("--compress", "lz4"), ())]
ALLOWED = ("--file-locks", "--tcp-established", "--ext-unix-sk")
SECONDS = 3


def stressors():
    out = subprocess.run(["stress-ng", "--stressors"], capture_output=True, text=True, check=True).stdout
    return [s for s in out.split() if s not in HARMFUL]


class Refused(Exception):
    """Before anything was stopped."""


def started(env, cid, name):
    script = f"stress-ng --{name} 1 -t {SECONDS} --temp-path /tmp --metrics-brief -v > /cr/log 2>&1; echo $? > /cr/.s; mv /cr/.s /cr/status; exec sleep 1000"
    caps = CAPS if os.environ.get("SURVEY_CAPS") else ()
    c = host_root(env, cid, ["/bin/sh", "-c", script], caps=caps)
    c.config["linux"]["resources"] |= {"memory": {"limit": 1 << 30}, "pids": {"limit": 3000}}
    c.write_config()
    c.run()
    poll("the stressor begins", lambda: "started [" in log_of(c) or c.file("status").exists(), 20)
    return c


def log_of(c):
    return c.file("log").read_text(errors="replace") if c.file("log").exists() else ""


def ends(c):
    """Its exit status: 0, 3 (not here), or what went wrong."""
    end = time.monotonic() + 90
    while not c.file("status").exists():
        if time.monotonic() > end or c.status() != "running":
            raise Failure(f"it does not end ({c.status()}): {[(lib.proc_stat(p), lib.describe(p)) for p in sorted(c.pids())][:6]} {log_of(c)[-800:]}")
        time.sleep(0.02)
    return int(c.file("status").read_text())


def complaints(c):
    return [x for x in log_of(c).splitlines() if "fail:" in x or "terminated on signal" in x or "error:" in x or "aborted" in x]


def taken(c, image, *options):
    status, out, text = c.checkpoint(image, *ALLOWED, *options, ok=None, timeout=120)
    text += out
    if status == 0:
        return True
    if "cannot checkpoint" in text:
        raise Refused(text.strip()[-1500:])
    raise Failure(f"checkpoint {options}: exit {status}: {text.strip()[-1500:]}")


def cycle(c, n):
    """Whether it went on till its end as if nothing had been."""
    options, how = MODES[n % len(MODES)]
    for k in 1, 2:
        time.sleep(0.3)
        taken(c, c.env.t / f"live{k}", "--leave-running")
        check(c.status() == "running", f"after checkpoint {k} it is {c.status()}")
    time.sleep(0.2)
    taken(c, c.env.t / "last", *options)
    c.gone()
    c.restore(c.env.t / "last", "--tcp-established", *how, timeout=120)
    return ends(c)


def survey(env, n, name):
    said, text = "ok", ""
    c = started(env, name, name)
    try:
        status = cycle(c, n)
        said = {0: "ok", 3: "nothing"}.get(status, "failed")
        if status not in (0, 3) or complaints(c):
            text = f"exit {status}: {complaints(c)}"
            plain = started(env, "plain", name)
            usual = ends(plain)
            if usual == status and len(complaints(plain)) >= len(complaints(c)):
                said = "ok, fails anyway"
            else:
                said = "failed"
                text += f"; without a checkpoint {usual}: {complaints(plain)}"
            plain.delete()
    except Refused as e:
        said, text = "refused", str(e)
        goes_on = ends(c)
        check(goes_on in (0, 3) or "terminated" not in str(complaints(c)), f"after the refusal it ended with {goes_on}: {complaints(c)}: {text}")
    except Failure as e:
        said, text = "failed", str(e)
    if said == "failed" and os.environ.get("SURVEY_KEEP"):
        shutil.copytree(env.t, Path(os.environ["SURVEY_KEEP"]) / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("rootfs", "pages*.img"))
    if os.environ.get("SURVEY_LOG"):
        with open(os.environ["SURVEY_LOG"], "a", encoding="utf-8") as f:
            f.write(json.dumps({"stressor": name, "mode": n % len(MODES), "result": said, "text": text, "log": log_of(c)[-600:] if said == "failed" else ""}) + "\n")
    check(said != "failed", text)
    c.delete()


def tests():
    for n, name in enumerate(stressors()):
        yield f"survey/{name}", lambda env, n=n, name=name: survey(env, n, name), 240
