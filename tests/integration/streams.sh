# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Images through pipes: whole, slow, cut off, damaged, without a reader.
# time limit: 180
. "$TESTS/lib.sh"

counter() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
}

# 256 MiB of random bytes, whose checksum is looked at again and again.
# shellcheck disable=SC2016
MEMORY='head -c 67108864 /dev/urandom > /dev/shm/data; md5sum /dev/shm/data > /cr/sum; i=0; while :; do i=$((i+1)); printf "%8d\n" $i 1<> /cr/count; usleep 10000; done'

large() {
	bundle b sh -c "$MEMORY"
	start c
	eventually 30 test -e "$B/rootfs/cr/count"
	PID=$(init_pid c) # a command on the container waits for the checkpoint
}

# For a container beside it, with the same files.
other_bundle() {
	mkdir "$T/b2"
	cp "$B/config.json" "$T/b2"
	ln -s "$B/rootfs" "$T/b2/rootfs"
	B=$T/b2
	# shellcheck disable=SC2016
	edit '.linux.cgroupsPath = $path | .root.path = $root' --arg path "$(cgroups_path b2)" --arg root "$T/b/rootfs"
}

large_is_whole() {
	ok exec "$1" md5sum /dev/shm/data
	cmp "$T/out" "$B/rootfs/cr/sum" || fail "other contents: $(cat "$T/out" "$B/rootfs/cr/sum")"
}

# A container that goes on after its checkpoint must not be counted by a file of its bundle, which the second one would want as it
# was: these count in /dev/shm. inside ID: how far is it?
inside() {
	COUNT_IN=$1
	count() {
		local n
		n=$(stasis exec "$COUNT_IN" cat /dev/shm/count < /dev/null 2> /dev/null)
		echo "${n:-0}"
	}
}

# Streams: its output must not be a file of the test's, nor of a container that goes on.
checkpoint_to() {
	stasis checkpoint --image-path - "${@:2}" c < /dev/null 2> "$T/said" > "$1"
}

runs_on() {
	PID=$(init_pid c)
	eventually 10 no_tracer
	expect_status c running
	expect_progress
}

no_tracer() {
	grep -q "^TracerPid:.0$" "/proc/$PID/status"
}

# no_image FILE: it is not taken for a whole one.
no_image() {
	! stasis image unpack "$T/unpacked" < "$1" > "$T/out" 2>&1 || fail "a whole image: $1"
	[ -s "$T/out" ] || fail "no message"
	[ ! -e "$T/unpacked" ] || fail "left: $(ls -R "$T/unpacked")"
}

test_there_and_back() {
	counter
	stasis checkpoint --image-path - --print-stats c 2> "$T/said" < /dev/null | cat > "$T/stream" || fail "$(cat "$T/said")"
	grep -q total_us "$T/said" || fail "the statistics are not on stderr"
	expect_nothing_left c
	# shellcheck disable=SC2002
	cat "$T/stream" | stasis restore -d --image-path - --bundle "$B" c > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	expect_progress
	[ "$(readlink "/proc/$(init_pid c)/fd/0")" = /dev/null ] || fail "its stdin is $(readlink "/proc/$(init_pid c)/fd/0")"
}

test_through_zstd_and_other_descriptors() {
	local status=0
	[ -x "$(command -v zstd)" ] || skip "not on this machine: zstd"
	large
	other_bundle
	{ stasis checkpoint --image-path fd:7 c 7>&1 > "$T/log" 2>&1 < /dev/null | zstd -q -1; } 2> "$T/said" |
		zstd -q -d 2> "$T/said2" | stasis restore -d --image-path fd:9 --bundle "$B" d 9<&0 > "$T/out" 2>&1 < /dev/null || status=$?
	[ $status = 0 ] || fail "$(cat "$T/out" "$T/log" "$T/said" "$T/said2")"
	expect_progress
	large_is_whole d
	[ ! -s "$T/log" ] || fail "said: $(cat "$T/log")"
}

