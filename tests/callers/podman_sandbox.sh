# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# A pod of podman's is a sandbox: what it begins with (the infra container, which has no annotations) and the containers in it.
# time limit: 120
. "$TESTS/callers/podman-lib.sh"

# shellcheck disable=SC2016
COUNTING='i=0; while :; do i=$((i+1)); echo "count $i of $$"; usleep 20000; done'

last() {
	podman logs "$1" | tail -1 | sed 's/count \([0-9]*\) of 1/\1/'
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
