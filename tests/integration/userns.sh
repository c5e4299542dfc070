# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# User namespaces: ids, who owns the other namespaces, what is mounted, and joining them.
. "$TESTS/lib.sh"

# userns: $B gets a new one, of which uid 0 is 100000 and gid 0 is 200000.
userns() {
	edit '.linux.namespaces |= map(select(.type != "user")) + [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
		| .linux.gidMappings = [{"containerID": 0, "hostID": 200000, "size": 65536}]'
	chown -R 100000:200000 "$B/rootfs"
	chmod 755 "$T"
}

in_container() {
	edit '.process.args = ["sh", "-c", $s]' --arg s "$1"
	ok run --bundle "$B" c
}

expect() {
	[ "$(cat "$T/out")" = "$1" ] || fail "output '$(cat "$T/out")', expected '$1'"
}

# A namespace's owner: only in its own user namespace does root have power over it.
test_ids_and_owners() {
	bundle b
	userns
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"])'
	in_container 'id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map | tr -s " "; touch /tmp/file
		hostname changed && hostname; ifconfig lo 127.0.0.9 && echo net; mount -t tmpfs none /tmp && echo mnt
		echo 7 > /proc/sys/kernel/shmmni 2> /dev/null || echo read-only'
	expect "$(printf '0\n0\n 0 100000 65536\n 0 200000 65536\nchanged\nnet\nmnt\nread-only')"
	[ "$(stat -c %u:%g "$B/rootfs/tmp/file")" = 100000:200000 ] || fail "the file is $(stat -c %u:%g "$B/rootfs/tmp/file")"
	expect_nothing_left c
}

test_own_file_systems() {
	bundle b
	userns
	edit '.mounts += [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]},
		{"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=0710", "uid=5"]}]'
	in_container 'for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done; echo > /dev/null
		head -c 3 /dev/zero | wc -c; for t in proc sysfs devpts mqueue tmpfs; do grep -q " - $t " /proc/self/mountinfo || echo no $t; done
		stat -c "%u %a" /scratch; ls /sys/fs/cgroup | grep -c .; ls /proc/scsi 2> /dev/null | wc -l'
	[ "$(sed -n 1,2p "$T/out" | tr '\n' ' ')" = "3 5 710 " ] || fail "$(cat "$T/out")"
	[ "$(sed -n 3p "$T/out")" -gt 0 ] || fail "no cgroups: $(cat "$T/out")"
}

test_process_attributes() {
	bundle b
	userns
	edit '.process.user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6]} | .process.oomScoreAdj = 321
		| .process.rlimits = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}] | .linux.sysctl = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "1234"}'
	in_container 'id -u; id -G; cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni'
	expect "$(printf '1000\n1001 5 6\n321\n77\n88\n1\n1234')"
	grep -q . "/proc/$$/status"
}

# The namespace's root can't reach them: the runtime opens them for it.
test_sources_out_of_reach() {
	bundle b
	userns
	mkdir -p "$T/secret/dir"
	echo hidden > "$T/secret/dir/file"
	chmod 700 "$T/secret" "$B"
	edit '.mounts += [{"destination": "/data", "type": "bind", "source": $s, "options": ["rbind", "ro"]},
		{"destination": "/file", "type": "bind", "source": ($s + "/file"), "options": ["bind"]}]' --arg s "$T/secret/dir"
	in_container 'cat /data/file /file; touch /data/x 2> /dev/null || echo refused'
	expect "$(printf 'hidden\nhidden\nrefused')"
	edit '.mounts[-1].source = "/no/such/thing"'
	fails 'bind mount /no/such/thing: no such file' run --bundle "$B" c
	expect_nothing_left c
}

# What the host has mounted read-only stays so, whatever the container's root may do to its mounts.
test_locked_flags() {
	bundle b
	userns
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])
		| .mounts += [{"destination": "/data", "type": "bind", "source": $s, "options": ["rbind"]}]
		| .process.args = ["sh", "-c", "touch /data/x || mount -o remount,bind,rw /data || echo locked"]' --arg s "$T/ro"
	mkdir "$T/ro"
	# shellcheck disable=SC2016
	unshare -m sh -c 'mount -t tmpfs -o ro none "$1" && shift && exec "$@"' sh "$T/ro" \
		"$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	expect locked
	edit '.mounts[-1].options += ["rw"]'
	# shellcheck disable=SC2016
	! unshare -m sh -c 'mount -t tmpfs -o ro none "$1" && shift && exec "$@"' sh "$T/ro" \
		"$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "rw of a read-only mount"
	grep -q "/ro.*locked" "$T/err" || fail "$(cat "$T/err")"
}

