# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# podman: pods, healthchecks, --init and --systemd.
# time limit: 90
. "$TESTS/callers/podman-lib.sh"

namespaces() {
	podman exec "$1" sh -c 'for n in net ipc uts mnt pid; do readlink /proc/self/ns/$n; done'
}

# The infra container runs catatonit, in an image that podman makes itself.
test_pods() {
	need catatonit
	podman_image
	succeeds podman pod create --name p --hostname together --network none
	succeeds podman run -d --pod p --name a bb sh -c 'while :; do nc -l -p 77 -e echo served; done'
	succeeds podman run -d --pod p --name b bb sleep 1000
	expect together podman exec b hostname
	paste <(namespaces a) <(namespaces b) > "$T/ns"
	[ "$(awk '$1 == $2 { split($1, n, ":"); printf "%s ", n[1] }' "$T/ns")" = "net ipc uts " ] || fail "$(cat "$T/ns")"
	eventually 5 says served podman exec b nc -w 1 127.0.0.1 77
	podman pod ps --format '{{.Name}} {{.NumberOfContainers}}' | grep -q '^p 3' || fail "$(podman pod ps)"
	succeeds podman pod pause p
	expect_state paused b
	succeeds podman pod unpause p
	expect_state running b
	succeeds podman pod stop -t 0 p
	expect_state exited b
	succeeds podman pod start p
	expect_state running b
	paste <(namespaces a) <(namespaces b) > "$T/ns"
	[ "$(awk '$1 == $2 { split($1, n, ":"); printf "%s ", n[1] }' "$T/ns")" = "net ipc uts " ] || fail "after the start: $(cat "$T/ns")"
	succeeds podman pod create --name q --network none --share pid,net
	succeeds podman run -d --pod q --name c bb sleep 1000
	expect catatonit podman run --rm --pod q bb cat /proc/1/comm
	succeeds podman pod rm -f -t 0 p q
}

test_healthcheck() {
	podman_image
	succeeds podman run -d --name c --health-cmd 'test -e /tmp/well' --health-interval disable --health-retries 2 bb sleep 1000
	ends 1 unhealthy podman healthcheck run c
	succeeds podman exec c touch /tmp/well
	succeeds podman healthcheck run c
	expect healthy podman inspect --format '{{.State.Healthcheck.Status}}' c
	succeeds podman exec c rm /tmp/well
	ends 1 '' podman healthcheck run c
	ends 1 '' podman healthcheck run c
	expect unhealthy podman inspect --format '{{.State.Healthcheck.Status}}' c
}

# catatonit is process 1 and reaps.
test_init() {
	need catatonit
	podman_image
	succeeds podman run -d --init --name c bb sh -c '(sleep 0.01 &) ; exec sleep 1000'
	says 'init|catatonit' podman exec c cat /proc/1/comm || fail "process 1 is $(podman exec c cat /proc/1/comm)"
	expect sleep podman exec c cat /proc/2/comm
	eventually 5 no_zombies
	SECONDS=0
	succeeds podman stop -t 10 c
	[ "$SECONDS" -lt 8 ] || fail "the signal of stop does not arrive"
}

no_zombies() {
	! podman exec c sh -c 'grep -l "^State:.Z" /proc/[0-9]*/status' > "$T/zombies"
}

test_systemd() {
	podman_image
	cat > "$T/look" <<- 'END'
		echo "container=$container"
		for d in /run /run/lock /tmp /var/log/journal; do echo "$d $(stat -f -c %T $d)"; done
		mkdir /sys/fs/cgroup/systemd/below && rmdir /sys/fs/cgroup/systemd/below && echo below
	END
	expect "container=podman
/run tmpfs
/run/lock tmpfs
/tmp tmpfs
/var/log/journal tmpfs
below" podman run --rm --systemd=always -v "$T/look:/look:ro" bb sh /look
	succeeds podman run -d --name c --systemd=always bb sleep 1000
	expect 37 podman inspect --format '{{.Config.StopSignal}}' c
}

run_caller_test "$@"