test_directories_and_streams_are_the_same() {
	large
	ok checkpoint --image-path "$T/i" c
	rm "$T/i/dump.log"
	stasis image pack "$T/i" > "$T/packed" || fail "pack"
	ok image pack "$T/i"
	cmp "$T/out" "$T/packed" || fail "packed twice it differs"
	stasis image unpack "$T/unpacked" < "$T/packed" || fail "unpack"
	diff -r "$T/i" "$T/unpacked" || fail "it comes back otherwise"
	ok inspect --verify "$T/unpacked"
	# Not over another image, and not into something else.
	! stasis image unpack "$T/i" < "$T/packed" > "$T/out" 2>&1 || fail "over an image"
	diff -r "$T/i" "$T/unpacked" || fail "the image was changed"
	stasis restore -d --image-path - --bundle "$B" c < "$T/packed" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	expect_progress
	large_is_whole c
	# What a checkpoint streams becomes a directory, and is restored from there.
	checkpoint_to "$T/stream" || fail "$(cat "$T/said")"
	stasis image unpack "$T/second" < "$T/stream" || fail "unpack"
	ok inspect --verify "$T/second"
	stasis image pack "$T/second" > "$T/packed" || fail "pack"
	rm -r "$T/unpacked"
	stasis image unpack "$T/unpacked" < "$T/packed" || fail "unpack"
	diff -r "$T/second" "$T/unpacked" || fail "it comes back otherwise"
	ok restore -d --image-path "$T/second" --bundle "$B" c
	expect_progress
	large_is_whole c
}

# variants KIND: $T/variants/*, damaged copies of $T/stream.
variants() {
	python3 -B - "$T/stream" "$T/variants" "$1" <<- 'END'
		import os, random, shutil, struct, sys
		random.seed(4711)
		data, to, kind = open(sys.argv[1], "rb").read(), sys.argv[2], sys.argv[3]
		shutil.rmtree(to, ignore_errors=True)
		os.mkdir(to)
		starts, at = [], 16
		while at < len(data):
		    starts.append(at)
		    at += 24 + struct.unpack_from("<Q", data, at + 16)[0] + 8
		assert at == len(data) and len(starts) > 8, (at, len(data), starts)
		middles = [s + random.randrange(1, 30) for s in starts] + [random.randrange(len(data)) for _ in range(10)]
		if kind == "cut":
		    for p in dict.fromkeys([0, 1, 8, 15] + starts + middles + [len(data) - 1]):
		        open(f"{to}/{p}", "wb").write(data[:p])
		elif kind == "flip":
		    for p in dict.fromkeys([0, 8, 12] + [s + d for s in starts for d in (0, 4, 8, 16, 19)] + middles + [len(data) - 1]):
		        open(f"{to}/{p}", "wb").write(data[:p] + bytes([data[p] ^ 1 << random.randrange(8)]) + data[p + 1:])
		else:  # frames that are missing, twice there, or in another order
		    frames = [data[a:b] for a, b in zip(starts, starts[1:] + [len(data)])]
		    for n in range(len(frames)):
		        for name, list in (("without", frames[:n] + frames[n + 1:]), ("twice", frames[:n + 1] + frames[n:]),
		                           ("swapped", frames[:n] + frames[n + 1:n + 2] + frames[n:n + 1] + frames[n + 2:])):
		            if list != frames and b"".join(list)[:len(b"".join(frames))] != b"".join(frames):
		                open(f"{to}/{name}.{n}", "wb").write(data[:16] + b"".join(list))
	END
}

refuse_all() {
	local f status n=0
	for f in "$T"/variants/*; do
		status=0
		timeout 30 "$STASIS" --root "$ROOT" restore -d --image-path - --work-path "$T" --bundle "$B" d < "$f" > "$T/out" 2>&1 || status=$?
		[ $status = 1 ] || fail "$1 ${f##*/}: exit $status: $(cat "$T/out")"
		grep -Eq "image stream: (offset [0-9]+|.*offset|.*magic|it ends|format)" "$T/out" || fail "$1 ${f##*/}: $(cat "$T/out")"
		[ ! -e "$ROOT/d" ] || fail "$1 ${f##*/}: left in the state root"
		no_processes || fail "$1 ${f##*/}: left processes"
		! stasis image unpack "$T/unpacked" < "$f" > "$T/out" 2>&1 || fail "$1 ${f##*/}: unpacked"
		[ ! -e "$T/unpacked" ] || fail "$1 ${f##*/}: left files"
		n=$((n + 1))
	done
	[ $n -gt 10 ] || fail "only $n variants"
}

