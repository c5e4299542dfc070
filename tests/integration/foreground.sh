# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# run and exec in the foreground: their terminal is ours, signals go on, orphans are reaped, the status is the program's.
. "$TESTS/lib.sh"

# on_terminal SCRIPT COMMAND...: stasis with a terminal as fds 0-2, of 30 rows and 100 columns; the python SCRIPT drives it
# with say(text), expect(text), resize(rows, columns), signal(n), modes(); at the end the terminal's modes must be as before.
on_terminal() {
	local script=$1
	shift
	timeout 40 python3 -B - "$script" "$STASIS" --root "$ROOT" "$@" <<- 'END' || fail "$1 on a terminal"
		import fcntl, os, pty, select, signal as signals, struct, sys, termios, time
		master, slave = pty.openpty()
		def resize(rows, columns):
		    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
		resize(30, 100)
		before = termios.tcgetattr(slave)
		pid = os.fork()
		if pid == 0:
		    os.setsid()
		    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
		    for fd in range(3):
		        os.dup2(slave, fd)
		    os.execv(sys.argv[2], sys.argv[2:])
		seen, started = b"", time.time()
		def expect(text, seconds=15):
		    global seen
		    end = time.time() + seconds
		    while text.encode() not in seen:
		        if not select.select([master], [], [], 0.05)[0]:
		            assert time.time() < end, f"no {text!r} in {seen!r}"
		            continue
		        seen += os.read(master, 65536)
		    at = seen.index(text.encode()) + len(text.encode())
		    found, seen = seen[:at], seen[at:]
		    return found
		def say(text):
		    os.write(master, text.encode())
		def signal(number):
		    os.kill(pid, number)
		def modes():
		    return termios.tcgetattr(slave)
		def raw():
		    return not modes()[3] & (termios.ECHO | termios.ICANON)
		def status():
		    end = time.time() + 15
		    while True:
		        got, code = os.waitpid(pid, os.WNOHANG)
		        if got:
		            return os.WEXITSTATUS(code) if os.WIFEXITED(code) else -os.WTERMSIG(code)
		        assert time.time() < end, "it does not end"
		        if select.select([master], [], [], 0.01)[0]:
		            global seen
		            seen += os.read(master, 65536)
		ended = None
		try:
		    exec(sys.argv[1])
		    assert modes() == before, f"the terminal's modes are {modes()}, were {before}"
		except BaseException:
		    print("seen:", seen)
		    os.kill(pid, signals.SIGKILL)
		    raise
	END
}

terminal_bundle() {
	bundle b "$@"
	edit '.process.terminal = true'
}

test_run_on_a_terminal() {
	terminal_bundle sh -c 'stty size; tty; trap "stty size; echo resized" WINCH; echo trapped
		while :; do read -r x || continue; echo "got <$x>"; [ "$x" != end ] || exit 6; done'
	on_terminal '
expect("30 100"); expect("/dev/")
assert raw(), "our terminal is not raw"
expect("trapped")
say("hello\r"); expect("hello"); expect("got <hello>")
resize(41, 83)
while b"resized" not in seen:
    say("\r") # a shell looks at its traps between its commands
    try:
        expect("41 83", 0.2)
        expect("resized", 0.2)
        break
    except AssertionError:
        assert time.time() < started + 20
say("end\r"); expect("got <end>")
assert status() == 6
' run --bundle "$B" c
	expect_nothing_left c
}

test_exec_on_a_terminal() {
	bundle b
	start c
	on_terminal '
expect("30 100"); expect("/dev/pts/")
assert raw()
expect("trapped")
resize(20, 60); expect("20 60")
say("\x03"); expect("interrupted")
assert status() == 9
' exec -t c sh -c 'stty size; tty; trap "stty size" WINCH; trap "echo interrupted; exit 9" INT; echo trapped; while :; do usleep 20000; done'
	on_terminal 'assert status() == 4' exec --tty c sh -c 'exit 4'
	# what was written just before the end is not lost
	on_terminal 'assert expect("last line").count(b"\n") == 2000; assert status() == 0' exec -t c \
		sh -c 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $i; done; echo "last line"'
}

# The size of config.json is the terminal's first one where there is no terminal of ours.
test_console_size() {
	terminal_bundle stty size
	edit '.process.consoleSize = {height: 11, width: 22}'
	ok run --bundle "$B" c
	grep -q '11 22' "$T/out" || fail "$(cat "$T/out")"
	bundle d
	start d
	jq '.process | .terminal = true | .args = ["stty", "size"] | .consoleSize = {height: 33, width: 44}' "$B/config.json" > "$T/p.json"
	ok exec --process "$T/p.json" d
	grep -q '33 44' "$T/out" || fail "$(cat "$T/out")"
}

