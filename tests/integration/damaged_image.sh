# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Images that are cut off, have flipped bits, or come from elsewhere: a clear error, and nothing is left behind.
# time limit: 180
. "$TESTS/lib.sh"

make_image() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	ok checkpoint "$@" --image-path "$T/i" c
}

# not_restored WHAT: $T/bad is refused.
not_restored() {
	local status=0
	timeout 30 "$STASIS" --root "$ROOT" restore -d --image-path "$T/bad" --work-path "$T" --bundle "$B" d < /dev/null > "$T/out" 2>&1 || status=$?
	[ "$status" != 0 ] || fail "restored: $1"
	[ "$status" -lt 124 ] || fail "exit $status: $1: $(cat "$T/out")"
	[ -s "$T/out" ] || fail "no message: $1"
	[ ! -e "$ROOT/d" ] || fail "left in the state root: $1"
	no_processes || fail "left processes: $1"
}

# $T/bad comes back if the CPU need not have what nobody uses.
restored_leniently() {
	ok restore -d --cpu-check lenient --image-path "$T/bad" --bundle "$B" d
	cp "$T/err" "$T/warnings"
	expect_progress
	ok delete -f d
	expect_nothing_left d
}

variants() {
	python3 -B - "$T/i" "$T/variants" "$@" <<- 'END'
		import os, random, shutil, sys
		image, to, kind, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
		random.seed(4711)
		files = [f for f in sorted(os.listdir(image)) if f in ("manifest.json", "checkpoint.img", "pages_meta.img", "pages.img")]
		shutil.rmtree(to, ignore_errors=True)
		os.mkdir(to)
		for f in files:
		    data = open(f"{image}/{f}", "rb").read()
		    edges = [0, 1, 7, 8, 9, 16, len(data) - 1, len(data) // 2]
		    places = [p for p in dict.fromkeys(edges) if 0 <= p < len(data)]
		    while len(places) < min(count, len(data)):
		        places.append(random.randrange(len(data)))
		    for p in places[:count]:
		        if kind == "flip" and f == "manifest.json":
		            continue
		        d = f"{to}/{f}.{p}"
		        if os.path.exists(d):
		            continue
		        os.mkdir(d, 0o700)
		        for g in os.listdir(image):
		            if g != f:
		                os.link(f"{image}/{g}", f"{d}/{g}")
		        bad = data[:p] if kind == "cut" else data[:p] + bytes([data[p] ^ 1 << random.randrange(8)]) + data[p + 1:]
		        open(f"{d}/{f}", "wb").write(bad)
	END
}

try_variants() {
	local d n=0
	for d in "$T/variants"/*; do
		rm -f "$T/bad"
		ln -s "$d" "$T/bad"
		not_restored "$1 at ${d##*/}"
		n=$((n + 1))
	done
	[ "$n" -gt 20 ] || fail "only $n variants"
	expect_nothing_left d
	ok restore -d --image-path "$T/i" --bundle "$B" d
	expect_progress
}

test_truncated() {
	make_image
	variants cut 60
	try_variants "cut off"
}

test_flipped_bits() {
	make_image
	variants flip 60
	try_variants "a flipped bit"
}

test_compressed_truncated() {
	make_image --compress lz4
	variants cut 40
	try_variants "cut off"
}

test_compressed_flipped_bits() {
	make_image --compress zstd
	variants flip 40
	try_variants "a flipped bit"
}

