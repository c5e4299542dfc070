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

run_test "$@"
