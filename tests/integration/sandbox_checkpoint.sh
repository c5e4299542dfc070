# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The checkpoint of several containers at one moment.
# time limit: 120
. "$TESTS/lib.sh"

# member NAME [COMMAND...]: a container NAME in the sandbox pod, with a bundle of its own and $T/vol as /vol.
member() {
	local name=$1
	shift
	mkdir -p "$T/vol"
	bundle "$name" "$@"
	[ ! -e "$BUILD/tests/cr/turns" ] || cp "$BUILD/tests/cr/turns" "$B/rootfs/bin/"
	edit '.mounts += [{"destination": "/vol", "type": "bind", "source": $vol, "options": ["bind", "rw"]}]' --arg vol "$T/vol"
	ok run -d --bundle "$B" --sandbox pod --container-name "$name" "c-$name"
}

# counter NAME: one whose progress is in $T/vol/NAME.
counter() {
	member "$1" sh -c 'i=0; while :; do i=$((i+1)); echo $i > /vol/.$0; mv /vol/.$0 /vol/$0; usleep 5000; done' "$1"
}

counted() {
	cat "$T/vol/$1" 2> /dev/null || echo 0
}

counts_beyond() {
	[ "$(counted "$1")" -gt "$2" ]
}

runs_on() {
	local name
	for name; do
		eventually 5 counts_beyond "$name" "$(counted "$name")"
		expect_status "c-$name" running
	done
}

pod() {
	local name
	for name in POD web db; do
		counter "$name"
	done
	runs_on POD web db
}

no_image() {
	[ ! -e "$1" ] || [ -z "$(ls -A "$1")" ] || fail "left: $(find "$1")"
}

whole_image() {
	[ "$(jq -c '[.container_count, .sandbox, (.containers | map(.name))]' "$1/manifest.json")" = "$2" ] ||
		fail "manifest: $(cat "$1/manifest.json")"
	local name
	for name in $(jq -r '.containers[].name' "$1/manifest.json"); do
		[ -e "$1/containers/$name/manifest.json" ] && [ -e "$1/containers/$name/config.json" ] || fail "$(find "$1")"
		cmp -s "$1/containers/$name/config.json" "$T/$name/config.json" || fail "config.json of $name"
	done
	[ -z "$(find "$1" -type f ! -perm 600)" ] || fail "files that others can read: $(find "$1" -type f ! -perm 600)"
}

test_leave_running() {
	pod
	ok checkpoint --sandbox --leave-running --print-stats --image-path "$T/i" pod
	jq -e '.sandbox == "pod" and .stopped_us > 0 and .total_us > .stopped_us and (.containers | keys == ["POD", "db", "web"])' "$T/out" > "$T/jq" ||
		fail "statistics: $(cat "$T/out")"
	runs_on POD web db
	whole_image "$T/i" '[3,"pod",["POD","db","web"]]'
	# Again, over that one; named by any of its containers, or plainly.
	ok checkpoint --sandbox --leave-running --image-path "$T/i" c-web
	ok checkpoint --leave-running --image-path "$T/i" pod
	whole_image "$T/i" '[3,"pod",["POD","db","web"]]'
	[ ! -e "$T/i/.replaced" ] || fail "$(find "$T/i")"
	runs_on POD web db
}

# What takes milliseconds and is the same for all is done once, and before anything stands still.
test_found_out_before() {
	pod
	ok checkpoint --sandbox --leave-running --trace "$T/t.json" --image-path "$T/i" pod
	python3 - "$T/t.json" <<- 'END' || fail "$(cat "$T/t.json")"
		import json, sys
		spans = [e for e in json.load(open(sys.argv[1])) if e["ph"] == "X"]
		stopped = min(e["ts"] for e in spans if e["name"] == "capture")
		found_out = [e for e in spans if e["name"] == "find out about Landlock"]
		assert len(found_out) == 1 and found_out[0]["ts"] + found_out[0]["dur"] <= stopped, found_out
	END
	runs_on POD web db
}

test_ending() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" c-db
	whole_image "$T/i" '[3,"pod",["POD","db","web"]]'
	local name
	for name in POD web db; do
		fails 'does not exist' state "c-$name"
		B=$T/$name
		expect_nothing_left "c-$name"
	done
	# Each is an image like any other.
	for name in POD web db; do
		ok restore -d --image-path "$T/i/containers/$name" --bundle "$T/$name" "c-$name"
	done
	runs_on POD web db
	fails 'of a sandbox' restore -d --image-path "$T/i" --bundle "$T/web" again
	ok inspect "$T/i"
}

