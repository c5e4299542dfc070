# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Options that callers of runc and crun bring, in the ways that they write them.
. "$TESTS/lib.sh"

test_forms_of_options() {
	bundle b
	# one dash, "=", values that follow, options after the id
	ok run -d -bundle="$B" c --pid-file "$T/pid" -no-subreaper
	[ "$(cat "$T/pid")" = "$(init_pid c)" ] || fail "pid file"
	ok kill c --all=true KILL
	expect_status c stopped
	ok delete c -force=true
	ok list -format=json
	"$STASIS" "--root=$ROOT" -debug --rootless=false --systemd-cgroup=false list > "$T/out" 2> "$T/err" < /dev/null || fail "$(cat "$T/err")"
}

test_global_values() {
	fails 'rootless' --rootless maybe list
	ok --rootless auto list
	ok --rootless=1 list
	fails 'cgroup manager' --cgroup-manager cgroup3 list
	fails 'flag provided but not defined: -nosuch' --nosuch list
	fails 'unknown command' frobnicate
}

test_root_of_an_ordinary_user() {
	mkdir -m 777 "$T/run"
	setpriv --reuid 65534 --regid 65534 --clear-groups env XDG_RUNTIME_DIR="$T/run" "$STASIS" list > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	mkdir "$T/run/stasis" && mkdir "$T/run/stasis/seen"
	setpriv --reuid 65534 --regid 65534 --clear-groups env XDG_RUNTIME_DIR="$T/run" "$STASIS" list -q > "$T/out" 2>&1 < /dev/null
	grep -q seen "$T/out" || fail "it does not look in XDG_RUNTIME_DIR: $(cat "$T/out")"
}

test_config_from_elsewhere() {
	bundle b echo from the bundle
	jq '.process.args = ["echo", "from elsewhere"]' "$B/config.json" > "$T/other.json"
	ok run --bundle "$B" --config "$T/other.json" c
	[ "$(cat "$T/out")" = "from elsewhere" ] || fail "$(cat "$T/out")"
	(cd "$T" && stasis create --bundle b -f other.json c < /dev/null > "$T/c" 2> "$T/err") || fail "$(cat "$T/err")"
	ok start c
	expect_status c stopped
	[ "$(cat "$T/c")" = "from elsewhere" ] || fail "$(cat "$T/c")"
	ok delete c
	fails 'no such file' run --bundle "$B" --config "$T/none.json" c
	rm "$B/config.json"
	fails 'config.json not found' run --bundle "$B" c
	ok run --bundle "$B" --config "$T/other.json" c
}

test_regular_expressions() {
	local i
	for i in a1 a2 b1; do
		bundle "$i"
		start "$i"
	done
	mkdir "$ROOT/.not:a-container"
	ok kill --regex '^a[12]$' KILL
	expect_status a1 stopped
	expect_status a2 stopped
	[ "$(status b1)" = running ] || fail "b1 is $(status b1)"
	fails 'b1 that is not stopped' delete -r '[ab].'
	[ "$(stasis list -q < /dev/null)" = b1 ] || fail "$(stasis list -q < /dev/null)"
	ok delete --force --regex .
	[ -z "$(stasis list -q < /dev/null)" ] || fail "left"
	ok delete --regex 'nobody'
	fails 'regular expression' kill -r '['
	rmdir "$ROOT/.not:a-container"
}

test_options_of_create() {
	bundle b cat /proc/self/mountinfo
	ok run --no-pivot --bundle "$B" c
	grep -q ' / ' "$T/out" || fail "$(cat "$T/out")"
	edit '.process.args = ["cat", "/proc/keys"] | .linux.maskedPaths = []'
	# a session keyring is named after the container, unless it is the caller's
	ok run --bundle "$B" keyring-test
	grep -q '_ses.keyring-test:' "$T/out" || fail "no keyring of its own: $(cat "$T/out")"
	ok run --no-new-keyring --bundle "$B" keyring-none
	! grep -q '_ses.keyring-none:' "$T/out" || fail "$(cat "$T/out")"
}