# damaged KIND [OPTION of checkpoint...]
damaged() {
	counter
	checkpoint_to "$T/stream" "${@:2}" || fail "$(cat "$T/said")"
	variants "$1"
	refuse_all "$1"
	stasis restore -d --image-path - --bundle "$B" c < "$T/stream" > "$T/out" 2>&1 || fail "the undamaged one: $(cat "$T/out")"
	expect_progress
}

test_cut_off() {
	damaged cut
}

test_flipped_bits() {
	damaged flip
}

test_frames_out_of_order() {
	damaged order
}

test_flipped_bits_of_a_compressed_one() {
	damaged flip --compress lz4
}

test_compressed_one_cut_off() {
	damaged cut --compress zstd
}

test_reader_goes() {
	local n
	large
	for n in 0 1 16 20000 1000000 60000000; do
		! stasis checkpoint --image-path - c < /dev/null 2> "$T/said" | head -c $n > "$T/part" || fail "it succeeds, of which only $n bytes were read"
		grep -q "reads the image stream has gone" "$T/said" || fail "$n bytes: $(cat "$T/said")"
		runs_on
		[ "$n" -le 16 ] || no_image "$T/part"
	done
	# Nobody at all.
	! stasis checkpoint --image-path - c < /dev/null 2> "$T/said" | true || fail "it succeeds without a reader"
	runs_on
	! stasis checkpoint --image-path - c > /dev/full < /dev/null 2> "$T/said" || fail "it succeeds on a full disk"
	grep -qi "no space left" "$T/said" || fail "$(cat "$T/said")"
	runs_on
	checkpoint_to "$T/stream" || fail "$(cat "$T/said")"
}

# A reader that holds the pipe and reads nothing.
stall() {
	mkfifo "$T/pipe"
	# shellcheck disable=SC2217
	sleep 1000 < "$T/pipe" &
	READER=$!
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" checkpoint --image-path - "$@" c > "$T/pipe" 2> "$T/said" < /dev/null &
	GUARD=$!
}

stalls() {
	# The guard has a child, which has the container's init in its hands.
	! no_tracer
}

ended() {
	local status=0
	wait "$GUARD" || status=$?
	[ $status != 0 ] || fail "the checkpoint succeeds"
	runs_on
	kill "$READER"
}

test_reader_stalls() {
	large
	stall --stream-timeout 1
	ended
	grep -q "taken nothing for 1 s" "$T/said" || fail "$(cat "$T/said")"
}

test_cancelled_while_the_reader_stalls() {
	large
	stall --stream-timeout 0
	eventually 20 stalls
	kill -TERM "$GUARD"
	ended
	grep -q "cancelled" "$T/said" || fail "$(cat "$T/said")"
}

test_guard_killed_while_the_reader_stalls() {
	large
	stall
	eventually 20 stalls
	kill -KILL "$GUARD"
	ended
}

test_surgeon_killed_while_the_reader_stalls() {
	large
	stall
	eventually 20 stalls
	kill -KILL "$(cat /proc/"$GUARD"/task/"$GUARD"/children)"
	ended
}

test_slow_reader_and_writer() {
	large
	other_bundle
	stasis checkpoint --image-path - c < /dev/null 2> "$T/said" |
		python3 -c 'import os, time
n = 0
while True:
	b = os.read(0, 300000)
	if not b: break
	while b: b = b[os.write(1, b):]
	n += 1
	if n % 8 == 0: time.sleep(0.02)' |
		stasis restore -d --image-path - --bundle "$B" d > "$T/out" 2>&1 || fail "$(cat "$T/out" "$T/said")"
	expect_progress
	large_is_whole d
}

