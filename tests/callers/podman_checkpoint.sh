# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# podman container checkpoint and restore, with the native engine behind it. podman looks for a criu program beforehand;
# it is not used.
# time limit: 120
. "$TESTS/callers/podman-lib.sh"

# Counts in a variable, so that only what has the memory back goes on counting; and says its pid and parent.
# shellcheck disable=SC2016
COUNTING='i=0; while :; do i=$((i+1)); echo "count $i of $$"; usleep 20000; done'

last() {
	podman logs "$1" | tail -1 | sed 's/count \([0-9]*\) of 1/\1/'
}

counted_beyond() {
	[ "$(last "$1" | grep -x '[0-9]*' || echo 0)" -gt "$2" ]
}

# The container counts on from a number, and never began anew.
goes_on() {
	eventually 10 counted_beyond "$1" "$2"
	[ "$(podman logs "$1" | grep -c '^count 1 of')" -le 1 ] || fail "$1 began anew"
}

counting() {
	podman_image
	succeeds podman run -d --name c "$@" bb sh -c "$COUNTING"
	eventually 10 counted_beyond c 3
}

engine_is_native() {
	jq -e '.engine == "native"' "$1/manifest.json" > "$T/jq" || fail "not our image: $(ls "$1")"
}

data_of() {
	podman inspect --format '{{.StaticDir}}' "$1"
}

test_in_place() {
	need criu
	counting -m 64m --hostname kept
	succeeds podman exec c sh -c 'echo new > /tmp/new; rm /etc/group; echo shm > /dev/shm/file'
	local n d
	d=$(data_of c)
	podman container checkpoint --print-stats c > "$T/stats" 2> "$T/err" || fail "$(cat "$T/err")"
	jq -e '.container_statistics[0] | .runtime_checkpoint_duration > 0 and (.criu_statistics |
		.frozen_time > 0 and .pages_written > 10 and .pages_scanned >= .pages_written)' "$T/stats" > "$T/jq" || fail "$(cat "$T/stats")"
	engine_is_native "$d/checkpoint"
	expect 'exited true' podman inspect --format '{{.State.Status}} {{.State.Checkpointed}}' c
	n=$(last c)
	podman container restore --print-stats c > "$T/stats" 2> "$T/err" || fail "$(cat "$T/err")"
	jq -e '.container_statistics[0].criu_statistics | .restore_time > 0 and .pages_restored > 10' "$T/stats" > "$T/jq" || fail "$(cat "$T/stats")"
	goes_on c "$n"
	[ ! -e "$d/checkpoint" ] || fail "podman left the image, so it thinks that the restore failed"
	expect 'running false true' podman inspect --format '{{.State.Status}} {{.State.Checkpointed}} {{.State.Restored}}' c
	expect 'new shm kept' podman exec c sh -c 'test ! -e /etc/group && echo $(cat /tmp/new /dev/shm/file; hostname)'
	expect 67108864 cat "/sys/fs/cgroup/memory/libpod_parent/libpod-$(podman inspect --format '{{.Id}}' c)/memory.limit_in_bytes"
	# conmon is its parent: it collects the exit status.
	succeeds podman kill c
	expect 137 podman wait c
	expect_state exited c
}

test_again_and_again() {
	counting
	local n _
	for _ in 1 2 3; do
		succeeds podman container checkpoint --leave-running --keep --file-locks --tcp-established c
		n=$(last c)
		goes_on c "$n"
		succeeds podman container checkpoint --keep c
		expect_state exited c
		n=$(last c)
		succeeds podman container restore --keep c
		goes_on c "$n"
		engine_is_native "$(data_of c)/checkpoint"
		expect here podman exec c echo here
	done
	succeeds podman pause c
	succeeds podman unpause c
	expect sh podman exec c cat /proc/1/comm
}

test_export() {
	counting -v volume:/volume --env MARK=env
	succeeds podman exec c sh -c 'echo new > /tmp/new; rm /etc/group; echo shm > /dev/shm/file; echo inside > /volume/file'
	local method id n
	id=$(podman inspect --format '{{.Id}}' c)
	for method in none gzip zstd; do
		succeeds podman container checkpoint --export "$T/$method.tar" --compress "$method" c
		expect_state exited c
		n=$(last c)
		[ "$(stat -c %a "$T/$method.tar")" = 600 ] || fail "mode of the archive"
		succeeds podman rm -f -t 0 c
		succeeds podman volume rm volume
		succeeds podman container restore --import "$T/$method.tar"
		expect "$id" podman inspect --format '{{.Id}}' c
		goes_on c "$n"
		expect 'new shm inside env' podman exec c sh -c 'test ! -e /etc/group && echo $(cat /tmp/new /dev/shm/file /volume/file) $MARK'
	done
	tar tf "$T/none.tar" | sort | paste -sd' ' > "$T/list"
	for n in config.dump spec.dump stats-dump checkpoint/manifest.json checkpoint/inventory.img rootfs-diff.tar deleted.files; do
		grep -qw -- "$n" "$T/list" || fail "$n is not in the archive: $(cat "$T/list")"
	done
	[ "$(file_type "$T/gzip.tar")/$(file_type "$T/zstd.tar")" = 1f8b/28b5 ] || fail "not compressed"
}

