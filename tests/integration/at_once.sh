# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Many commands at once: on containers of their own, and against each other on one; and a state root without room.
# time limit: 120
. "$TESTS/lib.sh"

# Its own containers do not notice each other.
life() {
	local n=$1 i
	stasis run -d --bundle "$T/b$n" "c$n" || return 1
	for i in 1 2 3 4 5; do
		stasis checkpoint --image-path "$T/i$n.$i" "c$n" || return 1
		stasis restore -d --image-path "$T/i$n.$i" --bundle "$T/b$n" "c$n" || return 1
		stasis exec "c$n" true || return 1
	done
}

test_eight_containers() {
	local n pids=()
	bundle b1 sh -c "$COUNTER"
	for n in 2 3 4 5 6 7 8; do
		cp -a "$T/b1" "$T/b$n"
		jq --arg c "$(cgroups_path "b$n")" '.linux.cgroupsPath = $c' "$T/b1/config.json" > "$T/b$n/config.json"
	done
	for n in 1 2 3 4 5 6 7 8; do
		life "$n" < /dev/null > "$T/life.$n" 2>&1 &
		pids+=($!)
	done
	for n in 1 2 3 4 5 6 7 8; do
		wait "${pids[n - 1]}" || fail "container $n: $(cat "$T/life.$n")"
	done
	for n in 1 2 3 4 5 6 7 8; do
		B=$T/b$n
		expect_status "c$n" running
		expect_progress
	done
}

# Whoever comes first, nothing hangs, nothing is left, and nobody says that it succeeded when it did not.
test_checkpoint_against_delete() {
	local n first second
	bundle b sh -c "$COUNTER"
	for n in 1 2 3 4 5 6 7 8 9 10; do
		start c
		expect_progress
		timeout 20 "$STASIS" --root "$ROOT" checkpoint --image-path "$T/i$n" c < /dev/null > "$T/first" 2>&1 &
		first=$!
		sleep "0.00$n"
		timeout 20 "$STASIS" --root "$ROOT" delete -f c < /dev/null > "$T/second" 2>&1 &
		second=$!
		wait "$second" || fail "delete -f: $? $(cat "$T/second")"
		if wait "$first"; then
			[ -e "$T/i$n/manifest.json" ] || fail "a checkpoint without an image"
		else
			[ ! -e "$T/i$n/manifest.json" ] || fail "an image of a checkpoint that failed: $(cat "$T/first")"
		fi
		expect_nothing_left c
	done
}

test_checkpoint_against_kill() {
	local n
	bundle b sh -c "$COUNTER"
	for n in 1 2 3 4 5 6 7 8 9 10; do
		start c
		expect_progress
		timeout 20 "$STASIS" --root "$ROOT" checkpoint --leave-running --image-path "$T/i$n" c < /dev/null > "$T/first" 2>&1 &
		sleep "0.00$n"
		timeout 20 "$STASIS" --root "$ROOT" kill c KILL < /dev/null > "$T/second" 2>&1
		[ $? != 124 ] || fail "kill hangs"
		wait $! || [ $? != 124 ] || fail "checkpoint hangs"
		expect_status c stopped
		ok delete c
		expect_nothing_left c
	done
}

test_two_checkpoints_at_once() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	local one
	stasis checkpoint --leave-running --image-path "$T/i" c < /dev/null > "$T/first" 2>&1 &
	one=$!
	ok checkpoint --leave-running --image-path "$T/j" c
	wait $one || fail "the first one: $(cat "$T/first")"
	expect_progress
	[ -e "$T/i/manifest.json" ] && [ -e "$T/j/manifest.json" ] || fail "no manifest"
}

test_two_creations_of_one_id() {
	local n one two
	bundle b
	cp -a "$B" "$T/other"
	jq --arg c "$(cgroups_path other)" '.linux.cgroupsPath = $c' "$B/config.json" > "$T/other/config.json"
	for n in 1 2 3 4 5 6 7 8 9 10; do
		stasis run -d --bundle "$B" c < /dev/null > "$T/first" 2>&1 &
		one=$!
		stasis run -d --bundle "$T/other" c < /dev/null > "$T/second" 2>&1 &
		two=$!
		if wait $one; then
			! wait $two || fail "two containers with one id"
		else
			wait $two || fail "neither: $(cat "$T/first" "$T/second")"
		fi
		expect_status c running
		ok delete -f c
		expect_nothing_left c
	done
}

test_state_root_without_room() {
	bundle b
	mkdir "$T/small"
	mount -t tmpfs -o size=16k tmpfs "$T/small"
	head -c 16384 /dev/zero > "$T/small/filler"
	ROOT=$T/small fails 'no space' run -d --bundle "$B" c
	[ "$(ls "$T/small")" = filler ] || fail "left: $(ls -R "$T/small")"
	no_processes || fail "processes are left"
	umount "$T/small"
}

run_test "$@"
