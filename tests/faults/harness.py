# SPDX-License-Identifier: Apache-2.0
"""Every named fault point of src/base/fault.c, as a kill (FAULT=name) and as an error (FAULT=name:EIO).

checkpoint: the container is the same before and after (all that /proc shows, its mappings, its own checks), runs, is not
  frozen or traced; an error leaves no file of the image, and a kill none that would pass for a whole one.
restore:    an error leaves nothing; after a kill 'delete -f' removes what is there; the image restores afterwards.
create, start, exec, delete: tests/faults/steps.py.
The program under test is one with threads, children, shared memory and pipes (tests/cr/faulty.c).
"""
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

from lib import TESTS, Failure, Rootless, cgroup_dirs, check, poll, proc_stat
from observe import compare, observe

sys.path.insert(0, str(TESTS / "cr"))
sys.path.append(str(TESTS / "faults"))
import harness as cr  # noqa: E402  pylint: disable=wrong-import-position
import calls  # noqa: E402  pylint: disable=wrong-import-position
import steps  # noqa: E402  pylint: disable=wrong-import-position
import restore_together  # noqa: E402  pylint: disable=wrong-import-position
import together  # noqa: E402  pylint: disable=wrong-import-position

# Those at which something else happens with a stream than with a directory.
STREAMED = ("checkpoint-files", "checkpoint-memory", "checkpoint-stream", "checkpoint-late", "checkpoint-manifest", "checkpoint-end", "restore-stream",
            "restore-created", "restore-memory", "restore-threads")
PROGRAM = cr.Program(TESTS / "cr/faulty.c")
# Only where memory is compressed.
PREPARED = ("restore-prepared", "restore-started")
PACKED = ("checkpoint-pack", "checkpoint-packing", "checkpoint-packed", "restore-filled")


def packing(name):
    return ["--compress", "lz4"] if name in PACKED else []


def compared(c, env, name):
    """The options of a checkpoint that comes by this fault point, and what it needs for them."""
    if name != "checkpoint-comparing":
        return packing(name)
    c.checkpoint(env.t / "parent", "--leave-running")
    return ["--dedup", "--parent-path", "../parent"]


def names():
    """The fault points, by the command they belong to."""
    text = (TESTS.parent / "src/base/fault.c").read_text()
    table = text[text.index("fault_names[]"):text.index("NULL,")]
    return re.findall(r'"([a-z-]+)"', table)


def is_frozen(c):
    for d in cgroup_dirs(c.config["linux"]["cgroupsPath"]):
        for f, thawed in ("freezer.state", "THAWED"), ("cgroup.freeze", "0"):
            if (d / f).exists() and (d / f).read_text().strip() != thawed:
                return f"{d / f}: {(d / f).read_text().strip()}"
    return None


def as_before(c, before, what):
    """The container runs on, untouched."""
    poll(f"{what}: the container is thawed", lambda: not is_frozen(c), 5)
    check(c.status() == "running", f"{what}: the container is {c.status()}")
    # A guard process may need a moment to put everything back.
    def untouched():
        try:
            compare(before, c, ["memory"], what)  # threads count in it; the program checks the rest
        except (Failure, OSError) as e:
            return str(e)
        for p in c.pids():
            status = Path(f"/proc/{p}/status").read_text()
            if not re.search(r"^TracerPid:\s0$", status, re.M):
                return f"{what}: pid {p} is traced"
            if proc_stat(p)[1] in "Tt":
                return f"{what}: pid {p} is stopped"
        return ""
    last = [None]

    def settled():
        last[0] = untouched()
        return not last[0]
    try:
        poll(what, settled, 5, 0.02)
    except Failure:
        raise Failure(last[0]) from None


def fault_of(env, c_command, name, error, **kw):
    """Runs a command with the fault; it must fail in the way asked for."""
    status, _, text = c_command(env={"FAULT": name + (":EIO" if error else "")}, ok=None, **kw)
    if error and not (status == 0 and name.endswith("-end")):  # all is done by then: not to be undone any more
        check(status == 1, f"FAULT={name}:EIO: exit {status}: {text.strip()}")
        check("Input/output error" in text or "fault point" in text, f"FAULT={name}:EIO: the message is '{text.strip()}'")
    return status, text


