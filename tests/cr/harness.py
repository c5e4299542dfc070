# SPDX-License-Identifier: Apache-2.0
"""Runs the programs of tests/cr in containers that are checkpointed and restored around their checks.

Each program is run in these ways:
  once     checkpoint that ends the container, restore, check
  cycles   three times in a row
  running  --leave-running, check; the image of it is restored as a second container after the first one is deleted
  lazy     three times with restore --lazy=yes: all there before the check, then checked and checkpointed while it is filled
  old      as once, and the checkpoint as on Linux 6.1 (only programs about memory)
  packed   as cycles, with --compress lz4, --compress zstd, and --dedup against that, then both and lazily, and --thp (programs about memory, and who asks for it)
  chain    --pre-dump twice, then a checkpoint that has the second one as its parent; restored of all three (likewise)
  packed_chain  as chain, with images that are compressed, or not (only programs that ask for it)
  generations  three times: --pre-dump twice, then --leave-running and a checkpoint that ends it, of the same parent; restored lazily, or not (only programs
               that ask for it)
  precopy  --pre-copy, restore; then once more with --leave-running (likewise)
  userns   as once, in a user namespace
  shared_user  the same, in that of another container (programs about owners and /proc)
  rootless_shared  the same, both of an ordinary user
  pids     as once, in the pid namespace of another container of its sandbox, which is checkpointed and restored with it (programs about processes)
  rootless of an ordinary user, by that user: two cycles, then --leave-running and a second container of that image
  filtered as rootless, under a seccomp profile like podman's (where a program asks for it)
  block    as cycles, with a block device and others of config.json's (only the program that asks for it)
  ended    it ends while --leave-running still writes its memory; the image is restored (only the program that asks for it)
  streamed --leave-running, then as once, through pipes; then the stream becomes a directory, and a second container is restored from that (programs about
           memory and files, and a few more)
  streamed_ahead  through pipes with --pre-copy and --compress; likewise by way of a directory (programs about memory)
  again    --leave-running twice, then a checkpoint that ends it, restore, check: what the first ones did is not in the way
Besides the program's own check, all that can be observed of the container must be the same before and after (tests/observe.py).

A program's source says what it needs in a line "cr: key=value ...":
  caps=A,B       capabilities besides the usual ones     user=UID:GID:G1,G2   link=dynamic
  pause=SECONDS  how long it stays in the image          ignore=maps,fds,...  words of keys that are not compared
  tmpfs=/mnt     a tmpfs mounted there                   hostname=NAME        modes=once,cycles (only), also=filtered
  hugetlbfs=/x   a hugetlbfs mounted there              container=1          about what only a container has
  rw=/proc/sys   paths that are not made read-only
  args=a,b       arguments of the program                busybox=1            busybox in the root file system
  options=--a,--b  options of checkpoint and restore     cgroup=1    its cgroup at /sys/fs/cgroup
  seed=1           its random numbers are others in each run: a failure says "CR_SEED=N", which does the same in the environment of tests/run
  seconds=N        time limit of each, 60 otherwise
  ids=1            rootless: it needs several ids        hidden=1    rootless: a process is not dumpable, once is all
"""
import json
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from pathlib import Path

from lib import TESTS, Container, Failure, Rootless, RootlessIds, Skip, check
from observe import compare, observe

MODES = ("once", "cycles", "running", "again", "lazy", "userns", "rootless")

STREAMED = ("files_deleted", "faulty", "many", "ns_mounts", "pipes", "procs_tree", "sysv_shm", "tcp_established", "threads", "tmpfs", "user")


# What goes by pids, or by who adopts whom. (A program that takes its init for process 1 would be wrong there.)
PIDS = ("dead_leader", "locks", "ns_pid", "orphans", "owner", "pidfd", "posix_timers", "proc_self", "procs_memory",
        "procs_shares", "pty_sessions", "signals", "stopped", "subreapers", "sysv_sem", "threads", "unix_rights", "unix_stream", "zombies")

