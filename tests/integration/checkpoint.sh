# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# checkpoint, restore, check and inspect by the command line: states, paths, options, stdio.
# time limit: 120
. "$TESTS/lib.sh"

counting() {
	bundle b sh -c "$COUNTER"
}

# No file of a failed checkpoint stays, and the container runs on.
refused() {
	local pattern=$1 image=$2
	shift 2
	fails "$pattern" checkpoint --image-path "$image" "$@" c
	[ ! -e "$image/manifest.json" ] || fail "a manifest was left"
	expect_progress
	expect_status c running
}

test_round_trip() {
	counting
	start c
	expect_progress
	ok checkpoint --image-path "$T/i" --work-path "$T/w" c
	no_processes || fail "processes are left"
	local before
	before=$(count)
	[ "$(stat -c %a "$T/i")" = 700 ] || fail "mode of the image directory: $(stat -c %a "$T/i")"
	[ -z "$(find "$T/i" -type f ! -perm 600)" ] || fail "files that others can read: $(find "$T/i" -type f ! -perm 600)"
	jq -e '.format_version == 1 or .formatVersion == 1 or .version == 1' "$T/i/manifest.json" > "$T/jq" || fail "manifest: $(cat "$T/i/manifest.json")"
	ok restore -d --image-path "$T/i" --work-path "$T/w" --bundle "$B" --pid-file "$T/pid" c
	[ "$(cat "$T/pid")" = "$(init_pid c)" ] || fail "the pid file"
	expect_status c running
	expect_progress
	[ "$(count)" -ge "$before" ] || fail "it began anew: $before, $(count)"
	ok exec c true
	ok kill c KILL
	expect_status c stopped
	ok delete c
	expect_nothing_left c
}

test_default_image_directory() {
	counting
	start c
	(cd "$T" && stasis checkpoint c < /dev/null) || fail "checkpoint"
	[ -e "$T/checkpoint/manifest.json" ] || fail "not in ./checkpoint"
	(cd "$B" && stasis restore -d --image-path "$T/checkpoint" c < /dev/null > "$T/out" 2>&1) || fail "$(cat "$T/out")"
	expect_progress
}

# The id is free again after the checkpoint (as with runc).
test_the_container_is_gone() {
	counting
	start c
	ok checkpoint --image-path "$T/i" c
	fails 'does not exist' state c
	expect_nothing_left c
	start c
	expect_progress
}

test_leave_running() {
	counting
	start c
	ok checkpoint --leave-running --leave-running --image-path "$T/i" c
	expect_status c running
	expect_progress
	local pid
	pid=$(init_pid c)
	! grep -q 'TracerPid:.[1-9]' "/proc/$pid/status" || fail "still traced"
	ok checkpoint --image-path "$T/j" c
	[ -e "$T/i/manifest.json" ] && [ -e "$T/j/manifest.json" ] || fail "no manifest"
}

test_wrong_states() {
	counting
	ok create --bundle "$B" c
	fails 'created|not running|state' checkpoint --image-path "$T/i" c
	[ ! -e "$T/i/manifest.json" ] || fail "an image was made"
	ok start c
	expect_progress
	ok kill c KILL
	expect_status c stopped
	fails 'stopped|not running' checkpoint --image-path "$T/i" c
	[ ! -e "$T/i/manifest.json" ] || fail "an image was made"
	ok delete c
}

test_paused() {
	counting
	start c
	expect_progress
	ok pause c
	if stasis checkpoint --leave-running --image-path "$T/i" c < /dev/null > "$T/out" 2>&1; then
		[ "$(status c)" = paused ] || fail "it was paused, and is $(status c) after the checkpoint"
	else
		grep -qi 'paused' "$T/out" || fail "$(cat "$T/out")"
	fi
	ok resume c
	expect_progress
}

test_image_paths() {
	counting
	start c
	expect_progress
	mkdir "$T/full" && touch "$T/full/some-file"
	refused 'empty' "$T/full"
	[ "$(ls -A "$T/full")" = some-file ] || fail "the directory was changed: $(ls -A "$T/full")"
	touch "$T/file"
	refused 'directory' "$T/file"
	refused '.' /proc/nowhere/image
	mkdir "$T/ro" && mount -t tmpfs -o ro tmpfs "$T/ro"
	refused 'read-only' "$T/ro/image"
	umount "$T/ro"
	ln -s "$T/nowhere" "$T/link"
	refused '.' "$T/link"
	mkdir "$T/empty" && ok checkpoint --image-path "$T/empty" c
	ok restore -d --image-path "$T/empty" --bundle "$B" c
	expect_progress
}

# An image in the directory is replaced (also podman checkpoints there again and again), but not before preflight is passed.
test_an_image_is_replaced() {
	counting
	start c
	expect_progress
	ok checkpoint --leave-running --image-path "$T/i" c
	local first second
	first=$(stat -c %i "$T/i/manifest.json") second=$(count)
	expect_progress
	touch "$T/i/mine"
	fails 'empty.*mine' checkpoint --image-path "$T/i" c
	rm "$T/i/mine"
	[ "$(stat -c %i "$T/i/manifest.json")" = "$first" ] || fail "the image was touched"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	[ "$(count)" -gt "$second" ] || fail "the older image was restored"
}

# Where podman and CRI-O look for the statistics.
test_statistics_in_the_work_directory() {
	counting
	start c
	mkdir "$T/w"
	ok checkpoint --image-path "$T/i" --work-path "$T/w" c
	ok restore -d --image-path "$T/i" --work-path "$T/w" --bundle "$B" c
	[ "$(ls "$T/w" | paste -sd' ')" = "dump.log restore.log stats-dump stats-restore" ] || fail "$(ls "$T/w")"
	local f
	for f in stats-dump stats-restore; do
		[ "$(od -An -tx4 -N8 "$T/w/$f")" = " 55105940 57093306" ] || fail "$f: $(od -tx1 "$T/w/$f")"
	done
}