def start(env):
    c = PROGRAM.container(env, "one")
    c.run()
    c.wait_ready(1)
    return c


def files_in(directory):
    return sorted(f.name for f in directory.iterdir()) if directory.is_dir() else []


def checkpoint(env, name, error, leave_running):
    c = start(env)
    options = [*compared(c, env, name), *(["--leave-running"] if leave_running else [])]
    before = observe(c)
    image = env.t / "image"
    status, text = fault_of(env, lambda **kw: c.checkpoint(image, *options, **kw), name, error)
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    committed = (image / "manifest.json").exists()
    # The guard may complete what the killed one had all but done.
    check(status != 0 or (committed and name == "checkpoint-end"),
          f"{what}: the fault point is never reached, or its failure is ignored")
    if committed and not leave_running and not c.pids():
        # The image was complete and the container had ended: it goes on from the image.
        c.delete(ok=None)
        c.restore(image)
    else:
        check(status == 0 or not (committed and error), f"{what}: a manifest was left")
        if not committed:  # after a kill the guard tidies up, which may take a moment
            poll(f"{what}: files of the image are left", lambda: not files_in(image), 3)
        as_before(c, before, what)
    c.verify(1)
    # And it can be checkpointed for good afterwards.
    c.wait_ready(2)
    cr.cycle(PROGRAM, c, env.t / "image2", ["memory"])  # threads count in it
    c.verify(2)
    cr.finish(c, 3)


def over(env, name, error):
    """A checkpoint over an earlier image: that one is there again, or can be restored, unless there is a newer one."""
    c, image = start(env), env.t / "image"

    def files():
        return {f.name: f.read_bytes() for f in image.iterdir() if f.is_file()}
    c.checkpoint(image, "--leave-running")
    before = files()
    options = compared(c, env, name)
    status, _ = fault_of(env, lambda **kw: c.checkpoint(image, *options, "--leave-running", **kw), name, error)
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    if name == "checkpoint-directory" and not error:
        check(not (image / "manifest.json").exists(), f"{what}: there is an image")  # nobody was left to put it back
    elif name != "checkpoint-end":
        poll(f"{what}: the older image is gone or changed", lambda: files() == before, 3)
    c.delete()
    c.restore(image)
    check(files().keys() == before.keys() and not (image / ".replaced").exists(), f"{what}: files {files_in(image)}")
    c.verify(1)
    cr.finish(c, 2)


def streamed(env, name, error):
    """A checkpoint to a stream: without its end frame nobody takes it for an image."""
    c = start(env)
    before = observe(c)
    stream = env.t / "stream"
    options = ["--leave-running"] if name == "checkpoint-late" else []
    status, _ = fault_of(env, lambda **kw: c.checkpoint("-", *options, wrapper=cr.piped(">", stream), **kw), name, error)
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    whole, _, _ = env.command("image", "unpack", env.t / "unpacked", stdin=stream, ok=None)
    if whole == 0 and not c.pids():
        c.delete(ok=None)
        c.restore("-", stdin=stream)
    else:
        check(status != 0, f"{what}: the fault point is never reached, or its failure is ignored")
        check(whole != 0 or name == "checkpoint-end", f"{what}: the stream has an end")
        as_before(c, before, what)
    c.verify(1)
    c.wait_ready(2)
    cr.finish(c, 2)


def restore_streamed(env, name, error):
    """Who reads the stream fails or dies: nothing is left, the stream is as good as before."""
    c = start(env)
    stream = env.t / "stream"
    c.checkpoint("-", wrapper=cr.piped(">", stream))
    c.gone()
    status, text = fault_of(env, lambda **kw: c.restore("-", wrapper=cr.piped("<", stream), **kw), name, error)
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    check(status != 0, f"{what}: the fault point is never reached")
    if name == "restore-stream":
        check(error or "reads the image stream died" in text, f"{what}: {text}")
        nothing_left(env, c, what)
    else:
        c.delete(ok=None)
    c.restore("-", stdin=stream)
    c.verify(1)
    c.wait_ready(2)
    cr.finish(c, 2)


