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
	fails 'hook' run -d --bundle "$B" c
	expect_nothing_left c
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