# What is owned by ids or by the user namespace, or reached by /proc.
SHARED_USER = ("creds", "files_deleted", "ipc_sysctl", "memfd", "mqueues", "namespaces", "ns_mounts", "ns_user_pid", "procs_tree",
               "pty_sessions", "socket_options", "sysv_shm", "tcp_established", "threads", "unix_rights")


class Program:
    def __init__(self, source):
        self.name = source.stem
        self.settings = {}
        for line in source.read_text().splitlines()[:40]:
            found = re.search(r"\bcr: (\S+=.*?)(\*/)?$", line)
            if found:
                self.settings.update(s.split("=", 1) for s in found.group(1).split())

    def words(self, key):
        return [w for w in self.settings.get(key, "").split(",") if w]

    def modes(self):
        about_memory = self.name.startswith(("mem_", "brk", "stack", "madvise", "memfd"))
        usual = MODES + ("old", "packed", "chain", "precopy") if about_memory else MODES
        if about_memory or self.name in STREAMED:
            usual += ("streamed",)
        if about_memory:
            usual += ("streamed_ahead",)
        if self.name in PIDS:
            usual += ("pids",)
        if self.name in SHARED_USER:
            usual += ("shared_user",)
        if self.name in ("ns_mounts", "procs_tree", "pty_sessions", "threads"):
            usual += ("rootless_shared",)
        return self.words("modes") or (*usual, *self.words("also"))

    def container(self, env, cid, args=(), edit=None, kind=Container):
        uid, gid, groups = (self.settings.get("user", "0:0:") + "::").split(":")[:3]
        mounts = [{"destination": d, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=32m"]}
                  for d in self.words("tmpfs")]
        mounts += [{"destination": d, "type": "hugetlbfs", "source": "hugetlbfs"} for d in self.words("hugetlbfs")]
        if "cgroup" in self.settings:
            mounts.append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]})

        def all_edits(config):
            paths = config["linux"]["readonlyPaths"]
            config["linux"]["readonlyPaths"] = [p for p in paths if p not in self.words("rw")]
            for device in self.words("devices"):
                add_device(config, device)
            if edit:
                edit(config)

        c = kind(env, cid, ["/bin/" + self.name, *self.words("args"), *args],
                         binaries=[("/bin/" + self.name, env.build / "tests/cr" / self.name)],
                         busybox="busybox" in self.settings,
                         caps=self.words("caps"),
                         user=(int(uid), int(gid), [int(g) for g in groups.split(",") if g]),
                         hostname=self.settings.get("hostname", "stasis"), mounts=mounts, edit=all_edits)
        if "seed" in self.settings:
            c.file("seed").write_text(os.environ.get("CR_SEED") or str(random.getrandbits(48)))
            c.file("seed").chmod(0o644)
        return c


def add_device(config, path):
    """A character device of the machine, if it has that."""
    try:
        number = os.stat(path).st_rdev
    except OSError:
        return
    device = {"type": "c", "major": os.major(number), "minor": os.minor(number)}
    config["linux"].setdefault("devices", []).append({**device, "path": path, "fileMode": 0o666})
    if "resources" in config["linux"]:
        config["linux"]["resources"]["devices"].append({**device, "allow": True, "access": "rwm"})


def programs():
    return [Program(p) for p in sorted((TESTS / "cr").glob("*.c"))]


# The ways ----------------------------------------------------------------------------------------------------------

def ignored(program, c):
    """Rootless: memory that relatives share comes apart, holes of shared memory are filled (row "container of an ordinary user")."""
    return [*program.words("ignore"), *(["size"] if isinstance(c, Rootless) else [])]


def cycle(program, c, image, ignore=(), packing=(), restore=(), **kw):
    """One checkpoint that ends the container, and its restore, without a check."""
    ignore = [*ignored(program, c), *ignore]
    before = None if "all" in ignore else observe(c, ignore)
    c.checkpoint(image, *packing, *program.words("options"), **kw)
    c.gone()
    time.sleep(float(program.settings.get("pause", "0")))
    c.restore(image, *restore, *program.words("options"))
    check(c.status() == "running", f"after the restore the container is {c.status()}")
    if "all" not in ignore:
        compare(before, c, ignore, "after the restore")