test_exec_privileges() {
	bundle b
	edit 'del(.process.noNewPrivileges)'
	start c
	ok exec --no-new-privs c grep NoNewPrivs /proc/self/status
	grep -q 'NoNewPrivs:.1' "$T/out" || fail "$(cat "$T/out")"
	ok exec c grep NoNewPrivs /proc/self/status
	grep -q 'NoNewPrivs:.0' "$T/out" || fail "$(cat "$T/out")"
	# where the kernel has no such module, a label that cannot be had is an error
	[ -e /sys/fs/selinux/enforce ] || fails 'attr' exec --process-label system_u:system_r:container_t:s0 c true
	[ -e /sys/module/apparmor ] || fails 'attr|apparmor' exec --apparmor nosuch c true
}

# What other engines need is accepted.
test_options_of_checkpoint() {
	bundle b
	start c
	ok checkpoint --image-path "$T/i" --work-path "$T" --leave-running --leave-running --tcp-established --tcp-skip-in-flight \
		--network-lock nftables --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode soft --empty-ns network \
		--auto-dedup --link-remap --status-fd 1 c
	[ "$(status c)" = running ] || fail "$(status c)"
	ok delete -f c
	ok restore -d --image-path "$T/i" --work-path "$T" --bundle "$B" --tcp-established --network-lock=skip --ext-unix-sk --shell-job \
		--file-locks --manage-cgroups-mode=ignore --empty-ns network --auto-dedup c
	[ "$(status c)" = running ] || fail "$(status c)"
}

test_keep() {
	bundle b sh -c 'exit 3'
	local status=0
	stasis run --keep --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || status=$?
	[ "$status" = 3 ] || fail "status $status: $(cat "$T/err")"
	expect_status c stopped
	ok delete c
}

test_spec_elsewhere() {
	mkdir "$T/b"
	ok spec --bundle "$T/b" --file other.json
	jq -e .process "$T/b/other.json" > "$T/jq" || fail "$(cat "$T/b/other.json")"
	[ ! -e "$T/b/config.json" ] || fail "config.json too"
	fails 'other.json exists' spec --bundle "$T/b" -f other.json
	ok spec --rootless --bundle "$T/b"
	jq -e '.linux.uidMappings[0].containerID == 0' "$T/b/config.json" > "$T/jq" || fail "$(cat "$T/b/config.json")"
}

test_help() {
	local c
	ok help
	grep -q '^COMMANDS' "$T/out" || fail "$(cat "$T/out")"
	for c in $("$STASIS" __options | cut -f1 | sort -u); do
		ok "$c" --help
		grep -q "stasis $c" "$T/out" || fail "$c: $(cat "$T/out")"
		cp "$T/out" "$T/long"
		ok help "$c"
		diff "$T/out" "$T/long" || fail "help $c"
		ok "$c" -h
		diff "$T/out" "$T/long" || fail "$c -h"
	done
	fails 'unknown command' help frobnicate
}

# completes WANTED WORD...: what bash offers for the last word.
completes() {
	local want=$1
	shift
	(
		COMPREPLY=()
		compopt() { :; }
		. "$TESTS/../completions/stasis.bash"
		# shellcheck disable=SC2034
		COMP_WORDS=("$STASIS" "$@") COMP_CWORD=$#
		_stasis
		printf '%s ' "${COMPREPLY[@]}" | sed 's/ $//'
	) > "$T/offered"
	[ "$(cat "$T/offered")" = "$want" ] || fail "offered for '$*': $(cat "$T/offered"), not $want"
}

test_completion_of_values() {
	completes 'yes no auto' restore --lazy =
	completes 'yes' restore --lazy = y
	completes 'auto tty json none' checkpoint --progress ''
	completes 'none lz4 zstd' checkpoint --compress ''
	completes 'none lz4 zstd' image pack --compress ''
	completes 'text json html' inspect -f ''
	completes 'table json' list --format ''
	completes 'strict' restore --cpu-check = s
	completes 'enforce warning ignore' restore --spec-check ''
	completes 'error warning info debug' --log-level ''
	completes '--compress' checkpoint --com
	completes '--leave-running' checkpoint --lazy-pages --le
	# A mode has its value behind a "=" only: what follows is an id.
	completes '' restore --lazy ''
}

