# SPDX-License-Identifier: Apache-2.0
"""A program that asks for checkpoints of itself: for each line of /cr/ask it asks, and writes down in /cr/answers what it was told,
its generation and a variable of its environment. A thread of it waits meanwhile for what a restore says."""
import os
import sys
import threading
import time

sys.path.insert(0, "/cr")
import ask  # noqa: E402

lock = threading.Lock()


def note(*words):
    with lock, open("/cr/answers", "a") as f:
        f.write(" ".join(map(str, words)) + "\n")


def generation():
    with open("/run/stasis/generation") as f:
        return int(f.read())


def wait():
    while True:
        note("waited", *ask.ask("wait"), "generation", generation())


threading.Thread(target=wait, daemon=True).start()
done = count = 0
while True:
    count += 1
    with open("/cr/.count", "w") as f:
        f.write(str(count))
    os.rename("/cr/.count", "/cr/count")
    try:
        with open("/cr/ask") as f:
            lines = f.read().split("\n")[:-1]
    except FileNotFoundError:
        lines = []
    for line in lines[done:]:
        done += 1
        note(*ask.ask(line), "generation", generation(), "where", ask.environment().get("WHERE"))
    time.sleep(0.01)