test_exec() {
	bundle b
	userns
	start c
	local pid
	pid=$(init_pid c)
	ok exec --env A=b --user 5:6 c sh -c 'id -u; id -g; readlink /proc/self/ns/user; readlink /proc/self/ns/pid; hostname'
	expect "$(printf '5\n6\n'; readlink "/proc/$pid/ns/user"; readlink "/proc/$pid/ns/pid"; echo stasis)"
	ok exec --detach --pid-file "$T/pid" c sleep 1234
	[ "$(awk '/^Uid/ { print $2 }' "/proc/$(cat "$T/pid")/status")" = 100000 ] || fail "not the namespace's root"
	grep -qx "$(cat "$T/pid")" <(container_pids) || fail "the process is not in the container's cgroup"
	local status=0
	stasis exec c sh -c 'exit 23' < /dev/null || status=$?
	[ "$status" = 23 ] || fail "status $status"
	fails 'no such file|not found' exec c /no/such/program
	ok ps c
	grep -q 'sleep 1234' "$T/out" || fail "$(cat "$T/out")"
	ok kill c KILL
	expect_status c stopped
	ok delete c
	expect_nothing_left c
}

test_terminal() {
	bundle b
	userns
	edit '.process.terminal = true | .process.user.uid = 7 | .process.args = ["sh", "-c", "tty; stat -c %u /dev/pts/0; [ -c /dev/console ] && echo console"]'
	timeout 20 script -qec "$STASIS --root $ROOT run --bundle $B c" /dev/null < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	# (script echoes the end of its input somewhere between)
	grep -q '/dev/pts/0' "$T/out" && grep -Eq '7.?$' "$T/out" && grep -q console "$T/out" || fail "$(cat "$T/out")"
}

test_hooks() {
	bundle b
	userns
	printf '#!/bin/sh\n{ echo $1; readlink /proc/self/ns/user; id -u; } >> %s/hooks\n' "$T" > "$T/hook"
	touch "$T/hooks"
	chmod 755 "$T/hook"
	chmod 666 "$T/hooks"
	edit '.hooks = ({"prestart": "prestart", "createRuntime": "createRuntime", "createContainer": "createContainer"}
		| map_values([{"path": $h, "args": ["hook", .]}]))' --arg h "$T/hook"
	start c
	{
		printf 'prestart\n%s\n0\n' "$(readlink /proc/self/ns/user)"
		printf 'createRuntime\n%s\n0\n' "$(readlink /proc/self/ns/user)"
		printf 'createContainer\n%s\n0\n' "$(readlink "/proc/$(init_pid c)/ns/user")"
	} > "$T/expected"
	diff "$T/expected" "$T/hooks" || fail "hooks"
}

# All that another container has, and a pid namespace of its own; then that one's too.
test_joining() {
	bundle a
	userns
	start first
	local pid ns
	pid=$(init_pid first)
	bundle b
	chown -R 100000:200000 "$B/rootfs"
	edit '.linux.namespaces = [{"type": "user"}, {"type": "ipc"}, {"type": "network"}, {"type": "uts"}
		| .path = "/proc/\($p)/ns/\(if .type == "network" then "net" else .type end)"] + [{"type": "mount"}, {"type": "pid"}, {"type": "cgroup"}]
		| del(.hostname)' --arg p "$pid"
	in_container 'id -u; cat /proc/self/uid_map | tr -s " "; for n in user ipc net uts; do readlink /proc/self/ns/$n; done; echo $$; touch /tmp/x'
	{
		printf '0\n 0 100000 65536\n'
		for ns in user ipc net uts; do readlink "/proc/$pid/ns/$ns"; done
		echo 1
	} > "$T/expected"
	diff "$T/expected" "$T/out" || fail "namespaces"
	edit '.linux.namespaces |= map(if .type == "pid" then .path = "/proc/\($p)/ns/pid" else . end)' --arg p "$pid"
	in_container 'ps | grep -c "[s]leep 1000"; [ $$ -gt 1 ] && echo other'
	expect "$(printf '1\nother')"
	expect_nothing_left c
}

test_joining_without_a_user_namespace() {
	bundle a
	start first
	local pid
	pid=$(init_pid first)
	bundle b
	edit '.linux.namespaces |= map(if .type == "pid" or .type == "ipc" then .path = "/proc/\($p)/ns/\(.type)" else . end)' --arg p "$pid"
	in_container 'readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; [ $$ -gt 1 ] && echo other; ps | grep -c "[s]leep 1000"'
	expect "$(readlink "/proc/$pid/ns/pid" "/proc/$pid/ns/ipc"; printf 'other\n1')"
	expect_nothing_left c
}

# A new user namespace, and one of the host's beside it, which is joined with the host's privileges.
test_new_user_and_others_by_path() {
	bundle b
	userns
	edit '.linux.namespaces |= map(if .type == "ipc" then .path = "/proc/self/ns/ipc" else . end)'
	edit '.mounts |= map(select(.type != "mqueue"))'
	in_container 'readlink /proc/self/ns/ipc; id -u'
	expect "$(readlink /proc/self/ns/ipc; echo 0)"
	# the host's network: its sysfs is bound, with the options asked for
	edit '.linux.namespaces |= map(select(.type != "network"))'
	in_container 'grep " /sys .* - sysfs" /proc/self/mountinfo | cut -d" " -f6; [ -d /sys/class/net ] && echo there'
	expect "$(printf 'ro,nosuid,nodev,noexec,relatime\nthere')"
}