# A restore that waits for more is ended: nothing is left, and nobody reads on.
test_restore_killed_while_it_waits() {
	local sig restore
	large
	checkpoint_to "$T/stream" || fail "$(cat "$T/said")"
	for sig in TERM KILL; do
		mkfifo "$T/pipe.$sig"
		"$STASIS" --root "$ROOT" "${DRIVER[@]}" restore -d --image-path - --bundle "$B" d < "$T/pipe.$sig" > "$T/out" 2>&1 &
		restore=$!
		exec 8> "$T/pipe.$sig"
		head -c 30000000 "$T/stream" >&8
		kill -$sig $restore
		wait $restore && fail "it succeeds"
		eventually 10 writing_fails
		exec 8>&-
		stasis delete -f d > "$T/out" 2>&1 < /dev/null || true
		expect_nothing_left d
	done
	stasis restore -d --image-path - --bundle "$B" c < "$T/stream" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	large_is_whole c
}

writing_fails() {
	(
		trap '' PIPE
		! echo x >&8
	) 2> /dev/null
}

# A stream that ends in the middle of the pages: the processes are there already.
test_writer_goes() {
	large
	checkpoint_to "$T/stream" || fail "$(cat "$T/said")"
	! head -c 40000000 "$T/stream" | stasis restore -d --image-path - --bundle "$B" d > "$T/out" 2>&1 || fail "it succeeds"
	grep -q "it ends in the frame at offset" "$T/out" || fail "$(cat "$T/out")"
	expect_nothing_left d
}

test_over_tcp_with_little_memory() {
	large
	other_bundle
	python3 -B - "$STASIS" "$ROOT" "$B" > "$T/out" 2>&1 <<- 'END' || fail "$(cat "$T/out")"
		import resource, socket, subprocess, sys
		stasis, root, bundle = sys.argv[1:]
		server = socket.create_server(("127.0.0.1", 0))
		a = socket.create_connection(server.getsockname())
		b, _ = server.accept()
		restore = subprocess.Popen([stasis, "--root", root, "restore", "-d", "--image-path", "-", "--bundle", bundle, "d"],
		                           stdin=b, stdout=subprocess.DEVNULL)
		b.close()
		dump = subprocess.run([stasis, "--root", root, "checkpoint", "--image-path", f"fd:{a.fileno()}", "c"],
		                      stdin=subprocess.DEVNULL, pass_fds=[a.fileno()])
		used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
		a.close()
		assert dump.returncode == 0 and restore.wait() == 0
		assert used < 40 << 10, f"the checkpoint took {used} KiB"
	END
	expect_progress
	large_is_whole d
}

test_leave_running() {
	local program=${MEMORY//\/cr\/.count//dev/shm/.count}
	program=${program/67108864/60000000} # there is room for 64 MiB
	bundle b sh -c "${program//\/cr\/count//dev/shm/count}"
	start c
	inside c
	eventually 30 counted_beyond 0
	checkpoint_to "$T/stream" --leave-running || fail "$(cat "$T/said")"
	runs_on
	ok delete -f c
	stasis restore -d --image-path - --bundle "$B" d < "$T/stream" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	inside d
	expect_progress
	large_is_whole d
}

# One process with 32 MiB, which writes them to a file when it is asked.
# shellcheck disable=SC2016
ALONE='BEGIN {
	x = "some words that are repeated, "
	while (length(x) < 32000000) x = x length(x) x
	while (1) {
		print ++i > "/dev/shm/count"; close("/dev/shm/count")
		if ((getline line < "/cr/ask") > 0) { printf "%s", x > "/cr/.x"; close("/cr/.x"); print "done" > "/cr/x"; close("/cr/x"); while (1) n++ }
		close("/cr/ask")
		for (k = 0; k < 100000; k++) n++
	}
}'

alone() {
	bundle b awk "$ALONE"
	ln -s busybox "$B/rootfs/bin/awk" 2> /dev/null
	start c
	inside c
	eventually 60 counted_beyond 0
	PID=$(init_pid c)
}

