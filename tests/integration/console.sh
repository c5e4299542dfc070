# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Terminals: the console socket gets the pty, its size is set, and a restored container's terminal goes there again.
. "$TESTS/lib.sh"

# receive SOCKET: serves the console socket once; what the terminal says goes to $T/terminal, $T/type is typed into it.
receive() {
	python3 -B - "$1" "$T" <<- 'END' &
		import array, os, select, socket, sys
		path, t = sys.argv[1:]
		s = socket.socket(socket.AF_UNIX)
		s.bind(path)
		s.listen(1)
		open(t + "/listening", "w").close()
		c, _ = s.accept()
		data, anc, _, _ = c.recvmsg(4096, socket.CMSG_SPACE(64))
		fds = array.array("i")
		fds.frombytes(anc[0][2])
		os.unlink(path)
		out = open(t + "/terminal", "ab", 0)
		while True:
		    r = select.select([fds[0]], [], [], 0.02)[0]
		    if r:
		        try:
		            b = os.read(fds[0], 4096)
		        except OSError:
		            break
		        out.write(b)
		    if os.path.exists(t + "/type"):
		        os.write(fds[0], open(t + "/type", "rb").read())
		        os.unlink(t + "/type")
	END
	receiver=$!
	eventually 5 test -e "$T/listening"
	rm "$T/listening"
}

typed() {
	echo "$1" > "$T/.type" && mv "$T/.type" "$T/type"
	eventually 5 test ! -e "$T/type"
}

test_terminal() {
	bundle b sh -c 'tty; stty size; while read -r x; do echo "got $x"; done'
	edit '.process.terminal = true | .process.consoleSize = {"height": 33, "width": 77}'
	receive "$T/socket"
	ok run -d --bundle "$B" --console-socket "$T/socket" c
	eventually 5 grep -q '33 77' "$T/terminal"
	grep -Eq '/dev/(pts/0|console)' "$T/terminal" || fail "$(cat "$T/terminal")"
	typed hello
	eventually 5 grep -q 'got hello' "$T/terminal"
	ok delete -f c
	kill "$receiver" 2> /dev/null
	wait
}

test_console_socket_is_needed() {
	bundle b
	edit '.process.terminal = true'
	fails 'console' run -d --bundle "$B" c
	fails 'console|no such file' run -d --bundle "$B" --console-socket "$T/nowhere" c
	expect_nothing_left c
	bundle n
	fails 'console|terminal' run -d --bundle "$B" --console-socket "$T/nowhere" c
}

test_exec_with_a_terminal() {
	bundle b
	start c
	receive "$T/socket"
	ok exec --tty --detach --console-socket "$T/socket" c sh -c 'tty; read -r x; echo "got $x"; sleep 1000'
	eventually 5 grep -q /dev/pts "$T/terminal"
	typed there
	eventually 5 grep -q 'got there' "$T/terminal"
	ok delete -f c
	kill "$receiver" 2> /dev/null
	wait
}

test_terminal_and_checkpoint() {
	bundle b sh -c 'while read -r x; do echo "got $x"; done'
	edit '.process.terminal = true'
	receive "$T/socket"
	ok run -d --bundle "$B" --console-socket "$T/socket" c
	typed before
	eventually 5 grep -q 'got before' "$T/terminal"
	ok checkpoint --image-path "$T/i" c
	kill "$receiver" 2> /dev/null
	wait
	receive "$T/socket"
	ok restore -d --image-path "$T/i" --bundle "$B" --console-socket "$T/socket" c
	typed after
	eventually 5 grep -q 'got after' "$T/terminal"
	ok delete -f c
	kill "$receiver" 2> /dev/null
	wait
}

run_test "$@"
