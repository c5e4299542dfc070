# SPDX-License-Identifier: Apache-2.0
"""Real programs, checkpointed and restored in cycles, under load, with their clients' data intact: CYCLES=50 in a thorough run.

The root file system is the host's /usr and /etc, bound read-only. A client writes what it knows to /cr/count as it goes on; it
checks all it can while it runs (/cr/error) and everything when it is asked to (/cr/stop), and then writes /cr/verdict.
"""
import hashlib
import json
import random
import shutil
import time
from pathlib import Path

import lib
from lib import TESTS, Container, Skip, check, poll
from programs import application, engines, pod, sandboxes, systemd, tcp

CYCLES, FACTOR = lib.cycles(20)
JOB_CYCLES, JOB_FACTOR = lib.cycles(12)
HERE = TESTS / "programs"
PYTHON = "/usr/bin/python3"


def host_root(env, cid, args, files=(), **config):
    """A container on the host's /usr; files of this folder are copied to /cr."""
    binds = [{"destination": d, "type": "bind", "source": d, "options": ["rbind", "ro"]} for d in ("/usr", "/etc")]
    c = Container(env, cid, args, mounts=binds, **config)
    for d in ("usr", "var/log/nginx", "var/lib/nginx"):
        (c.rootfs / d).mkdir(parents=True, exist_ok=True)
    for d in ("bin", "sbin", "lib", "lib64"):
        if Path("/", d).is_symlink():
            if (c.rootfs / d).is_dir():
                (c.rootfs / d).rmdir()
            (c.rootfs / d).symlink_to(f"usr/{d}")
    for f in files:
        shutil.copy2(HERE / f, c.rootfs / "cr" / f)
    return c


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            raise Skip(f"{p} is not installed")


def number(c, name):
    try:
        return int((c.file(name).read_text().strip() or "0"))
    except (OSError, ValueError):
        return 0


def error_of(c):
    try:
        return c.file("error").read_text().strip()
    except OSError:
        return ""


def progress(c, by, seconds=20):
    before = number(c, "count")

    def moved():
        check(not error_of(c), f"the client says: {error_of(c)}")
        return number(c, "count") >= before + by
    c.wait(f"progress of the client beyond {before}", moved, seconds)


def inside(c):
    """(pid in the container, command) of its processes."""
    found = set()
    for p in c.pids():
        try:
            status = Path(f"/proc/{p}/status").read_text()
            line = [x for x in status.splitlines() if x.startswith("NSpid:")][0]
            found.add((int(line.split()[-1]), Path(f"/proc/{p}/comm").read_text().strip()))
        except OSError:
            pass  # it just ended
    return found


def checkpoint(c, image, *options):
    """A connection that is just open may be refused (established TCP): tried again, that is no failure."""
    end = time.monotonic() + 10
    while True:
        status, _, text = c.checkpoint(image, *options, ok=None, timeout=60)
        if status == 0:
            return
        check("tcp" in text.lower() and time.monotonic() < end, f"checkpoint: exit {status}: {text.strip()[-1500:]}")
        time.sleep(0.01)


def cycles(c, step, *options, same_processes=True):
    """step() runs after each restore; the processes are the same ones all the time."""
    step()
    for n in range(CYCLES):
        image = c.env.t / f"image{n}"
        before = inside(c)
        checkpoint(c, image, *options)
        c.gone()
        c.restore(image, *options, timeout=60)
        check(not same_processes or inside(c) == before,
              f"cycle {n}: processes were {sorted(before)}, are {sorted(inside(c))}")
        step()
        shutil.rmtree(image)


def verdict(c):
    c.file("stop").write_text("stop")
    c.wait("the client's verdict", lambda: c.file("verdict").exists(), 60)
    text = c.file("verdict").read_text().strip()
    check(text.startswith("PASS"), text)
    c.delete()


def redis(env):
    need("redis-server", PYTHON)
    script = """redis-server --port 6379 --bind 127.0.0.1 --unixsocket /run/redis.sock --save '' --dir /tmp \
        --logfile /tmp/redis.log &
        exec python3 -u -B /cr/redis_client.py /run/redis.sock"""
    c = host_root(env, "redis", ["/bin/sh", "-c", script], files=["redis_client.py"])
    c.run()
    cycles(c, lambda: progress(c, 100))
    verdict(c)


def memory_of(c, command):
    """KiB of a process's own memory, lines of its maps, its descriptors."""
    for p in c.pids():
        if Path(f"/proc/{p}/comm").read_text().strip() == command:
            text = Path(f"/proc/{p}/status").read_text()
            return (int(text.split("RssAnon:")[1].split()[0]), len(Path(f"/proc/{p}/maps").read_text().splitlines()),
                    len(list(Path(f"/proc/{p}/fd").iterdir())))
    return (0, 0, 0)


