# SPDX-License-Identifier: Apache-2.0
"""Does to the socket of the application what it should not."""
import os
import random
import socket
import sys
import time

sys.path.insert(0, "/cr")
import ask  # noqa: E402

PATH = "/run/stasis/socket"


def connection():
    s = socket.socket(socket.AF_UNIX)
    s.connect(PATH)
    s.settimeout(20)
    return s


def attack():
    ask.ask("status")
    # From more connections than it takes, nothing, and halves of requests.
    idle = []
    for n in range(8):
        idle.append(connection())
        if n % 2:
            idle[-1].send(b"checkpo")
    for s in idle:
        s.close()
    assert ask.ask("status")[0] == "status"
    for junk in (b"x" * 10000, b"\n", b"\0\n", b"checkpoint \n", b"checkpoint sandbox x\n", b"\xff\xfe\n", b"CHECKPOINT\n", b"status\0\n"):
        with connection() as s:
            try:
                s.sendall(junk)
                answer = s.recv(1000)
            except OSError:
                answer = b"error"
            assert answer.startswith(b"error"), (junk, answer)
    with connection() as s:  # byte by byte, and more behind
        for b in b"status\r\nstatus\nstatus\n":
            try:
                s.send(bytes([b]))
            except OSError:
                break
            time.sleep(0.001)
        assert s.recv(1000).startswith(b"status id="), "byte by byte"
    with connection() as s:  # descriptors go nowhere
        with open("/cr/asks_badly.py", "rb") as f:
            socket.send_fds(s, [b"status\n"], [f.fileno()] * 10)
        assert s.recv(1000).startswith(b"status id="), "descriptors"
    begin, n = time.monotonic(), 0
    while time.monotonic() < begin + 4:  # as fast as it goes
        n += 1
        with connection() as s:
            s.send(random.choice((b"status\n", b"wait\n", b"che", b"", b"please\n")))
    assert n < 32 * 7, f"{n} connections"
    with connection() as s:  # asks, and does not wait
        s.send(b"checkpoint\n")
    for _ in range(20):
        answer = ask.ask("checkpoint")
        if answer[0] in ("checkpointed", "restored"):
            return
        assert answer[0] == "refused", answer
        time.sleep(0.2)
    raise AssertionError("no checkpoint")


try:
    attack()
    TEXT = "PASS"
except BaseException as e:
    TEXT = f"FAIL: {e!r}"
with open("/cr/.verdict", "w") as f:
    f.write(TEXT)
os.rename("/cr/.verdict", "/cr/verdict")
while True:
    time.sleep(1)