def finish(c, n):
    c.wait_ready(n)
    c.go(n, "end")
    c.wait("the program's end", lambda: c.status() == "stopped", 5)
    c.delete()


def once(program, env):
    c = program.container(env, "one")
    c.run()
    c.wait_ready(1)
    cycle(program, c, env.t / "image")
    c.verify(1)
    finish(c, 2)


def in_userns(config):
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 3000000}]
    config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 3000000}]


def userns(program, env, edit=in_userns):
    c = program.container(env, "one", edit=edit)
    subprocess.run(["chown", "-R", "100000:200000", c.rootfs], check=True)
    c.run()
    c.wait_ready(1)
    cycle(program, c, env.t / "image")
    c.verify(1)
    finish(c, 2)


def shared_user(program, env):
    """In the user namespace of another container."""
    first = Container(env, "first", ["/bin/sh", "-c", "while :; do sleep 1; done"], busybox=True, edit=in_userns)
    subprocess.run(["chown", "-R", "100000:200000", first.rootfs], check=True)
    first.run()

    def joins(config):
        config["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{first.pid()}/ns/user"})

    userns(program, env, joins)
    first.delete()


def pids(program, env):
    """In a pid namespace that the first container of its sandbox has made; that one comes back, too."""
    first = Container(env, "first", ["/bin/sh", "-c", "while :; do sleep 1; done"], busybox=True)

    def joins(config):
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] == "pid":
                namespace["path"] = f"/proc/{first.pid()}/ns/pid"

    def member(c):
        return ["--sandbox", "pod", "--container-name", c.cid]

    first.run(*member(first))
    c = program.container(env, "one", edit=joins)
    c.run(*member(c))
    image, ignore = env.t / "image", ignored(program, c)
    c.wait_ready(1)
    before = None if "all" in ignore else observe(c, ignore)
    env.command("checkpoint", "--sandbox", "--image-path", image, *program.words("options"), "pod")
    for container in (c, first):
        container.gone()
        container.delete(ok=None)
    time.sleep(float(program.settings.get("pause", "0")))
    first.restore(image, *member(first))
    joins(c.config)
    c.write_config()
    c.restore(image, *member(c), *program.words("options"))
    if "all" not in ignore:
        compare(before, c, ignore, "after the restore")
    c.verify(1)
    finish(c, 2)
    first.delete()


class Beside(Rootless):
    """In the user namespace of another container of the same user."""
    def write_config(self):
        user = {"type": "user", "path": f"/proc/{self.env.state('first')['pid']}/ns/user"}
        linux = self.config["linux"]
        linux["namespaces"] = [user if n["type"] == "user" else n for n in linux["namespaces"]]
        super().write_config()


def rootless_shared(program, env):
    first = Rootless(env, "first", ["/bin/sh", "-c", "while :; do sleep 1; done"], busybox=True)
    first.run()
    c = program.container(env, "one", kind=Beside)
    c.run()
    c.wait_ready(1)
    cycle(program, c, env.t / "image")
    c.verify(1)
    finish(c, 2)
    first.delete()


def rootless(program, env, edit=None):
    c = program.container(env, "one", kind=RootlessIds if program.settings.get("ids") else Rootless, edit=edit)
    c.run()
    for n in (1,) if program.settings.get("hidden") else (1, 2):
        c.wait_ready(n)
        cycle(program, c, env.t / f"image{n}")
        c.verify(n)
    if not program.settings.get("hidden"):
        return leave_running(program, env, c, 3)
    c.wait_ready(2)
    status, _, text = c.checkpoint(env.t / "image", *program.words("options"), ok=False)
    check("not dumpable" in text, f"the second checkpoint (exit {status}): {text}")
    return finish(c, 2)


FORBIDDEN = """acct add_key bpf clock_settime delete_module finit_module get_mempolicy init_module ioperm iopl kcmp
    kexec_load keyctl lookup_dcookie mbind migrate_pages mount move_pages name_to_handle_at open_by_handle_at perf_event_open
    pivot_root process_vm_readv process_vm_writev ptrace quotactl reboot request_key set_mempolicy setns settimeofday swapoff
    swapon umount2 unshare userfaultfd vm86""".split()