cpu_time() {
	awk '{ print $14 }' "/proc/$PID/stat"
}

ran_on() {
	[ "$(cpu_time)" -gt "$1" ]
}

heap_stream() {
	alone
	checkpoint_to "$T/stream" "$@" || fail "$(cat "$T/said")"
}

memory_is_right() {
	eventually 30 test -s "$B/rootfs/cr/x"
	python3 -c 'import sys
x = "some words that are repeated, "
while len(x) < 32000000: x = x + str(len(x)) + x
sys.exit(open(sys.argv[1]).read() != x)' "$B/rootfs/cr/.x" || fail "its memory is another one"
}

# It is not stopped for as long as the reader takes.
test_leave_running_while_the_reader_stalls() {
	local status=0 n ran
	alone
	mkfifo "$T/pipe"
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" checkpoint --leave-running --image-path - c > "$T/pipe" 2> "$T/said" < /dev/null &
	GUARD=$!
	exec 8< "$T/pipe"
	read -r -N 8 -u 8 n
	[ "$n" = STASISST ] || fail "the stream begins with $n"
	# From here on the pipe is full, and nobody reads. Commands on the container wait; it runs.
	eventually 20 no_tracer
	ran=$(cpu_time)
	eventually 20 ran_on "$ran"
	kill -0 $GUARD || fail "the checkpoint has ended"
	{ printf STASISST && cat <&8; } > "$T/stream"
	exec 8<&-
	wait $GUARD || status=$?
	[ $status = 0 ] || fail "$(cat "$T/said")"
	expect_progress
	ok delete -f c
	stasis restore -d --image-path - --bundle "$B" d < "$T/stream" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	inside d
	expect_progress
	echo now > "$B/rootfs/cr/ask"
	memory_is_right
}

# The process that reads a stream for this test.
reader_pid() {
	local f
	grep -lx "stasis-stream" /proc/[0-9]*/comm 2> /dev/null | while read -r f; do
		grep -sqz "^T=$T$" "${f%/comm}/environ" && echo "${f//[^0-9]/}"
	done
}

# KiB of page data that it still has in memory.
kept_kib() {
	local fd
	for fd in "/proc/$1/fd/"*; do
		case $(readlink "$fd") in
		*memfd:pages.img*) echo $(($(stat -L -c %b "$fd") / 2)) ;;
		esac
	done
}

few_kept() {
	local kib
	kib=$(kept_kib "$(reader_pid)")
	[ -n "$kib" ] && [ "$kib" -lt 4096 ]
}

# All but the end has come: it is in the container's memory, and nowhere else.
test_memory_is_not_kept_twice() {
	heap_stream "$@"
	mkfifo "$T/pipe"
	timeout 60 "$STASIS" --root "$ROOT" "${DRIVER[@]}" restore -d --image-path - --bundle "$B" d < "$T/pipe" > "$T/out" 2>&1 &
	RESTORE=$!
	exec 8> "$T/pipe"
	head -c -32 "$T/stream" >&8
	eventually 20 few_kept
	tail -c 32 "$T/stream" >&8
	exec 8>&-
	wait $RESTORE || fail "$(cat "$T/out")"
	inside d
	expect_progress
	echo now > "$B/rootfs/cr/ask"
	memory_is_right
}

# lazy_until SIZE: a lazy restore whose stream stops $1 bytes before its end; the rest can be written to descriptor 8.
lazy_until() {
	[ -w /dev/userfaultfd ] || skip "not on this machine: /dev/userfaultfd"
	mkfifo "$T/lazy"
	timeout 60 "$STASIS" --root "$ROOT" "${DRIVER[@]}" restore -d --lazy --image-path - --bundle "$B" d < "$T/lazy" > "$T/out" 2>&1 &
	RESTORE=$!
	exec 8> "$T/lazy"
	head -c "-$1" "$T/stream" >&8
	wait $RESTORE || fail "$(cat "$T/out")"
	inside d
}