# What features lists is what the parsers take: each name is tried.
test_features() {
	ok features
	cp "$T/out" "$T/features"
	jq -e '.ociVersionMin == "1.0.0" and .ociVersionMax and (.hooks | length == 6)
		and (.linux | .cgroup.v1 and .cgroup.v2 and .seccomp.enabled and .apparmor.enabled and .selinux.enabled
			and (.intelRdt | has("enabled")) and (.netDevices | has("enabled")) and (.mountExtensions.idmap | has("enabled")))
		and (.linux.namespaces | index("mount") and index("time")) and (.linux.capabilities | length >= 41)
		and (.potentiallyUnsafeConfigAnnotations | index("org.systemd.property."))
		and .annotations["org.opencontainers.runc.checkpoint.enabled"] == "true"' "$T/features" > "$T/jq" ||
		fail "$(cat "$T/features")"
	bundle b true
	edit '.mounts += [$f[0].mountOptions - ["bind", "rbind", "remount", "mand", "idmap", "ridmap", "copy-symlink", "src-nofollow"] | to_entries[]
			| {destination: "/tmp/\(.key)", type: "tmpfs", source: "tmpfs", options: [.value]}]
		| .process.capabilities.bounding = $f[0].linux.capabilities
		| .linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW",
			flags: ($f[0].linux.seccomp.supportedFlags - ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
			syscalls: ([$f[0].linux.seccomp.operators[] | {names: ["kcmp"], action: "SCMP_ACT_ERRNO",
				args: [{index: 0, value: 1, valueTwo: 1, op: .}]}] +
				[["acct", "swapon", "swapoff", "reboot", "kexec_load", "init_module", "quotactl", "delete_module"] as $calls
				| $f[0].linux.seccomp.actions - ["SCMP_ACT_NOTIFY"] | to_entries[] | {names: [$calls[.key]], action: .value}])}
		' --slurpfile f "$T/features"
	ok run --bundle "$B" c
	# what is not understood would be told; that this machine may lack a capability is, too
	! grep -v 'does not have it itself' "$T/err" || fail "a warning"
}

# Without standard input and output nothing of ours takes their place.
test_closed_standard_descriptors() {
	# shellcheck disable=SC2016
	bundle b sh -c 'ls -l /proc/$$/fd > /cr/.fds; mv /cr/.fds /cr/fds; sleep 1000'
	mkdir -p "$B/rootfs/cr"
	"$STASIS" --root "$ROOT" --log "$T/log" run -d --bundle "$B" c <&- >&- 2>&- || fail "status $?"
	eventually 5 test -s "$B/rootfs/cr/fds"
	[ "$(grep -c ' -> /dev/null$' "$B/rootfs/cr/fds")" = 3 ] || fail "$(cat "$B/rootfs/cr/fds")"
	find "$ROOT/c" -type f -exec cat {} + > "$T/before"
	"$STASIS" --root "$ROOT" state c <&- >&- 2>&- || fail "status $?"
	find "$ROOT/c" -type f -exec cat {} + > "$T/after"
	diff "$T/before" "$T/after" || fail "its output went into a file of the state"
	[ ! -s "$T/log" ] || fail "$(cat "$T/log")"
}

test_kill_spellings() {
	bundle b sh -c 'trap "echo >> /cr/got" USR1; trap "echo >> /cr/got" 35; trap "echo >> /cr/got" 63
		while :; do usleep 10000; done'
	start c
	sleep 0.1
	local s n=0
	for s in USR1 SIGUSR1 usr1 sigusr1 10 RTMIN+1 SIGRTMIN+1 rtmin+1 RTMAX-1 SIGRTMAX-1; do
		ok kill c "$s"
		n=$((n + 1))
		eventually 5 got "$n"
	done
	ok kill c 0
	fails 'unknown signal' kill c SIGNOTHING
	fails 'unknown signal' kill c 65
	[ "$(status c)" = running ] || fail "$(status c)"
}

# No machine of ours has it; where there is one this fails, and there are real tests to write.
test_intel_rdt() {
	bundle b sleep 1000
	edit '.linux.intelRdt = {"closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": true}'
	fails 'intelRdt is specified in config, but Intel RDT is not supported or enabled \(mount resctrl' create --bundle "$B" c
	expect_nothing_left c
	ok features
	jq -e '.linux.intelRdt == {"enabled": true, "schemata": true, "monitoring": true}' "$T/out" > /dev/null || fail "$(cat "$T/out")"
}

got() {
	[ "$(wc -l 2> /dev/null < "$B/rootfs/cr/got")" = "$1" ]
}

run_test "$@"