file_type() {
	od -An -tx1 -N2 "$1" | tr -d ' '
}

# One archive, several containers, while the first runs on; and one in another storage.
test_copies() {
	counting
	succeeds podman container checkpoint --leave-running --export "$T/c.tar" c
	local n
	n=$(tar xOf "$T/c.tar" ctr.log | tail -1 | sed 's/.*count \([0-9]*\) of.*/\1/')
	goes_on c "$n"
	succeeds podman container restore --import "$T/c.tar" --name first
	succeeds podman container restore --import "$T/c.tar" --name second
	goes_on first "$n"
	goes_on second "$n"
	ends 125 'in use' podman container restore --import "$T/c.tar" --name second
	[ "$(podman ps -q | wc -l)" = 3 ] || fail "$(podman ps)"
	[ "$(podman inspect --format '{{.State.Pid}}' c first second | sort -u | wc -l)" = 3 ] || fail "the same processes"
	succeeds podman exec first touch /tmp/only-here
	ends 1 '' podman exec second test -e /tmp/only-here
	succeeds podman save -o "$T/image.save" bb
	# As on another host, which has only the image and the archive.
	succeeds podman rm -f -t 0 c first second
	succeeds podman system reset --force
	ends 125 'no such|not known|unable|pull' podman container restore --import "$T/c.tar"
	succeeds podman load -i "$T/image.save"
	succeeds podman container restore --import "$T/c.tar"
	goes_on c "$n"
	expect here podman exec c echo here
}

test_checkpoint_image() {
	counting
	succeeds podman container checkpoint --create-image saved c
	local n
	n=$(last c)
	expect native-or-runtime podman inspect --format '{{if index .Annotations "io.podman.annotations.checkpoint.runtime.name"}}native-or-runtime{{end}}' saved
	succeeds podman rm -f -t 0 c
	succeeds podman container restore --name d saved
	goes_on d "$n"
}

# The network namespace is podman's, and comes back with its interface and address.
test_bridge() {
	cat > /etc/cni/net.d/inside.conflist <<- 'END'
		{"cniVersion": "0.4.0", "name": "inside", "plugins": [
		 {"type": "bridge", "bridge": "inside0", "isGateway": true, "ipam": {"type": "host-local",
		  "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.77.0.0/24", "gateway": "10.77.0.1"}]]}}]}
	END
	podman_image
	succeeds podman run -d --name c --network inside --ip 10.77.0.9 bb sh -c 'while :; do nc -l -p 99 -e echo served; done'
	eventually 10 says served nc_host 10.77.0.9 99
	succeeds podman container checkpoint c
	[ -z "$(ls /run/netns)" ] || fail "the network namespace is left"
	succeeds podman container restore c
	says 'inet 10.77.0.9/24' podman exec c ip -o -4 addr show eth0 || fail "$(podman exec c ip addr)"
	eventually 10 says served nc_host 10.77.0.9 99
}

test_netavark() {
	netavark
	podman_image
	succeeds podman network create --subnet 10.78.0.0/24 inside
	succeeds podman run -d --name c --network inside --ip 10.78.0.9 bb sh -c 'while :; do nc -l -p 99 -e echo served; done'
	eventually 10 says served nc_host 10.78.0.9 99
	succeeds podman container checkpoint c
	[ -z "$(ls /run/netns)" ] || fail "the network namespace is left"
	succeeds podman container restore c
	says 'inet 10.78.0.9/24' podman exec c ip -o -4 addr show eth0 || fail "$(podman exec c ip addr)"
	eventually 10 says served nc_host 10.78.0.9 99
	succeeds podman container checkpoint --export "$T/c.tar" c
	succeeds podman rm -f -t 0 c
	succeeds podman container restore --import "$T/c.tar"
	says 'inet 10.78.0.9/24' podman exec c ip -o -4 addr show eth0 || fail "$(podman exec c ip addr)"
}

nc_host() {
	busybox nc -w 1 "$@" < /dev/null
}

# type_in WORD: to container c, which answers.
type_in() {
	(echo "$1"; sleep 60) | podman attach --sig-proxy=false c > "$T/attached" 2>&1 &
	eventually 10 logged c "got $1"
	kill %% 2> /dev/null
}

test_terminal_and_stdin() {
	podman_image
	succeeds podman run -d -t -i --name c bb sh -c 'stty -echo; while read -r x; do echo "got $x"; done'
	type_in one
	succeeds podman container checkpoint c
	succeeds podman container restore c
	type_in two
	expect /dev/pts/0 podman exec c readlink /proc/1/fd/0
}

test_in_a_pod() {
	need catatonit
	podman_image
	succeeds podman pod create --name p --network none
	succeeds podman run -d --pod p --name c bb sh -c "$COUNTING"
	eventually 10 counted_beyond c 3
	local n
	succeeds podman container checkpoint c
	n=$(last c)
	succeeds podman container restore c
	goes_on c "$n"
	expect "$(podman inspect --format '{{.State.Pid}}' c > "$T/pid"; readlink "/proc/$(cat "$T/pid")/ns/net")" \
		readlink "/proc/$(podman inspect --format '{{.State.Pid}}' "$(podman pod inspect --format '{{.InfraContainerID}}' p)")/ns/net"
}