# One of several containers alone, as runc does it.
test_alone() {
	pod
	ok checkpoint --image-path "$T/i" c-web
	[ "$(jq -r .container_count "$T/i/manifest.json")" = 1 ] || fail "$(cat "$T/i/manifest.json")"
	fails 'does not exist' state c-web
	runs_on POD db
	# The image of a sandbox in the place of that, and the other way round.
	ok checkpoint --sandbox --leave-running --image-path "$T/i" pod
	whole_image "$T/i" '[2,"pod",["POD","db"]]'
	[ ! -e "$T/i/pages.img" ] || fail "$(find "$T/i")"
	ok checkpoint --leave-running --image-path "$T/i" c-db
	[ ! -e "$T/i/containers" ] || fail "$(find "$T/i")"
	runs_on POD db
}

# By turns: "a" counts, then "b". Their numbers are never further apart than one, if they are of one moment.
by_turns() {
	mkdir -p "$T/vol"
	truncate -s 4096 "$T/vol/turns"
	member a /bin/turns a /vol
	member b /bin/turns b /vol
	sleep 0.1
}

# at_one_moment IMAGE...: restores both of each alone, and asks how far they had come.
at_one_moment() {
	local image name a b
	ok delete -f c-a
	ok delete -f c-b
	for image; do
		rm -f "$T/vol/a" "$T/vol/b"
		touch "$T/vol/tell"
		for name in a b; do
			ok restore -d --image-path "$image/containers/$name" --bundle "$T/$name" "c-$name"
		done
		eventually 10 test -e "$T/vol/a"
		eventually 10 test -e "$T/vol/b"
		a=$(cat "$T/vol/a") b=$(cat "$T/vol/b")
		[ "$b" -gt 0 ] && { [ "$a" = "$b" ] || [ "$a" = $((b + 1)) ]; } || fail "not at one moment: $a and $b"
		ok delete -f c-a
		ok delete -f c-b
	done
}

test_one_moment() {
	local i
	by_turns
	for i in 1 2 3 4 5; do
		sleep 0.05
		ok checkpoint --sandbox --leave-running --image-path "$T/i.$i" pod
	done
	at_one_moment "$T"/i.?
}

# surgeon_stopped PID: the child of that stasis that has stopped itself.
surgeon_stopped() {
	local child
	for child in $(cat "/proc/$1/task/$1/children" 2> /dev/null); do
		! grep -q '^State:.T' "/proc/$child/status" || { echo "$child" > "$T/surgeon"; return 0; }
	done
	return 1
}

# at_point POINT NAME: a checkpoint into $T/i in which the surgeon of NAME stops there; sets GUARD.
at_point() {
	FAULT=$1:stop FAULT_CONTAINER=$2 "$STASIS" --root "$ROOT" "${DRIVER[@]}" checkpoint --sandbox --leave-running --image-path "$T/i" pod \
		< /dev/null > "$T/guard" 2>&1 &
	GUARD=$!
	eventually 10 surgeon_stopped "$GUARD"
}

# Whoever is late, nobody is read, or runs on, without the others.
test_late_to_stop() {
	by_turns
	at_point checkpoint-ready b
	sleep 0.3
	[ ! -e "$T/i/containers/a/manifest.json" ] || fail "captured before the other stood still"
	kill -CONT "$(cat "$T/surgeon")"
	wait "$GUARD" || fail "$(cat "$T/guard")"
	at_one_moment "$T/i"
}

# Nobody joins, leaves or is started in the middle of it; a second checkpoint comes after the first one.
test_meanwhile() {
	local joins second
	pod
	at_point checkpoint-memory web
	bundle late
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" create --bundle "$B" --sandbox pod --container-name late c-late < /dev/null > "$T/late.out" 2>&1 &
	joins=$!
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" delete -f c-db < /dev/null > "$T/deleted" 2>&1 &
	local deletes=$!
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" checkpoint --sandbox --leave-running --image-path "$T/i2" pod < /dev/null > "$T/second" 2>&1 &
	second=$!
	sleep 0.3
	for_ "$joins" "$deletes" "$second" || fail "done in the middle of a checkpoint: $(cat "$T/late.out" "$T/deleted" "$T/second")"
	[ ! -e "$ROOT/@sandboxes/pod/members/c-late" ] || fail "joined in the middle of it"
	kill -CONT "$(cat "$T/surgeon")"
	wait "$GUARD" || fail "$(cat "$T/guard")"
	wait "$joins" || fail "$(cat "$T/late.out")"
	wait "$deletes" || fail "$(cat "$T/deleted")"
	whole_image "$T/i" '[3,"pod",["POD","db","web"]]'
	# That came when it could: before the new one joined, while it did, or after (then that is in the way, as it is created only).
	if wait "$second"; then
		[ "$(jq .container_count "$T/i2/manifest.json")" -ge 2 ] || fail "$(cat "$T/i2/manifest.json")"
	else
		grep -Eq 'late.*is (created|still being created)' "$T/second" || fail "$(cat "$T/second")"
		no_image "$T/i2"
	fi
	ok delete -f c-late
	runs_on POD web
	expect_nothing_left c-db
}

