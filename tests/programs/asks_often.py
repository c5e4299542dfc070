# SPDX-License-Identifier: Apache-2.0
"""Threads that ask all the time: requests are in every state when a checkpoint comes. /cr/count says how many answers there were,
/cr/restored how many of them spoke of a restore; /cr/error what was wrong."""
import os
import sys
import threading
import time

sys.path.insert(0, "/cr")
import ask  # noqa: E402

lock = threading.Lock()
counts = {"status": 0, "restored": 0, "none": 0}


def asking(request):
    while True:
        try:
            answer = ask.ask(request)
            word = answer[0] if answer else "none"
            with lock:
                counts[word] += 1
        except BaseException as e:
            with open("/cr/error", "w") as f:
                f.write(f"{request}: {e!r}")
            os._exit(1)


for n in range(12):
    threading.Thread(target=asking, args=("wait" if n == 0 else "status",)).start()
while True:
    for name, key in (("count", "status"), ("restored", "restored"), ("none", "none")):
        with open(f"/cr/.{name}", "w") as f:
            f.write(str(counts[key]))
        os.rename(f"/cr/.{name}", f"/cr/{name}")
    time.sleep(0.01)
