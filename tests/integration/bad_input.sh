# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Bad input: each has a clear error, loses nothing and leaves nothing behind.
. "$TESTS/lib.sh"

nothing_made() {
	[ -z "$(ls -A "$ROOT")" ] || fail "left in the state root: $(ls -lA "$ROOT")"
	no_processes || fail "processes are left"
	! grep -q " $T/" /proc/self/mountinfo || fail "mounts are left"
}

test_no_command() {
	fails 'usage|command' nosuchcommand
	fails 'usage|option|flag' state --nosuchoption c
	fails 'usage|argument|container' state
	fails 'usage|argument|container' run
	fails 'argument' state a b
	fails 'argument' restore --image-path
	nothing_made
}

test_bundle() {
	fails 'no such file|not exist' run -d --bundle "$T/nowhere" c
	mkdir "$T/empty"
	fails 'config.json' run -d --bundle "$T/empty" c
	touch "$T/empty/config.json"
	fails 'config.json' run -d --bundle "$T/empty" c
	mkdir "$T/dir" && mkdir "$T/dir/config.json"
	fails 'config.json' run -d --bundle "$T/dir" c
	nothing_made
}

test_broken_json_names_the_line() {
	bundle b
	printf '{\n "ociVersion": "1.0.2",\n "process": {\n  "args": [,]\n }\n}\n' > "$B/config.json"
	fails 'line 4' run -d --bundle "$B" c
	printf '[]' > "$B/config.json"
	fails 'config.json' run -d --bundle "$B" c
	printf '{"ociVersion": "1.0.2"' > "$B/config.json"
	fails 'config.json' run -d --bundle "$B" c
	nothing_made
}

test_truncated_config() {
	bundle b
	local n size
	size=$(stat -c %s "$B/config.json")
	cp "$B/config.json" "$T/config"
	for ((n = 0; n < size - 1; n += size / 40)); do
		head -c "$n" "$T/config" > "$B/config.json"
		fails 'config.json' run -d --bundle "$B" c
	done
	nothing_made
}

test_impossible_values() {
	local filter
	bundle b
	cp "$B/config.json" "$T/config"
	while read -r filter; do
		cp "$T/config" "$B/config.json"
		edit "$filter"
		echo "with $filter" >&2
		fails '.' run -d --bundle "$B" c
		nothing_made
	done <<- 'END'
		.linux.namespaces += [{"type": "nosuch"}]
		.linux.namespaces += [{"type": "pid"}]
		.linux.namespaces |= map(if .type == "uts" then .path = "/nowhere" else . end)
		.linux.namespaces |= map(if .type == "uts" then .path = "/proc/self/ns/net" else . end)
		.process.args = []
		.process.args = "sh"
		del(.process.args)
		.process.args = ["/no/such/program"]
		.process.args = ["/etc/passwd"]
		.process.cwd = "relative"
		.process.user.uid = -1
		.process.user.uid = 4294967296
		.process.user.uid = "root"
		.process.rlimits = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]
		.process.rlimits = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}, {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}]
		.root.path = "nowhere"
		del(.root)
		.ociVersion = "99.0.0"
		.mounts += [{"destination": "/x", "type": "nosuchfs", "source": "x"}]
		.mounts += [{"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["bind"]}]
		.linux.sysctl = {"no.such.sysctl": "1"}
		.linux.sysctl = {"../../etc/passwd": "1"}
		.linux.seccomp = {"defaultAction": "SCMP_ACT_NOSUCH"}
		.linux.devices = [{"path": "/dev/x", "type": "q", "major": 1, "minor": 1}]
		.linux.resources.memory.limit = "much"
		.hooks.prestart = [{"path": "relative"}]
	END
}

test_ids() {
	local id long
	bundle b
	long=$(printf 'a%.0s' {1..2000})
	for id in a/b ../x .. . '' 'a b' 'ä' "$long" 'a
b' /abs; do
		fails 'id|name|container|argument' run -d --bundle "$B" "$id"
		fails 'id|name|container|argument|exist' delete "$id"
		nothing_made
	done
	[ ! -e "$T/x" ] || fail "something was made outside of the root"
	start used
	fails 'exist|in use' run -d --bundle "$B" used
	fails 'exist|in use' create --bundle "$B" used
	expect_status used running
	ok delete -f used
	for id in a A0_.+- "$(printf 'a%.0s' {1..200})"; do
		ok run -d --bundle "$B" "$id"
		ok delete -f "$id"
	done
}

test_unknown_container() {
	local c
	for c in state start kill delete pause resume checkpoint check ps "exec" events; do
		case $c in
		kill) fails 'does not exist' kill nosuch TERM ;;
		exec) fails 'does not exist' exec nosuch true ;;
		checkpoint) fails 'does not exist' checkpoint --image-path "$T/i" nosuch ;;
		events) ;;
		*) fails 'does not exist' "$c" nosuch ;;
		esac
	done
	[ ! -e "$T/i" ] || fail "an image directory was made"
}

