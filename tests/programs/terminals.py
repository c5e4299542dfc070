# SPDX-License-Identifier: Apache-2.0
"""Terminals: a shell with job control in the container's console, vim and less in tmux in the container, script(1); the console and the
caller's own terminal given anew at each restore. CYCLES cycles each, 4 by default, at random moments.

A Terminal is the human's side: the master of a console that came over the console socket, or of a pty of the test's own, in
which a command of stasis runs in the foreground.
"""
import array
import fcntl
import os
import pty
import random
import re
import shutil
import socket
import struct
import subprocess
import termios
import time

from lib import Container, Failure, Skip, check, cycles, poll

CYCLES, _ = cycles(4)


class Terminal:
    def __init__(self, master=None):
        self.process, self.seen = None, ""
        self.master = master
        self.slave = None
        if master is None:
            self.master, self.slave = pty.openpty()
        os.set_blocking(self.master, False)

    def size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def start(self, env, *args):
        """A command of stasis with this terminal as its own."""
        def take():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # pylint: disable-next=subprocess-popen-preexec-fn
        self.process = subprocess.Popen([str(env.stasis), "--root", str(env.root), *map(str, args)], stdin=self.slave,
                                        stdout=self.slave, stderr=self.slave, preexec_fn=take)

    def read(self):
        try:
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        except BlockingIOError:
            pass
        except OSError:
            pass  # nobody has it open at the moment
        return self.seen

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, seconds=10):
        """Waits until the output has it; what is behind it is left for the next one."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.read())
            if found:
                self.seen = self.seen[found.end():]
                return found
            check(time.monotonic() < end, f"the terminal does not show {pattern!r} but {self.seen[-400:]!r}")
            time.sleep(0.005)

    def ends_with(self, status):
        """What runs in it ends, with all of its output read."""
        def ended():
            self.read()
            return self.process.poll() is not None
        try:
            poll("its end", ended, 20)
        except Failure:
            raise Failure(f"it does not end; the terminal shows {self.seen[-600:]!r}") from None
        check(self.process.returncode == status, f"exit {self.process.returncode}: {self.seen[-600:]!r}")

    def close(self):
        for fd in (self.master, self.slave):
            if fd is not None:
                os.close(fd)
        self.master = self.slave = None
        if self.process:
            self.process.wait(20)


class Console:
    """The console socket of a detached container."""

    def __init__(self, env):
        self.path = env.t / "console.sock"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.socket.listen(5)
        self.socket.settimeout(20)

    def receive(self):
        connection, _ = self.socket.accept()
        with connection:
            _, control, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
            return Terminal(array.array("i", control[0][2])[0])


def host_root(env, cid, args, **config):
    """A container on the host's /usr, as of harness.py."""
    binds = [{"destination": d, "type": "bind", "source": d, "options": ["rbind", "ro"]} for d in ("/usr", "/etc")]

    def edit(config):
        config["process"]["env"] += ["PS1=ready> ", "HOME=/root", "LC_ALL=C.UTF-8", "SHELL=/bin/bash"]
    c = Container(env, cid, args, mounts=binds, edit=edit, **config)
    for d in ("bin", "sbin", "lib", "lib64"):
        if (c.rootfs / d).is_dir():
            (c.rootfs / d).rmdir()
        (c.rootfs / d).symlink_to(f"usr/{d}")
    (c.rootfs / "usr").mkdir()
    return c


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            raise Skip(f"{p} is not installed")


BASH = ["/bin/bash", "--norc", "--noprofile", "-i"]


def moment():
    time.sleep(random.uniform(0, 0.03))


class Shell:
    """bash in a terminal, whichever that is at the moment."""

    def __init__(self, terminal):
        self.t = terminal

    def prompt(self):
        self.t.expect(r"ready> (\x1b\[\?2004h)?$")

    def run(self, line, want, prompt=True):
        """At the prompt, and up to the next one."""
        self.t.type(line + "\n")
        self.t.expect(want)
        if prompt:
            self.prompt()

    def stop(self):
        self.t.type("\x1a")
        self.t.expect("Stopped")
        self.prompt()

    def begin_jobs(self):
        self.prompt()
        self.run("sleep 1000 &", r"\[1\]")
        self.run("cat", "2004l\r", prompt=False)  # the line editor has let go of the terminal
        self.t.type("line\n")
        self.t.expect("line\r\nline")
        self.stop()

    def check_jobs(self, n):
        self.run(f"ead{n}", f"typed-ahead{n}\r\n")
        self.run("jobs", r"\[1\]-?  Running +sleep 1000(.|\r|\n)*\[2\]\+  Stopped +cat")
        self.run("fg 2", "[\r\n]cat\r\n", prompt=False)
        self.t.type(f"through cat {n}\n")
        self.t.expect(f"through cat {n}\r\nthrough cat {n}\r\n")
        self.stop()
        # A job in the foreground is interrupted by ^C, of the new terminal.
        self.run("echo it begins; sleep 500", "[\r\n]it begins\r\n", prompt=False)
        moment()
        self.t.type("\x03")
        self.prompt()

    def type_ahead(self):
        self.t.type("echo typed-ah")
        self.t.expect("typed-ah$")


