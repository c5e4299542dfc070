# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# podman run, exec, and a container's life from run to rm.
# time limit: 90
. "$TESTS/callers/podman-lib.sh"

TICKING='i=0; while :; do i=$((i+1)); echo tick $i; usleep 20000; done'

ticks() {
	podman logs "$1" | wc -l
}

ticked_beyond() {
	[ "$(ticks "$1")" -gt "$2" ]
}

test_run() {
	podman_image
	expect hello podman run --rm bb echo hello
	ends 7 '' podman run --rm bb sh -c 'exit 7'
	[ "$(echo typed | podman run --rm -i bb cat)" = typed ] || fail "stdin"
	podman run --rm bb sh -c 'echo out; echo err >&2' > "$T/o" 2> "$T/e" < /dev/null
	[ "$(cat "$T/o")/$(cat "$T/e")" = out/err ] || fail "stdout and stderr: $(cat "$T/o")/$(cat "$T/e")"
	expect 'user 1000 2000 /tmp here' podman run --rm -u user -w /tmp -e X=here --group-add extra bb \
		sh -c 'echo "$(id -un) $(id -g) $(id -G | tr " " "\n" | grep 2000) $PWD $X"'
	expect 'named 027 500' podman run --rm --hostname named --umask 027 --oom-score-adj 500 bb \
		sh -c 'echo "$(hostname) $(umask | tail -c 4) $(cat /proc/self/oom_score_adj)"'
	expect '100 200' podman run --rm --ulimit nofile=100:200 --ulimit nproc=4000:4000 bb sh -c 'echo "$(ulimit -Sn) $(ulimit -Hn)"'
	expect 12345 podman run --rm --sysctl kernel.msgmax=12345 bb cat /proc/sys/kernel/msgmax
	expect 'x y' podman run --rm --entrypoint '["echo", "x"]' bb y
}

# podman tells these by the runtime's message.
test_run_errors() {
	podman_image
	ends 127 'not found|no such file' podman run --rm bb no-such-command
	ends 127 'no such file' podman run --rm bb /no/such/file
	ends 126 'permission denied' podman run --rm bb /etc/passwd
	ends 126 'permission denied|is a directory' podman run --rm bb /etc
	ends 127 'no such file' podman run --rm --hooks-dir "$T" -v /etc/passwd:/bin/x --entrypoint /bin/y bb
	echo "no interpreter line" > "$T/x" && chmod +x "$T/x"
	ends 126 'exec format' podman run --rm -v "$T/x:/x:ro" --entrypoint /x bb
}

test_terminal() {
	podman_image
	cat > "$T/typed" <<- END
		stty rows 33 cols 77
		podman run --rm -i -t bb sh -c 'tty; until stty size 2> /dev/null | grep "33 77"; do usleep 10000; done; read x; echo got \$x'
	END
	declare -f podman > "$T/rc"
	(sleep 1.5; echo hello) | timeout 20 script -qec "bash -c '. $T/rc; . $T/typed'" /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	tr -d '\r' < "$T/out" | paste -sd' ' | grep -q '/dev/pts/0 33 77 .*got hello' || fail "$(cat "$T/out")"
	succeeds podman run -d -t --name c bb sh -c 'test -t 0 && test -t 1 && test -t 2 && tty; sleep 1000'
	eventually 5 logged c /dev/pts/0
	expect /dev/pts/1 podman exec -t c tty
}

test_exec() {
	podman_image
	succeeds podman run -d --name c -e A=first bb sleep 1000
	expect 'user 1000 /tmp first second' podman exec -u user -w /tmp -e B=second c sh -c 'echo "$(id -un) $(id -g) $PWD $A $B"'
	[ "$(echo typed | podman exec -i c cat)" = typed ] || fail "stdin"
	podman exec c sh -c 'echo out; echo err >&2' > "$T/o" 2> "$T/e" < /dev/null
	[ "$(cat "$T/o")/$(cat "$T/e")" = out/err ] || fail "stdout and stderr: $(cat "$T/o")/$(cat "$T/e")"
	ends 5 '' podman exec c sh -c 'exit 5'
	ends 127 'not found|no such file' podman exec c no-such-command
	ends 126 'permission denied' podman exec c /etc/passwd
	ends 127 'no such file|chdir' podman exec -w /nowhere c true
	succeeds podman exec -d c sh -c 'echo detached > /tmp/said; sleep 1000'
	eventually 5 says detached podman exec c cat /tmp/said
	expect "$(grep CapBnd /proc/self/status | cut -f 2)" podman exec --privileged c sh -c 'grep CapEff /proc/self/status | cut -f 2'
	succeeds podman rm -f -t 0 c
}