def filtered(program, env):
    def edit(config):
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
            {"names": FORBIDDEN, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}
    rootless(program, env, edit)


def old(program, env):
    c = program.container(env, "one")
    c.run()
    c.wait_ready(1)
    cycle(program, c, env.t / "image", wrapper=[env.build / "tests/cr/old_kernel"])
    c.verify(1)
    finish(c, 2)


def chain(program, env, packing=((), (), ())):
    """Two generations of memory, then the rest. What the squashed image has must be the same."""
    c = program.container(env, "one")
    c.run()
    c.wait_ready(1)
    options = program.words("options")
    ignore = ignored(program, c)
    before = None if "all" in ignore else observe(c, ignore)
    c.checkpoint(env.t / "a", "--pre-dump", *packing[0], *options)
    if "all" not in ignore:
        compare(before, c, ignore, "after a pre-dump")
    c.checkpoint(env.t / "b", "--pre-dump", "--parent-path", "../a", *packing[1], *options)
    status, _, said = c.checkpoint(env.t / "image", "--parent-path", "../b", *packing[2], *options)
    check(status == 0 and "watched" not in said, f"with a parent: {said}")
    c.gone()
    manifest = json.loads((env.t / "image/manifest.json").read_text())
    check(manifest["parent"]["path"] == "../b", "nothing is taken from the parent")
    c.restore(env.t / "image", *options)
    if "all" not in ignore:
        compare(before, c, ignore, "after the restore")
    c.verify(1)
    if packing[0]:
        squashed(c, env, options)
    finish(c, 2)


def generations(program, env):
    """Three restores in a row, each of a chain of its own; an image that was made in passing is restored in the end."""
    c = program.container(env, "one")
    c.run()
    for n, (packing, lazily) in enumerate((([], "yes"), (["--dedup"], "no"), (["--compress", "lz4"], "yes")), 1):
        c.wait_ready(n)
        folder = env.t / f"generation{n}"
        folder.mkdir()
        c.checkpoint(folder / "a", "--pre-dump")
        c.checkpoint(folder / "b", "--pre-dump", "--parent-path", "../a", *packing)
        c.checkpoint(folder / "passing", "--parent-path", "../b", "--leave-running", *packing)
        time.sleep(0.02)
        c.checkpoint(folder / "image", "--parent-path", "../b", *packing)
        c.gone()
        second = c.clone("two")
        c.restore(folder / "image", f"--lazy={lazily}")
        c.verify(n)
    c.wait_ready(4)
    env.command("wait", "--restore", c.cid)
    c.delete()
    second.restore(folder / "passing")
    second.verify(3)
    finish(second, 4)


def squashed(c, env, options):
    """The image of a chain again, without its parents."""
    c.delete()
    env.command("image", "squash", env.t / "image")
    for parent in "ab":
        shutil.rmtree(env.t / parent)
    for name in ("go.1", "result.1", "ready.2"):
        c.file(name).unlink()
    c.restore(env.t / "image", *options)
    c.verify(1)


def packed_chain(program, env):
    """Every image of a chain is stored in a way of its own."""
    chain(program, env, (["--compress", "lz4"], [], ["--compress", "zstd"]))


def precopy(program, env):
    c = program.container(env, "one")
    c.run()
    c.wait_ready(1)
    options = program.words("options")
    ignore = ignored(program, c)
    before = None if "all" in ignore else observe(c, ignore)
    c.checkpoint(env.t / "image", "--pre-copy", *options)
    c.gone()
    c.restore(env.t / "image", *options)
    if "all" not in ignore:
        compare(before, c, ignore, "after the restore")
    c.verify(1)
    c.wait_ready(2)
    before = None if "all" in ignore else observe(c, ignore)
    c.checkpoint(env.t / "image2", "--pre-copy=2", "--leave-running", *options)
    if "all" not in ignore:
        compare(before, c, ignore, "with --leave-running")
    c.verify(2)
    finish(c, 3)