# On a full disk the container runs on and no half image stays, wherever the space ends.
test_full_disk() {
	local kib
	counting
	start c
	expect_progress
	mkdir "$T/small"
	for kib in 4 8 16 32 64 128 256 400; do
		mount -t tmpfs -o "size=${kib}k" tmpfs "$T/small"
		if stasis checkpoint --leave-running --image-path "$T/small/i" --work-path "$T" c < /dev/null > "$T/out" 2>&1; then
			[ -e "$T/small/i/manifest.json" ] || fail "success without a manifest"
		else
			grep -qi 'no space' "$T/out" || fail "with $kib KiB: $(cat "$T/out")"
			[ ! -d "$T/small/i" ] || [ -z "$(ls -A "$T/small/i")" ] || fail "left: $(ls -A "$T/small/i")"
		fi
		umount "$T/small"
		expect_progress
	done
	[ "$kib" = 400 ] && ok checkpoint --image-path "$T/i" c
}

test_full_disk_while_packing() {
	bundle b sh -c "x=\$(yes abcdefgh | head -c 3000000); $COUNTER"
	start c
	expect_progress
	mkdir "$T/small"
	local kib tried=0 err
	for kib in 400 1000 2000 2500 2800 3000 3100 3200 3300 3400 3600 4000 5000 6000 9000; do
		mount -t tmpfs -o "size=${kib}k" tmpfs "$T/small"
		if stasis checkpoint --leave-running --compress lz4 --image-path "$T/small/i" --work-path "$T/w" c < /dev/null > "$T/out" 2> "$T/err"; then
			umount "$T/small"
			break
		fi
		err=$(cat "$T/err")
		grep -qi 'no space' "$T/err" || fail "$kib KiB: $err"
		[ ! -e "$T/small/i" ] || fail "$kib KiB: the image directory was left: $(ls -a "$T/small/i")"
		umount "$T/small"
		expect_progress
		tried=$((tried + 1))
	done
	[ "$tried" -gt 3 ] || fail "only $tried sizes were too small"
	[ "$kib" -lt 9000 ] || fail "no size was enough"
	ok checkpoint --compress lz4 --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
}

# What is saved, and where, adds up; what an older stasis could not read it is told.
test_compression_and_its_statistics() {
	bundle b sh -c "x=\$(yes abcdefgh | head -c 3000000); $COUNTER"
	start c
	local how stored previous=''
	for how in "--compress none" "--dedup" "--compress lz4" "--compress zstd" "--compress zstd:19"; do
		expect_progress
		# shellcheck disable=SC2086
		ok checkpoint $how --leave-running --image-path "$T/i" c
		ok inspect --verify "$T/i"
		ok image stats --json "$T/i"
		jq -e '.memory == .zero + .shared + .duplicate + .parent + .data' "$T/out" > /dev/null || fail "$how: $(cat "$T/out")"
		stored=$(jq .stored "$T/out")
		[ "$stored" = "$(stat -c %s "$T/i/pages.img")" ] || fail "$how: stored: $(cat "$T/out")"
		case $how in
		*none) [ "$(jq -r .codec "$T/out")/$(jq .duplicate "$T/out")" = none/0 ] || fail "$how: $(cat "$T/out")" ;;
		--dedup) jq -e '.codec == "none" and .duplicate > 0' "$T/out" > /dev/null || fail "$how: $(cat "$T/out")" ;;
		*) jq -e --arg c "${how#* }" '(.codec == ($c | split(":")[0])) and .duplicate > 0 and .compressed_pieces > 0 and .pack_us > 0' "$T/out" > /dev/null || fail "$how: $(cat "$T/out")" ;;
		esac
		[ -z "$previous" ] || [ "$stored" -lt "$previous" ] || fail "$how: $stored bytes, before it $previous"
		case $how in *lz4 | *zstd*) ;; *) previous=$stored ;; esac	# compressed they are too small to tell
		case $how in
		*none | --dedup) jq -e '.required_features == []' "$T/i/manifest.json" ;;
		*) jq -e '.required_features == ["compressed-pages"]' "$T/i/manifest.json" ;;
		esac > "$T/jq" || fail "$how: $(cat "$T/i/manifest.json")"
	done
	ok image stats "$T/i"
	grep -q '^duplicate.*[1-9]' "$T/out" || fail "$(cat "$T/out")"
	grep -q '^compression: zstd' "$T/out" || fail "$(cat "$T/out")"
	ok checkpoint --compress zstd:3 --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	for how in gzip zstd:0 zstd:20 lz4:3 zstd:x; do
		refused 'compress' "$T/j" --compress "$how"
	done
	fails 'unknown or incomplete' image stats
	fails 'unknown or incomplete' image frobnicate "$T/i"
	fails 'incomplete image' image stats "$T"
}

# Who compresses is killed with the guard, at any moment: the container runs on and nothing is left.
test_killed_while_packing() {
	bundle b sh -c "x=\$(od -An -v -tx1 /dev/urandom | head -c 4000000); $COUNTER"
	start c
	local pid
	for _ in 1 2 3; do
		expect_progress
		"$STASIS" --root "$ROOT" "${DRIVER[@]}" checkpoint --leave-running --compress zstd:19 --image-path "$T/i" c < /dev/null > "$T/out" 2>&1 &
		pid=$!
		eventually 20 test -s "$T/i/pages.img"
		kill -KILL "$pid"
		wait "$pid"
		eventually 20 test ! -e "$T/i/pages.img"
		eventually 20 test ! -e "$T/i/.pages.img.raw"
		[ ! -e "$T/i/manifest.json" ] || fail "an image is left: $(ls -a "$T/i")"
	done
	ok checkpoint --compress lz4 --image-path "$T/k" c
	ok restore -d --image-path "$T/k" --bundle "$B" c
	expect_progress
}

