# SPDX-License-Identifier: Apache-2.0
"""Every member of config.json, of exec's process.json and of update's resources, one at a time: of another type, null,
absent, out of its range, contradicting another one. The message names the member by its path and says what is allowed;
nothing is made.

The members are those of tests/fuzz/corpus/config/full.json, which a test holds against the tables of src/oci. FAULT=
create-config is the moment when a create has accepted its config.json and made nothing yet: so thousands of cases take
seconds.
"""
import copy
import json
import re
import subprocess

from lib import TESTS, Container, check

FULL = TESTS / "fuzz/corpus/config/full.json"
EXAMPLES = {bool: True, float: 1.5, int: 1, dict: {}, list: [], str: "x"}
TYPE_NAMES = {bool: "a boolean", float: "a number with a fraction", int: "an integer", dict: "an object", list: "an array", str: "a string"}
U16, U32, U64, I32, I64 = 0xffff, 2**32 - 1, 2**64 - 1, 2**31 - 1, 2**63 - 1
ID = (0, U32 - 1)
# The range of every number; [] is any element.
RANGES = {
    "process.consoleSize.height": (0, U16), "process.consoleSize.width": (0, U16),
    "process.user.uid": ID, "process.user.gid": ID, "process.user.umask": (0, 0o777),
    "process.user.additionalGids[]": ID,
    "process.rlimits[].soft": (0, U64), "process.rlimits[].hard": (0, U64),
    "process.oomScoreAdj": (-1000, 1000),
    "process.scheduler.nice": (-20, 19), "process.scheduler.priority": (0, 99),
    "process.scheduler.runtime": (0, U64), "process.scheduler.deadline": (0, U64), "process.scheduler.period": (0, U64),
    "process.ioPriority.priority": (0, 7),
    "hooks.prestart[].timeout": (1, I32),
    **{f"mounts[].{_kind}idMappings[].{_key}": (int(_key == "size"), U32) for _kind in "ug" for _key in ("containerID", "hostID", "size")},
    "linux.uidMappings[].containerID": (0, U32), "linux.uidMappings[].hostID": (0, U32), "linux.uidMappings[].size": (1, U32),
    "linux.gidMappings[].containerID": (0, U32), "linux.gidMappings[].hostID": (0, U32), "linux.gidMappings[].size": (1, U32),
    "linux.timeOffsets.monotonic.secs": (-I64 - 1, I64), "linux.timeOffsets.boottime.secs": (-I64 - 1, I64),
    "linux.timeOffsets.monotonic.nanosecs": (0, 999999999),
    "linux.devices[].major": (0, 4095), "linux.devices[].minor": (0, 2**20 - 1), "linux.devices[].fileMode": (0, 0o177777),
    "linux.devices[].uid": ID, "linux.devices[].gid": ID,
    "linux.resources.devices[].major": (-1, U32), "linux.resources.devices[].minor": (-1, U32),
    "linux.resources.memory.limit": (-1, I64), "linux.resources.memory.swap": (-1, I64),
    "linux.resources.memory.reservation": (-1, I64), "linux.resources.memory.swappiness": (0, 200),
    "linux.resources.cpu.shares": (0, U64), "linux.resources.cpu.quota": (-I64 - 1, I64), "linux.resources.cpu.burst": (0, U64),
    "linux.resources.cpu.period": (0, U64), "linux.resources.cpu.realtimeRuntime": (-I64 - 1, I64),
    "linux.resources.cpu.realtimePeriod": (0, U64), "linux.resources.cpu.idle": (0, 1),
    "linux.resources.pids.limit": (-I64 - 1, I64),
    "linux.resources.blockIO.weight": (0, U16), "linux.resources.blockIO.weightDevice[].weight": (0, U16),
    "linux.resources.hugepageLimits[].limit": (0, U64),
    "linux.resources.network.classID": (0, U32), "linux.resources.network.priorities[].priority": (0, U32),
    'linux.resources.rdma["mlx5_1"].hcaHandles': (0, U32), 'linux.resources.rdma["mlx5_1"].hcaObjects': (0, U32),
    "linux.seccomp.defaultErrnoRet": (0, U16), "linux.seccomp.syscalls[].errnoRet": (0, U16),
    "linux.seccomp.syscalls[].args[].index": (0, 5), "linux.seccomp.syscalls[].args[].value": (0, U64),
    "linux.seccomp.syscalls[].args[].valueTwo": (0, U64),
}
for _list in ("weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"):
    for _key in ("major", "minor"):
        RANGES[f"linux.resources.blockIO.{_list}[].{_key}"] = (0, U32)
    if _list != "weightDevice":
        RANGES[f"linux.resources.blockIO.{_list}[].rate"] = (0, U64)