# The memory beforehand, while it runs, and then what was written since. podman does this only if a criu says that it could.
most_is_of_the_first() {
	jq -e '.statistics | .pages_parent > 4 * .pages_data' "$1/checkpoint/manifest.json" > "$T/jq" || fail "$(cat "$1/checkpoint/manifest.json")"
	jq -e '.statistics.pages_data > 200' "$1/pre-checkpoint/manifest.json" > "$T/jq" || fail "$(cat "$1/pre-checkpoint/manifest.json")"
}

test_pre_checkpoint() {
	mkdir "$T/bin"
	cp "$TESTS/callers/criu-stand-in" "$T/bin/criu"
	export PATH=$T/bin:$PATH
	podman_image
	succeeds podman run -d --name c bb sh -c "x=\$(seq 1 200000); $COUNTING"
	eventually 20 counted_beyond c 3
	local n d
	d=$(data_of c)
	succeeds podman container checkpoint --pre-checkpoint c
	expect_state running c
	goes_on c "$(last c)"
	succeeds podman container checkpoint --with-previous --keep c
	expect_state exited c
	most_is_of_the_first "$d"
	n=$(last c)
	succeeds podman container restore c
	goes_on c "$n"
	# The same by archives, which are imported where neither the container nor its folder is any more.
	succeeds podman container checkpoint --pre-checkpoint --export "$T/pre.tar" c
	expect_state running c
	succeeds podman container checkpoint --with-previous --export "$T/c.tar" c
	mkdir "$T/x" && tar xf "$T/c.tar" -C "$T/x" && tar xf "$T/pre.tar" -C "$T/x"
	most_is_of_the_first "$T/x"
	n=$(last c)
	succeeds podman rm -f -t 0 c
	ends 125 'pre-checkpoint|parent' podman container restore --import "$T/c.tar" --name alone
	succeeds podman container restore --import-previous "$T/pre.tar" --import "$T/c.tar"
	goes_on c "$n"
	expect here podman exec c echo here
}

# What can't be kept is refused, podman shows why, and the container runs on.
test_refused() {
	podman_image
	succeeds podman run -d --name c bb sh -c "nc -l -p 99 -e sleep 1000 & sleep 0.3; nc 127.0.0.1 99 & $COUNTING"
	eventually 10 counted_beyond c 20
	ends 125 'tcp' podman container checkpoint c
	expect_state running c
	goes_on c "$(last c)"
	ends 125 'memory tracking' podman container checkpoint --pre-checkpoint c
	ends 125 '.' podman container checkpoint --with-previous --export "$T/x" c
	goes_on c "$(last c)"
	ends 125 'not.*checkpoint|improper|not running' podman container restore c
}

# An image that was damaged: podman shows the reason, and a good one is restored afterwards.
test_damaged() {
	counting
	succeeds podman container checkpoint --keep c
	local d
	d=$(data_of c)/checkpoint
	cp -a "$d" "$T/good"
	dd if=/dev/zero of="$d/checkpoint.img" bs=1 seek=100 count=16 conv=notrunc status=none
	ends 125 'checkpoint.img|checksum' podman container restore --keep c
	rm -r "$d" && cp -a "$T/good" "$d"
	succeeds podman container restore c
	goes_on c 3
}

in_hooks() {
	[ "$(podman exec c cat /tmp/hooks)" = "$1" ] || fail "hooks: $(podman exec c cat /tmp/hooks)"
}

# docs/application.md, with annotations as podman passes them on: hooks, generation, environment, and a checkpoint that it asks for.
test_application() {
	need criu python3
	local hook=/hooks/note
	mkdir "$T/hooks"
	printf '#!/bin/sh\necho $STASIS_MODE $STASIS_GENERATION >> /tmp/hooks\n' > "$T/hooks/note"
	chmod 755 "$T/hooks/note"
	counting -v "$T/hooks:/hooks:ro" --annotation io.stasis.application=true --annotation "io.stasis.application.image-path=$T/own" \
		--annotation "io.stasis.hooks.save=$hook" --annotation "io.stasis.hooks.resume=$hook" --annotation "io.stasis.hooks.restore=$hook" \
		-v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro -v "$TESTS/../examples:/examples:ro" -e WHERE=here
	expect 'checkpointed 0' podman exec c /usr/bin/python3 -B /examples/ask.py
	engine_is_native "$T/own"
	in_hooks $'save 0\nresume 0'
	succeeds podman container checkpoint c
	succeeds podman container restore c
	goes_on c 3
	in_hooks $'save 0\nresume 0\nsave 0\nrestore 1'
	expect 1 podman exec c sh -c 'read n < /run/stasis/generation; echo $n'
	expect WHERE=here podman exec c sh -c 'tr "\0" "\n" < /run/stasis/environment | grep ^WHERE='
	expect 'checkpointed 1' podman exec c /usr/bin/python3 -B /examples/ask.py
	goes_on c 3
}

run_caller_test "$@"