def restore(env, name, error):
    c = start(env)
    image = env.t / "image"
    c.checkpoint(image, *packing(name))
    c.gone()
    c.delete(ok=None)
    files = {f.name: f.read_bytes() for f in image.iterdir()}
    options = ["--lazy=yes"] if name == "restore-lazy" else []
    if name in PREPARED:  # at the start it is the process behind that fails
        def started(**kw):
            prepared = c.restore(image, "--prepare", **kw)
            return prepared if prepared[0] else env.command("start", c.cid, ok=None)
        status, text = fault_of(env, started, name, error)
    else:
        status, text = fault_of(env, lambda **kw: c.restore(image, *options, **kw), name, error)
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    check(status != 0 or name == "restore-end", f"{what}: the fault point is never reached, or its failure is ignored")
    if not error or status == 0:
        c.delete(ok=None)
    nothing_left(env, c, what)
    check(files == {f.name: f.read_bytes() for f in image.iterdir()}, f"{what}: the image was changed")
    c.restore(image)
    c.verify(1)
    cr.finish(c, 2)


def lazy(env, name, error):
    """A process that fills memory fails or is killed: the container is killed, says why, and can be restored again."""
    c = start(env)
    image = env.t / "image"
    c.checkpoint(image)
    c.gone()
    c.delete(ok=None)
    restored, _, text = c.restore(image, "--lazy=yes", ok=None, env={"FAULT": name + (":EIO" if error else "")})
    what = f"after FAULT={name}{':EIO' if error else ''} (restore's exit {restored})"
    status = restored
    if restored == 0:
        status, _, text = env.command("wait", "--restore", c.cid, ok=None)
    if name == "lazy-guard" and status == 0:  # all was there before anybody noticed
        c.verify(1)
        return cr.finish(c, 2)
    check(status != 0 and ("was killed before all of it was there" in text or f"fault point {name}" in text),
          f"{what}: wait --restore (exit {status}) says {text}")
    if restored == 0:
        poll(f"{what}: the container goes on", lambda: c.status() == "stopped", 5)
        status, _, _ = c.checkpoint(env.t / "image2", ok=None)
        check(status != 0, f"{what}: a checkpoint of it succeeds")
        c.delete()
    nothing_left(env, c, what)
    c.restore(image, "--lazy=yes")
    c.verify(1)
    env.command("wait", "--restore", c.cid)
    return cr.finish(c, 2)


def eager(env, name, error):
    """Much memory is filled by the same processes before the program runs: then it is the restore that fails, and nothing is left."""
    program = cr.Program(TESTS / "cr/mem_full.c")
    c, image = program.container(env, "one"), env.t / "image"
    c.run()
    c.wait_ready(1)
    c.checkpoint(image)
    c.gone()
    c.delete(ok=None)
    status, _, text = c.restore(image, "--lazy=no", ok=None, env={"FAULT": name + (":EIO" if error else "")})
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    if name == "lazy-guard" and status == 0:  # all was there before anybody noticed
        c.delete(ok=None)
    else:
        check(status != 0 and ("was killed before all of it was there" in text or f"fault point {name}" in text), f"{what}: {text}")
    nothing_left(env, c, what)
    c.restore(image, "--lazy=no")
    check(not os.path.exists(env.root / c.cid / "filling"), f"{what}: it runs before its memory is there")
    c.verify(1)
    return cr.finish(c, 2)


