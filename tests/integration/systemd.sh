# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# --systemd-cgroup: containers in scopes and slices of systemd's. It runs in the guest (make test-guest).
# time limit: 120
. "$TESTS/lib.sh"

need_systemd() {
	[ -e /run/systemd/system ] || skip "not on this machine: systemd"
}

# property UNIT NAME: as systemd tells it.
property() {
	systemctl show --value -p "$2" "$1"
}

expect_property() {
	local value
	value=$(property "$1" "$2")
	[ "$value" = "$3" ] || fail "$1: $2 is '$value', not '$3'"
}

# systemd_bundle CGROUPSPATH: $B, with that.
systemd_bundle() {
	bundle b
	edit '.linux.cgroupsPath = $p' --arg p "$1"
}

LIMITS='.linux.resources += {"memory": {"limit": 67108864, "reservation": 33554432, "swap": 100663296}, "pids": {"limit": 17},
	"cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"}}'

test_without_systemd() {
	[ ! -e /run/systemd/system ] || skip "not on this machine: a life without systemd"
	bundle b
	fails 'systemd is not running' --systemd-cgroup run -d --bundle "$B" c
	fails 'systemd is not running' --cgroup-manager systemd run -d --bundle "$B" c
	expect_nothing_left c
}

test_scope() {
	need_systemd
	systemd_bundle "stasistest-scope.slice:pre:name"
	edit "$LIMITS"
	ok --systemd-cgroup run -d --bundle "$B" c
	grep -qx '0::/stasistest.slice/stasistest-scope.slice/pre-name.scope' "/proc/$(init_pid c)/cgroup" || fail "$(cat "/proc/$(init_pid c)/cgroup")"
	[ "$(cat "$(cgroup_dir memory)/cgroup.procs")" = "$(init_pid c)" ] || fail "others are in it"
	expect_property pre-name.scope ActiveState active
	expect_property pre-name.scope Slice stasistest-scope.slice
	expect_property pre-name.scope Delegate yes
	expect_property pre-name.scope MemoryMax 67108864
	expect_property pre-name.scope MemoryLow 33554432
	expect_property pre-name.scope MemorySwapMax 33554432
	expect_property pre-name.scope TasksMax 17
	expect_property pre-name.scope CPUWeight 59
	expect_property pre-name.scope CPUQuotaPerSecUSec 500ms
	expect_property pre-name.scope AllowedCPUs 0
	expect_property pre-name.scope DevicePolicy closed
	expect_limit cpu - - cpu.max "50000 100000"
	expect_limit cpuset - - cpuset.cpus 0
	ok update --memory 128m --memory-swap 128m --pids-limit 21 c
	expect_property pre-name.scope MemoryMax 134217728
	expect_property pre-name.scope TasksMax 21
	# What systemd writes again is what it was told.
	systemctl daemon-reload
	systemctl set-property --runtime pre-name.scope CPUWeight=60
	expect_limit memory - - memory.max 134217728
	expect_limit pids - - pids.max 21
	ok exec c true
	ok pause c
	expect_status c paused
	ok resume c
	ok delete -f c
	expect_property pre-name.scope LoadState not-found
	expect_nothing_left c
}

test_defaults() {
	need_systemd
	bundle b
	edit 'del(.linux.cgroupsPath)'
	ok --systemd-cgroup run -d --bundle "$B" "d$$"
	expect_property "stasis-d$$.scope" Slice system.slice
	ok delete -f "d$$"
	# The slice may be left out, and the prefix.
	edit '.linux.cgroupsPath = ":p:n'$$'"'
	ok --cgroup-manager systemd run -d --bundle "$B" c
	expect_property "p-n$$.scope" Slice system.slice
	ok delete -f c
	edit '.linux.cgroupsPath = "::n'$$'.slice"'
	ok --systemd-cgroup run -d --bundle "$B" c
	grep -qx "0::/n$$.slice" "/proc/$(init_pid c)/cgroup" || fail "$(cat "/proc/$(init_pid c)/cgroup")"
	expect_property "n$$.slice" ActiveState active
	ok delete -f c
	expect_property "n$$.slice" ActiveState inactive
}

test_bad_paths() {
	need_systemd
	bundle b
	local p
	for p in /a/b a:b a:b:c:d a.slice:b: x/y.slice:b:c; do
		edit '.linux.cgroupsPath = $p' --arg p "$p"
		fails 'expected "slice:prefix:name"' --systemd-cgroup run -d --bundle "$B" c
	done
	for p in nosuffix:b:c -a.slice:b:c a--b.slice:b:c .slice:b:c; do
		edit '.linux.cgroupsPath = $p' --arg p "$p"
		fails 'not the name of a slice' --systemd-cgroup run -d --bundle "$B" c
	done
	edit '.linux.cgroupsPath = "system.slice:b:a b"'
	fails 'systemd: StartTransientUnit: ' --systemd-cgroup run -d --bundle "$B" c
	expect_nothing_left c
}