# The program runs before all of it has come.
test_lazy_while_it_arrives() {
	heap_stream
	lazy_until 8000000
	expect_progress
	echo now > "$B/rootfs/cr/ask"
	tail -c 8000000 "$T/stream" >&8
	exec 8>&-
	ok wait --restore d
	memory_is_right
	expect_no_reader
}

test_lazy_while_compressed_memory_arrives() {
	heap_stream --compress zstd
	[ "$(stat -c %s "$T/stream")" -lt 1000000 ] || fail "32 MB of words take $(stat -c %s "$T/stream") bytes"
	lazy_until 40000
	expect_progress
	echo now > "$B/rootfs/cr/ask"
	tail -c 40000 "$T/stream" >&8
	exec 8>&-
	ok wait --restore d
	memory_is_right
	expect_no_reader
}

test_lazy_and_the_writer_of_compressed_memory_goes() {
	heap_stream --compress lz4
	lazy_until 40000
	expect_progress
	exec 8>&-
	fails 'it ends in the frame at offset' wait --restore d
	expect_status d stopped
	ok delete -f d
	expect_nothing_left d
	expect_no_reader
}

# Words and random bytes: pieces of both kinds.
compressed_there_and_back() {
	alone
	stasis exec c sh -c 'head -c 20000000 /dev/urandom > /dev/shm/random; md5sum /dev/shm/random > /cr/sum' < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	checkpoint_to "$T/stream" --compress "$1" || fail "$(cat "$T/said")"
	[ "$(stat -c %s "$T/stream")" -lt 36000000 ] || fail "it takes $(stat -c %s "$T/stream") bytes"
	stasis image unpack "$T/unpacked" < "$T/stream" || fail "unpack"
	ok inspect --verify "$T/unpacked"
	stasis restore -d --image-path - --bundle "$B" c < "$T/stream" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	inside c
	expect_progress
	ok exec c md5sum /dev/shm/random
	cmp "$T/out" "$B/rootfs/cr/sum" || fail "other contents"
	echo now > "$B/rootfs/cr/ask"
	memory_is_right
}

test_compressed_by_lz4() {
	compressed_there_and_back lz4
}

test_compressed_by_zstd() {
	compressed_there_and_back zstd:3
}

test_compressed_directories_and_streams() {
	local plain packed
	alone
	stasis exec c sh -c 'head -c 20000000 /dev/urandom > /dev/shm/data; md5sum /dev/shm/data > /cr/sum' < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	ok checkpoint --compress lz4 --image-path "$T/i" c
	stasis image pack "$T/i" > "$T/packed" || fail "pack"
	stasis image pack --compress zstd "$T/i" > "$T/packed.zstd" || fail "pack"
	stasis image unpack "$T/plain" < "$T/packed" || fail "unpack"
	stasis image unpack "$T/plain2" < "$T/packed.zstd" || fail "unpack"
	diff -r "$T/plain" "$T/plain2" || fail "compressed on its way it is another one"
	ok inspect --verify "$T/plain"
	stasis image unpack --compress lz4 "$T/again" < "$T/packed.zstd" || fail "unpack --compress"
	ok inspect --verify "$T/again"
	plain=$(du -k "$T/plain/pages.img" | cut -f 1) packed=$(du -k "$T/again/pages.img" | cut -f 1)
	[ "$packed" -lt "$plain" ] || fail "compressed it takes $packed KiB, else $plain KiB"
	ok image stats --json "$T/again"
	grep -q '"codec": "lz4"' "$T/out" || fail "$(cat "$T/out")"
	stasis restore -d --image-path - --bundle "$B" c < "$T/packed.zstd" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	expect_progress
	large_is_whole c
	ok delete -f c
	ok restore -d --image-path "$T/again" --bundle "$B" c
	large_is_whole c
	echo now > "$B/rootfs/cr/ask"
	memory_is_right
	ok image squash --compress none "$T/again"
	ok inspect --verify "$T/again"
	ok image stats --json "$T/again"
	grep -q '"codec": "none"' "$T/out" || fail "$(cat "$T/out")"
	# A frame that can't be decompressed: nothing leaves.
	python3 -B - "$T/i/pages.img" <<- 'END'
		import sys
		with open(sys.argv[1], "r+b") as f: f.seek(5000); b = f.read(1); f.seek(5000); f.write(bytes([b[0] ^ 1]))
	END
	! stasis image pack "$T/i" > "$T/packed" 2> "$T/said" || fail "a damaged image was packed"
	grep -q "wrong checksum" "$T/said" || fail "$(cat "$T/said")"
	[ ! -s "$T/packed" ] || fail "a part of it was packed"
}