# Nor is the image that was there before lost with it.
test_full_disk_over_an_image() {
	local kib before
	counting
	start c
	expect_progress
	mkdir "$T/small" && mount -t tmpfs -o size=8m tmpfs "$T/small"
	ok checkpoint --leave-running --image-path "$T/small/i" --work-path "$T" c
	before=$(cd "$T/small/i" && sha256sum -- *)
	for kib in 0 4 16 32; do
		dd if=/dev/zero of="$T/small/fill" bs=4k 2> "$T/dd" || true
		truncate -s "-${kib}k" "$T/small/fill"
		fails 'no space' checkpoint --image-path "$T/small/i" --work-path "$T" c
		[ "$(cd "$T/small/i" && sha256sum -- *)" = "$before" ] || fail "with $kib KiB: $(ls -lA "$T/small/i")"
		rm "$T/small/fill"
		expect_progress
	done
	ok delete -f c
	ok restore -d --image-path "$T/small/i" --bundle "$B" c
	expect_progress
	ok delete -f c
	umount "$T/small"
}

# Whoever writes an image has its directory for himself.
test_two_checkpoints_in_one_directory() {
	counting
	start c
	expect_progress
	mkdir "$T/i"
	flock -F "$T/i" sleep 5 &
	eventually 3 sh -c '! flock -n "$1" true' sh "$T/i"
	fails 'another checkpoint' checkpoint --image-path "$T/i" c
	kill %1
	wait || true
	expect_progress
}

test_id_in_use() {
	counting
	start c
	ok checkpoint --leave-running --image-path "$T/i" c
	fails 'exist|in use' restore -d --image-path "$T/i" --bundle "$B" c
	expect_status c running
	expect_progress
}

test_two_restores_at_once() {
	counting
	start c
	expect_progress
	ok checkpoint --image-path "$T/i" c
	local n pids=()
	for n in 1 2 3; do
		cp -a "$B" "$T/b$n"
		jq --arg c "$(cgroups_path "b$n")" '.linux.cgroupsPath = $c' "$B/config.json" > "$T/b$n/config.json"
		stasis restore -d --image-path "$T/i" --work-path "$T" --bundle "$T/b$n" "c$n" < /dev/null > "$T/out.$n" 2>&1 &
		pids+=($!)
	done
	for n in 1 2 3; do
		wait "${pids[n - 1]}" || fail "restore $n: $(cat "$T/out.$n")"
	done
	for n in 1 2 3; do
		expect_status "c$n" running
		B=$T/b$n
		expect_progress
	done
}

# Row E1: the restored stdio is that of the restoring caller, whatever the first one was.
test_stdio_is_the_callers() {
	bundle b sh -c 'while read -r line; do echo "got $line"; echo "err $line" >&2; done; echo end; exec sleep 1000'
	mkfifo "$T/in"
	exec 9<> "$T/in"
	stasis run -d --bundle "$B" c < "$T/in" > "$T/out1" 2> "$T/err1" || fail "run: $(cat "$T/err1")"
	echo one >&9
	eventually 5 grep -q 'got one' "$T/out1"
	ok checkpoint --image-path "$T/i" c
	exec 9>&-
	mkfifo "$T/in2"
	exec 8<> "$T/in2"
	stasis --debug --log "$T/log" restore -d --image-path "$T/i" --bundle "$B" c < "$T/in2" > "$T/out2" 2> "$T/err2" || fail "restore: $(cat "$T/err2")"
	echo two >&8
	eventually 5 grep -q 'got two' "$T/out2"
	eventually 5 grep -q 'err two' "$T/err2"
	! grep -q two "$T/out1" || fail "it writes to the old stdout"
	ok checkpoint --image-path "$T/i2" c
	stasis restore -d --image-path "$T/i2" --bundle "$B" c < "$T/in2" > "$T/out3" 2> "$T/err3" || fail "second restore: $(cat "$T/err3")"
	echo three >&8
	eventually 5 grep -q 'got three' "$T/out3"
	exec 8>&-
}

test_pipe_as_stdio() {
	counting
	edit '.process.args[2] |= "while :; do echo tick; usleep 20000; done"'
	stasis run -d --bundle "$B" c < /dev/null 2> "$T/err" | head -3 > "$T/piped"
	[ "$(wc -l < "$T/piped")" = 3 ] || fail "run: $(cat "$T/err")"
	ok delete -f c
	mkfifo "$T/p"
	exec 9<> "$T/p"
	stasis run -d --bundle "$B" c < /dev/null > "$T/p" 2> "$T/err" || fail "$(cat "$T/err")"
	ok checkpoint --image-path "$T/i" c
	stasis restore -d --image-path "$T/i" --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	eventually 5 grep -q tick "$T/out"
	exec 9>&-
}

test_restore_in_the_foreground() {
	bundle b sh -c 'echo > /cr/ready; while [ ! -e /cr/go ]; do usleep 10000; done; echo restored; exit 29'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	ok checkpoint --image-path "$T/i" c
	touch "$B/rootfs/cr/go"
	local status=0
	stasis restore --image-path "$T/i" --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || status=$?
	[ "$status" = 29 ] || fail "status $status: $(cat "$T/err")"
	grep -q restored "$T/out" || fail "output: $(cat "$T/out")"
	expect_nothing_left c
}

test_restore_errors() {
	counting
	start c
	ok checkpoint --image-path "$T/i" c
	fails 'no such file|not exist|manifest' restore -d --image-path "$T/nowhere" --bundle "$B" d
	mkdir "$T/empty"
	fails 'manifest|incomplete' restore -d --image-path "$T/empty" --bundle "$B" d
	fails 'no such file|config.json|bundle' restore -d --image-path "$T/i" --bundle "$T/nowhere" d
	fails 'id' restore -d --image-path "$T/i" --bundle "$B" ../d
	expect_nothing_left d
	# A program of the image that the bundle does not have (any more).
	cp -a "$B" "$T/less" && rm "$T/less/rootfs/bin/busybox"
	B=$T/less
	edit '.linux.cgroupsPath += "less"'
	fails 'busybox|no such file' restore -d --image-path "$T/i" --bundle "$T/less" d
	expect_nothing_left d
	# One that is killed before it has said what is wrong, and its like.
	FAULT=restore-failing fails 'init died during the restore' restore -d --image-path "$T/i" --bundle "$T/less" d
	expect_nothing_left d
	B=$T/b
	ok restore -d --image-path "$T/i" --bundle "$B" d
	expect_progress
}

