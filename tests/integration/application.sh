# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What a container is told of its checkpoints, its hooks, and the checkpoint that it asks for itself (docs/application.md).
. "$TESTS/lib.sh"

# annotate NAME VALUE...
annotate() {
	while [ $# -gt 0 ]; do
		edit '.annotations[$n] = $v' --arg n "io.stasis.$1" --arg v "$2"
		shift 2
	done
}

# inside ID COMMAND...: its output in $T/out
inside() {
	local id=$1
	shift
	ok exec "$id" "$@"
}

# told ID FILE VALUE
told() {
	inside "$1" cat "/run/stasis/$2"
	[ "$(tr -d ' ' < "$T/out")" = "$3" ] || fail "$1: $2 is \"$(cat "$T/out")\", not \"$3\""
}

attempts() {
	inside "$1" cat /run/stasis/attempts
	[ "$(tr -s ' \n' ' ' < "$T/out")" = "checkpoints $2 failed $3 " ] || fail "attempts: $(cat "$T/out")"
}

test_files() {
	# shellcheck disable=SC2016
	bundle b sh -c 'exec 3< /run/stasis/generation 4< /run/stasis/attempts; while :; do usleep 20000; done'
	annotate application true
	edit '.process.env += ["WHERE=here", "TWO=a\nb"] | .mounts += [{"destination": "/run", "type": "tmpfs", "source": "tmpfs"}]'
	start c
	told c generation 0
	told c restored 0
	attempts c 0 0
	inside c sh -c 'tr "\0" "|" < /run/stasis/environment'
	grep -q 'WHERE=here|TWO=a$' "$T/out" || fail "$(cat "$T/out")"
	fails 'read-only' exec c sh -c 'echo 7 > /run/stasis/generation'
	ok checkpoint --leave-running --image-path "$T/i" c
	attempts c 1 0
	touch "$T/file"
	fails 'directory' checkpoint --leave-running --image-path "$T/file" c
	attempts c 2 1
	ok checkpoint --image-path "$T/i" c
	edit '.process.env[-2] = "WHERE=there and farther"'
	ok restore -d --image-path "$T/i" --bundle "$B" r
	told r generation 1
	told r restored 1
	attempts r 3 1
	inside r sh -c 'tr "\0" "|" < /run/stasis/environment'
	grep -q 'WHERE=there and farther|TWO=a$' "$T/out" || fail "$(cat "$T/out")"
	ok checkpoint --image-path "$T/i" r
	ok restore -d --image-path "$T/i" --bundle "$B" c
	told c generation 2
	attempts c 4 1
	ok delete --force c
	expect_nothing_left c
}

test_not_asked_for() {
	bundle b
	start c
	fails 'no such file' exec c ls /run/stasis
	ok delete --force c
	annotate application false
	start d
	fails 'no such file' exec d ls /run/stasis
}

test_environment_is_open() {
	# shellcheck disable=SC2016
	bundle b sh -c 'exec 3< /run/stasis/environment; while :; do usleep 20000; done'
	annotate application true
	start c
	ok checkpoint --image-path "$T/i" c
	edit '.process.env += ["MORE=of it"]'
	ok restore -d --image-path "$T/i" --bundle "$B" c
	inside c sh -c 'tr "\0" "|" < /proc/1/fd/3'
	grep -q 'MORE=of it|' "$T/out" || fail "$(cat "$T/out")"
}

test_bad_annotations() {
	bundle b
	cp "$B/config.json" "$T/config.json"
	while read -r name value message; do
		cp "$T/config.json" "$B/config.json"
		annotate "$name" "$value"
		fails "annotations\\[\"io.stasis.$name\"\\]: $message" create --bundle "$B" c
	done <<- 'END'
		application yes must be "true" or "false"
		application.image-path relative must be an absolute path
		application.image-path /x needs io.stasis.application
		application.leave-running 1 must be "true" or "false"
		application.interval 0 must be a number of seconds
		application.nosuch x there is no such one
		applicatoin x there is no such one
		hooks.save bin/true must be .* a command as a JSON array
		hooks.save [] must be .* a command as a JSON array
		hooks.save ["/bin/sh",1] must be .* a command as a JSON array
		hooks.save [""] must be .* a command as a JSON array
		hooks.timeout 1s must be a number of seconds
		hooks.before ["/bin/true"] there is no such one
	END
	expect_nothing_left c
}

# hooks SAVE RESUME RESTORE: commands of the shell; each leaves a line in /cr/hooks first
hooks() {
	local i name names=(save resume restore) commands=("$@")
	for i in 0 1 2; do
		name=${names[i]}
		# shellcheck disable=SC2016
		annotate "hooks.$name" "$(jq -nc --arg c "echo \$STASIS_MODE \$STASIS_GENERATION \$STASIS_RESULT \$WHERE >> /cr/hooks; ${commands[i]}" \
			'["/bin/sh", "-c", $c]')"
	done
	mkdir -p "$B/rootfs/cr"
	rm -f "$B/rootfs/cr/hooks"
}

expect_hooks() {
	[ "$(cat "$B/rootfs/cr/hooks")" = "$1" ] || fail "hooks: $(cat "$B/rootfs/cr/hooks")"
	rm "$B/rootfs/cr/hooks"
}

test_hooks() {
	bundle b sh -c "$COUNTER"
	hooks true true true
	edit '.process.env += ["WHERE=here"]'
	start c
	ok checkpoint --leave-running --image-path "$T/i" c
	expect_hooks $'save 0 here\nresume 0 done here'
	expect_progress
	ok checkpoint --image-path "$T/i" c
	expect_hooks 'save 0 here'
	edit '.process.env[-1] = "WHERE=there"'
	ok restore -d --image-path "$T/i" --bundle "$B" r
	expect_hooks 'restore 1 there'
	expect_progress
	ok checkpoint --leave-running --image-path "$T/j" r
	expect_hooks $'save 1 there\nresume 1 done there'
}

# What a hook leaves running is the container's.
test_hook_leaves_a_process() {
	bundle b
	hooks 'sleep 1234 &' true true
	start c
	ok checkpoint --leave-running --image-path "$T/i" c
	ok checkpoint --image-path "$T/j" c
	ok restore -d --image-path "$T/j" --bundle "$B" c
	inside c ps
	[ "$(grep -c 'sleep 1234' "$T/out")" = 2 ] || fail "$(cat "$T/out")"
}

test_failing_save() {
	bundle b sh -c "$COUNTER"
	hooks 'echo no, not; echo now >&2; exit 3' true true
	start c
	fails 'save hook /bin/sh: exit status 3: no, not now' checkpoint --image-path "$T/i" c
	expect_hooks $'save 0\nresume 0 failed'
	[ ! -e "$T/i" ] || fail "left: $(ls "$T/i")"
	expect_status c running
	expect_progress
}

test_failing_resume() {
	bundle b sh -c "$COUNTER"
	hooks true 'kill -9 $$' true
	start c
	fails 'resume hook /bin/sh: killed by signal 9' checkpoint --leave-running --image-path "$T/i" c
	expect_hooks $'save 0\nresume 0 done'
	[ ! -e "$T/i" ] || fail "left: $(ls "$T/i")"
	expect_progress
	touch "$T/file"
	fails 'directory.*; then its resume hook /bin/sh: killed' checkpoint --leave-running --image-path "$T/file" c
	expect_hooks $'save 0\nresume 0 failed'
	# Of an older image.
	hooks true true true
	ok delete --force c
	start c
	ok checkpoint --leave-running --image-path "$T/i" c
	sum=$(md5sum < "$T/i/manifest.json")
	ok delete --force c
	hooks true false true
	start c
	fails 'resume hook' checkpoint --leave-running --image-path "$T/i" c
	[ "$(md5sum < "$T/i/manifest.json")" = "$sum" ] || fail "the older image is gone"
}

test_failing_restore() {
	bundle b
	hooks true true 'exit 4'
	start c
	ok checkpoint --image-path "$T/i" c
	expect_hooks 'save 0'
	fails 'restore hook /bin/sh: exit status 4' restore -d --image-path "$T/i" --bundle "$B" c
	expect_hooks 'restore 1'
	expect_nothing_left c
	hooks true true true
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_hooks 'restore 1'
}

# One that waits for start: so does its hook.
test_prepared() {
	bundle b
	hooks true true 'exit 4'
	start c
	ok checkpoint --image-path "$T/i" c
	rm "$B/rootfs/cr/hooks"
	ok restore -d --prepare --image-path "$T/i" --bundle "$B" c
	expect_status c created
	[ ! -e "$B/rootfs/cr/hooks" ] || fail "too early: $(cat "$B/rootfs/cr/hooks")"
	fails 'restore hook /bin/sh: exit status 4' start c
	expect_hooks 'restore 1'
	ok delete --force c
	hooks true true true
	ok restore -d --prepare --image-path "$T/i" --bundle "$B" c
	ok start c
	expect_hooks 'restore 1'
	expect_status c running
}

test_slow_hook() {
	bundle b sh -c "$COUNTER"
	hooks 'sleep 1000 & sleep 1001' true 'sleep 1002'
	annotate hooks.timeout 1
	start c
	fails 'save hook /bin/sh: it took longer than 1 s' checkpoint --image-path "$T/i" c
	inside c ps
	! grep -q ' sleep 100' "$T/out" || fail "left: $(cat "$T/out")"
	expect_progress
	ok delete --force c
	hooks true true 'sleep 1002'
	start c
	ok checkpoint --image-path "$T/i" c
	fails 'restore hook /bin/sh: it took longer' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

hook_runs() {
	[ -s "$B/rootfs/cr/hooks" ]
}

# Killed, or told to end, while the hook runs.
test_interrupted_hook() {
	local pid sig
	bundle b sh -c "$COUNTER"
	hooks 'exec sleep 1000' true true
	start c
	for sig in INT KILL; do
		"$STASIS" --root "$ROOT" "${DRIVER[@]}" checkpoint --image-path "$T/i" c > "$T/out" 2>&1 < /dev/null &
		pid=$!
		eventually 10 hook_runs
		kill -$sig $pid
		! wait $pid || fail "succeeds"
		eventually 5 sh -c '! "$0" --root "$1" exec c ps | grep -q " sleep 1000"' "$STASIS" "$ROOT"
		[ $sig = KILL ] || expect_hooks $'save 0\nresume 0 failed'
		rm -f "$B/rootfs/cr/hooks"
		[ ! -e "$T/i" ] || fail "left: $(ls "$T/i")"
		expect_progress
	done
}

test_paused() {
	bundle b
	hooks true true true
	start c
	ok pause c
	fails 'is paused, and its save hook could not run: resume it' checkpoint --image-path "$T/i" c
	expect_status c paused
	ok resume c
	[ ! -e "$B/rootfs/cr/hooks" ] || fail "ran: $(cat "$B/rootfs/cr/hooks")"
	ok checkpoint --image-path "$T/i" c
}

# member NAME: a container of the sandbox pod, in $B, with hooks as hooks() has made them
member() {
	bundle "$1" sh -c "$COUNTER"
	hooks "${@:2}"
	annotate application true
	ok run -d --bundle "$B" --sandbox pod --container-name "$1" "$1"
}

expect_hooks_of() {
	B=$T/$1
	expect_hooks "$2"
}

# All save before one is stopped, and all resume, whoever it was that failed.
test_sandbox() {
	member a true true true
	member b true true true
	ok checkpoint --sandbox --leave-running --image-path "$T/i" pod
	for m in a b; do
		expect_hooks_of $m $'save 0\nresume 0 done'
		attempts $m 1 0
	done
	ok delete --force b
	member b 'exit 5' 'exit 6' true
	member c true true true
	mv "$T/i" "$T/old"
	fails 'container "b": save hook /bin/sh: exit status 5; then its resume hook /bin/sh: exit status 6' \
		checkpoint --sandbox --leave-running --image-path "$T/i" pod
	expect_hooks_of a $'save 0\nresume 0 failed'
	expect_hooks_of b $'save 0\nresume 0 failed'
	attempts a 2 1
	attempts b 1 1
	attempts c 0 0
	[ ! -e "$T/c/rootfs/cr/hooks" ] || fail "c: $(cat "$T/c/rootfs/cr/hooks")"
	[ ! -e "$T/i" ] || fail "left: $(ls "$T/i")"
	# A resume hook that fails after the image was there.
	ok delete --force b
	member b true 'exit 6' true
	mv "$T/old" "$T/i"
	sum=$(md5sum < "$T/i/manifest.json")
	fails 'resume hook /bin/sh: exit status 6' checkpoint --sandbox --leave-running --image-path "$T/i" pod
	expect_hooks_of a $'save 0\nresume 0 done'
	expect_hooks_of b $'save 0\nresume 0 done'
	expect_hooks_of c $'save 0\nresume 0 failed'
	expect_progress
	attempts a 3 2
	[ "$(md5sum < "$T/i/manifest.json")" = "$sum" ] || fail "the older image is gone"
}

# The restore hooks of all, when all run; if one fails, there is no sandbox.
test_sandbox_restore() {
	local m
	for m in a b; do
		bundle $m
		hooks true true 'test ! -e /cr/no'
		annotate application true
		ok run -d --bundle "$B" --sandbox pod --container-name $m $m
	done
	ok checkpoint --sandbox --image-path "$T/i" pod
	ok restore -d --image-path "$T/i" --bundle "$T/a" --sandbox new --container-name a x
	rm "$T/a/rootfs/cr/hooks" "$T/b/rootfs/cr/hooks"
	touch "$T/b/rootfs/cr/no"
	fails 'restore hook /bin/sh: exit status 1' restore -d --image-path "$T/i" --bundle "$T/b" --sandbox new --container-name b y
	eventually 10 test ! -e "$ROOT/x"
	[ ! -e "$ROOT/y" ] || fail "y is left"
	rm -f "$T/b/rootfs/cr/no" "$T/a/rootfs/cr/hooks" "$T/b/rootfs/cr/hooks"
	ok restore -d --image-path "$T/i" --bundle "$T/a" --sandbox new --container-name a x
	[ ! -e "$T/a/rootfs/cr/hooks" ] || fail "too early: $(cat "$T/a/rootfs/cr/hooks")"
	ok restore -d --image-path "$T/i" --bundle "$T/b" --sandbox new --container-name b y
	expect_hooks_of a 'restore 1'
	expect_hooks_of b 'restore 1'
	told x generation 1
	attempts y 1 0
}

# What a hook prints is the container's word.
test_loud_hook() {
	bundle b
	hooks 'yes | head -c 3000000; printf "\033[31m"; exit 1' true true
	start c
	fails 'exit status 1: y y y' checkpoint --image-path "$T/i" c
	hooks 'printf "\033[31mred"; exit 1' true true
	ok delete --force c
	start c
	fails 'exit status 1: \?\[31mred' checkpoint --image-path "$T/i" c
}

test_user_namespace() {
	bundle b sh -c "$COUNTER"
	edit '.linux.namespaces += [{"type": "user"}]
		| .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
		| .linux.gidMappings = .linux.uidMappings'
	chmod 711 "$T" "${T%/*}" 2> /dev/null || true
	annotate application true hooks.save '["/bin/true"]'
	mkdir -p "$B/rootfs/cr"
	chown -R 100000:100000 "$B/rootfs"
	start c
	told c generation 0
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	told c generation 1
	expect_progress
}

run_test "$@"
