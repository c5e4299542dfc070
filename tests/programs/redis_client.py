# SPDX-License-Identifier: Apache-2.0
"""A client that never closes its connection: writes keys, counts, subscribes to nothing, and reads everything back."""
import os
import random
import socket
import sys
import time


def say(name, text):
    with open(f"/cr/.{name}", "w", encoding="ascii") as f:
        f.write(text)
    os.rename(f"/cr/.{name}", f"/cr/{name}")


class Redis:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + 10
        while True:
            try:
                self.s.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        self.f = self.s.makefile("rb")

    def __call__(self, *args):
        b = [str(a).encode() for a in args]
        self.s.sendall(b"*%d\r\n" % len(b) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in b))
        return self.reply()

    def reply(self):
        line = self.f.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            n = int(rest)
            return None if n < 0 else self.f.read(n + 2)[:-2].decode()
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        raise RuntimeError(line.decode())


def value(n):
    return f"value {n} " + "x" * (n % 300)


def expect(what, got, wanted):
    if got != wanted:
        raise RuntimeError(f"{what}: got {got!r}, expected {wanted!r}")


def main():
    redis, n = Redis(sys.argv[1]), 0
    much = int(sys.argv[2]) if len(sys.argv) > 2 else 0  # MiB
    redis("CONFIG", "SET", "save", "")
    for i in range(much):
        expect("SET", redis("SET", f"much:{i}", random.Random(i).randbytes(1 << 19).hex()), "OK")
    while not os.path.exists("/cr/stop"):
        n += 1
        expect("SET", redis("SET", f"key:{n}", value(n)), "OK")
        expect("INCR", redis("INCR", "counter"), n)
        expect("RPUSH", redis("RPUSH", "list", n), n)
        old = random.randint(1, n)
        expect(f"key:{old}", redis("GET", f"key:{old}"), value(old))
        if much:  # changes it all the time
            redis("SETRANGE", f"much:{n % much}", 0, "x")
            redis("SET", f"much:{n % much}", random.Random(n % much).randbytes(1 << 19).hex())
        if n % 10 == 0:
            say("count", str(n))
            time.sleep(0.001)
    for i in range(1, n + 1):
        expect(f"key:{i}", redis("GET", f"key:{i}"), value(i))
    expect("the list", redis("LRANGE", "list", 0, -1), [str(i) for i in range(1, n + 1)])
    expect("the number of keys", redis("DBSIZE"), n + 2 + much)
    for i in range(much):
        expect(f"much:{i}", redis("GET", f"much:{i}"), random.Random(i).randbytes(1 << 19).hex())
    say("verdict", f"PASS {n}")
    time.sleep(1000)


try:
    main()
except Exception as e:  # pylint: disable=broad-except
    say("error", f"{type(e).__name__}: {e}")
    say("verdict", f"FAIL: {type(e).__name__}: {e}")
    raise