# The image must be no way to more than config.json allows.
test_config_is_the_ceiling() {
	bundle b sh -c 'echo > /cr/ready; exec sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	eventually 5 grep -q sleep "/proc/$(init_pid c)/comm"
	ok checkpoint --image-path "$T/i" c
	edit '.process.capabilities |= map_values(. - ["CAP_SYS_ADMIN"])'
	if stasis restore -d --image-path "$T/i" --bundle "$B" c < /dev/null > "$T/out" 2>&1; then
		[ $((0x$(awk '/CapEff/ { print $2 }' "/proc/$(init_pid c)/status") & 1 << 21)) = 0 ] || fail "CAP_SYS_ADMIN is back"
		[ $((0x$(awk '/CapBnd/ { print $2 }' "/proc/$(init_pid c)/status") & 1 << 21)) = 0 ] || fail "CAP_SYS_ADMIN is in the bounding set"
	else
		grep -qi 'capabilit' "$T/out" || fail "$(cat "$T/out")"
		expect_nothing_left c
	fi
}

# bound PATH: a container with a socket at that path.
bound() {
	bundle b /bound "$1"
	cp "$BUILD/tests/tools/bound" "$B/rootfs/bound"
	mkdir "$B/rootfs/there"
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
}

# Where a rootfs (or a tmpfs of the image) leads through /proc, init's own descriptors would be meant.
test_sockets_stay_in_the_container() {
	bound /there/socket
	ok checkpoint --image-path "$T/i" c
	rm -r "$B/rootfs/there"
	local to
	for to in cwd root fd/3 fd/4 fd/5 fd/6 fd/7 fd/8 fd/9; do
		ln -sfn "/proc/self/$to" "$B/rootfs/there"
		fails 'leads through a link of /proc|"/there" of a unix socket: no such file' restore -d --image-path "$T/i" --bundle "$B" c
		expect_nothing_left c
	done
	rm "$B/rootfs/there"
	mkdir "$B/rootfs/there"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok delete -f c
}

test_socket_named_by_proc() {
	bound /proc/self/cwd/there/socket
	fails 'its name leads through /proc' checkpoint --image-path "$T/i" c
	expect_status c running
}

# Limits are those of config.json, or as they were; sub-cgroups come back or not.
# Init is in a group below it, which with v2 only is where cgroup_dir leads.
container_cgroup() {
	local d
	d=$(cgroup_dir pids)
	echo "${d%/sub}"
}

test_manage_cgroups_mode() {
	bundle b sh -c 'mkdir /m && mount -t cgroup2 cgroup /m && mkdir /m/sub && echo 0 > /m/sub/cgroup.procs && echo > /cr/ready
		exec sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])'
	edit '.linux.resources.pids.limit = 50'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	eventually 5 grep -q sleep "/proc/$(init_pid c)/comm"
	ok update --pids-limit 77 c
	ok checkpoint --image-path "$T/soft" --leave-running c
	ok checkpoint --image-path "$T/full" --manage-cgroups-mode full c
	ok restore -d --image-path "$T/full" --manage-cgroups-mode full --bundle "$B" c
	[ "$(cat "$(container_cgroup)/pids.max")" = 77 ] || fail "full: pids.max is $(cat "$(container_cgroup)/pids.max")"
	grep -q '^0::.*/sub$' "/proc/$(init_pid c)/cgroup" || fail "full: $(cat "/proc/$(init_pid c)/cgroup")"
	ok delete -f c
	for image in soft full; do
		ok restore -d --image-path "$T/$image" --bundle "$B" c
		[ "$(cat "$(container_cgroup)/pids.max")" = 50 ] || fail "soft: pids.max is $(cat "$(container_cgroup)/pids.max")"
		grep -q '^0::.*/sub$' "/proc/$(init_pid c)/cgroup" || fail "soft: $(cat "/proc/$(init_pid c)/cgroup")"
		ok delete -f c
	done
	ok restore -d --image-path "$T/soft" --manage-cgroups-mode ignore --bundle "$B" c
	! grep -q '^0::.*/sub$' "/proc/$(init_pid c)/cgroup" || fail "ignore: $(cat "/proc/$(init_pid c)/cgroup")"
	ok delete -f c
	! stasis restore -d --image-path "$T/soft" --manage-cgroups-mode nonsense --bundle "$B" c < /dev/null > "$T/out" 2>&1 ||
		fail "an unknown mode"
	grep -q 'manage-cgroups-mode' "$T/out" || fail "$(cat "$T/out")"
	# an image does not make what config.json does not allow
	edit '.process.capabilities |= map_values(. - ["CAP_SYS_ADMIN"])'
	! stasis restore -d --image-path "$T/soft" --bundle "$B" c < /dev/null > "$T/out" 2>&1 || fail "sub-cgroups without a right"
	expect_nothing_left c
}

# Mounts of the container's own come back only where it may mount.
test_mounts_want_the_capability() {
	bundle b sh -c 'mkdir /m && mount -t tmpfs mine /m && echo kept > /m/file && echo > /cr/ready; exec sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	eventually 5 grep -q sleep "/proc/$(init_pid c)/comm"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	grep -q kept "/proc/$(init_pid c)/root/m/file" || fail "the tmpfs is empty"
	ok delete -f c
	edit '.process.capabilities |= map_values(. - ["CAP_SYS_ADMIN"])'
	# the same image, with processes that ask for no more than config.json gives
	edit '.process.capabilities.inheritable |= . + ["CAP_SYS_ADMIN"]'
	! stasis restore -d --image-path "$T/i" --bundle "$B" c < /dev/null > "$T/out" 2>&1 ||
		fail "mounts without CAP_SYS_ADMIN in the bounding set"
	grep -q 'the image brings mounts' "$T/out" || fail "$(cat "$T/out")"
	expect_nothing_left c
}