expect_no_reader() {
	eventually 10 no_reader
}

no_reader() {
	! grep -lx "stasis-stream" /proc/[0-9]*/comm 2> /dev/null | while read -r f; do
		readlink "${f%/comm}/fd/"* 2> /dev/null
		grep -sqz "^T=$T$" "${f%/comm}/environ" && echo mine
	done | grep -q mine
}

test_lazy_and_the_writer_goes() {
	heap_stream
	lazy_until 8000000
	expect_progress
	exec 8>&-
	fails 'it ends in the frame at offset' wait --restore d
	expect_status d stopped
	ok delete -f d
	expect_nothing_left d
	expect_no_reader
}

test_lazy_without_its_end_frame() {
	heap_stream
	lazy_until 32
	expect_progress
	exec 8>&-
	fails 'it ends in the frame at offset' wait --restore d
	expect_status d stopped
	ok delete -f d
	expect_nothing_left d
}

# The container is killed while it waits for memory that has not come.
test_lazy_and_the_container_goes() {
	heap_stream
	lazy_until 8000000
	expect_progress
	ok delete -f d
	expect_nothing_left d
	expect_no_reader
	exec 8>&-
	stasis restore -d --image-path - --bundle "$B" c < "$T/stream" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	inside c
	echo now > "$B/rootfs/cr/ask"
	memory_is_right
}

test_what_is_no_stream() {
	counter
	fails 'descriptor 77 is not open' checkpoint --image-path fd:77 c
	fails 'number of a descriptor' checkpoint --image-path fd:x c
	fails 'number of a descriptor' restore --image-path fd: --bundle "$B" d
	fails 'one behind them' restore --image-path fd:4 --preserve-fds 2 --bundle "$B" d 3< /dev/null 4< /dev/null
	fails 'not open for writing' checkpoint --image-path fd:0 c
	fails 'not open for reading' restore --image-path fd:1 --bundle "$B" d 1> "$T/o"
	fails 'levels from 1 to 19' checkpoint --image-path - --compress zstd:20 c
	fails 'none, lz4, zstd' image pack --compress gzip "$T"
	fails 'use --pre-copy' checkpoint --image-path - --pre-dump c
	fails 'use --pre-copy' checkpoint --image-path - --parent-path ../x c
	fails 'leave --dedup out' checkpoint --image-path - --dedup c
	fails 'leave --dedup out' checkpoint --image-path - --dedup --compress lz4 c
	fails 'seconds' checkpoint --image-path - --stream-timeout soon c
	script -qec "'$STASIS' --root '$ROOT' checkpoint --image-path - c" /dev/null < /dev/null > "$T/out" 2>&1
	grep -q "is a terminal" "$T/out" || fail "$(cat "$T/out")"
	runs_on
	mkdir "$T/w"
	(
		cd "$T/w" || fail cd
		# A directory of that name is still to be had.
		ok checkpoint --image-path ./- c
		[ -e ./-/manifest.json ] || fail "$(ls)"
	) || exit 1
}

test_what_cannot_be_packed() {
	counter
	ok checkpoint --pre-dump --image-path "$T/p" c
	ok checkpoint --leave-running --parent-path ../p --image-path "$T/i" c
	! stasis image pack "$T/i" > "$T/stream" 2> "$T/said" || fail "packed"
	grep -q "image squash" "$T/said" || fail "$(cat "$T/said")"
	no_image "$T/stream"
}

run_test "$@"
