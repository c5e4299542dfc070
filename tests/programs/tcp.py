# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL under pgbench and nginx under wrk, whose clients are in another network namespace: --tcp-established must not lose a
transaction, answer a request wrongly, or break a connection. And redis with a replica, both in one container.

The namespaces are the test's own, joined by a veth; the server's stays when its container is gone, so packets arrive for
connections that nobody has.
"""
import os
import random
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from lib import TESTS, Skip, check, cycles

CYCLES, _ = cycles(4)
OPTIONS = ["--tcp-established"]
BIN = Path("/usr/lib/postgresql/15/bin")


def ip(*args):
    subprocess.run(["ip", *args], check=True, capture_output=True)


@contextmanager
def two_namespaces(env):
    """Names of a server's (10.77.0.1) and a client's (10.77.0.2) namespace."""
    names = [f"stasis-{os.getpid()}-{side}" for side in ("server", "client")]
    try:
        for n in names:
            ip("netns", "add", n)
            ip("-n", n, "link", "set", "lo", "up")
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for i, n in enumerate(names):
            ip("-n", n, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
            ip("-n", n, "link", "set", "eth0", "up")
        yield names
    finally:
        env.clean()
        for n in names:
            subprocess.run(["ip", "netns", "delete", n], check=False, capture_output=True)


def joined(name):
    def edit(config):
        for ns in config["linux"]["namespaces"]:
            if ns["type"] == "network":
                ns["path"] = f"/run/netns/{name}"
    return edit


def random_cycles(c, alive, pause=2.0):
    """Checkpoints and restores at random moments, as long as alive() says that the load goes on."""
    seed = int(os.environ.get("TCP_SEED", random.randrange(1 << 30)))
    dice = random.Random(seed)
    for n in range(CYCLES):
        time.sleep(pause * dice.random())
        check(alive(), f"seed {seed}: the load has ended before cycle {n}")
        image = c.env.t / f"image{n}"
        c.checkpoint(image, *OPTIONS, timeout=60)
        c.gone()
        time.sleep(0.3 * dice.random())
        c.restore(image, *OPTIONS, timeout=60)
        shutil.rmtree(image)


def value(name, sql):
    p = subprocess.run(["ip", "netns", "exec", name, "psql", "-h", "10.77.0.1", "-U", "postgres", "-XAtc", sql],
                       capture_output=True, text=True, check=False, timeout=60)
    check(p.returncode == 0, f"psql: {p.stderr}")
    return p.stdout.strip()


def postgres(env, host_root):
    if not (BIN / "postgres").exists() or not shutil.which("pgbench"):
        raise Skip("postgresql-15 is not installed")
    script = f"""{BIN}/initdb -D /pg -A trust -N --no-locale -U postgres > /cr/initdb.log 2>&1 || exit 1
        echo 'host all all 10.77.0.0/24 trust' >> /pg/pg_hba.conf
        exec {BIN}/postgres -D /pg -h 10.77.0.1 -k /tmp -c fsync=off -c max_connections=20"""
    with two_namespaces(env) as (server, client):
        c = host_root(env, "postgres", ["/bin/sh", "-c", script], user=(101, 104, ()), edit=joined(server))
        (c.rootfs / "pg").mkdir()
        os.chown(c.rootfs / "pg", 101, 104)
        c.run()
        bench = ["ip", "netns", "exec", client, "pgbench", "-h", "10.77.0.1", "-U", "postgres"]
        c.wait("PostgreSQL", lambda: subprocess.run([*bench, "-i", "-q", "postgres"], capture_output=True,
                                                    check=False).returncode == 0, 60)
        with open(env.t / "pgbench.out", "w+", encoding="utf-8") as out:
            load = subprocess.Popen([*bench, "-n", "-c", "4", "-j", "2", "-P", "1", "-T", str(5 + 3 * CYCLES), "postgres"],
                                    stdout=out, stderr=out)
            try:
                time.sleep(1)
                random_cycles(c, lambda: load.poll() is None)
                status = load.wait(120)
            finally:
                load.kill()
                load.wait()
            out.seek(0)
            said = out.read()
        check(status == 0, f"pgbench ends with {status}: {said[-2000:]}")
        done = int(re.search(r"transactions actually processed: (\d+)", said)[1])
        failed = int(re.search(r"failed transactions: (\d+)", said)[1])
        check(failed == 0 and done > 0, f"{failed} transactions have failed, {done} have not")
        rows = int(value(client, "select count(*) from pgbench_history"))
        check(rows == done, f"pgbench counts {done} transactions, the server {rows}")
        sums = value(client, "select (select sum(delta) from pgbench_history), (select sum(abalance) from "
                             "pgbench_accounts), (select sum(bbalance) from pgbench_branches)").split("|")
        check(len(set(sums)) == 1, f"the sums differ: {sums}")
        c.delete()


# Four sizes, from what fits one packet to what fills the queues of both sides; and one that a second server sends by a unix socket.
PAGES = {"tiny": 1, "small": 100, "medium": 5000, "big": 60000}
NGINX = """daemon off; user root; worker_processes 2; pid /run/nginx.pid; error_log /tmp/error.log info;
events { worker_connections 256; }
http { access_log /tmp/access.log; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; keepalive_requests 1000000000; keepalive_timeout 3600s; send_timeout 3600s;
server { listen unix:/run/nginx.sock; root /cr/www; }
server { listen 10.77.0.1:8080; root /cr/www; location /through/ { proxy_pass http://unix:/run/nginx.sock:/; proxy_read_timeout 3600s; } } }
"""


def nginx_wrk(env, host_root):
    """Each thread of wrk has one connection, which must last, and gets one page after another, which must be the page it asked for."""
    if not shutil.which("nginx") or not shutil.which("wrk"):
        raise Skip("nginx or wrk is not installed")
    with two_namespaces(env) as (server, client):
        c = host_root(env, "nginx", ["/usr/sbin/nginx", "-c", "/cr/nginx.conf", "-e", "/tmp/error.log"], edit=joined(server))
        c.file("nginx.conf").write_text(NGINX)
        c.file("www").mkdir()
        for name, lines in PAGES.items():
            (c.file("www") / name).write_text("".join(f"line {i} of {name}\n" for i in range(lines)))
        c.run()
        at = ["ip", "netns", "exec", client]
        c.wait("nginx", lambda: subprocess.run([*at, "wrk", "-d", "1", "-t", "1", "-c", "1", "http://10.77.0.1:8080/tiny"],
                                               capture_output=True, check=False).returncode == 0, 30)
        with open(env.t / "wrk.out", "w+", encoding="utf-8") as out:
            load = subprocess.Popen([*at, "wrk", "-t", "6", "-c", "6", "-d", "3600", "--timeout", "60", "-s",
                                     TESTS / "programs/pages.lua", "http://10.77.0.1:8080", "--", c.file("www"), *PAGES],
                                    stdout=out, stderr=out)
            try:
                time.sleep(1)
                random_cycles(c, lambda: load.poll() is None)
                time.sleep(1)
                load.send_signal(signal.SIGINT)
                status = load.wait(60)
            finally:
                load.kill()
                load.wait()
            out.seek(0)
            said = out.read()
        found = dict(re.findall(r"^(\w+)=(\d+)$", said, re.M))
        check(status == 0 and int(found.pop("answers")) > 100 * CYCLES and len(found) == 6 and not any(map(int, found.values())),
              f"wrk ends with {status}: {said[-2000:]}{(c.rootfs / 'tmp/error.log').read_text()[-500:]}")
        c.delete()


def redis_replica(env, host_root):
    if not shutil.which("redis-server"):
        raise Skip("redis-server is not installed")
    script = """redis-server --port 6379 --bind 127.0.0.1 --save '' --dir /tmp --logfile /cr/master.log --enable-debug-command yes --repl-diskless-sync-delay 0 &
        redis-server --port 6380 --bind 127.0.0.1 --save '' --dir /tmp --logfile /cr/replica.log --enable-debug-command yes --replicaof 127.0.0.1 6379 &
        until redis-cli -p 6380 info replication | grep -q master_link_status:up; do sleep 0.1; done
        redis-cli -p 6380 info replication > /cr/before
        n=0; while [ ! -e /cr/stop ]; do n=$((n+1)); echo "SET key:$n $n"; echo "INCR count"; echo $n > /cr/count; sleep 0.001; done |
            redis-cli > /cr/answers
        redis-cli WAIT 1 10000 > /cr/wait
        for p in 6379 6380; do redis-cli -p $p DEBUG DIGEST; redis-cli -p $p GET count; done > /cr/verdict
        redis-cli -p 6380 info stats | grep -i sync > /cr/stats; redis-cli info stats | grep sync >> /cr/stats; touch /cr/done
        sleep 1000"""
    c = host_root(env, "redis", ["/bin/sh", "-c", script])
    c.run()
    c.wait("the load", lambda: c.file("count").exists(), 30)
    random_cycles(c, lambda: not c.file("verdict").exists())
    c.file("stop").write_text("stop")
    c.wait("the verdict", lambda: c.file("done").exists(), 60)
    lines = c.file("verdict").read_text().split()
    check(len(lines) == 4 and lines[:2] == lines[2:], f"master and replica differ: {lines}")
    check(int(lines[1]) > 10, f"{lines[1]} increments")
    stats = dict(re.findall(r"(sync_\w+):(\d+)", c.file("stats").read_text()))
    check(stats.get("sync_full") == "1" and stats.get("sync_partial_ok") == "0",
          f"the replication has begun anew: {stats}")
    c.delete()
