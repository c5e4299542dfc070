# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# SIGINT, SIGTERM and SIGKILL to the command at any point: create, checkpoint and restore are done or undone.
# time limit: 180
. "$TESTS/lib.sh"

# interrupted SIGNAL MICROSECONDS COMMAND...: the command, and the signal that much later. Returns its status.
interrupted() {
	python3 -B - "$@" <<- 'END'
		import os, signal, subprocess, sys, time
		sig, us, command = getattr(signal, "SIG" + sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
		out = open(os.environ["T"] + "/interrupted.out", "ab")
		start = time.monotonic()
		p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
		while time.monotonic() - start < us / 1e6:
		    pass
		p.send_signal(sig)
		try:
		    status = p.wait(15)
		except subprocess.TimeoutExpired:
		    p.kill()
		    sys.exit(99)
		sys.exit(0 if status == 0 else 1)
	END
}

delays="200 500 800 1100 1400 1700 2000 2500 3000 3500 4000 5000 6000 8000 10000 15000"

test_checkpoint() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	local sig us status n=0
	for sig in INT TERM KILL; do
		for us in $delays; do
			n=$((n + 1))
			status=0
			interrupted "$sig" "$us" "$STASIS" --root "$ROOT" checkpoint --leave-running --image-path "$T/i$n" --work-path "$T" c || status=$?
			[ "$status" != 99 ] || fail "SIG$sig after $us us: hangs"
			expect_status c running
			expect_progress
			# What is left of it is at most a directory without files, or a whole image.
			[ "$sig" = KILL ] || [ -e "$T/i$n/manifest.json" ] || [ -z "$(ls -A "$T/i$n" 2> /dev/null)" ] || fail "SIG$sig after $us us left $(ls -A "$T/i$n")"
			! grep -q 'TracerPid:.[1-9]' "/proc/$(init_pid c)/status" || fail "SIG$sig after $us us: still traced"
			if [ -e "$T/i$n/manifest.json" ]; then
				ok inspect "$T/i$n"
			fi
		done
	done
	ok checkpoint --image-path "$T/last" c
	ok restore -d --image-path "$T/last" --bundle "$B" c
	expect_progress
}

# A checkpoint that ends the container: afterwards it runs, or there is a whole image of it.
test_checkpoint_that_ends_it() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	local sig us status n=0
	for sig in TERM KILL; do
		for us in $delays; do
			n=$((n + 1))
			interrupted "$sig" "$us" "$STASIS" --root "$ROOT" checkpoint --image-path "$T/i$n" --work-path "$T" c
			[ $? != 99 ] || fail "SIG$sig after $us us: hangs"
			if [ -e "$T/i$n/manifest.json" ] && { sleep 0.1; [ "$(status c)" != running ]; }; then
				stasis delete -f c < /dev/null > "$T/out" 2>&1
				expect_nothing_left c
				ok restore -d --image-path "$T/i$n" --bundle "$B" c
			fi
			expect_status c running
			expect_progress
		done
	done
}

test_restore() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	ok checkpoint --image-path "$T/i" c
	local sig us status
	for sig in INT TERM KILL; do
		for us in $delays; do
			status=0
			interrupted "$sig" "$us" "$STASIS" --root "$ROOT" restore -d --image-path "$T/i" --work-path "$T" --bundle "$B" c || status=$?
			[ "$status" != 99 ] || fail "SIG$sig after $us us: hangs"
			if [ "$status" = 0 ]; then
				expect_status c running
			elif [ "$sig" != KILL ]; then
				expect_nothing_left c
				continue
			fi
			# After SIGKILL delete cleans up what there is.
			stasis delete -f c < /dev/null > "$T/out" 2>&1
			expect_nothing_left c
		done
	done
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
}

test_create() {
	bundle b sh -c "$COUNTER"
	local sig us status
	for sig in INT TERM KILL; do
		for us in $delays; do
			status=0
			interrupted "$sig" "$us" "$STASIS" --root "$ROOT" create --bundle "$B" c || status=$?
			[ "$status" != 99 ] || fail "SIG$sig after $us us: hangs"
			if [ "$status" = 0 ]; then
				expect_status c created
			elif [ "$sig" != KILL ]; then
				expect_nothing_left c
				continue
			fi
			stasis delete -f c < /dev/null > "$T/out" 2>&1
			expect_nothing_left c
		done
	done
	start c
	expect_progress
}

run_test "$@"
