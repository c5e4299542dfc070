# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# NOTIFY_SOCKET: a service manager is told when the container's program is ready.
. "$TESTS/lib.sh"

# listen: a service manager's socket; what comes is written to $T/told, a message a line, with the number of descriptors.
listen() {
	python3 -B - "$T/host.sock" "$T/told" <<- 'END' &
		import os, socket, sys
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(sys.argv[1])
		out = open(sys.argv[2], "w", buffering=1)
		while True:
		    data, fds, _, _ = socket.recv_fds(s, 4096, 4)
		    out.write(f"{data.decode().strip()} {len(fds)}\n")
		    for fd in fds:
		        os.close(fd)
	END
	listener=$!
	eventually 5 test -S "$T/host.sock"
	export NOTIFY_SOCKET=$T/host.sock
}

# say MESSAGE: to the socket that the container's program sees.
say() {
	python3 -B -c 'import os, socket, sys
os.chdir(sys.argv[1])
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("run/notify/notify.sock")
s.send(sys.argv[2].encode())' "/proc/$(init_pid c)/root" "$1"
}

told() {
	grep -qx "$1" "$T/told"
}

notify_bundle() {
	bundle b sh -c 'echo $NOTIFY_SOCKET > /cr/socket; ls -lan /run/notify > /cr/ls; grep /run/notify /proc/self/mountinfo > /cr/mount; exec sleep 1000'
	edit '.process.user = {uid: 1234, gid: 1234} | .process.env += ["NOTIFY_SOCKET=/somewhere/else"]'
	mkdir -p "$B/rootfs/cr" && chmod 777 "$B/rootfs/cr"
}

expect_ready() {
	local pid=$1
	eventually 5 test -s "$B/rootfs/cr/mount"
	sleep 0.2
	[ -d "/proc/$pid" ] || fail "it does not wait: $(cat "$T/err")"
	say $'STATUS=soon\nNOTREADY=1'
	say $'MAINPID=1'
	sleep 0.2
	[ -d "/proc/$pid" ] || fail "it takes anything: $(cat "$T/told")"
	[ ! -s "$T/told" ] || fail "told: $(cat "$T/told")"
	say $'READY=1\nSTATUS=here'
	eventually 5 told 'READY=1 0'
}

test_run_detached() {
	notify_bundle
	listen
	"$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" &
	local pid=$!
	expect_ready "$pid"
	wait "$pid" || fail "status $?: $(cat "$T/err")"
	told "MAINPID=$(init_pid c) 0" && told 'BARRIER=1 1' || fail "told: $(cat "$T/told")"
	[ "$(cat "$B/rootfs/cr/socket")" = /run/notify/notify.sock ] || fail "$(cat "$B/rootfs/cr/socket")"
	grep -q '^srwxrwxrwx' "$B/rootfs/cr/ls" || fail "$(cat "$B/rootfs/cr/ls")"
	grep -q 'ro,nosuid,nodev,noexec' "$B/rootfs/cr/mount" || fail "$(cat "$B/rootfs/cr/mount")"
	ok delete -f c
	expect_nothing_left c
	kill "$listener"
}

test_create_and_start() {
	notify_bundle
	listen
	ok create --bundle "$B" c
	"$STASIS" --root "$ROOT" start c < /dev/null > "$T/out" 2> "$T/err" &
	local pid=$!
	expect_ready "$pid"
	wait "$pid" || fail "status $?: $(cat "$T/err")"
	told "MAINPID=$(init_pid c) 0" || fail "told: $(cat "$T/told")"
	kill "$listener"
}

test_foreground() {
	notify_bundle
	listen
	"$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" &
	local pid=$!
	expect_ready "$pid"
	! grep -q MAINPID "$T/told" || fail "told: $(cat "$T/told")"
	[ -d "/proc/$pid" ] || fail "it ends"
	ok kill c KILL
	wait "$pid"
	kill "$listener"
}

# Waiting for who never will be ready ends with the container, and with a signal.
test_never_ready() {
	notify_bundle
	listen
	"$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" &
	local pid=$! status=0
	eventually 5 test -s "$B/rootfs/cr/mount"
	ok kill c KILL
	wait "$pid" || fail "status $?: $(cat "$T/err")"
	ok delete c
	rm "$B/rootfs/cr/mount"
	"$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" &
	pid=$!
	eventually 5 test -s "$B/rootfs/cr/mount"
	kill -TERM "$pid"
	wait "$pid" || status=$?
	[ "$status" = 143 ] || fail "status $status: $(cat "$T/err")"
	[ ! -s "$T/told" ] || fail "told: $(cat "$T/told")"
	kill "$listener"
}

test_without() {
	unset NOTIFY_SOCKET
	bundle b sh -c 'echo "<$NOTIFY_SOCKET>"; ls /run'
	ok run --bundle "$B" c
	grep -qx '<>' "$T/out" || fail "$(cat "$T/out")"
	! grep -q notify "$T/out" || fail "$(cat "$T/out")"
}

run_test "$@"
