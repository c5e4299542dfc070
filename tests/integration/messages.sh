# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What users meet when something is not as it should be: what failed, why, and what to do about it.
. "$TESTS/lib.sh"

make_image() {
	start c
	ok checkpoint --image-path "$T/i" c
}

# A config.json with other kinds of namespaces must not put a container into the machine's network, or among its processes.
test_namespaces_of_the_bundle() {
	local kind
	bundle b
	cp "$B/config.json" "$T/whole.json"
	make_image
	for kind in network pid ipc uts cgroup; do
		cp "$T/whole.json" "$B/config.json"
		edit '.linux.namespaces |= map(select(.type != $k))' --arg k "$kind"
		[ $kind != uts ] || edit 'del(.hostname)'
		fails "had an? $kind namespace, and linux.namespaces .* has none .*restored, it would be .*the machine's.*--spec-check warning or ignore" \
			restore -d --image-path "$T/i" --bundle "$B" d
		expect_nothing_left d
	done
	cp "$T/whole.json" "$B/config.json"
	edit '.linux.namespaces |= map(if .type == "network" then .path = "/proc/self/ns/net" else . end)'
	fails "had a network namespace.*the machine's by its path" restore -d --image-path "$T/i" --bundle "$B" d
	cp "$T/whole.json" "$B/config.json"
	edit '.linux.namespaces |= map(select(.type != "cgroup"))'
	ok restore -d --spec-check warning --image-path "$T/i" --bundle "$B" d
	grep -q 'had a cgroup namespace' "$T/err" || fail "no warning: $(cat "$T/err")"
	ok delete -f d
	ok restore -d --spec-check ignore --image-path "$T/i" --bundle "$B" d
	[ ! -s "$T/err" ] || fail "a warning: $(cat "$T/err")"
}

test_namespaces_of_the_image() {
	bundle b
	edit '.linux.namespaces |= map(select(.type != "network"))'
	make_image
	edit '.linux.namespaces += [{"type": "network"}]'
	fails "was in the machine's network, .*gives it a network namespace: take \"network\" out" restore -d --image-path "$T/i" --bundle "$B" d
	expect_nothing_left d
	edit '.linux.namespaces |= map(if .type == "network" then .path = "/proc/self/ns/net" else . end)'
	ok restore -d --image-path "$T/i" --bundle "$B" d
}

# A tmpfs that the bundle does not have any more: the image's files must not get into the root file system, or a directory of the machine.
test_tmpfs_of_the_bundle() {
	bundle b
	cp "$B/config.json" "$T/whole.json"
	edit '.mounts += [{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]'
	make_image
	mkdir "$T/precious"
	echo mine > "$T/precious/file"
	cp "$T/whole.json" "$B/config.json"
	fails 'had a tmpfs of its own at /tmp, .* mounts nothing there.*let config.json mount a tmpfs' restore -d --image-path "$T/i" --bundle "$B" d
	edit '.mounts += [{"destination": "/tmp", "type": "bind", "source": $s, "options": ["bind"]}]' --arg s "$T/precious"
	fails "mounts another directory there, $T/precious" restore -d --image-path "$T/i" --bundle "$B" d
	[ "$(cat "$T/precious/file")" = mine ] || fail "a file of the machine is gone"
	expect_nothing_left d
}

test_damaged_record() {
	bundle b
	make_image
	printf X | dd of="$T/i/checkpoint.img" bs=1 seek=40 conv=notrunc 2> /dev/null
	fails 'checkpoint.img: offset [0-9]+: wrong checksum of a record of kind Container .the image is damaged: copy it again' restore -d --image-path "$T/i" --bundle "$B" d
	expect_nothing_left d
}

# About 40 MB in one process.
# shellcheck disable=SC2016
EATER='BEGIN { x = sprintf("%40000000s", "a"); system("echo ok > /cr/ok"); while (1) system("usleep 10000") }'

test_memory_limit() {
	bundle b awk "$EATER"
	start c
	eventually 20 test -e "$B/rootfs/cr/ok"
	ok checkpoint --image-path "$T/i" c
	edit '.linux.resources.memory = {"limit": 20971520, "swap": 20971520}'
	fails 'OOM killer ended the container while it was restored: its cgroup may have 20971520 bytes of memory, and the image has 40[0-9]{6} bytes.*raise linux.resources.memory.limit' \
		restore -d --lazy=no --image-path "$T/i" --bundle "$B" d
	expect_nothing_left d
}