# A tmpfs under another mount, and one under a mount of a directory above it, with what is in them.
test_covered_tmpfs() {
	bundle b sh -c 'mkdir -p /m /a/b && mount -t tmpfs one /m && echo kept > /m/file && mount -t tmpfs two /m && mount -t tmpfs three /m &&
		mount -t tmpfs deep /a/b && echo deep > /a/b/file && mount -t tmpfs over /a && echo > /cr/ready; exec sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"] | unique)'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	eventually 5 grep -q sleep "/proc/$(init_pid c)/comm"
	ok checkpoint --leave-running --image-path "$T/j" c
	grep -c tmpfs "/proc/$(init_pid c)/mountinfo" > "$T/mounts"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	[ "$(grep -c tmpfs "/proc/$(init_pid c)/mountinfo")" = "$(cat "$T/mounts")" ] || fail "$(cat "/proc/$(init_pid c)/mountinfo")"
	[ ! -e "/proc/$(init_pid c)/root/m/file" ] || fail "it is not covered"
	ok exec c sh -c 'umount /m && umount /m && cat /m/file && umount /a && cat /a/b/file'
	[ "$(cat "$T/out")" = "$(printf 'kept\ndeep')" ] || fail "$(cat "$T/out")"
}

# Programs of tests/cr, whose processes ask for no more than config.json gives.
with_program() {
	bundle b "/bin/$1" "${@:2}"
	cp "$BUILD/tests/cr/$1" "$B/rootfs/bin/"
	chmod 777 "$B/rootfs/cr"
	edit '.mounts += [{"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"}]'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN", "CAP_SYS_TIME"] | unique)'
	start c
	eventually 10 test -e "$B/rootfs/cr/ready.1"
}

test_namespaces_want_the_capability() {
	with_program odd ns_left
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok delete -f c
	edit '.process.capabilities |= map_values(. - ["CAP_SYS_ADMIN"])'
	fails 'namespace .*CAP_SYS_ADMIN.*does not allow' restore -d --image-path "$T/i" --bundle "$B" c
	# not enough
	edit '.process.capabilities.inheritable |= . + ["CAP_SYS_ADMIN"]'
	fails 'namespace .*CAP_SYS_ADMIN.*does not allow' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

# Clocks that are set need more than the namespace.
test_clocks_want_the_capability() {
	with_program odd ns_time_left
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok delete -f c
	edit '.process.capabilities |= map_values(. - ["CAP_SYS_TIME"])'
	fails 'namespace .*CAP_SYS_TIME.*does not allow' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

test_fanotify_wants_a_privileged_container() {
	with_program fanotify
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok delete -f c
	edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 0, "size": 65536}] | .linux.gidMappings = .linux.uidMappings'
	fails 'fanotify.*CAP_SYS_ADMIN' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

test_bpf_maps_want_the_capability() {
	with_program bpf_maps
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok delete -f c
	edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 0, "size": 65536}] | .linux.gidMappings = .linux.uidMappings'
	fails 'BPF map.*CAP_BPF' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

# Of a map that is somebody else's, too, nobody can make another one for him.
test_bpf_maps_of_others() {
	local pid other
	with_program odd bpf_program
	fails 'BPF map .* a loaded BPF program uses it' checkpoint --image-path "$T/i" c
	ok delete -f c
	rm -rf "$B"
	with_program odd bpf
	ok check c
	pid=$(init_pid c)
	sed -n 's/^map_id:\t//p' "/proc/$pid/fdinfo/3" > "$T/id"
	python3 -c 'import ctypes, struct, sys, time
attr = ctypes.create_string_buffer(struct.pack("3I100x", int(sys.argv[1]), 0, 0))
assert ctypes.CDLL(None).syscall(321, 14, attr, 112) >= 0  # BPF_MAP_GET_FD_BY_ID
open(sys.argv[2], "w").close()
time.sleep(1000)' "$(cat "$T/id")" "$T/has" &
	other=$!
	eventually 20 test -e "$T/has"
	fails 'BPF map .* somebody else has it' checkpoint --image-path "$T/i" c
	expect_status c running
	kill "$other"
	wait "$other" 2>/dev/null || true
	ok checkpoint --image-path "$T/i" c
}

# A kernel without type information of its own (BTF): what is read by walks over its objects is refused then.
test_without_btf() {
	local what pattern
	[ -e /sys/kernel/btf/vmlinux ] || skip "this kernel has no BTF"
	while read -r what pattern; do
		rm -rf "${B:-$T/none}"
		with_program "$what" < /dev/null
		unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf && exec "$@"' sh "$STASIS" --root "$ROOT" checkpoint --image-path "$T/i" c > "$T/out" 2> "$T/err" < /dev/null && fail "$what: not refused"
		grep -q "$pattern" "$T/err" || fail "$what: $(cat "$T/err")"
		[ ! -e "$T/i/manifest.json" ] || fail "a manifest was left"
		expect_status c running
		ok delete -f c < /dev/null
	done <<- 'END'
		bpf_maps this kernel does not tell who else has it
		udp_errors an error waits in it
		pressure whether it is a trigger for pressure
		mq_notify what is to be told by mq_notify cannot be seen
		dnotify what is watched by F_NOTIFY this kernel does not let us read
		unix_gone connected and left before it was accepted; what it sent this kernel lets nobody read
		aio this kernel does not let us read which requests are in flight
		seccomp_notify this kernel does not tell whether its listener is open
	END
}