def cycles(program, env):
    c = program.container(env, "one")
    c.run()
    for n in (1, 2, 3):
        c.wait_ready(n)
        cycle(program, c, env.t / f"image{n}")
        c.verify(n)
    finish(c, 4)


def huge_pages(pid):
    return int(re.search(r"AnonHugePages:\s*(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[1])


def packed(program, env):
    c = program.container(env, "one")
    c.run()
    for n, options in enumerate((["--compress", "lz4"], ["--compress", "zstd:3"], ["--dedup", "--parent-path", "../image2"]), 1):
        c.wait_ready(n)
        thp = ("no", "yes", "yes")[n - 1]
        cycle(program, c, env.t / f"image{n}", packing=options, restore=["--lazy=no", "--thp", thp])
        if program.name == "mem_full" and os.path.exists("/sys/kernel/mm/transparent_hugepage"):
            check((huge_pages(c.pid()) >= 16 << 10) == (thp == "yes"), f"--thp {thp}: {huge_pages(c.pid())} KiB of huge pages")
        c.verify(n)
        status, said, text = env.command("inspect", "--verify", env.t / f"image{n}", ok=None)
        check(status == 0, f"inspect --verify: {text}")
    # Lazily, too: a fault is answered by decompressing one piece.
    c.wait_ready(4)
    ignore = program.words("ignore")
    before = None if "all" in ignore else observe(c, ignore)
    c.checkpoint(env.t / "image4", "--compress", "zstd", "--dedup", "--parent-path", "../image3", *program.words("options"))
    c.gone()
    c.restore(env.t / "image4", "--lazy=yes", *program.words("options"))
    env.command("wait", "--restore", c.cid)
    if "all" not in ignore:
        compare(before, c, ignore, "after the lazy restore")
    c.verify(4)
    # The program may touch it before.
    c.wait_ready(5)
    cycle(program, c, env.t / "image5", ["all"], packing=["--compress", "lz4"], restore=["--lazy=yes"])
    c.verify(5)
    env.command("wait", "--restore", c.cid)
    finish(c, 6)


def lazy(program, env):
    """Compared when all is there: until then mappings that are registered are not joined with their neighbours."""
    c = program.container(env, "one")
    c.run()
    ignore = program.words("ignore")
    for n in (1, 2, 3):
        c.wait_ready(n)
        before = None if "all" in ignore else observe(c, ignore)
        c.checkpoint(env.t / f"image{n}", *program.words("options"))
        c.gone()
        time.sleep(float(program.settings.get("pause", "0")))
        c.restore(env.t / f"image{n}", "--lazy=yes", *program.words("options"))
        if n != 2:
            env.command("wait", "--restore", c.cid)
        if n != 2 and "all" not in ignore:
            compare(before, c, ignore, "after the lazy restore")
        c.verify(n)
    c.wait_ready(4)
    env.command("wait", "--restore", c.cid)
    # The same way, from 16 MiB on, but all is there before it runs.
    cycle(program, c, env.t / "image4", restore=["--lazy=no"])
    c.verify(4)
    finish(c, 5)


def running(program, env):
    c = program.container(env, "one")
    c.run()
    leave_running(program, env, c, 1)


def leave_running(program, env, c, n):
    """Round n: it runs on, and its image becomes a second container, when it is gone."""
    ignore = ignored(program, c)
    c.wait_ready(n)
    before = None if "all" in ignore else observe(c, ignore)
    c.checkpoint(env.t / "image", "--leave-running", *program.words("options"))
    check(c.status() == "running", f"after a checkpoint with --leave-running the container is {c.status()}")
    if "all" not in ignore:
        compare(before, c, ignore, "with --leave-running")
    second = c.clone("two")
    c.verify(n)
    c.wait_ready(n + 1)
    c.delete()
    second.restore(env.t / "image", *program.words("options"))
    if "all" not in ignore:
        compare(before, second, [*ignore, "ino"], "as a second container")
    second.verify(n)
    finish(second, n + 1)


def late_phase(c, image, command):
    """Stops the process that writes the image, while the container's tasks run again. False: it was too quick."""
    init = c.pid()
    status = Path(f"/proc/{init}/status")
    surgeon, was_traced = 0, False
    while command.poll() is None and not (image / "manifest.json").exists():
        tracer = int(status.read_text().split("TracerPid:")[1].split()[0])
        surgeon = tracer or surgeon
        if was_traced and not tracer:
            os.kill(surgeon, signal.SIGSTOP)
            return surgeon if not (image / "manifest.json").exists() else os.kill(surgeon, signal.SIGCONT)
        was_traced = was_traced or tracer != 0
    return 0


def ended(program, env):
    """Its end while its memory is still being written: the image is complete."""
    for n in range(30):
        c, image = program.container(env, f"one{n}"), env.t / f"image{n}"
        c.run()
        c.wait_ready(1)
        command = subprocess.Popen([env.stasis, "--root", env.root, "checkpoint", "--leave-running", "--image-path", image, c.cid],
                                   stdin=subprocess.DEVNULL)
        surgeon = late_phase(c, image, command)
        if surgeon:
            break
        check(command.wait(30) == 0, "the checkpoint failed")
        c.delete()
    else:
        raise Failure("its memory is always written at once")
    for p in c.pids():
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.kill(p, signal.SIGKILL)
    c.wait("its end", lambda: not c.pids(), 5)
    os.kill(surgeon, signal.SIGCONT)
    check(command.wait(30) == 0, "the checkpoint of a container that ended meanwhile failed")
    c.delete()
    c.restore(image)
    c.verify(1)
    finish(c, 2)


def piped(side, path):
    """A command that runs stasis with a pipe for its stdout (">") or stdin ("<"), whose other end is a file."""
    line = '"$@" | cat > "$F"' if side == ">" else 'cat "$F" | "$@"'
    return ["bash", "-o", "pipefail", "-c", f"F=$0; {line}", path]


def streamed(program, env):
    c = program.container(env, "one")
    c.run()
    c.wait_ready(1)
    ignore, options, stream = ignored(program, c), program.words("options"), env.t / "stream"
    before = None if "all" in ignore else observe(c, ignore)
    c.checkpoint("-", "--leave-running", *options, wrapper=piped(">", env.t / "running"))
    if before:
        compare(before, c, ignore, "with --leave-running")
    env.command("image", "unpack", env.t / "unpacked.running", stdin=env.t / "running")
    env.command("inspect", "--verify", env.t / "unpacked.running")
    c.checkpoint("-", *options, wrapper=piped(">", stream))
    c.gone()
    second = c.clone("two")
    c.restore("-", *options, wrapper=piped("<", stream))
    if before:
        compare(before, c, ignore, "after the restore from a stream")
    c.verify(1)
    c.delete()
    env.command("image", "unpack", env.t / "unpacked", stdin=stream)
    second.restore(env.t / "unpacked", *options)
    if before:
        compare(before, second, [*ignore, "ino"], "after the restore from what was unpacked")
    second.verify(1)
    finish(second, 2)


def streamed_ahead(program, env):
    c = program.container(env, "one")
    c.run()
    c.wait_ready(1)
    ignore, options, stream = ignored(program, c), program.words("options"), env.t / "stream"
    before = None if "all" in ignore else observe(c, ignore)
    c.checkpoint("-", "--pre-copy=3", "--compress=lz4", *options, wrapper=piped(">", stream))
    c.gone()
    second = c.clone("two")
    c.restore("-", *options, wrapper=piped("<", stream))
    if before:
        compare(before, c, ignore, "after the restore from a stream")
    c.verify(1)
    c.delete()
    env.command("image", "unpack", "--compress=zstd", env.t / "unpacked", stdin=stream)
    env.command("inspect", "--verify", env.t / "unpacked")
    second.restore(env.t / "unpacked", *options)
    second.verify(1)
    finish(second, 2)


def again(program, env):
    c = program.container(env, "one")
    c.run()
    c.wait_ready(1)
    for n in (1, 2):
        before = None if "all" in program.words("ignore") else observe(c, program.words("ignore"))
        c.checkpoint(env.t / f"image{n}", "--leave-running", *program.words("options"))
        if "all" not in program.words("ignore"):
            compare(before, c, program.words("ignore"), f"with --leave-running, time {n}")
        time.sleep(0.01)
    cycle(program, c, env.t / "image")
    c.verify(1)
    finish(c, 2)


# What only a task itself can be asked about: refused by checkpoint, as check asks no task anything.
SEEN_INSIDE = ("fd_early", "key", "key_session", "ldt", "owner_thread", "pidfd_in_flight", "proc_in_flight", "seccomp_in_flight", "unix_urgent")


def odd(program, env, name):
    """An object that may be refused, before anything is stopped and with its reason, or else comes back faithfully."""
    # A name of its own: those beside it with the same one would have the same session keyring, as runc's have.
    c = program.container(env, f"one-{name}", args=[name])
    c.run()
    c.wait("the object", lambda: c.file("ready.1").exists() or c.file("unavailable.1").exists() or c.failed(0), 10)
    check(not c.failed(0), c.failed(0))
    if c.file("unavailable.1").exists():
        raise Skip(f"not on this machine: {name}")
    before = observe(c)
    ignore = ["memory"] if name in ("droppable", "seccomp_killable") else []  # it may turn to zeros; a thread goes on
    status, said, text = env.command("check", c.cid, ok=None)
    if status == 0 and name in SEEN_INSIDE:
        status, said, text = c.checkpoint(env.t / "image", "--leave-running", ok=None)
        subprocess.run(["rm", "-rf", env.t / "image"], check=True)
    if status == 0:
        cycle(program, c, env.t / "image", ignore)
        c.verify(1)
        c.wait_ready(2)
        cycle(program, c, env.t / "image2", ignore)
        c.verify(2)
        return c.delete()
    check(text.strip() or said.strip(), "check refuses without a word")
    if name not in SEEN_INSIDE:
        _, said, _ = env.command("check", "--format", "json", c.cid, ok=None)
        check("reason" in said and "remedy" in said, f"check --format json: {said[:500]}")
    status, _, text = c.checkpoint(env.t / "image", ok=False)
    check(not (env.t / "image" / "manifest.json").exists(), "refused, and yet there is a manifest")
    check(text.strip(), "checkpoint refuses without a word")
    compare(before, c, ignore, "after it was refused")
    c.verify(1)
    return c.delete()


def block(program, env):
    """As cycles, with a loop device that config.json gives it. Then what stands in the way of that."""
    (env.t / "disk").write_bytes(bytes(1 << 20))
    p = subprocess.run(["losetup", "--find", "--show", env.t / "disk"], capture_output=True, text=True, check=False)
    if p.returncode:
        raise Skip("not on this machine: a loop device")
    loop = p.stdout.strip()
    try:
        with_device(program, env, loop, os.stat(loop).st_rdev)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


def with_device(program, env, loop, rdev):
    def edit(config):
        for path, kind, number in (("/dev/disk", "b", rdev), ("/dev/messages", "c", os.makedev(1, 11)), ("/dev/loops", "c", os.makedev(10, 237))):
            rule = {"type": kind, "major": os.major(number), "minor": os.minor(number)}
            config["linux"]["devices"] = [*config["linux"].get("devices", []), {"path": path, **rule}]
            config["linux"]["resources"]["devices"].append({"allow": True, "access": "rwm", **rule})

    c = program.container(env, "one", edit=edit)
    c.run()
    for n in (1, 2, 3):
        c.wait_ready(n)
        cycle(program, c, env.t / f"image{n}")
        c.verify(n)
    c.wait_ready(4)
    claim = os.open(loop, os.O_RDONLY | os.O_EXCL)
    status, _, said = c.checkpoint(env.t / "image", ok=False)
    check("/dev/disk" in said and "claimed" in said, f"a claimed device: {said}")
    os.close(claim)
    c.checkpoint(env.t / "image")
    (env.t / "smaller").write_bytes(bytes(1 << 19))
    subprocess.run(["losetup", "-d", loop], check=True)
    subprocess.run(["losetup", loop, env.t / "smaller"], check=True)
    status, _, said = c.restore(env.t / "image", ok=False)
    check("/dev/disk has 524288 bytes, at the checkpoint it had 1048576" in said, f"another device: {said}")


HOST = """
mount -t proc proc {r}/proc && mount -t tmpfs -o size=64m dev {r}/dev && mkdir {r}/dev/shm {r}/dev/pts || exit 97
mount -t tmpfs -o size=64m,mode=1777 shm {r}/dev/shm && mount -t devpts -o newinstance,ptmxmode=0666 pts {r}/dev/pts
for n in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
	set -- $n; mknod -m 666 {r}/dev/$1 c $2 $3; done
ln -s pts/ptmx {r}/dev/ptmx
ln -s /proc/self/fd {r}/dev/fd
for d in {tmpfs}; do mkdir -p {r}/$d; mount -t tmpfs -o nosuid,size=32m tmpfs {r}/$d; done
for d in {hugetlbfs}; do mkdir -p {r}/$d; mount -t hugetlbfs hugetlbfs {r}/$d; done
hostname {hostname}
exec setsid chroot --userspec={user} --groups={groups} {r} {args}
"""


def host(program, env, args=()):
    """No container and no checkpoint: a program to which nothing happens must pass."""
    c = program.container(env, "one", args)
    uid, gid, groups = (program.settings.get("user", "0:0:") + "::").split(":")[:3]
    script = HOST.format(r=c.rootfs, tmpfs=" ".join(program.words("tmpfs")),
                         hugetlbfs=" ".join(program.words("hugetlbfs")), user=f"{uid}:{gid}", groups=groups or "''",
                         hostname=program.settings.get("hostname", "stasis"), args=" ".join(c.config["process"]["args"]))
    with open(c.out, "ab") as out:
        p = subprocess.Popen(["unshare", "-pmuin", "--fork", "--kill-child", "sh", "-c", script], stdout=out, stderr=out,
                             stdin=subprocess.DEVNULL)
    try:
        c.wait("the program", lambda: c.file("ready.1").exists() or c.file("unavailable.1").exists() or c.failed(0), 10)
        if c.file("unavailable.1").exists():
            raise Skip("not on this machine: " + c.file("unavailable.1").read_text())
        for n in (1, 2, 3):
            c.wait_ready(n)
            c.verify(n)
        c.wait_ready(4)
        c.go(4, "end")
        status = p.wait(5)
        check(status == 0, f"exit status {status}")
    except subprocess.TimeoutExpired:
        raise Failure("does not end") from None
    finally:
        p.kill()
        p.wait()


def tests(host_only=False):
    """(name, function(env), time limit) of every program and way."""
    ways = {"once": once, "cycles": cycles, "running": running, "again": again, "ended": ended, "lazy": lazy, "old": old, "packed": packed, "packed_chain": packed_chain, "userns": userns, "shared_user": shared_user, "pids": pids, "rootless": rootless, "rootless_shared": rootless_shared, "filtered": filtered, "chain": chain, "generations": generations, "precopy": precopy, "host": host, "streamed": streamed, "streamed_ahead": streamed_ahead,
            "block": block}
    for program in programs():
        if program.name == "odd":
            for name in re.findall(r'^\t{"(\w+)", set_', (TESTS / "cr/odd.c").read_text(), re.M):
                yield (f"cr/odd/{name}", (lambda env, n=name, p=program: host(p, env, [n])) if host_only else
                       (lambda env, n=name, p=program: odd(p, env, n)), 60)
            continue
        if host_only and (program.modes() == ["block"] or "container" in program.settings):
            continue
        for mode in ("host",) if host_only else program.modes():
            yield f"cr/{program.name}/{mode}", lambda env, w=ways[mode], p=program: w(p, env), int(program.settings.get("seconds", "60"))