test_no_space() {
	mkdir "$T/small"
	mount -t tmpfs -o size=1m none "$T/small" || fail "mount"
	bundle b awk "$EATER"
	start c
	eventually 20 test -e "$B/rootfs/cr/ok"
	fails "the image does not fit into $T/small/i: pages.img: no space left on device .1024 KiB are free: make room, or choose another directory" \
		checkpoint --image-path "$T/small/i" c
	expect_status c running
	head -c 2000000 /dev/zero > "$T/small/fill" 2> /dev/null
	"$STASIS" --root "$T/small/root" run -d --bundle "$B" x > "$T/out" 2>&1 < /dev/null && fail "runs"
	grep -Eq "state root $T/small/root|state directory $T/small/root/x: no space left" "$T/out" || fail "$(cat "$T/out")"
	umount "$T/small"
}

# with_limit LIMIT PATTERN COMMAND...: stasis under a limit of ulimit says what is in the way.
with_limit() {
	local limit=$1 pattern=$2 status=0
	shift 2
	# stdout and stderr are pipes: they have no size
	# shellcheck disable=SC2086
	{ (ulimit $limit && exec timeout 30 "$STASIS" --root "$ROOT" "$@" < /dev/null 2>&1) || echo "status $?"; } | cat > "$T/out"
	grep -q '^status 1$' "$T/out" || fail "ulimit $limit: stasis $*: $(cat "$T/out")"
	grep -Eq -- "$pattern" "$T/out" || fail "ulimit $limit: stasis $*: $(cat "$T/out")"
	[ "$(status c)" = running ] || fail "ulimit $limit: stasis $*: the container is $(status c)"
}

test_limits_of_the_command() {
	local kib
	bundle b
	start c
	ok checkpoint --leave-running --image-path "$T/i" c
	bundle other
	with_limit '-n 5' 'too many open files .this process may have 5: raise RLIMIT_NOFILE' state c
	with_limit '-n 10' 'this process may have 10: raise RLIMIT_NOFILE' checkpoint --leave-running --image-path "$T/j" c
	with_limit '-n 5' 'this process may have 5: raise RLIMIT_NOFILE' restore -d --image-path "$T/i" --bundle "$B" d
	with_limit '-f 1' 'pages.img: file too large .files that this process writes are limited to 1 KiB: raise RLIMIT_FSIZE' checkpoint --leave-running --image-path "$T/j" c
	with_limit '-f 1' 'raise RLIMIT_FSIZE' run -d --bundle "$B" d
	with_limit '-f 1' 'raise RLIMIT_FSIZE' restore -d --image-path "$T/i" --bundle "$B" d
	with_limit '-s 64' 'stack of this process is limited to 64 KiB, and may need' checkpoint --leave-running --image-path "$T/j" c
	with_limit '-l 0' 'process 1 had the hard limit RLIMIT_MEMLOCK [a-z0-9]+, and here it cannot be more than 0: raise that' restore -d --image-path "$T/i" --bundle "$B" d
	case $(file -L "$STASIS" 2> /dev/null; nm "$STASIS" 2> /dev/null | grep -c __asan_init) in
	*[1-9]) return ;; # its shadow does not fit
	esac
	for kib in 8000 12000 16000 20000 24000; do
		with_limit "-v $kib" "address space of this process is limited to $kib KiB: raise RLIMIT_AS" checkpoint --leave-running --image-path "$T/j" c
	done
	expect_nothing_left d
}

# Without /proc every container would look stopped, and "delete" would take away what is known of it.
test_without_proc() {
	bundle b
	start c
	unshare -m --propagation private sh -c 'mount -t tmpfs none /proc && exec "$@"' sh "$STASIS" --root "$ROOT" delete c > "$T/out" 2>&1 < /dev/null && fail "deleted"
	grep -q 'is /proc mounted?' "$T/out" || fail "$(cat "$T/out")"
	expect_status c running
}

test_output_is_full() {
	bundle b
	start c
	local command
	for command in "state c" list "ps c" "events --stats c" features; do
		# shellcheck disable=SC2086
		stasis $command > /dev/full 2> "$T/err" < /dev/null && fail "$command: succeeds"
		grep -q 'write to stdout: no space left on device' "$T/err" || fail "$command: $(cat "$T/err")"
	done
	stasis state c > /dev/null 2>&1 < /dev/null >&- || fail "without stdout: $?"
}

test_state_root() {
	bundle b
	start c
	[ "$(id -u)" = 0 ] || return 0
	setpriv --reuid 12345 --clear-groups "$STASIS" --root "$ROOT" state c > "$T/out" 2>&1 < /dev/null && fail "shown"
	grep -Eq "(/c: permission denied: it is in the state root of uid 0, and you are uid 12345: be that user, or give --root)" "$T/out" || fail "$(cat "$T/out")"
	mkdir "$ROOT/e"
	echo '{' > "$ROOT/e/state.json"
	fails "$ROOT/e/state.json is damaged .stasis delete --force e removes" state e
	ok delete --force e
	[ ! -e "$ROOT/e" ] || fail "it is still there"
}

run_test "$@"
