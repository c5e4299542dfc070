# SPDX-License-Identifier: Apache-2.0
"""Threads with queues, locks, timers, an event loop and a child process; each checks what it gets."""
import asyncio
import hashlib
import multiprocessing
import os
import queue
import threading
import time

WORKERS = 6
stop = threading.Event()
work, results = queue.Queue(50), queue.Queue()
lock = threading.Lock()
totals = {"made": 0, "done": 0, "loop": 0}
big = {i: hashlib.sha1(str(i).encode()).hexdigest() for i in range(50000)}


def say(name, text):
    with open(f"/cr/.{name}", "w", encoding="ascii") as f:
        f.write(text)
    os.rename(f"/cr/.{name}", f"/cr/{name}")


def failed(e):
    say("error", repr(e))
    say("verdict", f"FAIL: {e!r}")
    os._exit(1)


def guarded(f):
    def run(*args):
        try:
            f(*args)
        except Exception as e:  # pylint: disable=broad-except
            failed(e)
    return run


@guarded
def producer():
    n = 0
    while not stop.is_set():
        work.put(n)
        n += 1
        with lock:
            totals["made"] = n
    for _ in range(WORKERS):
        work.put(None)


@guarded
def worker(local):
    local.mine = []
    while (n := work.get()) is not None:
        assert big[n % len(big)] == hashlib.sha1(str(n % len(big)).encode()).hexdigest()
        local.mine.append(n)
        results.put(n * n)
        time.sleep(0.0005)


@guarded
def event_loop():
    async def tick(period):
        last = time.monotonic()
        while not stop.is_set():
            await asyncio.sleep(period)
            now = time.monotonic()
            assert now >= last, "monotonic time went back"
            last = now
            totals["loop"] += 1

    async def both():
        await asyncio.gather(tick(0.003), tick(0.01))
    asyncio.run(both())


def child(pipe):
    while (x := pipe.recv()) is not None:
        pipe.send(hashlib.sha256(x).digest())


@guarded
def main():
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,), daemon=True)
    process.start()
    local = threading.local()
    threads = [threading.Thread(target=worker, args=(local,)) for _ in range(WORKERS)]
    threads += [threading.Thread(target=producer), threading.Thread(target=event_loop)]
    for t in threads:
        t.start()
    seen, pid = 0, os.getpid()
    while not os.path.exists("/cr/stop"):
        results.get()
        seen += 1
        if seen % 20 == 0:
            data = os.urandom(1000)
            ours.send(data)
            assert ours.recv() == hashlib.sha256(data).digest()
            assert os.getpid() == pid and len(threading.enumerate()) >= WORKERS + 2
            say("count", str(seen // 20))
    stop.set()
    for t in threads:
        t.join()
    while not results.empty():
        results.get()
        seen += 1
    assert seen == totals["made"], f"{totals['made']} made, {seen} done"
    assert all(v == hashlib.sha1(str(k).encode()).hexdigest() for k, v in big.items())
    ours.send(None)
    process.join()
    say("verdict", f"PASS {seen}")
    time.sleep(1000)


main()