def redis_live(env):
    """--leave-running again and again, of a redis that answers all the time and does not grow; the last image is one of its moments."""
    need("redis-server", PYTHON)
    script = """redis-server --port 6379 --bind 127.0.0.1 --unixsocket /run/redis.sock --save '' --dir /tmp \
        --logfile /tmp/redis.log &
        exec python3 -u -B /cr/redis_client.py /run/redis.sock 24"""
    c = host_root(env, "redis", ["/bin/sh", "-c", script], files=["redis_client.py"])
    c.run()
    progress(c, 100)
    image, late = env.t / "image", 0
    before, processes = memory_of(c, "redis-server"), inside(c)
    for n in range(CYCLES):
        c.checkpoint(image, "--leave-running", timeout=60)
        late += json.loads((image / "manifest.json").read_text())["statistics"]["pages_late"] >= 24 << 8
        progress(c, 10)
        check(inside(c) == processes, f"cycle {n}: processes were {sorted(processes)}, are {sorted(inside(c))}")
    after = memory_of(c, "redis-server")
    check(late >= CYCLES * 3 / 4, f"{late} of {CYCLES} checkpoints had most memory copied while redis ran")
    check(after[0] < before[0] + (32 << 10) + CYCLES * 64 and after[1] < before[1] + 64 and after[2] == before[2],
          f"redis had {before} (KiB, mappings, descriptors), has {after}")
    second = c.clone("second")
    verdict(c)
    second.restore(image, timeout=60)
    progress(second, 10)
    verdict(second)


def python_threads(env):
    need(PYTHON)
    c = host_root(env, "python", [PYTHON, "-u", "-B", "/cr/python_threads.py"], files=["python_threads.py"])
    c.run()
    cycles(c, lambda: progress(c, 20))
    verdict(c)


def shell_pipeline(env):
    script = r"""i=0; while [ ! -e /cr/stop ]; do i=$((i+1)); echo "line $i"; usleep 500; done | sed 's/line/number/' |
        awk '{ print $2 * 2; fflush() }' | tee -a /cr/doubled | while read -r n; do echo $((n / 2)) > /cr/.count; mv /cr/.count /cr/count; done
        echo PASS > /cr/verdict; sleep 1000"""
    c = Container(env, "pipeline", ["/bin/sh", "-c", script], busybox=True)
    c.run()
    cycles(c, lambda: progress(c, 10), same_processes=False)
    c.file("stop").write_text("stop")
    c.wait("the end of the pipeline", lambda: c.file("verdict").exists(), 20)
    lines = [int(x) for x in c.file("doubled").read_text().split()]
    wrong = next((i for i, x in enumerate(lines) if x != 2 * (i + 1)), None)
    check(wrong is None, f"line {wrong} of the pipeline is {lines[wrong] if wrong is not None else ''}")
    check(len(lines) == number(c, "count"), f"{len(lines)} lines, and the last one is {number(c, 'count')}")
    c.delete()


NGINX = """daemon off; user root; worker_processes 2; pid /run/nginx.pid; error_log /tmp/error.log info;
events { worker_connections 64; }
http { access_log /tmp/access.log; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
server { listen 127.0.0.1:8080; listen unix:/run/nginx.sock; root /cr/www; } }
"""


def nginx(env):
    need("nginx")
    c = host_root(env, "nginx", ["/usr/sbin/nginx", "-c", "/cr/nginx.conf", "-e", "/tmp/error.log"])
    c.file("nginx.conf").write_text(NGINX)
    (c.rootfs / "cr/www").mkdir()
    page = "".join(f"line {i} of the page\n" for i in range(20000))
    (c.rootfs / "cr/www/page").write_text(page)
    shutil.copy2("/bin/busybox", c.rootfs / "cr/busybox")
    requests = [0]

    def request(tries=1):
        for _ in range(tries):
            status, out, text = env.command("exec", c.cid, "/cr/busybox", "wget", "-q", "-O", "-",
                                            "http://127.0.0.1:8080/page", ok=None)
            if status == 0:
                break
            time.sleep(0.05)
        check(status == 0, f"wget: exit {status}: {text} {(c.rootfs / 'tmp/error.log').read_text()[-500:]}")
        check(out == page, f"the page has {len(out)} bytes, expected {len(page)}")
        requests[0] += 1
    c.run()
    request(tries=50)
    cycles(c, lambda: (request(), request()))
    log = (c.rootfs / "tmp/access.log").read_text().splitlines()
    check(len(log) == requests[0], f"{requests[0]} requests, {len(log)} lines in the access log")
    check(all(" 200 " in line for line in log), "not all of them were answered with 200")
    c.delete()


def jvm(env):
    need("java")
    c = host_root(env, "jvm", ["/usr/bin/java", "-Xmx128m", "/cr/Counters.java"], files=["Counters.java"])
    c.run()
    poll("the JVM starts", lambda: number(c, "count") > 0, 60, 0.05)
    cycles(c, lambda: progress(c, 20, 30))
    verdict(c)


