# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What can be done with the image of a sandbox as a whole: inspect, image stats, image pack and unpack.
# time limit: 120
. "$TESTS/lib.sh"

# member NAME [COMMAND...]: a running container NAME in the sandbox pod, with $T/vol as /vol.
member() {
	local name=$1
	shift
	mkdir -p "$T/vol"
	bundle "b-$name" "$@"
	edit '.mounts += [{"destination": "/vol", "type": "bind", "source": $vol, "options": ["bind", "rw"]}]' --arg vol "$T/vol"
	ok run -d --bundle "$B" --sandbox pod --container-name "$name" "c-$name"
}

# Three containers, two of which have a FIFO.
containers() {
	mkdir -p "$T/vol"
	mkfifo "$T/vol/fifo"
	member POD sh -c "$COUNTER"
	eventually 20 counted_beyond 0
	member reader sh -c 'exec 3<> /vol/fifo; touch /vol/reading; sleep 1000'
	member writer sh -c 'exec 3<> /vol/fifo; echo kept >&3; touch /vol/written; sleep 1000'
	eventually 5 test -e "$T/vol/reading"
	eventually 5 test -e "$T/vol/written"
}

# In $T/i.
pod() {
	containers
	ok checkpoint --sandbox pod --image-path "$T/i" "$@"
}

# come_back IMAGE: with what they had.
come_back() {
	local name before
	before=$(cat "$T/b-POD/rootfs/cr/count")
	for name in POD reader writer; do
		ok restore -d --image-path "$1" --bundle "$T/b-$name" --sandbox two --container-name "$name" "two-$name"
	done
	B=$T/b-POD
	eventually 5 counted_beyond "$before"
	ok exec two-reader sh -c 'read -r line < /proc/1/fd/3; [ "$line" = kept ]'
}

all_run_on() {
	local name
	for name in POD reader writer; do
		expect_status "c-$name" running
	done
	B=$T/b-POD
	expect_progress
}

test_inspect() {
	pod
	ok inspect --verify "$T/i"
	grep -q '^Sandbox pod, 3 containers$' "$T/out" || fail "$(cat "$T/out")"
	[ "$(awk '/^CONTAINER/ { on = 1; next } on && NF == 0 { exit } on { print $1, $2 }' "$T/out" | tr '\n' ' ')" = "POD c-POD reader c-reader writer c-writer " ] || fail "$(cat "$T/out")"
	grep -q 'pipe or FIFO pipe-.*: reader, writer (in the image of reader)' "$T/out" || fail "$(cat "$T/out")"
	ok inspect --format json "$T/i"
	jq -e '.sandbox == {"id": "pod", "container_count": 3} and (.containers | map([.name, .id, .directory, .generation, .shared_objects > 0])) ==
		[["POD", "c-POD", "containers/POD", 0, false], ["reader", "c-reader", "containers/reader", 0, true], ["writer", "c-writer", "containers/writer", 0, true]] and
		all(.containers[]; .processes >= 1 and .files >= 3 and .memory_bytes > 0 and .image_bytes > 0) and .image.stopped_us > 0 and
		(.shared | map([.kind, .containers, .owner])) == [["pipe or FIFO", ["reader", "writer"], "reader"]]' "$T/out" > "$T/jq" || fail "$(cat "$T/out")"
	ok inspect --format html "$T/i"
	grep -q '<h1>Sandbox pod</h1>' "$T/out" && grep -q '<td>reader, writer</td>' "$T/out" || fail "$(cat "$T/out")"
	ok inspect "$T/i/containers/writer"
}

# What is not that image any more is found, in each of its parts.
test_verify() {
	pod
	cp -r "$T/i" "$T/j"
	printf x | dd of="$T/j/containers/writer/pages.img" bs=1 seek=5000 conv=notrunc 2> "$T/dd" || fail "$(cat "$T/dd")"
	ok inspect "$T/j"
	fails 'container "writer".*pages.img' inspect --verify "$T/j"
	rm -r "$T/j"
	cp -r "$T/i" "$T/j"
	rm "$T/j/containers/reader/config.json"
	fails 'container "reader".*config.json' inspect --verify "$T/j"
	cp -r "$T/i/containers/writer/." "$T/j/containers/reader/"
	fails 'container "reader" is not the one' inspect "$T/j"
	rm -r "$T/j/containers/POD"
	fails 'container POD' inspect "$T/j"
}

test_stats() {
	pod
	ok image stats "$T/i"
	[ "$(awk '{ print $1 }' "$T/out" | head -n 4 | tr '\n' ' ')" = "container POD reader writer " ] || fail "$(cat "$T/out")"
	ok image stats --json "$T/i"
	cp "$T/out" "$T/whole"
	jq -e '.sandbox == "pod" and (.containers | keys) == ["POD", "reader", "writer"] and
		.total.memory == ([.containers[].memory] | add) and .total.files == ([.containers[].files] | add) and .total.codec == "none"' "$T/whole" > "$T/jq" || fail "$(cat "$T/whole")"
	ok image stats --json "$T/i/containers/reader"
	[ "$(jq -Sc . "$T/out")" = "$(jq -Sc .containers.reader "$T/whole")" ] || fail "$(cat "$T/out" "$T/whole")"
	fails 'never has parents' image squash "$T/i"
}