test_bad_paths() {
	bundle b
	edit '.linux.namespaces |= map(if .type == "ipc" then .path = "/proc/self/ns/uts" else . end)'
	fails '/proc/self/ns/uts is no ipc namespace \(type: uts\)' run --bundle "$B" c
	edit '.linux.namespaces |= map(if .type == "ipc" then .path = "/etc/passwd" else . end)'
	fails '/etc/passwd is no ipc namespace' run --bundle "$B" c
	edit '.linux.namespaces |= map(if .type == "ipc" then .path = "/no/such" else . end)'
	fails 'ipc namespace /no/such: no such file' run --bundle "$B" c
	expect_nothing_left c
}

test_bad_mappings() {
	bundle b
	edit '.linux.namespaces += [{"type": "user"}]'
	fails 'linux.uidMappings: missing' run --bundle "$B" c
	userns
	edit '.linux.uidMappings += [{"containerID": 65535, "hostID": 1, "size": 1}]'
	fails 'linux.uidMappings: mappings 0 and 1 overlap' run --bundle "$B" c
	edit '.linux.uidMappings = [range(341) | {"containerID": ., "hostID": (. + 5000), "size": 1}]'
	fails 'linux.uidMappings: 341 mappings are too many \(340' run --bundle "$B" c
	edit '.linux.uidMappings = [{"containerID": 5, "hostID": 1, "size": 1}]'
	fails 'linux.uidMappings: id 0 is not mapped' run --bundle "$B" c
	userns
	edit '.process.user.uid = 70000'
	fails 'set the user id to 70000' run --bundle "$B" c
	expect_nothing_left c
}

test_unmapped_ids_of_file_systems() {
	bundle b
	userns
	edit '.linux.gidMappings = [{"containerID": 0, "hostID": 200000, "size": 5}] | .mounts |= map(if .type == "devpts" then .options += ["gid=5"] else . end)'
	fails 'mounts\[2\].options: the id of gid=5 is not mapped in linux.gidMappings' run --bundle "$B" c
	edit '.linux.gidMappings[0].size = 6 | .process.args = ["stat", "-c", "%g", "/dev/pts/ptmx"]'
	ok run --bundle "$B" c
}

test_many_mappings() {
	bundle b
	userns
	edit '.linux.uidMappings = [range(250) | {"containerID": ., "hostID": (100000 + 2 * .), "size": 1}]'
	in_container 'wc -l < /proc/self/uid_map'
	expect 250
	# 340 lines, but more than a page of text
	edit '.linux.uidMappings = [range(340) | {"containerID": ., "hostID": (100000 + 2 * .), "size": 1}]'
	fails 'linux.uidMappings: .* a page' run --bundle "$B" c
}

# Init that fails at once, before it has read what it may do, is heard all the same.
test_failures() {
	local point
	bundle b
	userns
	edit '.mounts += [{"destination": "/mnt", "type": "bind", "source": $s, "options": ["bind", "idmap"]}]' --arg s "$T"
	for point in create-init create-joined create-namespaces create-root create-mounts create-devices create-pivot create-process; do
		FAULT=$point:EIO fails "fault point $point" run -d --bundle "$B" c
		expect_nothing_left c
	done
}

# The image has the ids that the container sees: other mappings are only another place for them.
test_checkpoint_and_other_mappings() {
	bundle b
	userns
	edit '.process.user = {"uid": 7, "gid": 8, "additionalGids": [9]} | .process.oomScoreAdj = 234
		| .process.args = ["sh", "-c", "echo kept > /dev/shm/file; exec sleep 1000"]'
	start c
	eventually 5 stasis exec c test -s /dev/shm/file < /dev/null
	ok checkpoint --image-path "$T/image" c
	edit '.linux.uidMappings[0].hostID = 300000 | .linux.gidMappings[0].hostID = 400000'
	chown -R 300000:400000 "$B/rootfs"
	ok restore -d --image-path "$T/image" --bundle "$B" c
	ok exec c sh -c 'stat -c "%u %g" /dev/shm/file; cat /dev/shm/file; grep -E "^(Uid|Gid|Groups)" /proc/1/status | tr -s "\t " " "; cat /proc/1/oom_score_adj'
	[ "$(cat "$T/out")" = "$(printf '7 8\nkept\nUid: 7 7 7 7\nGid: 8 8 8 8\nGroups: 9 \n234')" ] || fail "$(cat "$T/out")"
	[ "$(awk '/^Uid/ { print $2 }' "/proc/$(init_pid c)/status")" = 300007 ] || fail "the process has not the ids of the new mappings"
	# again, out of what has been restored
	ok checkpoint --leave-running --image-path "$T/image2" c
	ok kill c KILL
	expect_status c stopped
	ok delete c
	expect_nothing_left c
}

run_test "$@"