test_annotations() {
	need_systemd
	systemd_bundle "system.slice:note:a$$"
	edit '.annotations = {"org.systemd.property.TimeoutStopSec": "uint64 7", "org.systemd.property.CollectMode": "'"'inactive-or-failed'"'",
		"org.systemd.property.SendSIGHUP": "true", "org.systemd.property.Documentation": "['"'man:a(1)', 'man:b(2)'"']"}'
	ok --systemd-cgroup run -d --bundle "$B" c
	expect_property "note-a$$.scope" TimeoutStopUSec 7s
	expect_property "note-a$$.scope" CollectMode inactive-or-failed
	expect_property "note-a$$.scope" SendSIGHUP yes
	expect_property "note-a$$.scope" Documentation '"man:a(1)" "man:b(2)"'
	ok delete -f c
	edit '.annotations = {"org.systemd.property.No/Name": "true"}'
	fails 'not the name of a property' --systemd-cgroup run -d --bundle "$B" c
	edit '.annotations = {"org.systemd.property.SendSIGHUP": "{sv}"}'
	fails 'is not understood' --systemd-cgroup run -d --bundle "$B" c
	edit '.annotations = {"org.systemd.property.NoSuchThing": "true"}'
	fails 'systemd: StartTransientUnit: ' --systemd-cgroup run -d --bundle "$B" c
	expect_nothing_left c
}

# One name twice is an error, and the first container does not notice.
test_name_in_use() {
	need_systemd
	systemd_bundle "system.slice:twice:a$$"
	ok --systemd-cgroup run -d --bundle "$B" c
	fails 'already' --systemd-cgroup run -d --bundle "$B" other
	expect_status c running
	expect_property "twice-a$$.scope" ActiveState active
	ok delete -f c
}

# A unit is known by its name alone: what is left of an earlier container is not the later one.
test_name_used_again() {
	need_systemd
	systemd_bundle "system.slice:again:a$$"
	ok --systemd-cgroup run -d --bundle "$B" c
	ok kill c KILL
	expect_status c stopped
	eventually 10 eval '[ "$(property "again-a$$.scope" LoadState)" = not-found ]'
	ok --systemd-cgroup run -d --bundle "$B" later
	ok delete c
	expect_status later running
	expect_property "again-a$$.scope" ActiveState active
	# Nor is it that of a create that was killed before it asked systemd.
	FAULT=create-state-dir timeout 30 "$STASIS" --root "$ROOT" --systemd-cgroup create --bundle "$B" killed > "$T/out" 2>&1 < /dev/null && fail "create survived"
	ok delete -f killed
	expect_status later running
	ok delete -f later
}

test_stopped_by_systemd() {
	need_systemd
	systemd_bundle "system.slice:stop:a$$"
	edit '.process.args = ["sh", "-c", "trap exit TERM; while :; do sleep 0.1; done"]'
	ok --systemd-cgroup run -d --bundle "$B" c
	systemctl stop "stop-a$$.scope"
	expect_status c stopped
	ok delete c
}

# A kill -9 of create in the middle leaves no holder, and what is left can be deleted.
test_killed_create() {
	need_systemd
	systemd_bundle "system.slice:killed:a$$"
	FAULT=create-cgroup timeout 30 "$STASIS" --root "$ROOT" --systemd-cgroup create --bundle "$B" c > "$T/out" 2>&1 < /dev/null && fail "create survived"
	[ ! -e "$ROOT/c" ] || ok delete -f c
	eventually 10 eval '[ "$(property "killed-a$$.scope" LoadState)" = not-found ]'
	! pgrep -f stasis:scope || fail "the holder is left"
}

test_checkpoint() {
	need_systemd
	systemd_bundle "stasistest.slice:cr:a$$"
	edit '.process.args = ["sh", "-c", $c] | .linux.resources.pids.limit = 17' --arg c "$COUNTER"
	ok --systemd-cgroup run -d --bundle "$B" c
	expect_progress
	ok checkpoint --image-path "$T/i" c
	ok --systemd-cgroup restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	expect_property "cr-a$$.scope" TasksMax 17
	ok kill --all c KILL
	expect_status c stopped
	ok delete c
	expect_property "cr-a$$.scope" LoadState not-found
}