# Whatever else is asked of the same numbers.
BEYOND = ["linux.uidMappings", "linux.gidMappings", "mounts[].uidMappings", "mounts[].gidMappings", "process.rlimits"]
REQUIRED = """ociVersion root root.path process process.args process.cwd process.rlimits[].type process.rlimits[].soft
    process.rlimits[].hard process.scheduler.policy process.ioPriority.class mounts[].destination hooks.prestart[].path
    linux.namespaces[].type linux.uidMappings[].containerID linux.uidMappings[].hostID linux.uidMappings[].size
    linux.devices[].type linux.devices[].path linux.seccomp.defaultAction linux.seccomp.syscalls[].names
    linux.seccomp.syscalls[].action linux.seccomp.syscalls[].args[].index linux.seccomp.syscalls[].args[].value
    linux.seccomp.syscalls[].args[].op linux.personality.domain linux.resources.hugepageLimits[].pageSize
    linux.resources.hugepageLimits[].limit linux.resources.blockIO.weightDevice[].major
    linux.resources.blockIO.weightDevice[].minor linux.memoryPolicy.mode
    linux.resources.network.priorities[].name linux.resources.network.priorities[].priority""".split()
# Maps: their members' names are data.
MAPS = ("annotations", "linux.sysctl", "linux.resources.unified", "linux.netDevices", "linux.resources.rdma")
# What needs something besides: (what is changed, the message).
CONTRADICTIONS = [
    ({"hostname": "x", "-": ["uts"]}, r"hostname: needs a uts namespace in linux\.namespaces"),
    ({"domainname": "x", "-": ["uts"], "hostname": None}, r"domainname: needs a uts namespace"),
    ({"-": ["user"]}, r"linux\.uidMappings: needs a user namespace"),
    ({"-": ["user"], "linux.uidMappings": None}, r"linux\.gidMappings: needs a user namespace"),
    ({"-": ["time"]}, r"linux\.timeOffsets: needs a new time namespace"),
    ({"-": ["mount"]}, r"mounts: needs a mount namespace"),
    ({"-": ["mount"], "mounts": None}, r"linux\.maskedPaths: needs a mount namespace"),
    ({"-": ["mount"], "mounts": None, "linux.maskedPaths": None}, r"linux\.readonlyPaths: needs a mount namespace"),
    ({"-": ["mount"], "mounts": None, "linux.maskedPaths": [], "linux.readonlyPaths": []}, r"root\.readonly: needs a mount namespace"),
    ({"-": ["network"]}, r'linux\.sysctl\["net\.core\.somaxconn"\]: needs a network namespace'),
    ({"-": ["ipc"]}, r'linux\.sysctl\["kernel\.shm_rmid_forced"\]: needs a ipc namespace'),
    ({"linux.sysctl": {"vm.swappiness": "1"}}, r'linux\.sysctl\["vm\.swappiness"\]: is not kept apart by any namespace'),
    ({"linux.sysctl": {"kernel.core_pattern": "|/x"}}, r'linux\.sysctl\["kernel\.core_pattern"\]: is not kept apart'),
    ({"linux.sysctl": {"kernel.shmmax/../core_pattern": "|/x"}}, r"linux\.sysctl.*not (kept apart|the name)"),
    ({"linux.sysctl": {"net/../kernel/core_pattern": "|/x"}}, r"linux\.sysctl.*: not the name of a sysctl"),
    ({"linux.sysctl": {"net.ipv4.ip_forward+kernel.core_pattern=x": "1"}}, None),  # a name like any other: fails when it is written
    ({"+": [{"type": "pid"}]}, r"linux\.namespaces\[\d+\]: the pid namespace is listed twice"),
    ({"+": [{"type": "nosuch"}]}, r"linux\.namespaces\[\d+\]\.type: unknown namespace \"nosuch\" \(pid, network"),
    ({"-": ["uts"], "+": [{"type": "uts", "path": "proc/self/ns/uts"}]}, r"linux\.namespaces\[\d+\]\.path: must be an absolute path"),
    ({"process.capabilities.effective": ["CAP_SYS_ADMIN"]}, r"process\.capabilities\.effective: CAP_SYS_ADMIN must be in permitted"),
    ({"process.rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}, r"process\.rlimits\[0\]: the soft limit is above the hard"),
    ({"process.rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2}, r"process\.rlimits\[1\]: RLIMIT_CPU is listed twice"),
    ({"process.args": []}, r"process\.args: must name a program"),
    ({"process.args": [""]}, r"process\.args: must name a program"),
    ({"process.env": ["A"]}, r"process\.env\[0\]: must be NAME=value"),
    ({"process.cwd": "work"}, r"process\.cwd: must be an absolute path"),
    ({"process.cwd": ""}, r"process\.cwd: must be an absolute path"),
    ({"process.terminal": True}, r".*console socket"),
    ({"ociVersion": "2.0.0"}, r"ociVersion: version \"2\.0\.0\" of the runtime-spec is not supported"),
    ({"ociVersion": ""}, r"ociVersion: "),
    ({"root.path": ""}, r"root\.path: must not be empty"),
    ({"root.path": "nowhere"}, r"root\.path: /.*nowhere: no such file"),
    ({"root.path": "config.json"}, r"root\.path: /.*config\.json must be a directory"),
    ({"mounts": [{"destination": "", "type": "tmpfs"}]}, r"mounts\[0\]\.destination: must not be empty"),
    ({"mounts": [{"destination": "/x"}]}, r"mounts\[0\]\.type: missing"),
    ({"mounts": [{"destination": "/x", "type": "bind"}]}, r"mounts\[0\]\.source: missing"),
    ({"mounts": [{"destination": "/../../x", "type": "tmpfs"}]}, None),  # below the root, whatever it says
    ({"mounts": [{"destination": "relative", "type": "tmpfs"}]}, None),
    ({"linux.maskedPaths": ["proc/kcore"]}, r"linux\.maskedPaths\[0\]: must be an absolute path"),
    ({"linux.readonlyPaths": ["../x"]}, r"linux\.readonlyPaths\[0\]: must be an absolute path"),
    ({"linux.devices": [{"path": "dev/x", "type": "c", "major": 1, "minor": 3}]}, r"linux\.devices\[0\]\.path: must be an absolute path"),
    ({"linux.devices": [{"path": "/dev/x", "type": "c", "minor": 3}]}, r"linux\.devices\[0\]\.major: missing"),
    ({"linux.devices": [{"path": "/dev/x", "type": "b", "major": 3}]}, r"linux\.devices\[0\]\.minor: missing"),
    ({"linux.devices": [{"path": "/dev/x", "type": "p"}]}, None),
    ({"linux.devices": [{"path": "/dev/x", "type": "q", "major": 1, "minor": 1}]}, r"linux\.devices\[0\]\.type: unknown device type"),
    ({"linux.resources.devices": [{"allow": True, "type": "p"}]}, r"linux\.resources\.devices\[0\]\.type: unknown device type"),
    ({"linux.resources.devices": [{"allow": True, "access": "rwx"}]}, r"linux\.resources\.devices\[0\]\.access: must be made of"),
    ({"linux.resources.hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}, r"linux\.resources\.hugepageLimits\[0\]\.pageSize: must be a size"),
    ({"linux.resources.unified": {"../memory.max": "1"}}, r"linux\.resources\.unified\[.*\]: not the name of a cgroup file"),
    ({"linux.seccomp.defaultAction": "SCMP_ACT_NOTIFY", "linux.seccomp.defaultErrnoRet": None}, r"linux\.seccomp.*: SCMP_ACT_NOTIFY cannot be the default"),
    ({"linux.seccomp.listenerPath": None}, r"linux\.seccomp.*listenerPath"),
    ({"linux.seccomp.listenerPath": "l"}, r"linux\.seccomp\.listenerPath: must be an absolute path"),
    ({"linux.seccomp.defaultAction": "SCMP_ACT_ALLOW"}, r"linux\.seccomp\.defaultErrnoRet: only SCMP_ACT_ERRNO"),
    ({"linux.seccomp.syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]}, r"linux\.seccomp\.syscalls\[0\]\.names: must not be empty"),
    ({"linux.rootfsPropagation": "sideways"}, r"linux\.rootfsPropagation: unknown mount propagation"),
    ({"linux.personality.domain": "BSD"}, r"linux\.personality\.domain: unknown personality \"BSD\" \(LINUX, LINUX32\)"),
    ({"linux.personality.flags": ["X"]}, r"linux\.personality\.flags: not supported"),
    ({"windows": {"x": 1}, "vm": {"kernel": {"path": "/x"}}, "solaris": {"x": 1}, "freebsd": {"x": 1}, "zos": {"x": 1}}, None),
    ({"process.user.username": "x", "process.commandLine": "x"}, None),  # of Windows
    ({"-": ["network"], "linux.sysctl": {}}, r"linux\.netDevices: needs a network namespace"),
    ({"linux.netDevices": {"a": {"name": "x"}, "b": {"name": "x"}}}, r"linux\.netDevices: a and b would both be called x"),
    ({"linux.netDevices": {"a": {"name": "%dx"}}}, r'linux\.netDevices\["a"\]\.name: must be a network device'),
    ({"linux.netDevices": {"a/b": {}}}, r'linux\.netDevices\["a/b"\]: not the name of a network device'),
    ({"linux.memoryPolicy": {"mode": "X"}}, r"linux\.memoryPolicy\.mode: unknown memory policy"),
    ({"linux.memoryPolicy": {"mode": "MPOL_BIND", "nodes": "3-1"}}, r"linux\.memoryPolicy\.nodes: must be numbers and ranges"),
    ({"process.execCPUAffinity": {"final": "x"}}, r"process\.execCPUAffinity\.final: must be numbers and ranges"),
    ({"linux.intelRdt": {"closID": "a/b"}}, r'linux\.intelRdt\.closID: must be "/" or the name'),
    ({"linux.intelRdt": {"memBwSchema": "L3:0=f"}}, r"linux\.intelRdt\.memBwSchema: must be one line"),
    ({"linux.intelRdt": {"schemata": ["L3:0=f\nMB:0=1"]}}, r"linux\.intelRdt\.schemata\[0\]: must be one line"),
    ({"linux.intelRdt": {}}, None),
    ({"hooks.poststop": [{"path": "x"}]}, r"hooks\.poststop\[0\]\.path: must be an absolute path"),
    ({"hooks.poststop": [{"path": "/x", "env": ["A"]}]}, r"hooks\.poststop\[0\]\.env\[0\]: must be NAME=value"),
]


def base():
    """full.json, without what create needs something besides for."""
    config = json.loads(FULL.read_text())
    config["process"]["terminal"] = False
    config["linux"]["namespaces"] = [{"type": n["type"]} for n in config["linux"]["namespaces"]]
    return config


def members(value, path=(), of=""):
    """(keys from the top, path in messages, path with [] for any index) of all values below."""
    for key in value if isinstance(value, dict) else range(len(value)):
        here = f'{of}["{key}"]' if of in MAPS else f"{of}[{key}]" if isinstance(value, list) else f"{of}.{key}".lstrip(".")
        yield (*path, key), here
        if isinstance(value[key], (dict, list)):
            yield from members(value[key], (*path, key), here)


def general(path):
    return re.sub(r"\[\d+\]", "[]", path)


def parent(config, keys):
    for k in keys[:-1]:
        config = config[k]
    return config


def replaced(config, keys, value):
    c = copy.deepcopy(config)
    parent(c, keys)[keys[-1]] = value
    return c


def removed(config, keys):
    c = copy.deepcopy(config)
    del parent(c, keys)[keys[-1]]
    return c


class Cases:
    """Texts given to the program, and what it says of them: "" is accepted."""

    def __init__(self, env):
        self.env, self.count, self.wrong = env, 0, []
        self.bundle = env.t / "bundle"
        (self.bundle / "rootfs").mkdir(parents=True)

    def ask(self, text):
        self.count += 1
        (self.bundle / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.run(["create", "--bundle", str(self.bundle), "c"], "create-config")

    def run(self, args, fault):
        p = subprocess.run([str(self.env.stasis), "--root", str(self.env.root), *args], capture_output=True, stdin=subprocess.DEVNULL,
                           env={"PATH": "/bin", "FAULT": fault + ":EIO"}, timeout=20, check=False)
        said = p.stderr.decode(errors="replace").strip()
        said = "\n".join(line for line in said.splitlines() if "warning:" not in line)
        check(p.returncode in (1, 255) and said.count("\n") == 0, f"exit {p.returncode}: {said}")
        return "" if f"fault point {fault}" in said else re.sub(r"^stasis: (exec failed: )?", "", said)

    def expect(self, what, said, pattern):
        """pattern None: accepted."""
        if (said != "") if pattern is None else not re.match(pattern, said):
            self.wrong.append(f"{what}: '{said or 'accepted'}', not '{pattern or 'accepted'}'")

    def end(self, at_least):
        check(not self.wrong, f"{len(self.wrong)} of {self.count}: " + "\n".join(self.wrong[:20]))
        check(self.count >= at_least, f"only {self.count} cases")
        check(not list(self.env.root.iterdir()), f"left in the state root: {list(self.env.root.iterdir())}")


def wrong_types(env, part):
    cases, config = Cases(env), base()
    cases.expect("the base", cases.ask(json.dumps(config)), None)
    for keys, path in list(members(config)):
        if not part(path):
            continue
        is_type = type(parent(config, keys)[keys[-1]])
        for t, value in EXAMPLES.items():
            if t is not is_type:
                cases.expect(f"{path} as {value}", cases.ask(json.dumps(replaced(config, keys, value))),
                             re.escape(path) + r": must be .*, not " + TYPE_NAMES[t])
        said = cases.ask(json.dumps(replaced(config, keys, None)))
        element = isinstance(keys[-1], int)
        cases.expect(f"{path} null", said, None if said == "" and not element else re.escape(path) + ": |[a-z].*: .*(need|must|only)")
    cases.end(300)


def absent(env):
    cases, config, found = Cases(env), base(), set()
    for keys, path in list(members(config)):
        if isinstance(keys[-1], int):
            continue
        said = cases.ask(json.dumps(removed(config, keys)))
        if re.match(re.escape(path) + ": missing", said):
            found.add(general(path))
    missing = [r for r in REQUIRED if r not in found]
    check(not missing, f"accepted without {missing}")
    # Members that nobody knows are ignored, wherever they are.
    config = base()
    for keys, path in [((), "")] + list(members(config)):
        value = parent(config, (*keys, "")) if keys else config
        if isinstance(value, dict) and path not in MAPS:
            c = copy.deepcopy(config)
            parent(c, (*keys, ""))["x-unknown"] = {"deep": [1, {"a": None}]}
            cases.expect(f"an unknown member of {path}", cases.ask(json.dumps(c)), None)
    cases.end(200)


def ranges(env):
    cases, config = Cases(env), base()
    config["linux"]["resources"]["devices"].append({"allow": True, "type": "c", "major": 1, "minor": 1})
    seen = set()
    for keys, path in list(members(config)):
        value = parent(config, keys)[keys[-1]]
        if type(value) is not int:
            continue
        seen.add(general(path))
        low, high = RANGES[general(path)] if general(path) in RANGES else (None, None)
        if low is None:
            cases.wrong.append(f"{path} is not in the table of ranges")
            continue
        for n in (low - 1, high + 1):
            said = cases.ask(json.dumps(replaced(config, keys, n)))
            beyond = n > U64 or n < -I64 - 1
            cases.expect(f"{path} = {n}", said, r"config\.json: line 1, column \d+: the number is out of range" if beyond
                         else re.escape(f"{path}: {n} is out of range ({low} to {high})"))
        for n in (low, high):
            said = cases.ask(json.dumps(replaced(config, keys, n)))
            if not any(general(path).startswith(b) for b in BEYOND):
                cases.expect(f"{path} = {n}", said, None)
        for text in ("1e3", "0.5", "-1e999", "1" + "0" * 400):
            marked = json.dumps(replaced(config, keys, 987654321)).replace("987654321", text)
            cases.expect(f"{path} = {text[:9]}", cases.ask(marked),
                         re.escape(path) + ": must be an integer|config.json: line 1, column|" + re.escape(path) + ": .*out of range")
    gone = set(RANGES) - seen
    check(not gone, f"in the table of ranges, but not in full.json: {gone}")
    cases.end(300)


def strings(env):
    """NUL ends a string in C: it must not be cut there. Names of files may be anything else."""
    cases, config = Cases(env), base()
    for keys, path in list(members(config)):
        if not isinstance(parent(config, keys)[keys[-1]], str):
            continue
        value = parent(config, keys)[keys[-1]]
        cases.expect(f"{path} with a NUL", cases.ask(json.dumps(replaced(config, keys, value + "\0x"))),
                     re.escape(path) + ": must not contain a NUL character")
        said = cases.ask(json.dumps(replaced(config, keys, "x" * 100000)))
        check(len(said) < 1500, f"{path}: a message of {len(said)} characters")
    cases.expect("a name with a NUL", cases.ask(json.dumps(replaced(config, ("annotations", "a\0b"), "x"))),
                 r"config\.json: line 1, column \d+: a NUL character in a name")
    cases.end(80)


def contradictions(env):
    cases = Cases(env)
    for change, pattern in CONTRADICTIONS:
        config = base()
        for path, value in change.items():
            if path == "-":
                config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] not in value]
            elif path == "+":
                config["linux"]["namespaces"] += value
            else:
                keys = path.split(".")
                if value is None:
                    config = removed(config, keys)
                else:
                    parent(config, keys)[keys[-1]] = value
        cases.expect(str(change)[:120], cases.ask(json.dumps(config)), pattern)
    cases.end(len(CONTRADICTIONS))


def broken_text(env):
    """What is no JSON: the line and the column."""
    cases, good = Cases(env), json.dumps(base(), indent=1)
    lines = good.splitlines()
    at = r"config\.json: line {}, column \d+: "
    for n in range(1, len(lines), 7):
        text = "\n".join(lines[:n] + ["@"] + lines[n:])
        cases.expect(f"a stray character in line {n + 1}", cases.ask(text), at.format(n + 1))
        cases.expect(f"cut in line {n + 1}", cases.ask("\n".join(lines[:n + 1]) if n + 1 < len(lines) else "{"), at.format(r"\d+"))
    for name, text, pattern in (
            ("empty", b"", at.format(1)), ("a NUL", b"\0", at.format(1)), ("only white space", b" \n\n", at.format(3)),
            ("not an object", b"[]", r"config\.json: must be an object, not an array"),
            ("null", b"null ", r"config\.json: must be an object, not null"), ("a string", b'"x"', r"config\.json: must be an object"),
            ("invalid UTF-8", good.replace("example", "ex\udcff").encode(errors="surrogateescape"), at.format(r"\d+") + "invalid utf-8"),
            ("UTF-8 cut short", good.replace("example", "ex\udce2\udc82").encode(errors="surrogateescape"), at.format(r"\d+")),
            ("a control character", good.replace("example", "a\nb").encode(), at.format(r"\d+")),
            ("text after the end", good.encode() + b"\n{}", r"config\.json: line \d+, column \d+: unexpected text"),
            ("a comment", good.replace("{", "{ // x\n", 1).encode(), at.format(r"\d+")),
            ("a comma too many", good.rstrip("}\n ").encode() + b",}", at.format(r"\d+")),
            ("deep", b'{"annotations":' + b"[" * 100000 + b"]" * 100000 + b"}", at.format(1) + "nested deeper than 64"),
            ("deep objects", b'{"a":' * 5000 + b"1" + b"}" * 5000, at.format(1) + "nested deeper than 64"),
            ("a byte order mark", b"\xef\xbb\xbf" + good.encode(), at.format(1)),
            ("NaN", good.replace("25", "NaN", 1).encode(), r"(config\.json: line|process\.consoleSize\.height)"),
            ("single quotes", good.replace('"', "'").encode(), at.format(r"\d+"))):
        cases.expect(name, cases.ask(text), pattern)
    # Twice the same member: the last one, as Go's callers read it.
    cases.expect("twice", cases.ask(good.replace('"ociVersion"', '"ociVersion": "9", "ociVersion"', 1)), None)
    cases.expect("twice, the last one is wrong", cases.ask('{"ociVersion": "1.0.0", "ociVersion": 5, "root": {"path": "rootfs"}}'), "ociVersion: must be")
    big = cases.bundle / "config.json"
    with open(big, "wb") as f:
        f.write(good.rstrip().rstrip("}").encode() + b', "annotations": {"a": "' + b"x" * (100 << 20) + b'"}}')
    cases.expect("100 MB", cases.run(["create", "--bundle", str(cases.bundle), "c"], "create-config"), r".*config\.json: larger than 16 MiB")
    big.unlink()
    big.mkdir()
    cases.expect("a directory", cases.run(["create", "--bundle", str(cases.bundle), "c"], "create-config"), r"read .*config\.json: is a directory")
    cases.end(30)


def process_json(env):
    """exec --process: the same members, without the way to them."""
    c = Container(env, "c", ["sleep", "1000"], busybox=True)
    c.run()
    cases, process, path = Cases(env), base()["process"], env.t / "process.json"
    before = sorted(c.pids())

    def ask(value):
        cases.count += 1
        path.write_text(json.dumps(value) if not isinstance(value, str) else value)
        return re.sub(f"^{re.escape(str(path))}: ", "", cases.run(["exec", "--process", str(path), "c"], "exec-start"))
    cases.expect("the base", ask(process), None)
    for keys, name in list(members(process)):
        for t, value in EXAMPLES.items():
            if t is not type(parent(process, keys)[keys[-1]]):
                cases.expect(f"{name} as {value}", ask(replaced(process, keys, value)), re.escape(name) + ": must be ")
    for key in ("args", "cwd"):
        cases.expect(f"without {key}", ask(removed(process, (key,))), f"{key}: missing")
    cases.expect("cwd", ask(dict(process, cwd="x")), "cwd: must be an absolute path")
    cases.expect("uid", ask(dict(process, user={"uid": -1})), "user.uid: -1 is out of range")
    cases.expect("text", ask("{\n\n]"), "process.json: line 3, column")
    cases.expect("empty", ask(""), "process.json: line 1")
    check(sorted(c.pids()) == before, "an exec that failed has left a process")
    c.delete()
    cases.end(150)


def resources_json(env):
    """update --resources."""
    cases, resources, path = Cases(env), base()["linux"]["resources"], env.t / "resources.json"

    def ask(value):
        cases.count += 1
        path.write_text(json.dumps(value) if not isinstance(value, str) else value)
        said = cases.run(["update", "--resources", str(path), "nosuch"], "nothing")
        return "" if "container does not exist: nosuch" in said else said
    cases.expect("the base", ask(resources), None)
    for keys, name in list(members(resources)):
        name = re.sub(r"^(unified\.(.*)|rdma\.(\w+))", lambda m: f'{m[1].split(".")[0]}["{m[2] or m[3]}"]', name)
        for t, value in EXAMPLES.items():
            if t is not type(parent(resources, keys)[keys[-1]]):
                cases.expect(f"{name} as {value}", ask(replaced(resources, keys, value)), re.escape(name) + ": must be ")
    cases.expect("text", ask("{\n\n]"), "resources: line 3, column")
    cases.end(100)


def all_are_here(env):
    """full.json has every member that the tables of src/oci know, so all of the above is about all of them."""
    keys = set()
    for f in (TESTS.parent / "src/oci").glob("*.c"):
        text = f.read_text()
        keys |= set(re.findall(r'\{"(\w+)",\s+JSON_(?!UNSUPPORTED)', text))
        keys |= set(re.findall(r'^\s*(?:CAPS|HOOKS|BLKIO_LIST)\("(\w+)"', text, re.M))
    text = FULL.read_text()
    absent_keys = sorted(k for k in keys if f'"{k}"' not in text)
    check(len(keys) > 100, f"only {len(keys)} keys in src/oci")
    check(not absent_keys, f"not in tests/fuzz/corpus/config/full.json: {absent_keys}")


def tests():
    parts = {"process": lambda p: p.startswith("process"), "resources": lambda p: p.startswith("linux.resources"),
             "linux": lambda p: p.startswith("linux") and not p.startswith("linux.resources"),
             "rest": lambda p: not p.startswith(("process", "linux"))}
    for name, part in parts.items():
        yield f"integration/fields/types_{name}", lambda env, p=part: wrong_types(env, p), 120
    for f in (absent, ranges, strings, contradictions, broken_text, process_json, resources_json, all_are_here):
        yield f"integration/fields/{f.__name__}", f, 120
