# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# podman as an ordinary user: stasis runs as root of podman's user namespace, without cgroups of its own.
# time limit: 90
. "$TESTS/callers/podman-lib.sh"

need newuidmap slirp4netns

# A user with subordinate ids, as far as this test's mount namespace goes.
rootless_user() {
	local f
	(cat /etc/passwd; echo "tester:x:1234:1234::/run/tester:/bin/sh") > "$T/passwd"
	(cat /etc/group; echo "tester:x:1234:") > "$T/group"
	echo tester:400000:65536 > "$T/subuid"
	cp "$T/subuid" "$T/subgid"
	for f in passwd group subuid subgid; do
		mount --bind "$T/$f" "/etc/$f"
	done
	mkdir -p /run/tester /run/user/1234
	chown 1234:1234 /run/tester /run/user/1234
	mount --make-shared /
	# The build folder may be closed to others.
	cp "$STASIS" /run/stasis-program
	sed -i "s:$STASIS:/run/stasis-program:" "$CONTAINERS_CONF"
	image
}

podman() {
	(cd /run/tester && HOME=/run/tester TMPDIR=/run/tester XDG_RUNTIME_DIR=/run/user/1234 setpriv --reuid 1234 --regid 1234 --init-groups podman --storage-driver vfs "$@")
}

test_run() {
	rootless_user
	succeeds_here podman import "$T/image.tar" bb
	says_exactly '0 0 1234 1 1 400000 65536' podman run --rm bb sh -c 'echo $(id -u) $(cat /proc/self/uid_map)'
	says_exactly '1000 0000000000000000' podman run --rm -u user bb sh -c 'echo $(id -u) $(grep CapEff /proc/self/status | cut -f 2)'
	says 'inet 10.0.2.100/24' podman run --rm --network slirp4netns bb ip -o addr show tap0 || fail "slirp4netns"
	says_exactly written podman run --rm -v "/run/tester:/here" bb sh -c 'echo written > /here/file; cat /here/file'
	[ "$(stat -c %u /run/tester/file)" = 1234 ] || fail "the owner outside: $(stat -c %u /run/tester/file)"
	podman run --rm bb /no/such > "$T/out" 2>&1 < /dev/null
	[ $? = 127 ] || fail "$(cat "$T/out")"
}

test_life() {
	rootless_user
	succeeds_here podman import "$T/image.tar" bb
	succeeds_here podman run -d --name c bb sh -c 'trap "exit 3" TERM; while :; do echo tick; usleep 20000; done'
	eventually 10 logged c tick
	says_exactly '0 sh' podman exec c sh -c 'echo $(id -u) $(cat /proc/1/comm)'
	says_exactly user podman exec -u user c id -un
	[ "$(echo typed | podman exec -i c cat)" = typed ] || fail "stdin of exec"
	podman exec c sh -c 'exit 5' > "$T/out" 2>&1 < /dev/null
	[ $? = 5 ] || fail "status of exec: $(cat "$T/out")"
	succeeds_here podman stop -t 10 c
	says_exactly 3 podman inspect --format '{{.State.ExitCode}}' c
	succeeds_here podman start c
	succeeds_here podman kill c
	succeeds_here podman rm -f -t 0 c
	[ -z "$(ls /run/user/1234/stasis 2> /dev/null)" ] || fail "left: $(ls /run/user/1234/stasis)"
}

# As succeeds and expect, for the function.
succeeds_here() {
	"$@" > "$T/out" 2> "$T/err" < /dev/null || fail "$*: $(cat "$T/out" "$T/err")"
}

says_exactly() {
	local text=$1 said
	shift
	said=$("$@" 2> "$T/err" < /dev/null) || fail "$*: $said $(cat "$T/err")"
	[ "$said" = "$text" ] || fail "'$*' says '$said', expected '$text'"
}

clean_up() {
	podman rm -a -f -t 0 > "$T/rm" 2>&1
	# podman's pause process keeps the user namespace.
	local pid
	pid=$(cat /run/user/1234/libpod/tmp/pause.pid 2> /dev/null) && kill "$pid"
	true
}

run_caller_test "$@"
