# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# A pod of podman's is a sandbox: what it begins with (the infra container, which has no annotations) and the containers in it.
# time limit: 120
. "$TESTS/callers/podman-lib.sh"

# shellcheck disable=SC2016
COUNTING='i=0; while :; do i=$((i+1)); echo "count $i of $$"; usleep 20000; done'

last() {
	podman logs "$1" | tail -1 | sed 's/count \([0-9]*\) of .*/\1/'
}

counted_beyond() {
	[ "$(last "$1" | grep -x '[0-9]*' || echo 0)" -gt "$2" ]
}

goes_on() {
	eventually 10 counted_beyond "$1" "$2"
	[ "$(podman logs "$1" | grep -c '^count 1 of')" -le 1 ] || fail "$1 began anew"
}

id_of() {
	podman inspect --format '{{.Id}}' "$1"
}

# pod NAME [OPTION...]: sets POD to the sandbox's id.
pod() {
	need catatonit
	podman_image
	succeeds podman pod create --network none --name "$@"
	succeeds podman run -d --pod "$1" --name a bb sh -c "$COUNTING"
	succeeds podman run -d --pod "$1" --name b bb sh -c "$COUNTING"
	POD=$(podman pod inspect --format '{{.InfraContainerID}}' "$1")
}

# The members of the sandbox as "id=name", sorted.
members() {
	local f
	for f in "/run/stasis/@sandboxes/$1/members"/*; do
		echo "${f##*/}=$(cat "$f")"
	done | sort
}

expect_members() {
	local sandbox=$1
	shift
	[ "$(members "$sandbox")" = "$(printf '%s\n' "$@" | sort)" ] || fail "members: $(members "$sandbox"), expected $*"
}

test_members() {
	pod p
	local a b n
	a=$(id_of a) b=$(id_of b)
	expect_members "$POD" "$POD=POD" "$a=$a" "$b=$b"
	# A checkpoint of podman's is of one container, and what is restored is a member again.
	succeeds podman container checkpoint --leave-running --keep a
	goes_on a "$(last a)"
	succeeds podman container checkpoint --keep a
	expect_state exited a
	n=$(last a)
	expect_members "$POD" "$POD=POD" "$b=$b"
	goes_on b "$(last b)"
	succeeds podman container restore --keep a
	goes_on a "$n"
	expect_members "$POD" "$POD=POD" "$a=$a" "$b=$b"
	succeeds podman rm -f -t 0 b
	expect_members "$POD" "$POD=POD" "$a=$a"
	succeeds podman pod stop -t 0 p
	succeeds podman pod start p
	expect_members "$POD" "$POD=POD" "$a=$a"
	succeeds podman pod rm -f -t 0 p
}

in_image() {
	jq -r '.containers[].name' "$1/manifest.json" | sort | paste -sd' '
}

# All of the pod at one moment, which podman cannot ask for: its containers go on, for podman as well.
test_checkpoint_of_the_pod() {
	pod p
	local a b n
	a=$(id_of a) b=$(id_of b)
	"$STASIS" checkpoint --sandbox --leave-running --image-path "$T/i" "$POD" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	[ "$(in_image "$T/i")" = "$(printf '%s\n' POD "$a" "$b" | sort | paste -sd' ')" ] || fail "in the image: $(in_image "$T/i")"
	goes_on a "$(last a)"
	goes_on b "$(last b)"
	expect here podman exec b echo here
	# Named by any of them.
	"$STASIS" checkpoint --sandbox --leave-running --image-path "$T/j" "$b" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	[ "$(in_image "$T/j")" = "$(in_image "$T/i")" ] || fail "in the image: $(in_image "$T/j")"
	# Its containers can still be checkpointed one by one, by podman.
	succeeds podman container checkpoint --keep a
	expect_state exited a
	n=$(last a)
	succeeds podman container restore --keep a
	goes_on a "$n"
	# Ended: podman sees that they have ended.
	"$STASIS" checkpoint --sandbox --image-path "$T/k" "$POD" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	expect_state exited a
	expect_state exited b
	succeeds podman pod rm -f -t 0 p
}

# copied NAME: $T/NAME, the bundle of a container of the image $T/i, for another sandbox; its namespaces are those of the new first container.
copied() {
	mkdir "$T/$1"
	jq 'del(.hooks) | .linux.cgroupsPath = $cgroup | .linux.namespaces |= map(if .path and (.type | IN("pid", "ipc", "uts", "network", "user")) then
		.path = "/proc/" + $pid + "/ns/" + (if .type == "network" then "net" else .type end) else . end)' \
		--arg cgroup "$CGROUP/two-$1" --arg pid "${FIRST:-0}" "$T/i/containers/$1/config.json" > "$T/$1/config.json" || fail "config.json of $1"
}

# again NAME ID: back from $T/i in the sandbox two, its output in $T/NAME.log.
again() {
	copied "$1"
	"$STASIS" restore -d --image-path "$T/i" --bundle "$T/$1" --sandbox two --container-name "$1" --pid-file "$T/$1.pid" "$2" \
		< /dev/null > "$T/$1.log" 2> "$T/$1.err" || fail "$1: $(cat "$T/$1.err")"
}

