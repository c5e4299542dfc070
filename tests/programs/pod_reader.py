# SPDX-License-Identifier: Apache-2.0
"""Beside redis: reads the numbers that the application of the pod sends through the FIFO. None may be missing or come twice."""
import sys

sys.path.insert(0, "/cr")
from pod_app import SHARED, Count, Shared, fault  # noqa: E402  pylint: disable=wrong-import-position


def main():
    count = Count("read")
    last, shared = 0, Shared() if "shm" in sys.argv[1].split(",") else None
    with open(SHARED + "/fifo", encoding="ascii") as f:
        for line in f:
            if int(line) != last + 1:
                raise RuntimeError(f"after {last} the FIFO has {line.strip()}")
            last += 1
            if shared:
                if not last <= shared.get(0) < last + 65536:
                    raise RuntimeError(f"the FIFO has {last} when shared memory has {shared.get(0)}")
                shared.put(1, last)
            if last % 10 == 0:
                count.say(last)


try:
    main()
except Exception as failure:
    fault(f"reader: {type(failure).__name__}: {failure}")
    raise
