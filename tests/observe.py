# SPDX-License-Identifier: Apache-2.0
"""All that can be observed of a container from outside, and a comparison of two such looks.

A look is {object: {key: value}}: the container's processes by their pid inside, and "container" for what is nobody's own (mounts,
sockets, interfaces, System V IPC). Every file of /proc/PID is read, also one that we have never heard of; numbers that the
kernel gives (inodes, mount ids, pids of the machine) are replaced by what they refer to. What may differ all the same is in
tests/differences, one reason each, and nowhere else. A test that has reasons of its own names words of keys to be ignored.
"""
import array
import fcntl
import fnmatch
import functools
import os
import re
import stat
import struct
import subprocess
import time
from pathlib import Path

from lib import TESTS, check

STAT = """pid comm state ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime priority
    nice num_threads itrealvalue starttime vsize rss rsslim startcode endcode startstack kstkesp kstkeip signal blocked sigignore
    sigcatch wchan nswap cnswap exit_signal processor rt_priority policy delayacct_blkio_ticks guest_time cguest_time start_data
    end_data start_brk arg_start arg_end env_start env_end exit_code""".split()
OF_A_THREAD = ("status", "stat", "comm", "personality", "cgroup", "children", "attr/current")
NS_GET_USERNS, NS_GET_PARENT, NS_GET_OWNER_UID = 0xb701, 0xb702, 0xb704
VOLATILE_FLAGS = {"sd", "ac", "mr", "mw", "me", "ms", "um", "uw", "ui"}
PAGE = os.sysconf("SC_PAGESIZE")


def reviewed():
    """([pattern of keys that may differ], [(pattern of keys, what in their values may)])"""
    whole, parts = [], []
    for line in (TESTS / "differences").read_text().splitlines():
        found = re.fullmatch(r"(\S.*?)(?:  +/(.*)/)?  +(\S.*)", line)
        if line and line[0] != "#":
            check(found, f"tests/differences: {line}")
            if found[2]:
                parts.append((found[1], re.compile(found[2])))
            else:
                whole.append(found[1])
    return re.compile("|".join(map(fnmatch.translate, whole))), parts


WHOLE, PARTS = reviewed()


@functools.lru_cache(None)
def may_differ(key):
    return WHOLE.match(key) is not None


def without_what_may_differ(key, value):
    """Values are strings or lists of them."""
    for pattern, part in PARTS:
        if fnmatch.fnmatchcase(key, pattern):
            value = sorted(filter(None, (part.sub("", v) for v in value))) if isinstance(value, list) else part.sub("", value)
    return value


def text(path):
    return Path(path).read_bytes().decode(errors="replace")


def alive(p):
    """The folder of a thread that lives, the first one if it does; None: the process is dead."""
    for t in sorted(os.listdir(f"/proc/{p}/task"), key=lambda t: (int(t) != p, int(t))):
        if not re.search(r"^State:\s[ZX]", text(f"/proc/{p}/task/{t}/status"), re.M):
            return f"/proc/{p}" if int(t) == p else f"/proc/{p}/task/{t}"
    return None


class Names:
    """Numbers of the kernel's, as pipe:[12345] or a mount's id: what counts is which of them are the same one."""

    def __init__(self):
        self.seen = {}

    def number(self, kind, n):
        of_kind = self.seen.setdefault(kind, {})
        return f"#{of_kind.setdefault(n, len(of_kind))}"

    def link(self, name):
        found = re.fullmatch(r"(\w+):\[(\d+)\]", name)
        return f"{found[1]}:{self.number(found[1], found[2])}" if found and found[1] != "anon_inode" else name


