#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""ask.py [REQUEST...]: asks the runtime, from within a container, for a checkpoint of this container (docs/application.md).

Prints the answer: "checkpointed 0" in the container that goes on, "restored 1" in what is restored of it later, or why not.
"""
import socket
import sys
import time


def ask(request, path="/run/stasis/socket", seconds=10):
    """The words of the answer; [] if the server has gone without one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        for left in range(seconds * 100, -1, -1):
            try:
                s.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):  # the container has only just begun
                if left == 0:
                    raise
                time.sleep(0.01)
        s.sendall(request.encode() + b"\n")
        answer = b""
        while b"\n" not in answer:
            piece = s.recv(4096)
            if not piece:
                return []
            answer += piece
    return answer.split(b"\n")[0].decode().split(" ")


def environment():
    """The environment that the bundle gives now: after a restore not what os.environ has."""
    with open("/run/stasis/environment", "rb") as f:
        return dict(v.decode().split("=", 1) for v in f.read().split(b"\0") if v)


if __name__ == "__main__":
    words = ask(" ".join(sys.argv[1:]) or "checkpoint")
    print(" ".join(words))
    sys.exit(0 if words and words[0] in ("checkpointed", "restored", "status") else 1)
