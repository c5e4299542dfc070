# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# mounts add and mounts remove: the mounts of a running container.
. "$TESTS/lib.sh"

mounted() {
	grep -q " $1 " "/proc/$(init_pid c)/mountinfo"
}

test_add_and_remove() {
	bundle b
	start c
	mkdir "$T/source"
	echo here > "$T/source/file"
	jq -n --arg s "$T/source" '[{destination: "/new/bound", source: $s, options: ["bind", "ro", "nosuid"]},
		{destination: "/new/tmp", type: "tmpfs", source: "tmpfs", options: ["size=64k", "mode=700"]},
		{destination: "/new/file", source: ($s + "/file"), options: ["bind"]}]' > "$T/mounts.json"
	ok mounts add c "$T/mounts.json"
	ok exec c sh -c 'cat /new/bound/file /new/file; stat -c %a /new/tmp; touch /new/bound/x 2>&1; grep /new/bound /proc/self/mountinfo'
	[ "$(head -3 "$T/out" | tr '\n' ' ')" = "here here 700 " ] || fail "$(cat "$T/out")"
	grep -q 'Read-only' "$T/out" && grep -q 'ro,nosuid' "$T/out" || fail "$(cat "$T/out")"
	! grep -q /new/ /proc/self/mountinfo || fail "mounted on the host"
	fails 'mount' checkpoint --image-path "$T/i" c
	ok mounts remove c "$T/mounts.json"
	! mounted '/new/.*' || fail "still there"
	fails 'not a mount point' mounts remove c "$T/mounts.json"
	ok exec c sh -c 'ls /new/bound /new/tmp'
	ok checkpoint --image-path "$T/i" c
}

test_all_or_none() {
	bundle b
	start c
	jq -n '[{destination: "/one", type: "tmpfs", source: "tmpfs"}, {destination: "/two", type: "tmpfs", source: "tmpfs"},
		{destination: "/three", source: "/no/such/dir", options: ["bind"]}]' > "$T/mounts.json"
	fails 'no such file' mounts add c "$T/mounts.json"
	! mounted '/one' || fail "half of them are there"
	jq '.[2] = {destination: "/three", type: "tmpfs", source: "tmpfs", options: ["nonsense=1"]}' "$T/mounts.json" > "$T/other.json"
	fails 'three' mounts add c "$T/other.json"
	! mounted '/one' || fail "half of them are there"
}

test_what_is_refused() {
	bundle b
	start c
	local t
	for t in proc sysfs mqueue cgroup cgroup2; do
		jq -n --arg t "$t" '[{destination: "/new", type: $t, source: $t}]' > "$T/mounts.json"
		fails "$t cannot be added" mounts add c "$T/mounts.json"
	done
	mkdir "$T/source"
	jq -n --arg s "$T/source" '[{destination: "/proc/sys", source: $s, options: ["bind"]}]' > "$T/mounts.json"
	fails 'inside /proc' mounts add c "$T/mounts.json"
	echo '[{"destination": "/"}]' > "$T/mounts.json"
	fails 'root|type' mounts remove c "$T/mounts.json"
	echo '{"a": 1}' > "$T/mounts.json"
	fails 'mounts' mounts add c "$T/mounts.json"
	fails 'add or remove' mounts list c "$T/mounts.json"
	fails 'no such file' mounts add c "$T/none"
	ok kill c KILL
	expect_status c stopped
	echo '[]' > "$T/mounts.json"
	fails 'not running' mounts add c "$T/mounts.json"
}

# A link in the container leads nowhere outside of it.
test_links_stay_inside() {
	bundle b
	start c
	mkdir "$T/source" "$T/outside"
	ln -s "$T/outside" "$B/rootfs/link"
	jq -n --arg s "$T/source" '[{destination: "/link/there", source: $s, options: ["bind"]}]' > "$T/mounts.json"
	stasis mounts add c "$T/mounts.json" < /dev/null > "$T/out" 2>&1
	[ -z "$(ls "$T/outside")" ] || fail "made on the host: $(ls "$T/outside")"
	! grep -q "$T/outside" /proc/self/mountinfo || fail "mounted on the host"
	mounted "$T/outside/there" || fail "not mounted where the link leads in the container: $(cat "$T/out")"
}

run_test "$@"