def cycle(c, console, before, after, *options):
    image = c.env.t / "image"
    moment()
    c.checkpoint(image, timeout=60)
    c.gone()
    before()
    c.restore(image, "--console-socket", console.path, *options, timeout=60)
    shutil.rmtree(image)
    after(console.receive())


def shell_in_console(env):
    """Job control in a console that is another one after each restore."""
    need("bash")
    console, c = Console(env), host_root(env, "bash", BASH, terminal=True)
    c.run("--console-socket", console.path)
    shell = Shell(console.receive())
    shell.begin_jobs()

    def go_on(terminal):
        shell.t = terminal
    for n in range(CYCLES):
        shell.type_ahead()
        cycle(c, console, shell.t.close, go_on)
        shell.check_jobs(n)
    # And it goes on as if nothing had been where it is left running.
    shell.type_ahead()
    c.checkpoint(env.t / "image", "--leave-running")
    shell.check_jobs(99)
    # What a job in the foreground has not read yet waits in the terminal.
    shell.run("(sleep 0.5; read -r a; read -r b; echo $b $a); echo done", "echo done\r\n", prompt=False)
    shell.t.type("first\nsecond")
    shell.t.expect("second")
    cycle_image = env.t / "image2"
    c.checkpoint(cycle_image)
    c.gone()
    shell.t.close()
    c.restore(cycle_image, "--console-socket", console.path)
    shell.t = console.receive()
    shell.t.type(" half\n")
    shell.t.expect("second half first\r\n")
    shell.t.close()
    c.delete()


def tmux(env):
    """A terminal multiplexer: a shell and an editor in terminals of the container's own."""
    need("tmux", "vim", "less", "bash")
    script = """export TERM=screen; cd /root
        tmux -f /dev/null new-session -d -x 80 -y 24 -s main bash --norc --noprofile -i
        tmux new-window -t main:1 vim -u NONE -N -n /cr/text
        seq 1 1000 > /cr/numbers; tmux new-window -t main:2 less /cr/numbers
        sleep 100000 & wait"""
    c = host_root(env, "tmux", ["/bin/bash", "-c", script])
    c.file("text").write_text("a line of text\n")
    c.run()

    def control(*args):
        return env.command("exec", "--env", "TERM=screen", c.cid, "/usr/bin/tmux", *args, ok=None)

    def shows(window, pattern):
        def found():
            status, out, text = control("capture-pane", "-p", "-t", f"main:{window}")
            found.last = out + text
            return status == 0 and re.search(pattern, out)
        try:
            poll(f"window {window} shows {pattern!r}", found, 20, 0.05)
        except Failure as e:
            raise Failure(f"{e}: {found.last[-200:]}") from None

    def keys(window, *args):
        status, _, text = control("send-keys", "-t", f"main:{window}", *args)
        check(status == 0, f"send-keys: {text}")
    shows(0, "bash-")
    shows(1, "a line of text")
    shows(2, "20")
    # A shell of its own: an interactive bash loses a ^C now and then between the commands of a loop.
    keys(0, "sh -c 'i=0; while :; do i=$((i+1)); echo counted $i; sleep 0.01; done'", "Enter")
    keys(1, "G", "o")
    for n in range(CYCLES):
        shows(0, "counted")
        keys(1, f"line number {n}", "Enter")
        image = env.t / "image"
        moment()
        c.checkpoint(image, timeout=60)
        c.gone()
        c.restore(image, timeout=60)
        shutil.rmtree(image)
        shows(1, f"line number {n}")
    keys(0, "C-c")
    keys(0, "echo the end of $((6*7))", "Enter")
    shows(0, "the end of 42")
    keys(1, "Escape", ":wq", "Enter")
    c.wait("vim writes its file", lambda: f"line number {CYCLES - 1}\n" in c.file("text").read_text(), 10)
    text = c.file("text").read_text()
    want = "a line of text\n" + "".join(f"line number {n}\n" for n in range(CYCLES))
    check(text.rstrip("\n") == want.rstrip("\n"), f"vim wrote {text!r}")
    keys(2, "G")
    shows(2, "1000")
    c.delete()


