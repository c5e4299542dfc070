# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# restore --lazy: who fills the memory, what happens when it cannot be filled, and that nothing is left of it.
# time limit: 120
. "$TESTS/lib.sh"

# A program whose memory (24 MiB, of a shell variable) is large enough to come lazily, and which says its checksum when asked.
PROGRAM='
	text=$(head -c 18000000 /dev/urandom | base64 -w 0)
	echo "sum $(echo "$text" | md5sum)"
	echo ready
	while read -r line < /in; do echo "$line $(echo "$text" | md5sum)"; done'

make_image() {
	bundle b sh -c "$PROGRAM"
	mkfifo "$B/rootfs/in"
	stasis run -d --bundle "$B" c < /dev/null > "$T/c.out" 2> "$T/err" || fail "run: $(cat "$T/err")"
	eventually 20 grep -q ready "$T/c.out"
	ok checkpoint --image-path "$T/i" "$@" c
	sum=$(sed -n 's/^sum //p' "$T/c.out")
	image=$T/i
}

# restored [OPTION...]: restores "c", detached.
restored() {
	timeout 60 "$STASIS" --root "$ROOT" "${DRIVER[@]}" restore -d --image-path "$image" --bundle "$B" "$@" c < /dev/null > "$T/c.out" 2> "$T/err" ||
		fail "restore $*: $(cat "$T/err")"
}

# The worker stops before its second piece of memory, as often as it is let go on.
held() {
	FAULT=lazy-filling:stop restored --lazy=yes
	worker='' guard=''
	eventually 20 found
}