# A request of Linux AIO that waits for something stands in the way until it has happened.
test_aio_in_flight() {
	with_program odd aio_poll
	fails 'process 1: ring of Linux AIO at .*: requests are in flight which wait for something .*let them be completed' checkpoint --image-path "$T/i" c
	[ ! -e "$T/i/manifest.json" ] || fail "a manifest was left"
	expect_status c running
	echo c > "$B/rootfs/cr/.go" && mv "$B/rootfs/cr/.go" "$B/rootfs/cr/go.1"
	eventually 10 test -e "$B/rootfs/cr/ready.2"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_status c running
}

# Machines where such rings cannot be: with too many CPUs, with too few requests left.
test_aio_elsewhere() {
	with_program aio
	ok checkpoint --image-path "$T/i" c
	jq -e '.required_features | index("aio-rings")' "$T/i/manifest.json" > "$T/jq" || fail "the image does not ask for it"
	"$STASIS" inspect --format json "$T/i" | grep -q '"/\[aio\]"' || fail "inspect does not show the rings"
	elsewhere() {
		printf '%s\n' "$2" > "$T/file"
		unshare -m sh -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' sh "$T/file" "$1" "$STASIS" --root "$ROOT" \
			restore -d --image-path "$T/i" --bundle "$B" c > "$T/out" 2> "$T/err" < /dev/null && fail "$1: not refused"
		grep -q "$3" "$T/err" || fail "$1: $(cat "$T/err")"
		expect_nothing_left c
	}
	elsewhere /sys/devices/system/cpu/possible 0-63 'process 1 has a ring of Linux AIO of 4 KiB, and for a machine with 64 CPUs'
	elsewhere /proc/sys/fs/aio-max-nr 2000 'has rings of Linux AIO for [0-9]* requests, and of the 2000 .*fs.aio-max-nr'
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_status c running
}

# Who waits in a listener's backlog is there as long as the container runs, and gone with --tcp-close.
test_tcp_backlog() {
	local waits='connections wait to be accepted'
	with_program odd tcp_backlog
	refused_once() {
		fails "$waits" checkpoint --image-path "$T/i" "$@" c
		[ ! -e "$T/i/manifest.json" ] || fail "a manifest was left"
	}
	refused_once
	refused_once --tcp-established
	ok checkpoint --tcp-close --leave-running --image-path "$T/left" c
	refused_once --tcp-established # it is still there
	ok checkpoint --tcp-close --image-path "$T/i" c
	ok restore -d --tcp-close --image-path "$T/i" --bundle "$B" c
	# port 7790 listens (0A), and there is no connection
	grep -q ':1E6E 00000000:0000 0A' "/proc/$(init_pid c)/net/tcp" || fail "$(cat "/proc/$(init_pid c)/net/tcp")"
	! grep -q ':1E6E .* 01 ' "/proc/$(init_pid c)/net/tcp" || fail "$(cat "/proc/$(init_pid c)/net/tcp")"
	ok checkpoint --image-path "$T/again" c
}

# What passes by itself is waited for, as long as the user says, and the container runs meanwhile; a paused one does nothing.
test_patience() {
	local begin events='bytes of events: events that have not been read'
	with_program odd inotify_queued
	begin=$(date +%s%N)
	fails "$events" checkpoint --patience 300ms --image-path "$T/i" c
	[ $(($(date +%s%N) - begin)) -gt 300000000 ] || fail "it did not wait"
	! stasis check --patience 100ms c > "$T/out" || fail "check finds nothing"
	grep -q 'have not been read' "$T/out" || fail "$(cat "$T/out")"
	fails 'invalid --patience' check --patience long c
	fails 'invalid --patience' checkpoint --patience 0 --image-path "$T/i" c
	ok pause c
	fails "$events" checkpoint --patience 1000 --image-path "$T/i" c
	ok resume c
	stasis checkpoint --patience 60 --image-path "$T/i" c < /dev/null > "$T/out" 2>&1 &
	sleep 1.5
	[ ! -e "$T/i/manifest.json" ] || fail "it did not wait"
	echo c > "$B/rootfs/cr/.go" && mv "$B/rootfs/cr/.go" "$B/rootfs/cr/go.1"
	wait $! || fail "$(cat "$T/out")"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_status c running
}

# What a trigger waits for, and by whom it was made, is what it was.
test_pressure_triggers() {
	with_program pressure
	[ ! -e "$B/rootfs/cr/unavailable.1" ] || skip "no pressure stall information"
	triggers() {
		"$STASIS" --root "$ROOT" inspect --format json "$1" | jq -c '[.. | .trigger? // empty] | unique' > "$2"
	}
	ok checkpoint --image-path "$T/i" c
	triggers "$T/i" "$T/before"
	grep -q '"full 1900000 2000000","full 3900000 4000000","some 1800000 2000000"' "$T/before" || fail "$(cat "$T/before")"
	jq -e '.required_features | index("pressure-triggers")' "$T/i/manifest.json" > "$T/jq" || fail "the image does not ask for it"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok checkpoint --image-path "$T/j" c
	triggers "$T/j" "$T/after"
	cmp "$T/before" "$T/after" || fail "$(cat "$T/after")"
}

# Without a namespace of its own the container is restored, and the name of the machine stays what it is.
test_the_hosts_name_is_left_alone() {
	bundle b sh -c 'hostname forged && echo > /cr/ready; exec sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"] | unique)'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	ok checkpoint --image-path "$T/i" c
	edit '.linux.namespaces |= map(select(.type != "uts")) | del(.hostname)'
	# in a namespace that stands for the machine's
	unshare -u sh -c 'hostname machine; "$@" < /dev/null > "$T/out" 2>&1; echo "$? $(hostname)"' sh "$STASIS" --root "$ROOT" "${DRIVER[@]}" restore -d --image-path "$T/i" --bundle "$B" c > "$T/said"
	grep -q ' machine$' "$T/said" || fail "the machine is called $(cat "$T/said") now"
	! grep -q '^0' "$T/said" || [ "$(nsenter -t "$(init_pid c)" -u hostname)" = machine ] || fail "another namespace"
}