# A flipped bit of the manifest may hit what does not matter (a date): but it never does harm.
test_flipped_bits_of_the_manifest() {
	make_image
	python3 -B - "$T/i" "$T/variants" <<- 'END'
		import os, sys
		image, to = sys.argv[1:]
		data = open(f"{image}/manifest.json", "rb").read()
		os.mkdir(to)
		for p in range(0, len(data), max(1, len(data) // 150)):
		    d = f"{to}/{p}"
		    os.mkdir(d, 0o700)
		    for g in os.listdir(image):
		        if g != "manifest.json":
		            os.link(f"{image}/{g}", f"{d}/{g}")
		    open(f"{d}/manifest.json", "wb").write(data[:p] + bytes([data[p] ^ 1 << p % 8]) + data[p + 1:])
	END
	local d status
	for d in "$T/variants"/*; do
		status=0
		timeout 30 "$STASIS" --root "$ROOT" restore -d --image-path "$d" --work-path "$T" --bundle "$B" d < /dev/null > "$T/out" 2>&1 || status=$?
		[ "$status" -lt 124 ] || fail "exit $status at ${d##*/}: $(cat "$T/out")"
		if [ "$status" = 0 ]; then
			expect_progress
			ok delete -f d
		fi
		expect_nothing_left d
	done
}

test_files_are_missing() {
	make_image
	local f
	for f in manifest.json checkpoint.img pages_meta.img pages.img; do
		rm -rf "$T/bad"
		cp -a "$T/i" "$T/bad"
		rm "$T/bad/$f"
		not_restored "without $f"
	done
	rm -rf "$T/bad" && cp -a "$T/i" "$T/bad" && rm "$T/bad/checkpoint.img" && mkdir "$T/bad/checkpoint.img"
	not_restored "a directory in its place"
	rm -rf "$T/bad" && cp -a "$T/i" "$T/bad" && rm "$T/bad/checkpoint.img" && mkfifo "$T/bad/checkpoint.img"
	not_restored "a FIFO in its place"
}

# edit_manifest FILTER: $T/bad is the image with another manifest, whose checksum is right.
edit_manifest() {
	rm -rf "$T/bad"
	cp -a "$T/i" "$T/bad"
	jq "$1" "$T/i/manifest.json" > "$T/edited"
	"$BUILD/tests/unit/sign_manifest" < "$T/edited" > "$T/bad/manifest.json" || fail "sign_manifest"
	! cmp -s "$T/i/manifest.json" "$T/bad/manifest.json" || fail "the filter changes nothing: $1: $(cat "$T/i/manifest.json")"
}

test_other_version_architecture_and_cpu() {
	make_image
	edit_manifest 'walk(if type == "object" and has("format_version") then .format_version = 99 else . end)'
	not_restored "another version"
	grep -qi 'version' "$T/out" || fail "version: $(cat "$T/out")"
	edit_manifest 'walk(if type == "object" and has("architecture") then .architecture = "aarch64" else . end)'
	not_restored "another architecture"
	grep -qi 'aarch64' "$T/out" || fail "architecture: $(cat "$T/out")"
	edit_manifest 'walk(if type == "object" and has("page_size") then .page_size = 65536 else . end)'
	not_restored "another page size"
	edit_manifest '.cpu.features += " nosuchfeature"'
	not_restored "a CPU feature that is missing"
	grep -qi 'nosuchfeature' "$T/out" || fail "CPU: $(cat "$T/out")"
	grep -q 'cpu-check lenient' "$T/out" || fail "CPU, remedy: $(cat "$T/out")"
	restored_leniently
	grep -q 'nosuchfeature' "$T/warnings" || fail "no warning: $(cat "$T/warnings")"
	# Registers of a CPU that has them elsewhere: what is there is for another component then, of the same size.
	edit_manifest '.cpu.layout += " 62:4096:64"'
	not_restored "another order of registers"
	restored_leniently
	edit_manifest '.cpu.xfeatures += 1024'
	not_restored "a register that is missing"
	restored_leniently
	cp "$T/edited" "$T/bad/manifest.json"
	not_restored "a wrong checksum of the manifest"
	grep -q 'manifest.json.*checksum' "$T/out" || fail "checksum: $(cat "$T/out")"
	edit_manifest '.engine = "other"'
	not_restored "another engine"
	edit_manifest 'walk(if type == "object" and has("container_count") then .container_count = 2 else . end)'
	not_restored "two containers"
}

# An image of somebody else: files that are links must not be followed.
test_links_in_the_image() {
	make_image
	rm -rf "$T/bad" && cp -a "$T/i" "$T/bad"
	mv "$T/bad/pages.img" "$T/elsewhere"
	ln -s "$T/elsewhere" "$T/bad/pages.img"
	not_restored "a symbolic link"
}

# Whoever takes over the process that reads the image can do nothing with it, and nothing of the image is used.
test_attack_on_the_reader() {
	make_image
	cp -a "$T/i" "$T/bad"
	export FAULT
	for FAULT in restore-confined:open restore-confined; do
		not_restored "a system call that is forbidden ($FAULT)"
		grep -q 'a system call that it may not make' "$T/out" || fail "$FAULT: $(cat "$T/out")"
	done
	fails 'a system call that it may not make' inspect "$T/bad"
	fails 'a system call that it may not make' image stats "$T/bad"
	FAULT=restore-confined:crash
	not_restored "a crash"
	grep -q 'died of signal 4' "$T/out" || fail "crash: $(cat "$T/out")"
	FAULT=
	stasis image pack "$T/i" > "$T/stream" || fail "pack"
	FAULT=restore-stream:open
	local status=0
	"$STASIS" --root "$ROOT" restore -d --image-path - --bundle "$B" d < "$T/stream" > "$T/out" 2>&1 || status=$?
	[ "$status" = 1 ] || fail "exit $status of the restore from a stream"
	grep -q 'reads the image stream died' "$T/out" || fail "stream: $(cat "$T/out")"
	unset FAULT
	ok restore -d --image-path "$T/i" --bundle "$B" d
}

run_test "$@"
