# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Hooks: all kinds, their order and namespace, the state on stdin, and what happens when one fails.
. "$TESTS/lib.sh"

hooks_bundle() {
	bundle b sh -c 'echo program >> /cr/log; exec sleep 1000'
	cp /bin/busybox "$T/busybox"
	cat > "$T/hook" <<- END
		#!/bin/sh
		cat > "$T/\$1.state"
		echo \$1 \$EXTRA >> "$B/rootfs/cr/log"
	END
	cat > "$B/rootfs/bin/inside" <<- 'END'
		#!/bin/sh
		cat > /cr/$1.state
		echo $1 >> /cr/log
	END
	chmod +x "$T/hook" "$B/rootfs/bin/inside"
	edit '.hooks = ((["prestart", "createRuntime", "poststart", "poststop"] | map({key: ., value: [{"path": $h, "args": ["hook", .], "env": ["EXTRA=env", "PATH=/bin:/usr/bin"]}]}) | from_entries)
		+ {"createContainer": [{"path": $h, "args": ["hook", "createContainer"], "env": ["PATH=/bin:/usr/bin"]}],
		"startContainer": [{"path": "/bin/inside", "args": ["inside", "startContainer"], "env": ["PATH=/bin"]}]})' --arg h "$T/hook"
}

test_order_and_state() {
	hooks_bundle
	ok create --bundle "$B" c
	[ "$(tr '\n' ' ' < "$B/rootfs/cr/log")" = "prestart env createRuntime env createContainer " ] || fail "after create: $(cat "$B/rootfs/cr/log")"
	jq -e '.id == "c" and .pid > 1 and .bundle' "$T/prestart.state" > "$T/jq" || fail "$(cat "$T/prestart.state")"
	ok start c
	eventually 5 grep -q program "$B/rootfs/cr/log"
	grep -q poststart "$B/rootfs/cr/log" || fail "no poststart"
	[ "$(sed -n '4p' "$B/rootfs/cr/log")" = startContainer ] || fail "after start: $(cat "$B/rootfs/cr/log")"
	ok delete -f c
	[ "$(tail -1 "$B/rootfs/cr/log")" = "poststop env" ] || fail "after delete: $(cat "$B/rootfs/cr/log")"
	jq -e '.status == "stopped"' "$T/poststop.state" > "$T/jq" || fail "$(cat "$T/poststop.state")"
	expect_nothing_left c
}

test_a_failing_hook() {
	local kind
	for kind in prestart createRuntime createContainer; do
		bundle "b-$kind"
		edit '.hooks[$k] = [{"path": "/bin/sh", "args": ["sh", "-c", "echo this went wrong >&2; exit 5"]}]' --arg k "$kind"
		fails 'hook.*this went wrong' run -d --bundle "$B" c
		expect_nothing_left c
	done
	bundle b
	edit '.hooks.createRuntime = [{"path": "/no/such/hook"}]'
	fails 'createRuntime hook #0.*no such file' run -d --bundle "$B" c
	expect_nothing_left c
}

# A hook that fails at create ends it: the later ones don't run, but those that take down do.
test_a_failing_hook_and_the_others() {
	local kind before
	while read -r kind before; do
		hooks_bundle
		: > "$B/rootfs/cr/log"
		edit '.hooks[$k] |= [{"path": "/bin/false"}] + .' --arg k "$kind"
		fails "$kind hook #0.*exit status 1" create --bundle "$B" c
		[ "$(tr '\n' ' ' < "$B/rootfs/cr/log")" = "${before:+$before }poststop env " ] || fail "$kind: $(cat "$B/rootfs/cr/log")"
		jq -e '.status == "stopped"' "$T/poststop.state" > "$T/jq" || fail "$(cat "$T/poststop.state")"
		expect_nothing_left c
	done <<- 'END'
		prestart
		createRuntime prestart env
		createContainer prestart env createRuntime env
	END
}