# user_does COMMAND...: as the ordinary user of the guest, as a service of his own systemd.
user_does() {
	timeout 60 setpriv --reuid 1000 --regid 1000 --clear-groups env HOME=/tmp XDG_RUNTIME_DIR=/run/user/1000 \
		systemd-run --user --quiet --wait --pipe --collect -E XDG_RUNTIME_DIR=/run/user/1000 "$@" < /dev/null > "$T/out" 2> "$T/err" ||
		fail "exit $?: $*: $(cat "$T/err" "$T/out")"
}

user_property() {
	setpriv --reuid 1000 --regid 1000 --clear-groups env XDG_RUNTIME_DIR=/run/user/1000 systemctl --user show --value -p "$2" "$1"
}

# Without root: the user's own systemd makes the scope, in what is delegated to it.
test_rootless() {
	need_systemd
	[ -S /run/user/1000/bus ] || skip "not on this machine: a user with a systemd of his own"
	bundle b
	chmod 711 "$(dirname "$T")"
	chmod 755 "$T"
	cp "$STASIS" "$T/stasis"
	rm "$B/config.json"
	mkdir "$T/state"
	chown -R 1000:1000 "$B" "$T/state"
	user_does "$T/stasis" spec --rootless --bundle "$B"
	edit '.process.terminal = false | .process.args = ["sleep", "1000"] | .linux.cgroupsPath = ":mine:'"r$$"'"
		| .linux.resources = {"memory": {"limit": 67108864}, "pids": {"limit": 17}}'
	# The container outlives the service that started it, since it is in a scope of its own.
	user_does sh -c '"$0" --root "$1" --systemd-cgroup run -d --bundle "$2" c > /dev/null 2>&1' "$T/stasis" "$T/state" "$B"
	user_does "$T/stasis" --root "$T/state" state c
	[ "$(jq -r .status "$T/out")" = running ] || fail "$(cat "$T/out")"
	local pid
	pid=$(jq -r .pid "$T/out")
	grep -qx "0::/user.slice/user-1000.slice/user@1000.service/user.slice/mine-r$$.scope" "/proc/$pid/cgroup" || fail "$(cat "/proc/$pid/cgroup")"
	[ "$(user_property "mine-r$$.scope" MemoryMax)" = 67108864 ] || fail "MemoryMax: $(user_property "mine-r$$.scope" MemoryMax)"
	[ "$(cat "/sys/fs/cgroup$(cut -d: -f3 "/proc/$pid/cgroup")/pids.max")" = 17 ] || fail "pids.max"
	user_does "$T/stasis" --root "$T/state" update --pids-limit 21 c
	[ "$(user_property "mine-r$$.scope" TasksMax)" = 21 ] || fail "TasksMax"
	user_does "$T/stasis" --root "$T/state" exec c id -u
	user_does "$T/stasis" --root "$T/state" pause c
	user_does "$T/stasis" --root "$T/state" resume c
	user_does "$T/stasis" --root "$T/state" delete -f c
	[ "$(user_property "mine-r$$.scope" LoadState)" = not-found ] || fail "the scope is left"
}

# podman as it is by default where systemd runs: its containers are scopes in machine.slice.
test_podman() {
	need_systemd
	command -v podman > /dev/null || skip "not on this machine: podman"
	bundle b
	local id cgroup
	trap 'pod rm -fa -t 0 > /dev/null 2>&1; rm -rf "/run/stasis-test-$$"' EXIT
	pod() {
		timeout 60 podman --runtime "$STASIS" --root "$T/storage" --runroot "/run/stasis-test-$$" --storage-driver vfs "$@" < /dev/null
	}
	pod run -d --name "p$$" --network none --cgroupns host --memory 64m --pids-limit 33 --cpus 0.5 --rootfs "$B/rootfs" sleep 1000 > "$T/id" 2> "$T/err" ||
		fail "podman run: $(cat "$T/err")"
	id=$(cat "$T/id")
	cgroup=$(pod exec "p$$" cat /proc/self/cgroup) || fail "podman exec"
	case $cgroup in "0::/machine.slice/libpod-$id.scope"*) ;; *) fail "$cgroup" ;; esac
	expect_property "libpod-$id.scope" MemoryMax 67108864
	expect_property "libpod-$id.scope" TasksMax 33
	expect_property "libpod-$id.scope" CPUQuotaPerSecUSec 500ms
	pod pause "p$$" > "$T/o" && pod unpause "p$$" > "$T/o" || fail "podman pause"
	pod stats --no-stream --format '{{.PIDs}}' "p$$" > "$T/o" || fail "podman stats"
	[ "$(cat "$T/o")" = 1 ] || fail "podman stats: $(cat "$T/o")"
	pod rm -f -t 0 "p$$" > "$T/o" || fail "podman rm"
	expect_property "libpod-$id.scope" LoadState not-found
}

run_test "$@"