def under_script(env):
    """script(1): a session in a pty that is recorded; what it types is counted up by the shell in it."""
    need("script", "bash")
    c = host_root(env, "script", ["/bin/bash", "-c", "script -q -f -c 'bash --norc --noprofile /cr/inner' /cr/typescript"])
    c.file("inner").write_text("""stty -echo; for ((i = 1; ; i++)); do echo number $i; [ -e /cr/stop ] && break; sleep 0.002; done
        tty; stty size; ps -o tty= -p $$; echo the end\n""")
    c.run()
    typescript = c.file("typescript")

    def recorded():
        return typescript.read_bytes().decode() if typescript.exists() else ""

    def last():
        found = re.findall(r"number (\d+)\r\n", recorded())
        return int(found[-1]) if found else 0
    for _ in range(CYCLES):
        before = last()
        c.wait("progress", lambda b=before: last() > b + 20, 10)
        image = env.t / "image"
        c.checkpoint(image, timeout=60)
        c.gone()
        c.restore(image, timeout=60)
        shutil.rmtree(image)
    c.file("stop").write_text("")
    c.wait("the end", lambda: "the end" in recorded(), 20)
    numbers = [int(x) for x in re.findall(r"number (\d+)\r\n", recorded())]
    check(numbers == list(range(1, len(numbers) + 1)), "numbers are lost or told twice")
    check("/dev/pts/0" in recorded(), "tty(1) knows no terminal")
    c.delete()


def foreground(env):
    """run in one terminal, restore in another one of another size, with a console."""
    need("bash", "stty")
    first, second = Terminal(), Terminal()
    first.size(30, 100)
    second.size(20, 70)
    c = host_root(env, "fg", BASH, terminal=True)
    first.start(env, "run", "--bundle", c.bundle, c.cid)
    shell = Shell(first)
    shell.begin_jobs()
    shell.run("stty size", "30 100\r\n")
    shell.type_ahead()
    c.checkpoint(env.t / "image")
    check(first.process.wait(20) != 0, "run ends as if its container had ended well")
    second.start(env, "restore", "--shell-job", "--image-path", env.t / "image", "--bundle", c.bundle, c.cid)
    shell.t = second
    shell.check_jobs(1)
    shell.run("stty size", "20 70\r\n")
    shell.run("kill -9 %1 %2", "kill")
    second.type("exec sh -c 'exit 7'\n")
    second.ends_with(7)
    first.close()
    second.close()


def callers_terminal(env):
    """No terminal of the container's own: stdin and stdout are the caller's (--shell-job), raw as the program wants it."""
    need("bash", "stty")
    first, second = Terminal(), Terminal()
    first.size(30, 100)
    second.size(20, 70)
    script = "stty raw -echo; echo ready; while read -r -n 1 -s a; do echo got $a; [ \"$a\" = s ] && stty size; [ \"$a\" = q ] && exit 7; done"
    c = host_root(env, "job", ["/bin/bash", "-c", script])
    first.start(env, "run", "--bundle", c.bundle, c.cid)
    first.expect("ready")
    first.type("a")
    first.expect("got a")
    c.checkpoint(env.t / "image", "--shell-job")
    first.process.wait(20)
    second.start(env, "restore", "--shell-job", "--image-path", env.t / "image", "--bundle", c.bundle, c.cid)
    poll("the restore", lambda: c.status() == "running", 10)
    second.type("b")
    second.expect("got b\n")
    second.type("s")
    second.expect("20 70")
    second.type("q")
    second.ends_with(7)
    first.close()
    second.close()


EXEC = r"""echo $$ > /cr/exec.pid; trap 'echo hup >> /cr/exec.hup' HUP
    i=0; while [ ! -e /cr/exec.stop ]; do i=$((i+1)); echo $i > /cr/exec.tmp; mv /cr/exec.tmp /cr/exec.count; usleep 2000; done
    read -r line; echo "line $line, status $?" > /cr/exec.read
    (trap '' PIPE; echo out; echo "echo gave $?" > /cr/exec.write) 2> /dev/null
    sed -n 's/^PPid:.//p' /proc/$$/status > /cr/exec.tmp; mv /cr/exec.tmp /cr/exec.ppid; exec sleep 1000"""