# Through a pipe, and restored from what comes out.
test_pack() {
	pod
	stasis image pack "$T/i" < /dev/null 2> "$T/err" | stasis image unpack "$T/j" 2> "$T/err2" || fail "$(cat "$T/err" "$T/err2")"
	local f
	(cd "$T/i" && find . -type f) | while read -r f; do
		case $f in
		*.log | ./stats-dump) ;;
		*) cmp -s "$T/i/$f" "$T/j/$f" || fail "$f is another one" ;;
		esac
	done || exit 1
	[ -z "$(find "$T/j" -type f ! -perm 600)$(find "$T/j" -type d ! -perm 700)" ] || fail "modes: $(find "$T/j" -ls)"
	rm -r "$T/i"
	come_back "$T/j"
	stasis image pack "$T/j" > "$T/stream" < /dev/null || fail "pack"
	"$STASIS" --root "$ROOT" restore --image-path - --bundle "$T/b-POD" three < "$T/stream" > "$T/out" 2>&1 && fail "restored"
	grep -q 'it is one of a sandbox: make a directory of it' "$T/out" || fail "$(cat "$T/out")"
	head -c 20000 "$T/stream" | stasis image unpack "$T/k" > "$T/out" 2>&1 && fail "a part of it"
	[ ! -e "$T/k" ] || fail "left: $(find "$T/k")"
}

test_pack_compressed() {
	pod --compress zstd
	ok image stats --json "$T/i"
	[ "$(jq -r .total.codec "$T/out")" = zstd ] || fail "$(cat "$T/out")"
	ok inspect --verify "$T/i"
	fails 'compress the stream' image pack "$T/i"
	[ ! -s "$T/out" ] || fail "some of it was packed"
}

# Straight into a stream, as a migration does it.
test_stream() {
	containers
	stasis checkpoint --sandbox --leave-running --compress zstd --image-path fd:9 pod 9> "$T/stream" > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	all_run_on
	stasis image unpack "$T/left" < "$T/stream" 2> "$T/err" || fail "$(cat "$T/err")"
	ok inspect --verify "$T/left"
	stasis checkpoint --sandbox --pre-copy --print-stats --image-path - pod 2> "$T/err" | stasis image unpack "$T/j" 2> "$T/err2" || fail "$(cat "$T/err" "$T/err2")"
	jq -e '.sandbox == "pod" and (.containers | length) == 3' "$T/err" > "$T/jq" || fail "$(cat "$T/err")"
	ok inspect --verify "$T/j"
	local name
	for name in POD reader writer; do
		fails 'does not exist' state "c-$name"
	done
	come_back "$T/j"
}

# sent_to COMMAND...: a checkpoint that fails, whose stream goes there.
sent_to() {
	local status
	stasis checkpoint --sandbox --stream-timeout 1 --image-path - pod 2> "$T/err" | "$@"
	status=${PIPESTATUS[0]}
	[ "$status" != 0 ] || fail "succeeds, with nobody who has the image"
}

# Whoever reads it does not get all of it: then the containers run on.
test_stream_without_reader() {
	containers
	sent_to head -c 5000 > "$T/part"
	grep -q 'whoever reads the image stream has gone' "$T/err" || fail "$(cat "$T/err")"
	all_run_on
	stasis image unpack "$T/j" < "$T/part" > "$T/out" 2>&1 && fail "a part of it"
	sent_to sleep 3
	grep -q 'has taken nothing for 1 s' "$T/err" || fail "$(cat "$T/err")"
	all_run_on
	mkfifo "$T/fifo"
	stasis checkpoint --sandbox --image-path - pod > "$T/fifo" 2> "$T/err" &
	local pid=$!
	exec 8< "$T/fifo"
	head -c 1 <&8 > "$T/part"
	kill -TERM "$pid"
	wait "$pid" && fail "succeeds though it was cancelled"
	exec 8<&-
	all_run_on
	FAULT=together-committed stasis checkpoint --sandbox --image-path fd:8 pod 8> "$T/part" 2> "$T/err" && fail "succeeds though a surgeon was killed"
	[ ! -s "$T/part" ] || fail "some of it was sent"
	all_run_on
	fails 'leave --dedup out' checkpoint --sandbox --dedup --image-path fd:8 pod 8> "$T/part"
	fails 'not open for writing' checkpoint --sandbox --image-path fd:8 pod 8< "$T/part"
	stasis checkpoint --sandbox --image-path - pod 2> "$T/err" | stasis image unpack "$T/i" || fail "$(cat "$T/err")"
	come_back "$T/i"
}

# The process that reads an image does with what its caller may have; or says that this is too little.
test_limits() {
	# The sanitizers want terabytes of addresses, before anything of ours runs.
	readelf -d "$STASIS" > "$T/needs"
	if grep -q libasan "$T/needs"; then return 0; fi
	pod
	local limit said
	for limit in --fsize=33554432 --as=67108864 --data=16777216 --nofile=64; do
		prlimit "$limit" "$STASIS" inspect "$T/i" > "$T/out" 2>&1 || fail "$limit: $(cat "$T/out")"
		prlimit "$limit" "$STASIS" image stats "$T/i/containers/POD" > "$T/out" 2>&1 || fail "$limit: $(cat "$T/out")"
	done
	for limit in --fsize=0 --as=8388608; do
		said=$(prlimit "$limit" "$STASIS" inspect "$T/i" 2>&1) && fail "$limit: read"
		[[ $said == *memory* ]] || fail "$limit: $said"
	done
	come_back "$T/i"
}

run_test "$@"