class Look:
    def __init__(self, container):
        self.c, self.names, self.result, self.sockets, self.views = container, Names(), {"container": {}}, {}, {}
        pids = sorted(container.pids())
        ids = {p: re.search(r"^NSpid:(.*)", text(f"/proc/{p}/status"), re.M)[1].split() for p in pids}
        self.level = min(map(len, ids.values())) - 1 if ids else 0
        self.inside = {"0": "0", **{str(p): i[self.level] for p, i in ids.items()}}
        self.pids = sorted(pids, key=lambda p: int(ids[p][self.level]))

    def pid(self, host):
        return self.inside.get(str(host), "outside")

    def take(self):
        for p in self.pids:
            try:
                self.process(p, self.result.setdefault(self.inside[str(p)], {}))
            except (FileNotFoundError, ProcessLookupError):
                if os.path.exists(f"/proc/{p}"):
                    raise
                del self.result[self.inside[str(p)]]  # it has just ended
        for p in self.views.values():
            self.whole(p)
        return self.result

    # One process

    def process(self, p, entry):
        self.status(f"/proc/{p}", entry, "")
        self.stat(f"/proc/{p}", entry, "")
        for t in sorted(os.listdir(f"/proc/{p}/task"), key=int):
            self.thread(f"/proc/{p}/task/{t}", entry)
        proc = alive(p)
        if not proc:
            return
        for name in sorted(os.listdir(proc)):
            if not may_differ(name) and not stat.S_ISDIR(os.lstat(f"{proc}/{name}").st_mode) and name not in ("status", "stat"):
                self.file(proc, name, entry, "")
        for name in sorted(os.listdir(f"{proc}/attr")):
            self.file(proc, f"attr/{name}", entry, "")
        self.view(proc, entry, "")
        for fd in sorted(os.listdir(f"{proc}/fd"), key=int):
            self.descriptor(p, proc, fd, entry)

    def thread(self, task, entry):
        seen = {}
        try:
            self.status(task, seen, "")
        except (FileNotFoundError, ProcessLookupError):
            return  # it has just ended
        prefix = f"thread {seen['status NSpid']} "
        entry.update({prefix + k: v for k, v in seen.items()})
        if seen["status State"][0] in "ZX":
            return
        for name in OF_A_THREAD[1:]:
            self.file(task, name, entry, prefix)
        self.view(task, entry, prefix)

    def view(self, task, entry, prefix):
        """Namespaces, root and working directory."""
        for name in sorted(os.listdir(f"{task}/ns")):
            entry[f"{prefix}ns {name}"] = self.names.link(os.readlink(f"{task}/ns/{name}"))
            if not name.startswith("time"):  # after a restore it is one of the container's own
                entry[f"{prefix}ns {name} belongs to"] = self.relations(f"{task}/ns/{name}")
        for name in ("exe", "cwd", "root"):
            entry[f"{prefix}{name}"] = self.here(os.readlink(f"{task}/{name}"))
        self.views.setdefault((entry[f"{prefix}ns mnt"], entry[f"{prefix}root"], entry[f"{prefix}ns net"]), task)

    def relations(self, path):
        """The user namespaces that own it, one above the other, with the uids of who made them; and the pid namespaces above it."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return "none yet"
        try:
            pids = os.path.basename(path).startswith("pid")
            return " < ".join(self.above(fd, NS_GET_USERNS)) + " in " + " < ".join(self.above(fd, NS_GET_PARENT) if pids else [])
        finally:
            os.close(fd)

    def above(self, fd, request):
        found = []
        try:
            fd = fcntl.ioctl(fd, request)
        except OSError:
            return found
        name = os.readlink(f"/proc/self/fd/{fd}")
        found.append(self.names.link(name))
        if name.startswith("user:"):
            uid = array.array("I", [0])
            fcntl.ioctl(fd, NS_GET_OWNER_UID, uid)
            found[0] += f" of {uid[0]}"
        found += self.above(fd, request)
        os.close(fd)
        return found

    def file(self, task, name, entry, prefix):
        if may_differ(prefix + name):
            return
        if hasattr(self, name.replace("/", "_")):
            getattr(self, name.replace("/", "_"))(task, entry, prefix)
            return
        try:
            entry[prefix + name] = self.here(text(f"{task}/{name}"))
        except OSError as e:
            entry[prefix + name] = f"errno {e.errno}"

    def here(self, value):
        """Without the names that this container has from its test."""
        own = self.c.config["linux"].get("cgroupsPath")
        value = value.replace(str(self.c.bundle), "BUNDLE")
        return value.replace(own, "CGROUP") if own else value

    def status(self, task, entry, prefix):
        for line in text(f"{task}/status").splitlines():
            key, value = line.split(":", 1)
            value = value.split()
            if key.startswith("NS"):
                value = value[self.level]
            entry[f"{prefix}status {key}"] = value
        entry[f"{prefix}status PPid"] = self.pid(entry[f"{prefix}status PPid"][0])

    def stat(self, task, entry, prefix):
        line = text(f"{task}/stat")
        values = [line[:line.index("(")], line[line.index("(") + 1:line.rindex(")")], *line[line.rindex(")") + 2:].split()]
        for key, value in zip(STAT, values):
            entry[f"{prefix}stat {key}"] = value
        state = values[2]
        entry[f"{prefix}stat state"] = "stopped" if state in "Tt" else "zombie" if state in "ZX" else "alive"
        for key in ("ppid", "tpgid"):
            entry[f"{prefix}stat {key}"] = self.pid(entry[f"{prefix}stat {key}"])

    def children(self, task, entry, prefix):
        entry[f"{prefix}children"] = sorted(self.pid(p) for p in text(f"{task}/children").split())

    def autogroup(self, task, entry, prefix):
        entry[f"{prefix}autogroup"] = re.sub(r"^/autogroup-\d+ ", "", text(f"{task}/autogroup"))

    def numa_maps(self, task, entry, prefix):
        entry[f"{prefix}numa_maps"] = [" ".join(line.split()[:2]) for line in text(f"{task}/numa_maps").splitlines()]

    def timers(self, task, entry, prefix):
        """One line a timer, sorted: the kernel's order is by its hash, and thread ids are the machine's."""
        listing = re.sub(r"(notify: \w+/\w+\.)(\d+)", lambda m: m[1] + self.pid(m[2]), text(f"{task}/timers"))
        entry[f"{prefix}timers"] = sorted(" ".join(t.split()) for t in listing.split("ID:") if t.strip())

    def smaps(self, task, entry, prefix):
        maps, sizes = [], {}
        for line in text(f"{task}/smaps").splitlines():
            head = re.match(r"([0-9a-f]+-[0-9a-f]+) (\S+) (\S+) \S+ \S+ *(.*)", line)
            if head:
                name = self.here(re.sub(r"^(/SYSV\S+|/dev/zero) .*", r"\1", head[4]))
                if name.startswith("/"):
                    name = re.sub(r"( \(deleted\))+$", " (deleted)", name)
                maps.append(f"{head[1]} {head[2]} {head[3]} {name}")
                continue
            key, value = line.split(":", 1)
            if key == "VmFlags":
                maps[-1] += " " + " ".join(f for f in value.split() if f not in VOLATILE_FLAGS)
            elif key in ("KernelPageSize", "MMUPageSize", "ProtectionKey", "Locked"):
                maps[-1] += f" {key}={value.split()[0]}"
            elif value.endswith("kB"):
                sizes[key] = sizes.get(key, 0) + int(value.split()[0])
        entry[f"{prefix}maps"] = [m for m in maps if "[vsyscall]" not in m]
        entry.update({f"{prefix}smaps {k}": v for k, v in sizes.items()})

    # Descriptors

    def descriptor(self, p, proc, fd, entry):
        link = os.readlink(f"{proc}/fd/{fd}")
        if link.startswith("socket:"):
            self.sockets.setdefault(link[8:-1], []).append(f"{self.pid(p)}.{fd}")
        if may_differ(f"fd {fd}"):
            return
        name = self.names.link(link)
        if name.startswith(f"{self.c.env.t}/") and not name.startswith(f"{self.c.env.t}/bundle"):
            name = "stdio"  # the caller's, another file each time
        entry[f"fd {fd} name"] = "deleted" if "(deleted)" in name else self.here(name)
        if name == "stdio":
            return
        lines = {}
        for line in text(f"{proc}/fdinfo/{fd}").splitlines():
            key, value = re.match(r"([\w-]+):?\s*(.*)", line).groups()
            lines.setdefault(key, []).append(self.fdinfo(key, " ".join(value.split())))
        entry.update({f"fd {fd} {k}": sorted(v) for k, v in lines.items()})
        st = os.stat(f"{proc}/fd/{fd}")
        if os.major(st.st_dev) == 0 or "(deleted)" in name or stat.S_ISSOCK(st.st_mode):
            del entry[f"fd {fd} ino"]  # it is made anew; a name that a socket is bound to, too
        if link == "/dev/net/tun":
            del entry[f"fd {fd} pos"]  # counts what was read, and can neither be asked for nor set

    def fdinfo(self, key, value):
        if key == "lock":
            words = value.split()
            words[4] = words[4] if words[4] in ("-1", "0") else self.pid(words[4])
            return " ".join(words[1:5] + words[6:])
        if key == "NSpid":
            return value.split()[self.level] if self.level < len(value.split()) else value
        return value

    # What is nobody's own

    def whole(self, task):
        """As one of its processes sees it, of each mount and network namespace once."""
        of = self.result["container"]
        mnt, net = (self.names.link(os.readlink(f"{task}/ns/{n}")) for n in ("mnt", "net"))
        root = self.here(os.readlink(f"{task}/root"))
        of[f"mounts {mnt} {root}"] = self.mounts(task)
        if f"sockets {net}" not in of:
            said = subprocess.run(["nsenter", f"--net={task}/ns/net", f"--ipc={task}/ns/ipc", "sh", "-c", INSIDE], text=True,
                                  capture_output=True, check=False).stdout.split("\f\n")
            kinds = ("sockets", "interfaces", "routes", "rules", "rules6", "igmp", "igmp6", "mcfilter", "mcfilter6", "shm", "sem", "msg")
            check(len(said) == len(kinds) + 1, f"ss, ip and cat say {said}")
            for kind, part in zip(kinds, said):
                of[f"{kind} {net}"] = self.socket_lines(part) if kind == "sockets" else \
                    self.sysv(part) if kind in ("shm", "sem", "msg") else \
                    sorted(part.splitlines()) if "igmp" in kind else part.splitlines()

    def mounts(self, task):
        result = []
        for line in text(f"{task}/mountinfo").splitlines():
            head, tail = line.split(" - ")
            number, parent, device, *rest = head.split()
            groups = [re.sub(r":(\d+)", lambda m: ":" + self.names.number("group", m[1]), w) for w in rest[3:]]
            if device.startswith("0:"):
                device = self.names.number("device", device)
            result.append(self.here(" ".join([self.names.number("mount", number), "in", self.names.number("mount", parent), device,
                                              *rest[:3], *groups, "-", tail])))
        return result

    def socket_lines(self, listing):
        """Lines of ss: whose the sockets are instead of their inodes, and those of unix sockets' peers."""
        def owner(inode):
            return "/".join(sorted(self.sockets.get(inode, ["nobody's"])))
        result = []
        for line in listing.splitlines():
            words = line.split()
            if not words:
                continue
            if words[0].startswith("u_"):
                words = [*words[:4], words[4], f"<{owner(words[5])}>", words[6], f"<{owner(words[7])}>", *words[8:]]
            line = re.sub(r"\bino:(\d+)", lambda m: f"<{owner(m[1])}>", " ".join(words))
            if not re.match(r"nl \w+ \d+ \d+ 4:[1-9]", line):  # that of ss
                result.append(line)
        return sorted(result)

    def sysv(self, listing):
        head, *lines = listing.splitlines()
        return sorted(" ".join(f"{k}={v}" for k, v in zip(head.split(), line.split())) for line in lines)