def count(c):
    try:
        return int(c.file("exec.count").read_text() or "0")
    except OSError:
        return 0


def goes_on(c):
    before = count(c)
    c.wait(f"the exec'ed process counts on from {before}", lambda: count(c) > before + 5, 10)


def exec_session(env):
    """A process of exec and its child: it runs on with --leave-running; after a restore its caller is gone."""
    c = Container(env, "exec", ["/bin/sh", "-c", "while :; do sleep 1000; done"], busybox=True)
    c.run()
    line = [str(env.stasis), "--root", str(env.root), "exec", c.cid, "/bin/sh", "-c", EXEC]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as caller:
        goes_on(c)
        status, said, text = env.command("check", c.cid, ok=None)
        check(status == 0, f"check: {said}{text}")
        c.checkpoint(env.t / "running", "--leave-running")
        goes_on(c)
        check(caller.poll() is None, "the caller has lost its process")
        c.checkpoint(env.t / "image")
        check(caller.wait(10) != 0, "exec ends as if its process had ended well")
    for n in range(2):
        before = count(c)
        c.gone()
        c.restore(env.t / f"image{n or ''}")
        goes_on(c)
        check(count(c) >= before, "it counts from the beginning")
        if n == 0:
            c.checkpoint(env.t / "image1")
    c.file("exec.stop").write_text("")
    c.wait("its end", lambda: c.file("exec.ppid").exists(), 10)
    check(c.file("exec.read").read_text() == "line , status 1\n", f"stdin: {c.file('exec.read').read_text()}")
    check(c.file("exec.write").read_text() == "echo gave 1\n", f"stdout: {c.file('exec.write').read_text()}")
    check(c.file("exec.ppid").read_text() == "1\n", f"its parent: {c.file('exec.ppid').read_text()}")
    check(not c.file("exec.hup").exists(), "it had no terminal, and yet a SIGHUP came")
    c.delete()


def exec_with_terminal(env):
    """exec --tty: the terminal hangs up at the restore, which its leader and the group in the foreground are told."""
    c = Container(env, "exec", ["/bin/sh", "-c", "while :; do sleep 1000; done"], busybox=True)
    c.run()
    terminal = Terminal()
    script = EXEC.replace("i=0;", "sh -c \"trap 'echo hup >> /cr/child.hup; exit' HUP; while :; do sleep 1; done\" & i=0;")
    terminal.start(env, "exec", "--tty", c.cid, "/bin/sh", "-c", script)
    goes_on(c)
    c.checkpoint(env.t / "running", "--leave-running")
    goes_on(c)
    check(not c.file("exec.hup").exists(), "the checkpoint was noticed")
    c.checkpoint(env.t / "image")
    check(terminal.process.wait(10) != 0, "exec ends as if its process had ended well")
    c.gone()
    c.restore(env.t / "image")
    goes_on(c)
    c.wait("SIGHUP", lambda: c.file("exec.hup").exists() and c.file("child.hup").exists(), 10)
    c.file("exec.stop").write_text("")
    c.wait("its end", lambda: c.file("exec.ppid").exists(), 10)
    check(c.file("exec.read").read_text() == "line , status 1\n", f"stdin: {c.file('exec.read').read_text()}")
    check(c.file("exec.write").read_text() == "echo gave 1\n", f"stdout: {c.file('exec.write').read_text()}")
    terminal.close()
    c.delete()


def exec_with_more(env):
    """What config.json does not allow, a restore would refuse: so the checkpoint does."""
    c = Container(env, "exec", ["/bin/sh", "-c", "while :; do sleep 1000; done"], busybox=True)
    c.run()
    env.command("exec", "--detach", "--cap", "CAP_SYS_ADMIN", c.cid, "/bin/sleep", "1000")
    status, said, text = env.command("check", c.cid, ok=None)
    check(status != 0 and "capabilities" in said + text, f"check: {said}{text}")
    c.checkpoint(env.t / "image", ok=False)
    check(c.status() == "running", "it does not run on")
    c.delete()


def tests():
    for f in (shell_in_console, tmux, under_script, foreground, callers_terminal, exec_session, exec_with_terminal,
              exec_with_more):
        yield f"programs/terminals/{f.__name__}", f, 60 + 20 * CYCLES