# for_ PID...: all of them are still there.
for_() {
	local pid
	for pid; do
		kill -0 "$pid" 2> /dev/null || return 1
	done
}

# Paused ones stay so, stopped ones are not in it, and one that is created is an error.
# Each one's phases by its name; on a terminal it is one line for all.
test_progress() {
	pod
	ok checkpoint --sandbox --progress=json --image-path "$T/i" pod
	[ "$(jq -r 'select(.done and .container) | "\(.container) \(.phase)"' "$T/err" | sort | paste -sd, -)" = "$(
		for name in POD db web; do printf '%s\n' "$name "{collect,end,freeze,image,memory}; done | paste -sd, -)" ] || fail "$(cat "$T/err")"
	[ "$(jq -r 'select(.container | not) | .phase' "$T/err" | uniq)" = preflight ] || fail "$(cat "$T/err")"
}

test_states() {
	pod
	ok pause c-db
	counter done
	ok kill c-done KILL
	expect_status c-done stopped
	ok checkpoint --sandbox --leave-running --image-path "$T/i" pod
	whole_image "$T/i" '[3,"pod",["POD","db","web"]]'
	expect_status c-db paused
	runs_on POD web
	ok resume c-db
	runs_on db
	bundle made
	ok create --bundle "$B" --sandbox pod c-made
	fails 'c-made.*is created: start it or delete it' checkpoint --sandbox --image-path "$T/i2" pod
	no_image "$T/i2"
	ok delete -f c-made
	bundle twin
	ok run -d --bundle "$B" --sandbox pod --container-name web c-twin
	fails 'have the same name, web' checkpoint --sandbox --image-path "$T/i2" pod
	no_image "$T/i2"
	ok delete -f c-twin
	for name in POD db web; do
		ok kill "c-$name" KILL
		expect_status "c-$name" stopped
	done
	fails 'none of its containers runs' checkpoint --sandbox --image-path "$T/i2" pod
}

# All that stands in the way of any is said before any is stopped.
test_obstacles() {
	local name
	pod
	for name in web db; do
		cp "$BUILD/tests/cr/odd" "$T/$name/rootfs/bin/odd"
		ok exec -d "c-$name" /bin/odd flock
		eventually 5 test -e "$T/$name/rootfs/cr/ready.1"
	done
	fails 'lock' checkpoint --sandbox --image-path "$T/i" pod
	grep -q 'container web process.*lock' "$T/err" && grep -q 'container db process.*lock' "$T/err" || fail "$(cat "$T/err")"
	no_image "$T/i"
	runs_on POD web db
	ok checkpoint --sandbox --leave-running --file-locks --image-path "$T/i" pod
	runs_on POD web db
}

# What is in the way of one of them for moments only is waited for: events that a program takes its time to read.
test_what_passes() {
	local n
	counter POD
	bundle busy /bin/busy_inotify
	cp "$BUILD/tests/cr/busy_inotify" "$B/rootfs/bin/"
	chmod 777 "$B/rootfs/cr"
	ok run -d --bundle "$B" --sandbox pod --container-name busy c-busy
	eventually 5 test -e "$B/rootfs/cr/ready.1"
	for n in 1 2 3; do
		ok checkpoint --leave-running --sandbox --image-path "$T/i$n" pod
		whole_image "$T/i$n" '[2,"pod",["POD","busy"]]'
		runs_on POD
		expect_status c-busy running
	done
}

test_options() {
	fails 'no sandbox "nosuch"' checkpoint --sandbox --image-path "$T/i" nosuch
	bundle b
	start c
	fails 'no sandbox "c"' checkpoint --sandbox --image-path "$T/i" c
	fails 'add --sandbox' checkpoint --deadline 5 --image-path "$T/i" c
	pod
	fails 'for a container alone' checkpoint --sandbox --pre-dump --image-path "$T/i" pod
	fails 'for a container alone' checkpoint --sandbox --parent-path ../x --image-path "$T/i" pod
	fails 'invalid --deadline' checkpoint --sandbox --deadline soon --image-path "$T/i" pod
	fails 'not complete at its deadline' checkpoint --sandbox --deadline 1ms --image-path "$T/i" pod
	no_image "$T/i"
	runs_on POD web db
	ok checkpoint --sandbox --leave-running --pre-copy --compress lz4 --deadline 20 --image-path "$T/i" pod
	runs_on POD web db
	ok image stats "$T/i"
	ok image stats "$T/i/containers/web"
	ok checkpoint --sandbox --image-path "$T/i" pod
	for name in POD web db; do
		ok restore -d --image-path "$T/i/containers/$name" --bundle "$T/$name" "c-$name"
	done
	runs_on POD web db
}

run_test "$@"