INSIDE = """end() { printf '\\f\\n'; }
ss -aneOH; end; ip -d address show; end; ip -d route show table all; end; ip rule list; end; ip -6 rule list; end
for f in igmp igmp6 mcfilter mcfilter6; do cat /proc/thread-self/net/$f; end; done
for f in shm sem msg; do cat /proc/sysvipc/$f; end; done"""


# Memory ------------------------------------------------------------------------------------------------------------

def runs(proc, start, end):
    """(first, beyond) of the pages of a mapping that are there, in memory or swapped."""
    with open(f"{proc}/pagemap", "rb", 0) as f:
        f.seek(start // PAGE * 8)
        there = [i for i, e in enumerate(array.array("Q", f.read((end - start) // PAGE * 8))) if e >> 62]
    first = None
    for i, following in zip(there, [*there[1:], -1]):
        first = i if first is None else first
        if following != i + 1 or i - first >= 255:
            yield start + first * PAGE, start + (i + 1) * PAGE
            first = None


def contents(mem, start, end):
    """Pages by address; nothing of what is there and cannot be read."""
    try:
        mem.seek(start)
        got = mem.read(end - start)
    except OSError:
        return {}
    return {start + i: got[i:i + PAGE] for i in range(0, len(got), PAGE)}


def memory(container, where=None):
    """{pid inside: {address: page}} of every page that is there, or of these pages."""
    look, result = Look(container), {}
    for p in look.pids:
        found = result[look.inside[str(p)]] = {}
        proc = alive(p)
        if not proc:
            continue
        with open(f"{proc}/mem", "rb", 0) as mem:
            if where:
                for address in where.get(look.inside[str(p)], ()):
                    found.update(contents(mem, address, address + PAGE))
                continue
            for line in text(f"{proc}/maps").splitlines():
                start, end = (int(x, 16) for x in line.split()[0].split("-"))
                if not re.search(r"\[v(syscall|var\w*|dso)\]", line):
                    for run in runs(proc, start, end):
                        found.update(contents(mem, *run))
    return result


def is_same_page(was, is_):
    """The kernel writes into a thread's struct rseq (32 bytes, aligned) on which CPU it is."""
    if was == is_ or is_ is None:
        return was == is_
    different = [i for i in range(0, PAGE, 32) if was[i:i + 32] != is_[i:i + 32]]
    for i in different:
        for area in (was[i:i + 32], is_[i:i + 32]):
            start, cpu, _, flags, node, concurrency = struct.unpack("IIQIII", area[:28])
            if start != cpu or max(cpu, concurrency) >= os.cpu_count() or flags or node:
                return False
    return True


# Before and after --------------------------------------------------------------------------------------------------

def observe(container, ignore=()):
    """What is to be compared: a look, and the memory that stands still."""
    if "memory" in ignore:
        return Look(container).take(), {}
    first, look, second = memory(container), Look(container).take(), memory(container)
    still = {p: {a: page for a, page in of.items() if second.get(p, {}).get(a) == page} for p, of in first.items()}
    return look, still


def compare(before, container, ignore, what):
    """Fails with the differences between what was seen before and what is to be seen of the container now."""
    (look, still), now = before, Look(container).take()
    check(look.keys() == now.keys(), f"{what}: processes were {sorted(look)}, are {sorted(now)}")
    found = []
    for pid, entry in look.items():
        for key in sorted(entry.keys() | now[pid].keys()):
            was, is_ = entry.get(key), now[pid].get(key)
            if was == is_ or may_differ(key) or any(i in key.split() for i in ignore):
                continue
            was, is_ = (without_what_may_differ(key, v) if v is not None else None for v in (was, is_))
            if was != is_:
                found.append(f"{pid if pid == 'container' else f'pid {pid}'} {key}: {difference(was, is_)}")
    size, is_size = (sum(entry.get("smaps Pss", 0) for entry in of.values()) for of in (look, now))
    if is_size > size * 1.1 + 1024 and "size" not in ignore:
        found.append(f"size: {size} kB of memory before, {is_size} kB now")
    if "memory" not in ignore:
        found += changed(container, still)
    check(not found, f"{what}, a difference: " + "; ".join(found[:12]))


def changed(container, still):
    """Pages that had stood still, and have another content now, also when looked at again."""
    for _ in range(20):
        now = memory(container, still)
        still = {p: {a: page for a, page in of.items() if not is_same_page(page, now.get(p, {}).get(a))} for p, of in still.items()}
        still = {p: of for p, of in still.items() if of}
        if not still:
            return []
        time.sleep(0.02)
    return [f"pid {p} memory of {len(of)} pages: {', '.join(bytes_of(a, of[a], now.get(p, {}).get(a)) for a in sorted(of)[:4])}"
            for p, of in still.items()]


def bytes_of(address, was, is_):
    """The first that differ."""
    first = next((i for i in range(PAGE) if is_ and was[i] != is_[i]), 0) & ~7
    return f"{address + first:#x}: {was[first:first + 32].hex(' ', -8)}, now {is_[first:first + 32].hex(' ', -8) if is_ else 'not there'}"


def difference(was, is_):
    if isinstance(was, str) and isinstance(is_, str) and "\n" in was:
        was, is_ = was.splitlines(), is_.splitlines()
    if isinstance(was, list) and isinstance(is_, list) and len(was) > 3:
        gone, new = [x for x in was if x not in is_], [x for x in is_ if x not in was]
        return f"gone {gone[:4]}, new {new[:4]}" if gone or new else f"another order of {was[:4]}"
    return f"was {was!r}, is {is_!r}"[:300]
