#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# System V IPC in a namespace that is not the container's own, and restores whose config.json gives less than the image has.
. "$(dirname "$0")/../lib.sh"

# with_program NAME: the bundle runs a program of tests/cr, which goes on until /cr/go.1 is there
with_program() {
	bundle b "/bin/$1"
	mkdir -p "$B/rootfs/cr" && chmod 777 "$B/rootfs/cr"
	cp "$BUILD/tests/cr/$1" "$B/rootfs/bin/"
}

ready() {
	eventually 10 test -e "$B/rootfs/cr/ready.1"
}

test_shared_namespace() {
	with_program sysv_sem
	edit '.linux.namespaces |= map(select(.type != "ipc"))'
	unshare -i "$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	ready
	fails 'semaphores used with SEM_UNDO.*not the container.s own' checkpoint --image-path "$T/i" c
	expect_status c running
	[ ! -e "$T/i/manifest.json" ] || fail "there is an image"
}

test_attached_of_shared_namespace() {
	with_program sysv_shm
	edit '.linux.namespaces |= map(select(.type != "ipc"))'
	edit '.process.capabilities |= with_entries(.value += ["CAP_IPC_LOCK", "CAP_IPC_OWNER"])'
	unshare -i "$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	ready
	fails 'segment [0-9]+ at .*not the container.s own' checkpoint --image-path "$T/i" c
	expect_status c running
}

test_restore_without_a_namespace() {
	with_program sysv_sem
	ok run -d --bundle "$B" c
	ready
	ok checkpoint --image-path "$T/i" c
	edit '.linux.namespaces |= map(select(.type != "ipc"))'
	fails 'had an ipc namespace.* has none for it' restore -d --image-path "$T/i" --bundle "$B" c
}

test_restore_of_changed_sysctls() {
	with_program ipc_sysctl
	edit '.linux.readonlyPaths |= map(select(. != "/proc/sys"))'
	ok run -d --bundle "$B" c
	ready
	ok checkpoint --image-path "$T/i" c
	edit '.linux.readonlyPaths += ["/proc/sys"]'
	fails 'had set (kernel|fs/mqueue)/[a-z_]+ to .*config.json does not let it' restore -d --empty-ns network --image-path "$T/i" --bundle "$B" c
}

# A container of a sandbox that has joined another one's namespace, and may set its sysctls.
test_sysctls_of_a_joined_namespace() {
	bundle a /bin/sh -c 'sleep 1000'
	ok run -d --bundle "$B" --sandbox s --container-name a s-a
	bundle b /bin/sh -c 'sleep 1000'
	edit '.linux.readonlyPaths |= map(select(. != "/proc/sys"))'
	edit '.linux.namespaces |= map(if .type == "ipc" then .path = ("/proc/" + $pid + "/ns/ipc") else . end)' --arg pid "$(init_pid s-a)"
	ok run -d --bundle "$B" --sandbox s --container-name b s-b
	ok exec s-b /bin/sh -c 'echo 12345 > /proc/sys/kernel/msgmnb'
	ok checkpoint --sandbox --image-path "$T/i" s
	B=$T/a
	ok restore -d --image-path "$T/i" --bundle "$B" --sandbox s --container-name a s-a
	B=$T/b
	edit '.linux.namespaces |= map(if .type == "ipc" then .path = ("/proc/" + $pid + "/ns/ipc") else . end)' --arg pid "$(init_pid s-a)"
	ok restore -d --image-path "$T/i" --bundle "$B" --sandbox s --container-name b s-b
	eventually 10 sh -c "[ \"\$($STASIS --root $ROOT exec s-a cat /proc/sys/kernel/msgmnb)\" = 12345 ]"
}

run_test "$@"