test_life() {
	podman_image
	succeeds podman run -d --name c bb sh -c "$TICKING"
	eventually 5 logged c 'tick 5'
	expect_state running c
	podman ps --format '{{.Names}} {{.Status}}' | grep -q '^c Up' || fail "$(podman ps)"

	succeeds podman pause c
	expect_state paused c
	local n
	n=$(ticks c)
	sleep 0.2
	[ "$(ticks c)" = "$n" ] || fail "it runs while it is paused"
	ends 255 'paused|not running|improper' podman exec c true
	succeeds podman unpause c
	eventually 5 ticked_beyond c "$n"

	podman top c pid comm > "$T/out" || fail "top"
	grep -Eq '^1 +sh' "$T/out" || fail "top: $(cat "$T/out")"
	podman stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsageBytes}}' c > "$T/out" || fail "stats"
	grep -Eq '^c [12] [1-9][0-9.]*[KM]iB' "$T/out" || fail "stats: $(cat "$T/out")"

	succeeds podman kill --signal STOP c
	n=$(ticks c)
	sleep 0.1
	[ "$(ticks c)" -le $((n + 1)) ] || fail "it runs after SIGSTOP"
	succeeds podman kill --signal CONT c
	eventually 5 ticked_beyond c $((n + 5))
	succeeds podman kill c
	expect_state exited c
	expect 137 podman inspect --format '{{.State.ExitCode}}' c
	succeeds podman start c
	eventually 5 ticked_beyond c "$n"
	succeeds podman restart -t 0 c
	expect_state running c
	succeeds podman rm -f -t 0 c
	podman events --stream=false --format '{{.Status}}' --filter container=c | paste -sd' ' > "$T/out"
	grep -q 'create init start .*pause .*unpause .*kill .*died .*remove' "$T/out" || fail "events: $(cat "$T/out")"
}

test_stop_and_wait() {
	podman_image
	succeeds podman run -d --name c bb sh -c "trap 'exit 3' TERM; $TICKING"
	eventually 5 logged c tick
	podman wait c > "$T/waited" 2>&1 &
	succeeds podman stop -t 10 c
	wait
	[ "$(cat "$T/waited")" = 3 ] || fail "wait: $(cat "$T/waited")"
	# Who ignores SIGTERM is killed.
	succeeds podman run -d --name d bb sh -c "trap '' TERM; $TICKING"
	eventually 5 logged d tick
	succeeds podman stop -t 1 d
	expect 137 podman inspect --format '{{.State.ExitCode}}' d
	# Also while it is paused.
	succeeds podman start d
	succeeds podman pause d
	succeeds podman rm -f -t 0 d
	succeeds podman run -d --name e --stop-signal USR1 bb sh -c "trap 'exit 4' USR1; $TICKING"
	eventually 5 logged e tick
	succeeds podman stop -t 10 e
	expect 4 podman inspect --format '{{.State.ExitCode}}' e
}

test_attach_and_cp() {
	podman_image
	succeeds podman run -d -i --name c bb sh -c 'while read x; do echo "got $x"; done'
	(echo one; sleep 0.5) | timeout 10 podman attach --sig-proxy=false c > "$T/attached" 2>&1 &
	eventually 5 logged c 'got one'
	wait
	grep -q 'got one' "$T/attached" || fail "attach: $(cat "$T/attached")"
	echo content > "$T/file"
	succeeds podman run -d --name d bb sleep 1000
	succeeds podman cp "$T/file" d:/tmp/copied
	expect content podman exec d cat /tmp/copied
	succeeds podman exec d sh -c 'echo changed > /tmp/copied'
	succeeds podman cp d:/tmp/copied "$T/back"
	[ "$(cat "$T/back")" = changed ] || fail "cp: $(cat "$T/back")"
}

run_caller_test "$@"