def other(env, name, error, source="tcp_established"):
    """TCP connections, which a checkpoint holds and a restore makes; 32-bit programs; processes that share memory; filters with a listener: they go on, or the
    image is restored after all."""
    program = cr.Program(TESTS / f"cr/{source}.c")
    options, image = program.words("options"), env.t / "image"
    c = program.container(env, "one")
    c.run()
    c.wait_ready(1)
    if name.startswith("checkpoint"):
        status, _ = fault_of(env, lambda **kw: c.checkpoint(image, *options, **kw), name, error)
    else:
        c.checkpoint(image, *options)
        c.gone()
        c.delete(ok=None)
        status, _ = fault_of(env, lambda **kw: c.restore(image, *options, **kw), name, error)
        c.delete(ok=None)
        c.restore(image, *options)
    check(status != 0, f"FAULT={name}: the fault point is never reached")
    c.verify(1)
    c.wait_ready(2)
    cr.cycle(program, c, env.t / "image2")
    c.verify(2)
    cr.finish(c, 3)


def predump(env, name, error):
    """The second pre-dump fails: nothing of it is left, and what follows is right whether memory is still watched or not."""
    c = start(env)
    before = observe(c)
    if name == "predump-watched":  # only who is not watched yet
        status, _ = fault_of(env, lambda **kw: c.checkpoint(env.t / "b", "--pre-dump", **kw), name, error)
        c.checkpoint(env.t / "a", "--pre-dump")
    else:
        c.checkpoint(env.t / "a", "--pre-dump")
        status, _ = fault_of(env, lambda **kw: c.checkpoint(env.t / "b", "--pre-dump", "--parent-path", "../a", **kw),
                             name, error)
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    check(status != 0, f"{what}: the fault point is never reached, or its failure is ignored")
    poll(f"{what}: files of the image are left", lambda: not files_in(env.t / "b"), 3)
    as_before(c, before, what)
    c.checkpoint(env.t / "image", "--parent-path", "../a")
    c.gone()
    c.restore(env.t / "image")
    c.verify(1)
    cr.finish(c, 2)


def precopy(env, name, error):
    c = start(env)
    before = observe(c)
    status, _ = fault_of(env, lambda **kw: c.checkpoint(env.t / "b", "--pre-copy=3", **kw), name, error)
    what = f"after FAULT={name}{':EIO' if error else ''} (exit {status})"
    check(status != 0, f"{what}: the fault point is never reached, or its failure is ignored")
    poll(f"{what}: files of the image are left", lambda: not files_in(env.t / "b"), 3)
    as_before(c, before, what)
    c.checkpoint(env.t / "image", "--pre-copy=3")
    c.gone()
    c.restore(env.t / "image")
    c.verify(1)
    cr.finish(c, 2)


def nothing_left(env, c, what):
    def left():
        return [f"process {p} {proc_stat(p)}" for p in c.pids()] + [f"container {n}" for n in env.containers()] \
            + [f"mount {m}" for m in env.mounts()] + [f"cgroup {d}" for d in cgroup_dirs(c.config["linux"]["cgroupsPath"])]
    try:
        poll(what, lambda: not left(), 5)
    except Failure:
        raise Failure(f"{what}: left behind: {left()}") from None


def all_points_are_listed(env):
    """What the program lists is what its source has: a new fault point is tested, or its prefix has no test and is an error."""
    _, listed, _ = env.command("features", "--fault-points")
    used = set()
    for f in (TESTS.parent / "src").glob("**/*.c"):
        used |= set(re.findall(r'fault(?:_point|_at)?\("([a-z-]+)"', f.read_text()))
    listed = {line.split()[0] for line in listed.splitlines() if line.strip()}
    check(listed == set(names()), f"listed but not in the table, or the other way: {listed ^ set(names())}")
    check(used - listed == set(), f"not listed: {used - listed}")


def rootless(env, name):
    """What is out of a queue when the surgeon dies is put back from inside the user namespace."""
    c = PROGRAM.container(env, "one", kind=Rootless)
    c.run()
    c.wait_ready(1)
    status, _ = fault_of(env, lambda **kw: c.checkpoint(env.t / "image", **kw), name, False)
    check(status != 0, "the fault point is never reached")
    c.verify(1)
    c.wait_ready(2)
    cr.finish(c, 2)