# More is typed than the terminal takes, by somebody who does not read: both sides go on all the same.
test_much_in_both_directions() {
	terminal_bundle sh -c 'stty raw -echo; echo ready; head -c 600000 /dev/zero | tr "\0" x; head -c 60000 | wc -c; echo done'
	on_terminal '
expect("ready")
rest = b"y" * 60000
os.set_blocking(master, False)
end = time.time() + 25
while rest and time.time() < end:
    r, w, _ = select.select([master], [master], [], 1)
    if r:
        seen += os.read(master, 65536)
    if w:
        rest = rest[os.write(master, rest[:8192]):]
assert not rest, f"{len(rest)} bytes are not taken"
expect("60000"); expect("done")
assert status() == 0
' run --bundle "$B" c
}

# Whatever ends it: the terminal is put back.
test_modes_after_a_signal() {
	local s
	terminal_bundle sh -c 'echo ready; while :; do usleep 20000; done'
	for s in SIGTERM SIGHUP SIGQUIT SIGUSR1; do
		# init of a pid namespace takes only what it handles: so the second time by the container's end
		on_terminal "
expect('ready')
signal(signals.$s)
time.sleep(0.1)
os.system(\"'$STASIS' --root '$ROOT' kill c KILL\")
assert status() == 137
" run --bundle "$B" c
	done
	bundle d
	start d
	for s in SIGTERM SIGINT SIGHUP; do
		on_terminal "expect('ready'); signal(signals.$s); assert status() == 128 + signals.$s" exec -t d sh -c 'echo ready; exec sleep 100'
	done
}

test_signals_to_exec() {
	bundle b
	start c
	local s pid status
	for s in TERM INT HUP USR1 USR2 ALRM WINCH CONT; do
		rm -f "$B/rootfs/cr/ready"
		"$STASIS" --root "$ROOT" exec c sh -c "trap 'echo $s; exit 7' $s; echo > /cr/ready; while :; do usleep 10000; done" < /dev/null > "$T/out" 2> "$T/err" &
		pid=$! status=0
		eventually 5 test -e "$B/rootfs/cr/ready"
		kill -"$s" "$pid"
		wait "$pid" || status=$?
		[ "$status" = 7 ] || fail "$s: status $status: $(cat "$T/err")"
		[ "$(cat "$T/out")" = "$s" ] || fail "$s: $(cat "$T/out")"
	done
}

test_restore_in_the_foreground() {
	bundle b sh -c 'trap "exit 9" USR1; echo > /cr/ready; while :; do usleep 10000; done'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	ok checkpoint --image-path "$T/i" c
	"$STASIS" --root "$ROOT" restore --image-path "$T/i" --bundle "$B" --pid-file "$T/pid" c < /dev/null > "$T/out" 2> "$T/err" &
	local pid=$! status=0
	eventually 10 test -s "$T/pid"
	expect_status c running
	kill -USR1 "$pid"
	wait "$pid" || status=$?
	[ "$status" = 9 ] || fail "status $status: $(cat "$T/err")"
	expect_nothing_left c
}

test_restore_on_a_terminal() {
	terminal_bundle sh -c 'while :; do read -r x || continue; echo "got <$x>"; [ "$x" != end ] || exit 6; done'
	on_terminal "
say('before\r'); expect('got <before>')
assert os.system(\"'$STASIS' --root '$ROOT' checkpoint --image-path '$T/i' c\") == 0
assert status() == 137
" run --keep --bundle "$B" c
	on_terminal '
say("after\r"); expect("got <after>")
assert raw()
say("end\r"); expect("got <end>")
assert status() == 6
' restore --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

# A daemon in a container without a pid namespace of its own becomes ours, and does not stay a zombie.
test_orphans_are_reaped() {
	bundle b sh -c '(sleep 0.3 & echo $! > /cr/orphan) & wait; sleep 1'
	edit '.linux.namespaces -= [{type: "pid"}] | .mounts -= [.mounts[] | select(.type == "proc")]'
	"$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" &
	local pid=$! orphan
	eventually 5 test -s "$B/rootfs/cr/orphan"
	orphan=$(cat "$B/rootfs/cr/orphan")
	eventually 5 reaped "$orphan"
	[ -d "/proc/$pid" ] || fail "run ended first: $(cat "$T/err")"
	wait "$pid" || fail "status $?: $(cat "$T/err")"
}

reaped() {
	[ ! -d "/proc/$1" ]
}

run_test "$@"