# Ours have the state directory open.
ours() {
	local p
	for p in $(pgrep -x "$1"); do
		readlink "/proc/$p"/fd/* 2> /dev/null | grep -qx "$ROOT/c/filling" && echo "$p"
	done
}

found() {
	worker=$(ours stasis-lazy)
	guard=$(ours stasis-guard)
	[ -n "$worker" ] && [ -n "$guard" ] && grep -q '^State:.T' "/proc/$worker/status"
}

# Until it ends.
let_go_on() {
	eventually 60 went_on
}

went_on() {
	! kill -CONT "$worker" 2> /dev/null || grep -qs "^State:.Z" "/proc/$worker/status"
}

same_memory() {
	echo again > "$B/rootfs/in" &
	eventually 20 grep -q again "$T/c.out"
	wait $!
	[ "$(sed -n 's/^again //p' "$T/c.out")" = "$sum" ] || fail "other memory: $(cat "$T/c.out"), not $sum"
}

expect_killed() {
	fails "$1" wait --restore --timeout 30 c
	ok state c
	grep -q '"status": "stopped"' "$T/out" || fail "it runs on: $(cat "$T/out")"
	ok delete c
	expect_nothing_left c
	[ -z "$(ours stasis-lazy)$(ours stasis-guard)" ] || fail "a process is left"
}

test_same_as_eager() {
	local begun='' ended=''
	make_image
	restored --lazy=no
	[ ! -e "$ROOT/c/filling" ] || fail "--lazy=no is lazy"
	same_memory
	ok delete -f c
	restored --lazy
	[ ! -e "$ROOT/c/filling" ] || begun=1
	same_memory
	[ ! -e "$ROOT/c/filling" ] || ended=0
	ok wait --restore c
	[ ! -e "$ROOT/c/filling" ] || fail "complete, and yet there is a file"
	ok delete -f c
	restored
	ok wait --restore --timeout 60 c
	same_memory
	# All of it was read while it came.
	[ -z "$begun" ] || [ -z "$ended" ] || [ -s "$T/i/working_set.img" ] || fail "no working set"
	head -c 100 /dev/urandom > "$T/i/working_set.img"
	ok delete -f c
	restored --lazy=auto --thp=yes
	same_memory
	ok delete -f c
	expect_nothing_left c
	fails 'invalid --lazy' restore --lazy=perhaps --image-path "$T/i" --bundle "$B" c
	fails '\-\-restore' wait c
	fails 'does not exist' wait --restore c
}

test_handler_has_nothing_of_the_caller() {
	make_image
	held
	fails 'not complete yet' wait --restore --timeout 1 c
	for p in $worker $guard; do
		readlink "/proc/$p"/fd/{0,1,2} | grep -v '^/dev/null$' && fail "stdio of $p"
		! readlink "/proc/$p"/fd/* | grep -E "$T/(c\.out|err)|pipe:" || fail "descriptors of $p"
		! grep -q "$(cgroup_name b)" "/proc/$p/cgroup" || fail "in the container's cgroup: $p"
		[ "$(readlink "/proc/$p/cwd")" = / ] || fail "its directory: $p"
		[ "$(awk '/^VmHWM/ { print $2 }' "/proc/$p/status")" -lt 65536 ] || fail "too large: $p"
	done
	# A task that waits for memory in a system call freezes when it has it.
	(let_go_on) &
	ok pause c
	ok resume c
	wait $!
	ok wait --restore c
	same_memory
	ok delete -f c
	expect_nothing_left c
}

test_worker_is_killed() {
	make_image
	held
	kill -KILL "$worker"
	expect_killed 'killed before all of it was there'
	restored --lazy=yes
	same_memory
	ok delete -f c
}

test_guard_is_killed() {
	make_image
	held
	kill -KILL "$guard"
	let_go_on
	expect_killed 'killed before all of it was there'
}

test_both_are_killed() {
	make_image
	held
	kill -KILL "$worker" "$guard"
	expect_killed 'were killed: it has been killed|killed before all of it was there'
}

test_image_is_truncated() {
	make_image
	held
	truncate -s 2M "$T/i/pages.img"
	let_go_on
	expect_killed 'pages.img'
}

test_image_is_damaged() {
	make_image
	held
	printf 'damaged' | dd of="$T/i/pages.img" bs=1 seek=20000000 conv=notrunc 2> /dev/null
	let_go_on
	expect_killed 'pages.img: offset [0-9]+: wrong checksum'
}

# Compressed pieces are checked before they are decompressed.
test_compressed_image_is_damaged() {
	make_image --compress zstd
	held
	printf 'damaged' | dd of="$T/i/pages.img" bs=1 seek=$(($(stat -c %s "$T/i/pages.img") - 2000000)) conv=notrunc 2> /dev/null
	let_go_on
	expect_killed 'pages.img: offset [0-9]+: wrong checksum'
}

test_deleted_while_filling() {
	make_image
	held
	(sleep 0.5; let_go_on) &
	ok delete -f c
	wait $!
	expect_nothing_left c
	held
	ok kill c KILL
	let_go_on
	ok wait --restore c
	ok delete c
	expect_nothing_left c
}

test_checkpoint_waits() {
	make_image
	held
	(sleep 0.5; let_go_on) &
	ok checkpoint --image-path "$T/j" c
	wait $!
	image=$T/j
	restored --lazy=no
	same_memory
	ok delete -f c
	expect_nothing_left c
}

# guarded LAZY ARG...: whether a program with guard regions is restored lazily.
guarded() {
	local lazy=$1
	shift
	bundle b /bin/stack_guards "$@"
	cp "$BUILD/tests/cr/stack_guards" "$B/rootfs/bin/"
	chmod 777 "$B/rootfs/cr"
	start c
	eventually 10 test -e "$B/rootfs/cr/ready.1"
	[ ! -e "$B/rootfs/cr/result.1" ] || skip "$(cat "$B/rootfs/cr/result.1")"
	ok checkpoint --image-path "$T/i" c
	image=$T/i
	if [ "$lazy" = yes ]; then
		held
		let_go_on
		ok wait --restore c
	else
		restored --lazy=yes
		[ ! -e "$ROOT/c/filling" ] || fail "lazily, with $*"
	fi
	echo > "$B/rootfs/cr/go"
	mv "$B/rootfs/cr/go" "$B/rootfs/cr/go.1"
	eventually 20 test -e "$B/rootfs/cr/result.1"
	[ "$(cat "$B/rootfs/cr/result.1")" = PASS ] || fail "$(cat "$B/rootfs/cr/result.1")"
	ok delete -f c
	expect_nothing_left c
	rm -rf "$T/b" "$T/i"
}

# Those below the stacks of threads tell of nothing but threads; others may come and go where memory is still missing.
test_guard_regions() {
	guarded yes
	guarded no heap
	guarded no coroutine
}

run_test "$@"
