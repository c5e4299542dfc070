# SPDX-License-Identifier: Apache-2.0
"""The middle of the pod: an HTTP server that counts each request in several places at once.

GET /TOKEN adds one to a counter in this process, to one in redis (by a connection that is never closed), to one in memory that the
pod shares (/dev/shm), and sends the number through a FIFO to a reader in another container. The answer is "TOKEN NUMBER". The counters
agree at every moment outside of one request, so two containers that were captured at different moments don't: the first request
after that finds it, and says so in /cr/error.
"""
import http.server
import mmap
import os
import socket
import socketserver
import sys
import threading
import time

SHARED = "/shared"
LOCK = threading.Lock()


def fault(text):
    """The first one is kept."""
    name = f"/cr/.error.{threading.get_ident()}"
    with open(name, "w", encoding="ascii") as f:
        f.write(text)
    try:
        os.link(name, "/cr/error")
    except FileExistsError:
        pass
    os.unlink(name)


class Count:
    """A file with a number that is written over, so that it is the same file also for who was captured in the middle of it."""

    def __init__(self, name):
        self.fd = os.open(f"/cr/{name}", os.O_WRONLY | os.O_CREAT, 0o644)
        self.say(0)

    def say(self, n):
        os.pwrite(self.fd, b"%-15d\n" % n, 0)


def patiently(what, seconds=30):
    end = time.monotonic() + seconds
    while True:
        try:
            return what()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


class Redis:
    """One connection; a command at a time."""

    def __init__(self, address):
        def connect():
            s = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            s.connect(address)
            return s
        self.s = patiently(connect)
        self.f = self.s.makefile("rb")

    def __call__(self, *args):
        b = [str(a).encode() for a in args]
        self.s.sendall(b"*%d\r\n" % len(b) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in b))
        line = self.f.readline()
        if line[:1] == b"$":
            return self.f.read(int(line[1:]) + 2)[:-2].decode()
        if line[:1] not in (b"+", b":"):
            raise RuntimeError(f"redis says {line!r}")
        return line[1:-2].decode()


class Shared:
    """Two numbers in memory: what the application counts, and what the reader of the FIFO has read."""

    def __init__(self, path="/dev/shm/pod"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if os.fstat(fd).st_size < 4096:
            os.ftruncate(fd, 4096)
        self.memory = memoryview(mmap.mmap(fd, 4096)).cast("Q")  # a number is written at once; struct would clear it first
        os.close(fd)

    def get(self, at):
        return self.memory[at]

    def put(self, at, value):
        self.memory[at] = value


class Counters:
    def __init__(self, links):
        self.n, self.count = 0, None
        tcp = Redis(("127.0.0.1", 6379)) if "tcp" in links else None
        self.redis = [r for r in (tcp, Redis(SHARED + "/redis.sock") if "unix" in links else None) if r]
        self.shared = Shared() if "shm" in links else None
        self.fifo = os.open(SHARED + "/fifo", os.O_WRONLY) if "fifo" in links else None

    def expect(self, what, got, wanted):
        if str(got) != str(wanted):
            raise RuntimeError(f"request {self.n}: {what} is {got}, expected {wanted}")

    def next(self):
        self.n += 1
        if self.shared:
            self.expect("the number in shared memory", self.shared.get(0), self.n - 1)
        for i, r in enumerate(self.redis):
            self.expect(f"redis' counter {i}", r("INCR", f"count{i}"), self.n)
        if self.redis and self.n % 7 == 0:
            back = self.n // 2
            self.redis[0]("SET", f"key:{self.n}", "x" * (self.n % 300))
            if back % 7 == 0:
                self.expect(f"key:{back}", self.redis[-1]("GET", f"key:{back}"), "x" * (back % 300))
        if self.shared:
            self.shared.put(0, self.n)
        if self.fifo is not None:
            os.write(self.fifo, b"%d\n" % self.n)
            if self.shared and not self.n - 1 - 65536 // 2 <= self.shared.get(1) <= self.n:
                self.expect("the reader's number", self.shared.get(1), self.n)
        if self.n % 16 == 0:
            self.count.say(self.n)
        return self.n


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False  # not of unix sockets
    counters = None

    def address_string(self):
        return "-"

    def log_message(self, *args):  # pylint: disable=arguments-differ
        pass

    def do_GET(self):  # pylint: disable=invalid-name
        try:
            with LOCK:
                n = self.counters.next()
            status, body = 200, f"{self.path.rsplit('/', 1)[-1]} {n}\n".encode()
        except Exception as e:  # pylint: disable=broad-except
            fault(f"{type(e).__name__}: {e}")
            status, body = 500, f"{e}\n".encode()
        self.wfile.write(b"HTTP/1.1 %d .\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 64


class UnixServer(Server):
    address_family = socket.AF_UNIX


def main():
    links = set(sys.argv[1].split(","))
    Handler.counters = Counters(links)
    threading.Thread(target=UnixServer(SHARED + "/app.sock", Handler).serve_forever, daemon=True).start()
    server = Server(("127.0.0.1", 8000), Handler)
    Handler.counters.count = Count("count")
    server.serve_forever(poll_interval=60)


if __name__ == "__main__":
    try:
        main()
    except Exception as failure:
        fault(f"{type(failure).__name__}: {failure}")
        raise
