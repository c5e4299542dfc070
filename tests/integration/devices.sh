# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# linux.devices: every type, in any place, over what is there; and the default devices.
. "$TESTS/lib.sh"

# in_container SCRIPT: runs it in a fresh container from $B; its output is in $T/out.
in_container() {
	edit '.process.args = ["sh", "-c", $s]' --arg s "$1"
	ok run --bundle "$B" c
}

expect() {
	[ "$(cat "$T/out")" = "$1" ] || fail "output '$(cat "$T/out")', expected '$1'"
}

test_types_modes_and_owners() {
	bundle b
	edit '.linux.devices = [{"path": "/dev/chr", "type": "c", "major": 1, "minor": 3, "fileMode": 8630, "uid": 7, "gid": 8},
		{"path": "/dev/unb", "type": "u", "major": 1, "minor": 5, "fileMode": 384},
		{"path": "/dev/blk", "type": "b", "major": 259, "minor": 70000, "fileMode": 2496},
		{"path": "/dev/fifo", "type": "p", "fileMode": 438, "uid": 9}]'
	in_container 'cd /dev; stat -c "%F %a %u %g %t %T" chr unb blk fifo; (echo through > fifo &); cat fifo; echo x > chr; head -c 3 unb | wc -c'
	expect "$(printf 'character special file 666 7 8 1 3\ncharacter special file 600 0 0 1 5\nblock special file 4700 0 0 103 11170\nfifo 666 9 0 0 0\nthrough\n3')"
}

test_places() {
	bundle b
	mkdir -p "$B/rootfs/dir"
	ln -s /dir "$B/rootfs/link"
	ln -s "$T/outside" "$B/rootfs/out"
	mkdir "$T/outside"
	edit '.linux.devices = [{"path": "/deep/down/null", "type": "c", "major": 1, "minor": 3}, {"path": "/dev/sub/dir/zero", "type": "c", "major": 1, "minor": 5},
		{"path": "/link/full", "type": "c", "major": 1, "minor": 7}, {"path": "/out/../out/x", "type": "c", "major": 1, "minor": 3}]'
	in_container 'for d in /deep/down/null /dev/sub/dir/zero /dir/full; do stat -c "%t %T %a" $d; done'
	expect "$(printf '1 3 666\n1 5 666\n1 7 666')"
	[ -z "$(ls -A "$T/outside")" ] || fail "made outside of the root: $(ls -A "$T/outside")"
}

# What is there already: the same device is used, another thing is covered for the container only.
test_over_what_is_there() {
	bundle b
	mknod -m 600 "$B/rootfs/same" c 1 3
	echo file > "$B/rootfs/file"
	edit '.linux.devices = [{"path": "/same", "type": "c", "major": 1, "minor": 3, "fileMode": 384}, {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438}]'
	in_container 'stat -c "%t %T" /same; stat -c "%t %T" /dev/null'
	expect "$(printf '1 3\n1 3')"
	edit '.linux.devices = [{"path": "/file", "type": "c", "major": 1, "minor": 3}]'
	stasis run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" && fail "a file became a device: $(cat "$T/out")"
	grep -q '/file' "$T/err" || fail "$(cat "$T/err")"
	[ "$(cat "$B/rootfs/file")" = file ] || fail "the file was changed"
	expect_nothing_left c
}

test_bad_devices() {
	local bad
	bundle b
	for bad in '{"path": "/dev/x", "type": "x", "major": 1, "minor": 3}' '{"path": "dev/x", "type": "c", "major": 1, "minor": 3}' '{"path": "/dev/x", "type": "c"}' \
		'{"path": "/dev/x", "type": "c", "major": 4096, "minor": 3}' '{"path": "/dev/x", "type": "b", "major": 1, "minor": -1}' '{"type": "c", "major": 1, "minor": 3}'; do
		edit '.linux.devices = [$b | fromjson]' --arg b "$bad"
		fails 'linux.devices\[0\]' run --bundle "$B" c
	done
}

test_default_devices_and_links() {
	bundle b
	in_container 'cd /dev; stat -c "%n %a %u %g %t %T" null zero full random urandom tty; for l in fd stdin stdout stderr ptmx; do readlink $l; done; [ -d pts ] && [ -d shm ] && echo dirs'
	expect "$(printf 'null 666 0 0 1 3\nzero 666 0 0 1 5\nfull 666 0 0 1 7\nrandom 666 0 0 1 8\nurandom 666 0 0 1 9\ntty 666 0 0 5 0\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\ndirs')"
}

# A user namespace has no mknod: the host's nodes are mounted.
test_in_a_user_namespace() {
	bundle b
	chmod 755 "$T" "$(dirname "$T")" "$B"
	chown -R 100000:100000 "$B/rootfs"
	edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}] | .linux.gidMappings = .linux.uidMappings
		| .linux.devices = [{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5}]'
	in_container 'stat -c "%t %T %u" /dev/null /dev/zero; head -c 3 /dev/zero | wc -c'
	expect "$(printf '1 3 65534\n1 5 65534\n3')"
	edit '.linux.devices = [{"path": "/dev/no-such-on-the-host", "type": "c", "major": 1, "minor": 5}]'
	fails '/dev/no-such-on-the-host' run --bundle "$B" c
	expect_nothing_left c
}

run_test "$@"