def tests():
    for name in ("checkpoint-queue-taking", "checkpoint-queue-putting"):
        yield f"faults/{name}/kill-rootless", lambda env, n=name: rootless(env, n), 60
    yield "faults/listed", all_points_are_listed, 20
    for name, error in (("checkpoint-memory", False), ("checkpoint-image", True), ("restore-registers", True),
                        ("restore-registers", False)):
        yield (f"faults/{name}/{'EIO' if error else 'kill'}-connections",
               lambda env, n=name, e=error: other(env, n, e), 60)
    for error in (False, True):
        yield (f"faults/checkpoint-raised/{'EIO' if error else 'kill'}-limits_reached",
               lambda env, e=error: other(env, "checkpoint-raised", e, "limits_reached"), 60)
    for name, error in (("checkpoint-asleep", False), ("checkpoint-injected", False), ("checkpoint-collected", True),
                        ("restore-memory", True), ("restore-threads", False), ("restore-registers", True)):
        for source in ("ia32", "procs_memory", "ns_time") if name != "checkpoint-asleep" else ("ia32",):
            yield (f"faults/{name}/{'EIO' if error else 'kill'}-{source}",
                   lambda env, n=name, e=error, s=source: other(env, n, e, s), 60)
    for name, error in (("checkpoint-collected", False), ("restore-tree", True), ("restore-tree", False), ("restore-memory", True),
                        ("restore-threads", True), ("restore-registers", False)):
        yield (f"faults/{name}/{'EIO' if error else 'kill'}-seccomp_notify",
               lambda env, n=name, e=error: other(env, n, e, "seccomp_notify_tree"), 60)
    for name in ("checkpoint-frozen", "checkpoint-seized", "checkpoint-thawed", "checkpoint-memory", "checkpoint-manifest",
                 "predump-watched", "predump-tracked"):
        for suffix, error in (("kill", False), ("EIO", True)):
            yield f"faults/{name}/{suffix}-pre-dump", lambda env, n=name, e=error: predump(env, n, e), 60
            yield f"faults/{name}/{suffix}-pre-copy", lambda env, n=name, e=error: precopy(env, n, e), 60
    own = SimpleNamespace(PROGRAM=PROGRAM, as_before=as_before, files_in=files_in, nothing_left=nothing_left, cr=cr)
    yield from calls.tests(own)
    yield from together.tests(own)
    yield from restore_together.tests(own)
    for name in names():
        # "restore-failing" is reached only when a restore fails anyhow: tests/integration/checkpoint.sh.
        if name.startswith(("predump", "together", "call-")) or name in ("restore-failing", "checkpoint-raised"):
            continue
        for error in (False, True):
            suffix = "EIO" if error else "kill"
            command = name.split("-")[0]
            if name in STREAMED:
                run = streamed if command == "checkpoint" else restore_streamed
                yield f"faults/{name}/{suffix}-streamed", lambda env, n=name, e=error, r=run: r(env, n, e), 60
            if name.endswith("-stream"):
                continue
            if command == "checkpoint":
                # Nothing is taken back out of a container that ends, and its memory is copied at once.
                for leave in (True,) if name in ("checkpoint-removed", "checkpoint-snapshot") else (False, True):
                    yield (f"faults/{name}/{suffix}{'-leave-running' if leave else ''}",
                           lambda env, n=name, e=error, r=leave: checkpoint(env, n, e, r), 60)
                yield f"faults/{name}/{suffix}-over", lambda env, n=name, e=error: over(env, n, e), 60
            else:
                for way, run in ({"": globals()[command]} if command in ("restore", "lazy") else
                                 steps.WAYS[command]).items():
                    if way == "/restore" and name in steps.NOT_OF_RESTORE:
                        continue
                    yield f"faults/{name}/{suffix}{way}", lambda env, n=name, e=error, r=run: r(env, n, e), 60
                if command == "lazy":
                    yield f"faults/{name}/{suffix}-eager", lambda env, n=name, e=error: eager(env, n, e), 60
