# SPDX-License-Identifier: Apache-2.0
"""The demo's second program: threads that each build a chain of hashes, a queue between them and a reporter.

Writes a JSON report to the path given. On SIGUSR1 it stops the threads, computes every chain again from the start and
writes what it found beside the report."""
import hashlib
import json
import os
import queue
import secrets
import signal
import sys
import threading
import time

THREADS = 8
path = sys.argv[1]
token = secrets.token_hex(16)
stop = threading.Event()
steps = queue.Queue()
chains = {}


def link(worker, n, digest):
    return hashlib.sha256(b"%d %d " % (worker, n) + digest).digest()


def work(worker):
    n, digest = 0, b""
    while not stop.is_set():
        digest = link(worker, n, digest)
        n += 1
        chains[worker] = (n, digest)
        steps.put(worker)
        time.sleep(0.002)


def right(worker, n, digest):
    again = b""
    for i in range(n):
        again = link(worker, i, again)
    return again == digest


def write(name, text):
    with open(name + ".new", "w") as f:
        f.write(text)
    os.rename(name + ".new", name)


def main():
    signal.signal(signal.SIGUSR1, lambda *_: stop.set())
    threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for t in threads:
        t.start()
    total = 0
    while not stop.is_set():
        try:
            steps.get(timeout=0.1)
        except queue.Empty:
            continue
        total += 1
        if total % 50 == 0:
            ids = " ".join(str(t.native_id) for t in threads)
            write(path, json.dumps({"token": token, "threads": ids, "steps": total}))
    for t in threads:
        t.join()
    wrong = [w for w, (n, digest) in chains.items() if not right(w, n, digest)]
    write(path + ".verdict", f"wrong chains: {wrong}" if wrong else "every chain is right")
    signal.pause()


main()