# Who may make a user namespace is the seccomp profile's to say.
test_user_namespaces_want_a_profile_that_allows_them() {
	profile() {
		edit '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": $n, "action": "SCMP_ACT_ERRNO"}]}' --argjson n "$1"
	}
	bundle b sh -c 'unshare -U sleep 1000 & exec sleep 1000'
	edit '.process.capabilities |= map_values(. - ["CAP_SYS_ADMIN"])'
	profile '["swapon"]'
	start c
	inner() {
		local pid
		for pid in $(cat "/proc/$(init_pid c)/task/$(init_pid c)/children"); do
			[ "$(readlink "/proc/$pid/ns/user")" = "$(readlink /proc/self/ns/user)" ] || return 0
		done
		return 1
	}
	eventually 5 inner
	eventually 5 grep -q sleep "/proc/$(init_pid c)/comm"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	inner || fail "the user namespace is not there"
	ok delete -f c
	profile '["unshare", "clone", "clone3"]'
	fails 'namespace .*another seccomp profile' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

# Sockets that see what others send likewise.
test_raw_sockets_want_the_capability() {
	bundle b sh -c 'ping -i 3600 127.0.0.1 & echo > /cr/ready; exec sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_NET_RAW"] | unique)'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	eventually 5 grep -q sleep "/proc/$(init_pid c)/comm"
	eventually 5 nsenter -t "$(init_pid c)" -n grep -q '00000000:0001' /proc/net/raw
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	nsenter -t "$(init_pid c)" -n grep -q '00000000:0001' /proc/net/raw || fail "the raw socket is not there"
	ok delete -f c
	edit '.process.capabilities |= map_values(. - ["CAP_NET_RAW"])'
	# the same image, with processes that ask for no more than config.json gives
	edit '.process.capabilities.inheritable |= . + ["CAP_NET_RAW"]'
	fails 'raw, packet or audit socket' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

# Device nodes likewise: those that create does not make.
test_devices_want_the_capability() {
	bundle b sh -c 'mknod /dev/mine c 1 7 && echo > /cr/ready; exec sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_MKNOD"] | unique)'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready"
	eventually 5 grep -q sleep "/proc/$(init_pid c)/comm"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	[ "$(stat -c %t:%T "/proc/$(init_pid c)/root/dev/mine")" = 1:7 ] || fail "the device node is not there"
	ok delete -f c
	edit '.process.capabilities |= map_values(. - ["CAP_MKNOD"])'
	# the same image, with processes that ask for no more than config.json gives
	edit '.process.capabilities.inheritable |= . + ["CAP_MKNOD"]'
	fails 'the image brings the device node' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

# Preflight: what would be lost is named, and nothing is stopped for it.
test_check() {
	counting
	start c
	ok check c
	ok check --format json c
	jq -e . "$T/out" > "$T/jq" || fail "$(cat "$T/out")"
	ok delete -f c
	# A file lock is an obstacle unless --file-locks is given (docs/support.md).
	bundle w /bin/odd flock
	cp "$BUILD/tests/cr/odd" "$B/rootfs/bin/odd"
	start c
	eventually 5 test -e "$B/rootfs/cr/ready.1"
	! stasis check --format json c < /dev/null > "$T/out" || fail "check does not see the lock"
	jq -e '[.. | objects | select(has("reason") and has("remedy") and has("pid"))] | length >= 1' "$T/out" > "$T/jq" || fail "check: $(cat "$T/out" "$T/err")"
	! stasis check c < /dev/null > "$T/out" || fail "check does not see the lock"
	grep -q lock "$T/out" || fail "check: $(cat "$T/out")"
	fails 'lock' checkpoint --image-path "$T/i" c
	[ ! -e "$T/i" ] || [ -z "$(ls -A "$T/i")" ] || fail "files were made"
	expect_status c running
	! grep -q 'State:.[Tt]' "/proc/$(init_pid c)/status" || fail "the container was stopped"
}

# With --file-locks the lock is taken again at restore; not if somebody else has it by then.
test_file_locks() {
	local holder
	counting
	bundle w /bin/odd flock
	cp "$BUILD/tests/cr/odd" "$B/rootfs/bin/odd"
	start c
	eventually 5 test -e "$B/rootfs/cr/ready.1"
	! stasis check c > "$T/out" < /dev/null || fail "check does not see the lock"
	grep -q 'file lock' "$T/out" || fail "check says $(cat "$T/out")"
	ok check --file-locks c
	ok checkpoint --file-locks --image-path "$T/i" c
	exec {holder}<> "$B/rootfs/tmp/lock"
	flock -n "$holder" || fail "the lock is still held"
	fails 'lock on its descriptor' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
	exec {holder}>&-
	ok restore -d --image-path "$T/i" --bundle "$B" c
	! flock -n "$B/rootfs/tmp/lock" true || fail "the lock was not taken again"
}

# An overlay does not tell the names of watched inodes: they are looked for.
test_inotify_on_an_overlay() {
	bundle w /bin/inotify
	cp "$BUILD/tests/cr/inotify" "$B/rootfs/bin/inotify"
	mkdir "$B/upper" "$B/work"
	mount -t overlay -o "lowerdir=$B/rootfs,upperdir=$B/upper,workdir=$B/work" overlay "$B/rootfs" || skip "no overlay"
	edit '.mounts += [{destination: "/mnt", type: "tmpfs", source: "tmpfs"}]'
	start c
	eventually 5 test -e "$B/rootfs/cr/ready.1"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	echo go > "$B/rootfs/cr/go"
	mv "$B/rootfs/cr/go" "$B/rootfs/cr/go.1"
	eventually 5 test -e "$B/rootfs/cr/result.1"
	[ "$(cat "$B/rootfs/cr/result.1")" = PASS ] || fail "$(cat "$B/rootfs/cr/result.1")"
	ok delete -f c
	umount "$B/rootfs"
}

# The source of a bind mount is replaced on the host: the container still has the old one, and a restore would not.
test_replaced_sources() {
	bundle b
	echo old > "$T/file"
	mkdir "$T/dir"
	edit '.mounts += [{destination: "/mnt/file", type: "bind", source: "\($t)/file", options: ["bind"]}, {destination: "/mnt/dir", type: "bind", source: "\($t)/dir", options: ["bind"]}]' --arg t "$T"
	start c
	mv "$T/dir" "$T/elsewhere"
	fails 'mnt/dir: its source on the host .*put the source back' checkpoint --image-path "$T/i" c
	mv "$T/elsewhere" "$T/dir"
	ok check c
	echo new > "$T/new"
	mv "$T/new" "$T/file"
	fails 'mnt/file: its source on the host' checkpoint --image-path "$T/i" c
	ok exec c cat /mnt/file
	[ "$(cat "$T/out")" = old ] || fail "$(cat "$T/out")"
	ok delete -f c
}

test_inspect() {
	counting
	start c
	ok checkpoint --image-path "$T/i" c
	ok inspect "$T/i"
	grep -q 'sh' "$T/out" || fail "$(cat "$T/out")"
	ok inspect --format json "$T/i"
	jq -e '.processes[0] | .pid == 1 and .depth == 0 and .memory.data_pages > 0 and (.descriptors | length) >= 3' \
		"$T/out" > "$T/jq" || fail "$(cat "$T/out")"
	ok inspect --verify --format html "$T/i"
	grep -q '</html>' "$T/out" || fail "$(cat "$T/out")"
	fails '.' inspect "$T/nowhere"
	fails '.' inspect "$B"
}

# Twenty cycles in a row of a shell that forks all the time: it is cut at other places each time.
test_twenty_cycles_of_a_forking_shell() {
	counting
	start c
	local n before=0
	for ((n = 1; n <= 20; n++)); do
		expect_progress
		[ "$(count)" -ge "$before" ] || fail "it began anew: $before, $(count)"
		before=$(count)
		ok checkpoint --image-path "$T/i$n" c
		ok restore -d --image-path "$T/i$n" --bundle "$B" c
		rm -rf "$T/i$n"
	done
	expect_progress
}

test_restore_says_what_is_missing() {
	bundle b sh -c 'exec 5>> /tmp/held; while :; do usleep 20000; done'
	start c
	eventually 5 test -e "$B/rootfs/tmp/held"
	ok checkpoint --image-path "$T/i" c
	mv "$B/rootfs/tmp/held" "$T/away"
	fails "/tmp/held was open or mapped.*restore the bundle's files" restore -d --image-path "$T/i" --bundle "$B" c
	mv "$T/away" "$B/rootfs/tmp/held"
	cp "$B/config.json" "$T/config"
	edit '.linux.resources.pids = {"limit": 1}'
	fails 'no more processes are allowed: raise the limit of pids' restore -d --image-path "$T/i" --bundle "$B" c
	cp "$T/config" "$B/config.json"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok delete --force c
}

test_generation_counts() {
	counting
	start c
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok checkpoint --image-path "$T/j" c
	jq -e '.. | objects | select(.generation? == 1)' "$T/j/manifest.json" > "$T/jq" || fail "$(cat "$T/j/manifest.json")"
}

# A stop finds a sleeping thread where it is about to go on with the sleep that an earlier stop has interrupted. Which call that was
# cannot be told there; an image that did not say it would end the sleep.
test_a_sleep_on_its_way_back() {
	local pid tool
	bundle b sleep 1000
	start c
	pid=$(init_pid c)
	eventually 5 grep -q "^\(35\|230\) " "/proc/$pid/syscall"
	mkfifo "$T/go"
	"$BUILD/tests/tools/halfway" "$pid" < "$T/go" > "$T/there" 2>&1 &
	tool=$!
	exec 7> "$T/go"
	eventually 5 grep -q there "$T/there"
	stasis pause c > "$T/out" 2>&1 < /dev/null &
	sleep 0.3
	echo >&7
	wait "$tool" || fail "$(cat "$T/there")"
	wait $! || fail "pause: $(cat "$T/out")"
	exec 7>&-
	fails 'try again' checkpoint --image-path "$T/i" c
	ok resume c
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	sleep 0.3
	expect_status c running
}

# A process of the container in $B has executed sleep 1000.
confined() {
	local pid
	for pid in $(container_pids); do
		if grep -qz '^1000$' "/proc/$pid/cmdline"; then
			return 0
		fi
	done
	return 1
}

# A process that has confined itself would come back without that.
test_landlock() {
	"$BUILD/tests/tools/confine" 2> "$T/why" || skip "Landlock: $(cat "$T/why")"
	[ -r /sys/kernel/btf/vmlinux ] || skip "type information of the kernel"
	bundle b sh -c 'until [ -e /go ]; do sleep 0.05; done; /confine sleep 1000'
	cp "$BUILD/tests/tools/confine" "$B/rootfs/confine"
	edit '.process.noNewPrivileges = true'
	start c
	ok checkpoint --image-path "$T/i" --leave-running c
	touch "$B/rootfs/go"
	eventually 5 confined
	fails 'Landlock' checkpoint --image-path "$T/j" c
	grep -q 'run the program without Landlock' "$T/err" || fail "$(cat "$T/err")"
	[ ! -e "$T/j" ] || fail "files of a refused checkpoint"
	expect_status c running
	# All of a container can be, from its beginning.
	bundle d sh -c 'exec /confine sleep 1000'
	cp "$BUILD/tests/tools/confine" "$B/rootfs/confine"
	start e
	eventually 5 grep -qx sleep "/proc/$(init_pid e)/comm"
	fails 'Landlock' checkpoint --image-path "$T/j" e
}

# Who is frozen in the middle of fork(2) does not wait in vfork(2).
test_paused_in_fork() {
	bundle b sh -c 'sleep 1000 & while :; do (:); done'
	start c
	for ((i = 0; i < 40; i++)); do
		ok pause c
		rm -rf "$T/i"
		ok checkpoint --pre-dump --image-path "$T/i" c
		ok resume c
	done
}

run_test "$@"