counted() { # NAME
	[ -s "$T/$1.log" ]
}

# What catatonit has adopted: pid, parent, command.
# shellcheck disable=SC2016
ADOPTED='cd /proc; for p in [0-9]*; do
	c=$(tr "\\0" " " 2> /dev/null < $p/cmdline)
	[ "${c#sleep 500}" = "$c" ] || echo "$p $(sed -n "s/^PPid:.//p" $p/status) $c"
done | grep " 1 sleep" | sort'

# One pid namespace for all: catatonit is process 1. The pod goes on, and a copy of it beside it.
test_shared_pids() {
	need catatonit
	podman_image
	succeeds podman pod create --network none --share pid,ipc,uts --name p
	# Each with a process that catatonit has adopted.
	succeeds podman run -d --pod p --name a bb sh -c "(sleep 5000 &); $COUNTING"
	succeeds podman run -d --pod p --name b bb sh -c "(sleep 5001 &); $COUNTING"
	POD=$(podman pod inspect --format '{{.InfraContainerID}}' p)
	local a b name
	a=$(id_of a) b=$(id_of b)
	expect catatonit podman exec a cat /proc/1/comm
	podman exec a sh -c "$ADOPTED" > "$T/before"
	[ "$(wc -l < "$T/before")" = 2 ] || fail "adopted: $(cat "$T/before")"
	ends 125 'pid namespace of another container' podman container checkpoint --keep a
	expect_state running a
	"$STASIS" checkpoint --sandbox --leave-running --image-path "$T/i" "$POD" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	goes_on a "$(last a)"
	again POD first
	FIRST=$(cat "$T/POD.pid")
	again "$b" second
	again "$a" third
	for name in "$a" "$b"; do
		eventually 10 counted "$name"
		[ "$(head -1 "$T/$name.log" | cut -d' ' -f2)" -gt 1 ] || fail "$name began anew: $(head -1 "$T/$name.log")"
	done
	"$STASIS" exec third sh -c "$ADOPTED" > "$T/after" 2> "$T/err" < /dev/null || fail "$(cat "$T/err")"
	diff "$T/before" "$T/after" || fail "other processes than before"
	for name in first second third; do
		"$STASIS" delete -f "$name" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	done
	# The pod goes on, and ends.
	expect_state running a
	"$STASIS" checkpoint --sandbox --image-path "$T/k" "$POD" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	expect_state exited a
	expect_state exited b
	succeeds podman pod rm -f -t 0 p
}

# One user namespace for all: the infra container has made it. Ended and brought back, with podman's own root filesystems.
test_shared_user() {
	need catatonit
	podman_image
	succeeds podman pod create --network none --uidmap 0:100000:65536 --gidmap 0:200000:65536 --name p
	succeeds podman run -d --pod p --name a bb sh -c "$COUNTING"
	succeeds podman run -d --pod p --name b bb sh -c "$COUNTING"
	POD=$(podman pod inspect --format '{{.InfraContainerID}}' p)
	local a b name
	a=$(id_of a) b=$(id_of b)
	expect "$(readlink "/proc/$(podman inspect --format '{{.State.Pid}}' "$POD")/ns/user")" podman exec a readlink /proc/self/ns/user
	eventually 10 counted_beyond a 5
	eventually 10 counted_beyond b 5
	# Alone, by podman.
	succeeds podman container checkpoint --keep a
	expect_state exited a
	succeeds podman container restore --keep a
	goes_on a "$(last a)"
	# Together: beside the pod, which goes on.
	"$STASIS" checkpoint --sandbox --leave-running --image-path "$T/i" "$POD" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	goes_on a "$(last a)"
	again POD first
	FIRST=$(cat "$T/POD.pid")
	again "$b" second
	again "$a" third
	for name in "$a" "$b"; do
		eventually 10 counted "$name"
		[ "$(head -1 "$T/$name.log" | cut -d' ' -f2)" -gt 1 ] || fail "$name began anew: $(head -1 "$T/$name.log")"
	done
	[ "$(readlink "/proc/$(cat "$T/$a.pid")/ns/user")" = "$(readlink "/proc/$FIRST/ns/user")" ] || fail "a is in another user namespace"
	for name in first second third; do
		"$STASIS" delete -f "$name" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	done
	# podman's own cleanup, which conmon has started, may still hold the mount of /dev/shm.
	eventually 10 succeeds_at_last podman pod rm -f -t 0 p
}

test_without_infra() {
	podman_image
	succeeds podman pod create --name p --infra=false
	succeeds podman run -d --pod p --name a bb sleep 1000
	local a
	a=$(id_of a)
	expect_members "$(podman pod inspect --format '{{.ID}}' p)" "$a=$a"
	succeeds podman pod rm -f -t 0 p
}

run_caller_test "$@"