# The runtime-spec: startContainer's failure stops the container, poststart's too, poststop's is a warning.
test_a_failing_hook_at_start_and_delete() {
	hooks_bundle
	edit '.hooks.startContainer |= [{"path": "/bin/false"}] + .'
	ok create --bundle "$B" c
	fails 'startContainer hook #0.*exit status 1' start c
	expect_status c stopped
	! grep -q program "$B/rootfs/cr/log" || fail "the program ran"
	ok delete c
	grep -q poststop "$B/rootfs/cr/log" || fail "no poststop"
	expect_nothing_left c

	hooks_bundle
	: > "$B/rootfs/cr/log"
	edit '.hooks.poststart |= [{"path": "/bin/sh", "args": ["sh", "-c", "echo why not >&2; exit 3"]}] + .'
	ok create --bundle "$B" c
	fails 'poststart hook #0.*exit status 3.*why not' start c
	expect_nothing_left c
	[ "$(grep -c poststop "$B/rootfs/cr/log")" = 1 ] || fail "poststop: $(cat "$B/rootfs/cr/log")"
	! grep -q poststart "$B/rootfs/cr/log" || fail "a later poststart hook ran"
	: > "$B/rootfs/cr/log"
	fails 'poststart hook #0' run --bundle "$B" c
	expect_nothing_left c
	[ "$(grep -c poststop "$B/rootfs/cr/log")" = 1 ] || fail "poststop after run: $(cat "$B/rootfs/cr/log")"

	hooks_bundle
	: > "$B/rootfs/cr/log"
	edit '.hooks.poststop |= [{"path": "/bin/false"}] + .'
	start c
	ok delete -f c
	grep -q 'warning.*poststop hook #0.*exit status 1' "$T/err" || fail "no warning: $(cat "$T/err")"
	grep -q 'poststop env' "$B/rootfs/cr/log" || fail "the next hook didn't run"
	expect_nothing_left c
}

# As with runc: those of the runtime have its environment unless they bring one, and begin in the bundle; the container's have none.
test_surroundings_of_hooks() {
	local kind
	bundle b true
	edit '.hooks = ((["prestart", "createRuntime", "createContainer", "poststart", "poststop"] | map({key: ., value: [{"path": "/bin/sh",
		"args": ["sh", "-c", "/bin/pwd > \($t)/pwd.\(.); /usr/bin/env > \($t)/env.\(.); /usr/bin/readlink /proc/self/ns/mnt > \($t)/ns.\(.)"]}]}) | from_entries)
		+ {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "pwd > /cr/pwd; env > /cr/env"]}]})' --arg t "$T"
	HOOK_TEST=inherited "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	for kind in prestart createRuntime poststart poststop; do
		grep -q HOOK_TEST=inherited "$T/env.$kind" || fail "$kind: no environment"
		[ "$(cat "$T/pwd.$kind")" = "$B" ] || fail "$kind in $(cat "$T/pwd.$kind")"
		[ "$(cat "$T/ns.$kind")" = "$(readlink /proc/self/ns/mnt)" ] || fail "$kind is not in the runtime's mount namespace"
	done
	[ "$(cat "$T/pwd.createContainer")" = "$B/rootfs" ] || fail "createContainer in $(cat "$T/pwd.createContainer")"
	[ "$(cat "$T/ns.createContainer")" != "$(readlink /proc/self/ns/mnt)" ] || fail "createContainer is in the runtime's mount namespace"
	[ "$(cat "$B/rootfs/cr/pwd")" = / ] || fail "startContainer in $(cat "$B/rootfs/cr/pwd")"
	! grep -q HOOK_TEST "$T/env.createContainer" "$B/rootfs/cr/env" || fail "the caller's environment is in the container"
}

# What a hook prints is neither the container's output nor the command's.
test_output_of_hooks() {
	bundle b echo program
	edit '.hooks = {"createRuntime": [{"path": "/bin/echo", "args": ["echo", "hook"]}], "poststart": [{"path": "/bin/echo", "args": ["echo", "hook"]}],
		"startContainer": [{"path": "/bin/echo", "args": ["echo", "hook"]}], "poststop": [{"path": "/bin/echo", "args": ["echo", "hook"]}]}'
	ok run --bundle "$B" c
	[ "$(cat "$T/out" "$T/err")" = program ] || fail "it says: $(cat "$T/out" "$T/err")"
}

test_a_hook_that_hangs() {
	bundle b
	edit '.hooks.createRuntime = [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]'
	SECONDS=0
	fails 'hook|timeout|timed' run -d --bundle "$B" c
	[ "$SECONDS" -lt 10 ] || fail "the timeout is not in force"
	expect_nothing_left c
}

test_hooks_at_restore() {
	hooks_bundle
	start c
	eventually 5 grep -q program "$B/rootfs/cr/log"
	ok checkpoint --image-path "$T/i" c
	: > "$B/rootfs/cr/log"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_status c running
	grep -q '^prestart' "$B/rootfs/cr/log" && grep -q '^createRuntime' "$B/rootfs/cr/log" || fail "at restore: $(cat "$B/rootfs/cr/log")"
	! grep -q program "$B/rootfs/cr/log" || fail "the program was started anew"
}

run_test "$@"
