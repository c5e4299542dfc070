# SPDX-License-Identifier: Apache-2.0
"""pydict.py N: an interpreter with a dict of N entries. Ticks and verifies itself as work.c does."""
import os
import signal
import sys
import time

n = int(sys.argv[1])
entries = {i: "value-%d" % i for i in range(n)}
total = sum(len(v) for v in entries.values())
wanted = []
signal.signal(signal.SIGUSR1, lambda *_: wanted.append(1))
fd = os.open("/tmp/n", os.O_WRONLY | os.O_CREAT, 0o644)
counter = 0
good = True
while True:
    counter += 1
    good = good and entries[counter % n] == "value-%d" % (counter % n)
    os.pwrite(fd, b"%d\n" % counter, 0)
    if wanted:
        wanted.clear()
        ok = good and len(entries) == n and sum(len(v) for v in entries.values()) == total
        ok = ok and all(entries[i] == "value-%d" % i for i in range(0, n, 97))
        with open("/tmp/v.t", "w") as f:
            f.write("ok\n" if ok else "bad\n")
        os.rename("/tmp/v.t", "/tmp/v")
    time.sleep(0.001)