test_state_root() {
	bundle b
	touch "$T/file"
	ROOT=$T/file fails '.' run -d --bundle "$B" c
	ROOT=/proc/nowhere fails '.' run -d --bundle "$B" c
	ok list
}

test_damaged_state() {
	bundle b
	start c
	local n size f=$ROOT/c/state.json
	cp "$f" "$T/state.json"
	size=$(stat -c %s "$f")
	for ((n = 0; n < size - 2; n += size / 25 + 1)); do
		head -c "$n" "$T/state.json" > "$f"
		echo "the first $n of $size bytes" >&2
		fails 'state.json|corrupt|damaged' state c
		fails '.' checkpoint --image-path "$T/i" c
		[ ! -e "$T/i/manifest.json" ] || fail "an image of a damaged container"
	done
	cp "$T/state.json" "$f"
	expect_status c running
}

# A pid that was reused by another process is never taken for the container's.
test_reused_pid_is_not_signalled() {
	bundle b
	start c
	sleep 0.1 # start times are told apart by 10 ms
	sleep 1000 &
	local victim=$! f=$ROOT/c/state.json init
	init=$(init_pid c)
	sed "s/\\b$init\\b/$victim/g" "$f" > "$T/state.json"
	cp "$f" "$T/good" && cp "$T/state.json" "$f"
	stasis kill c KILL < /dev/null > "$T/out" 2>&1
	stasis kill --all c KILL < /dev/null > "$T/out" 2>&1
	kill -0 "$victim" || fail "a process that is not the container's was killed"
	[ "$(status c)" != running ] || fail "a reused pid is taken for the container"
	cp "$T/good" "$f"
	kill "$victim"
}

# Never in a cgroup that is not the container's own: a later kill or delete would hit everything in it.
test_cgroup_of_others() {
	bundle b
	local p top=/sys/fs/cgroup/freezer
	! pure_v2 || top=/sys/fs/cgroup
	for p in / /.. /../.. "$CGROUP/busy"; do
		mkdir -p "$top/$CGROUP/busy"
		edit '.linux.cgroupsPath = $p' --arg p "$p"
		if [ "$p" = "$CGROUP/busy" ]; then
			sleep 1000 &
			echo $! > "$top/$p/cgroup.procs"
		fi
		fails 'cgroup' run -d --bundle "$B" c
	done
	kill -0 %1 || fail "the process in the other cgroup was killed"
	kill %1
	wait
	rmdir "$top/$CGROUP/busy" "$top/$CGROUP"
}

# The specification: a capability that can't be mapped is warned of.
test_unknown_capability_is_a_warning() {
	bundle b true
	edit '.process.capabilities.effective = ["CAP_NOSUCH"]'
	ok run --bundle "$B" c
	grep -q 'CAP_NOSUCH' "$T/err" || fail "no warning: $(cat "$T/err")"
	expect_nothing_left c
}

run_test "$@"
