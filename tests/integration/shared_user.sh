# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# A user namespace of several containers of a sandbox (Kubernetes: hostUsers: false; podman pod create --userns): the first one has made it.
# time limit: 120
. "$TESTS/lib.sh"

# joined ID TYPE...: $B has those namespaces of that container.
joined() {
	edit '.linux.namespaces |= map(select(.type | IN($types | split(" ")[]) | not)) +
		[$types | split(" ")[] | {"type": ., "path": ("/proc/" + $pid + "/ns/" + ({"network": "net"}[.] // .))}]' \
		--arg pid "$(init_pid "$1")" --arg types "${*:2}"
}

# first SANDBOX: its first container.
first() {
	[ -e "$T/POD" ] || {
		bundle POD sh -c "$COUNTER"
		edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
			| .linux.gidMappings = [{"containerID": 0, "hostID": 200000, "size": 65536}]'
		chown -R 100000:200000 "$B/rootfs"
		chmod 755 "$T"
	}
	B=$T/POD
	ok run -d --bundle "$B" --sandbox "$1" --container-name POD "$1-POD"
}

# another NAME TYPE...: a container of the sandbox one that shares those namespaces with the first, and counts.
another() {
	bundle "$1" sh -c "$COUNTER"
	chown -R 100000:200000 "$B/rootfs"
	joined one-POD user "${@:2}"
	ok run -d --bundle "$B" --sandbox one --container-name "$1" "one-$1"
}

all_count() {
	local name
	for name in POD a b; do
		B=$T/$name
		expect_status "$1-$name" running
		expect_progress
	done
}

# restored NAME [TYPE...]: as a container of the sandbox two.
restored() {
	B=$T/$1
	[ "$1" = POD ] || joined two-POD user "${@:2}"
	ok restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name "$1" "two-$1"
}

test_together() {
	first one
	another a network
	another b network ipc uts
	all_count one
	ok checkpoint --sandbox --image-path "$T/i" one
	restored POD
	restored b network ipc uts
	restored a network
	all_count two
	[ "$(readlink "/proc/$(init_pid two-a)/ns/user")" = "$(readlink "/proc/$(init_pid two-POD)/ns/user")" ] || fail "a is in another one"
	ok checkpoint --sandbox --leave-running --pre-copy --image-path "$T/j" two
	all_count two
}

# One pid namespace, too: all of them from the image, as who ran there already could trace what is half made.
test_with_pids() {
	first one
	another a pid network
	another b pid
	ok checkpoint --sandbox --image-path "$T/i" one
	first two
	B=$T/a
	joined two-POD user pid network
	fails 'could trace' restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
	ok delete -f two-POD
	restored POD
	restored a pid network
	restored b pid
	all_count two
}

is_beside() {
	[ "$(readlink "/proc/$1/ns/user")" = "$(readlink "/proc/$(init_pid "$2")/ns/user")" ] && [ "$(cat "/proc/$1/comm")" = sleep ]
}

# One alone; the first one runs on. What is not hidden in a pid namespace of its own is in the way.
test_alone() {
	first one
	another a network
	ok checkpoint --image-path "$T/i" one-a
	B=$T/a
	nsenter -U -t "$(init_pid one-POD)" sleep 1000 &
	local sleeper=$!
	eventually 5 is_beside "$sleeper" one-POD
	fails "process $sleeper .sleep. is in the user namespace" restore -d --image-path "$T/i" --bundle "$B" one-a
	kill "$sleeper"
	wait "$sleeper" || true
	ok restore -d --lazy --image-path "$T/i" --bundle "$B" one-a
	expect_status one-a running
	expect_progress
	ok checkpoint --leave-running --image-path "$T/j" one-a
	expect_progress
}

# Other ids than the image's: those of the namespace that the new config.json names.
test_other_maps() {
	first one
	another a
	ok checkpoint --image-path "$T/i" one-a
	bundle other sleep 1000
	edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 300000, "size": 65536}]
		| .linux.gidMappings = [{"containerID": 0, "hostID": 400000, "size": 65536}]'
	chown -R 300000:400000 "$B/rootfs"
	ok run -d --bundle "$B" other
	B=$T/a
	chown -R 300000:400000 "$B/rootfs"
	joined other user
	ok restore -d --image-path "$T/i" --bundle "$B" a2
	expect_progress
	[ "$(stat -c %u "/proc/$(init_pid a2)")" = 300000 ] || fail "its user is $(stat -c %u "/proc/$(init_pid a2)")"
}

run_test "$@"