def mariadb(env):
    """It uses Linux AIO where io_uring is forbidden, as in containers: requests are in flight at any time."""
    need("mariadbd", "mariadb", "mariadb-install-db")
    c = host_root(env, "mariadb", ["/bin/sh", "/cr/mariadb.sh"], files=["mariadb.sh"])
    c.run()
    poll("MariaDB starts", lambda: number(c, "count") > 0, 60, 0.05)
    log = (c.rootfs / "tmp/mariadbd.log").read_text()
    check("Using Linux native AIO" in log, f"it does not use Linux AIO: {log[-1000:]}")
    cycles(c, lambda: progress(c, 20, 30), "--file-locks", same_processes=False)
    verdict(c)


# Jobs: what they write in the end is the same as without a checkpoint -----------------------------------------------------

JOBS = {
    # Source text in, an object out; the driver starts the compiler by vfork and reads it through a pipe.
    "gcc": (["gcc"], "gcc -pipe -O2 -c -o /cr/out /cr/input.c"),
    "x264": (["x264"], "x264 --quiet --threads 3 --preset slow -o /cr/out /cr/input.y4m"),
    "node": (["node"], "node /cr/node_job.js"),
    "ripgrep": (["rg"], "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do rg -j 4 --no-messages -c 'struct [a-z]+_$i|int' /usr/include; done | sort > /cr/out"),
    # The repository is encrypted with a key of its own: what comes back out of it is compared.
    "restic": (["restic"], """export RESTIC_PASSWORD=x HOME=/tmp RESTIC_REPOSITORY=/tmp/repository; restic -q init &&
        restic -q backup /usr/include/linux /usr/include/x86_64-linux-gnu && restic -q check --read-data && restic -q restore latest --target /tmp/back &&
        (cd /tmp/back && find . -type f -exec sha256sum {} + | sort > /cr/out)"""),
}


def job_input(cr):
    """Big enough for some seconds of work."""
    lines = []
    for i in range(700):
        lines.append(f"int f{i}(int *a, int n) {{ int s = {i}; for (int k = 0; k < n; k++) "
                     f"s = s * {i * 7 + 3} + (a[k] ^ (s >> {i % 13 + 1})); return s; }}")
    (cr / "input.c").write_text("\n".join(lines))
    chance = random.Random(1)
    with open(cr / "input.y4m", "wb") as f:
        f.write(b"YUV4MPEG2 W320 H240 F25:1 Ip A1:1 C420\n")
        noise = chance.randbytes(320 * 240 * 3)
        for n in range(40):
            f.write(b"FRAME\n" + noise[n * 700:n * 700 + 320 * 240] + bytes([128 + n % 40]) * (320 * 240 // 2))


def run_job(env, cid, command):
    script = f"({command}) > /cr/log 2>&1; echo $? > /cr/.status; mv /cr/.status /cr/status; exec sleep 1000"
    c = host_root(env, cid, ["/bin/sh", "-c", script], files=["node_job.js"])
    job_input(c.rootfs / "cr")
    c.run()
    return c


def end_of(c):
    c.wait("the job's end", lambda: c.file("status").exists(), 120)
    check(c.file("status").read_text().strip() == "0", f"the job failed: {c.file('log').read_text()[-1000:]}")
    return hashlib.sha256(c.file("out").read_bytes()).hexdigest()


def job(env, name):
    programs, command = JOBS[name]
    need(*programs)
    plain = run_job(env, "plain", command)
    begin = time.monotonic()
    expected = end_of(plain)
    seconds = time.monotonic() - begin
    plain.delete()
    c = run_job(env, "job", command)
    done = 0
    while not c.file("status").exists() and done < JOB_CYCLES:
        time.sleep(random.uniform(0, 2 * seconds / JOB_CYCLES))
        image = env.t / "image"
        if random.random() < 0.3:
            c.checkpoint(image, "--leave-running", timeout=60)
        else:
            c.checkpoint(image, timeout=60)
            c.restore(image, timeout=60)
        shutil.rmtree(image)
        done += 1
    found = end_of(c)
    check(found == expected, f"the output differs from that of an uninterrupted run after {done} checkpoints: {c.file('log').read_text()[-500:]}")
    c.delete()


def tests():
    for f in (tcp.postgres, tcp.nginx_wrk, tcp.redis_replica):
        yield f"programs/{f.__name__}", lambda env, f=f: f(env, host_root), 240 + 10 * tcp.CYCLES
    for f in (pod.plain, pod.two_moments, pod.live, pod.restored, pod.interrupted):
        yield f"programs/pod_{f.__name__}", lambda env, f=f: f(env, host_root), 240
    yield from application.tests(host_root)
    yield from sandboxes.tests(host_root)
    yield from engines.tests(host_root)
    yield "programs/systemd", systemd.systemd, 180 + 12 * systemd.CYCLES
    for f in (redis, redis_live, python_threads, shell_pipeline, nginx, jvm, mariadb):
        yield f"programs/{f.__name__}", f, int(240 * FACTOR)
    for name in JOBS:
        yield f"programs/job_{name}", lambda env, n=name: job(env, n), int(240 * JOB_FACTOR)
