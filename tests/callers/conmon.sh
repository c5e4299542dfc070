# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# conmon itself, called as CRI-O and podman call it: it runs create, exec and restore, and is the parent of what they make.
# time limit: 60
. "$TESTS/callers/lib.sh"

need conmon

# The bundle of the counting container, below the private cgroup hierarchies' root.
conmon_bundle() {
	bundle "$@"
	edit '.linux.cgroupsPath = "/crio/c"'
	mkdir -p "$T/exits" "$T/sockets"
}

# monitored ID [OPTION...]: as CRI-O; sets CONMON to conmon's pid, INIT to the container's.
monitored() {
	local id=$1
	shift
	rm -f "$T/conmon.pid" "$T/init.pid"
	timeout 20 conmon -b "$B" -c "$id" -u "$id" -n "$id-name" --exit-dir "$T/exits" --socket-dir-path "$T/sockets" -l "k8s-file:$T/$id.log" \
		--log-level info -P "$T/conmon.pid" -p "$T/init.pid" -r "$STASIS" --runtime-arg --root="$ROOT" "$@" \
		> "$T/conmon.out" 2> "$T/conmon.err" < /dev/null || fail "conmon $*: $(cat "$T/conmon.err")"
	eventually 10 test -s "$T/init.pid"
	CONMON=$(cat "$T/conmon.pid") INIT=$(cat "$T/init.pid")
	MONITORS[$id]=$CONMON
	[ -n "${WAITING:-}" ] || eventually 5 is_child "$INIT" "$CONMON"
}
declare -A MONITORS=()

# Once the runtime has gone, conmon is the parent.
is_child() {
	[ "$(sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f2)" = "$2" ]
}

said() {
	grep -Eq -- "$2" "$T/$1.log"
}

exited_with() {
	eventually 10 test -e "$T/exits/$1"
	[ "$(cat "$T/exits/$1")" = "$2" ] || fail "exit status of $1: $(cat "$T/exits/$1"), expected $2"
}

test_life() {
	conmon_bundle b sh -c 'echo out; echo err >&2; trap "exit 9" TERM; while :; do usleep 10000; done'
	monitored c
	expect_status c created
	ok start c
	eventually 5 said c 'stdout F out$'
	eventually 5 said c 'stderr F err$'
	expect_status c running
	[ "$(init_pid c)" = "$INIT" ] || fail "state says $(init_pid c), the pid file $INIT"
	stasis update --resources - c <<< '{"pids": {"limit": 55}}' > "$T/out" 2>&1 || fail "update: $(cat "$T/out")"
	[ "$(cat /sys/fs/cgroup/pids/crio/c/pids.max)" = 55 ] || fail "update changed nothing"
	ok pause c
	ok resume c
	ok kill c TERM
	exited_with c 9
	expect_status c stopped
	fails 'not running|no such process' kill c TERM
	ok delete --force c
	ok delete --force c
}

# The runtime's message reaches whoever called conmon.
test_errors() {
	conmon_bundle b /no/such/program
	_OCI_SYNCPIPE=7 timeout 20 conmon -b "$B" -c c -u c -n c --exit-dir "$T/exits" --socket-dir-path "$T/sockets" -l "k8s-file:$T/c.log" \
		-P "$T/conmon.pid" -p "$T/init.pid" -r "$STASIS" --runtime-arg --root="$ROOT" 7> "$T/sync" > "$T/conmon.out" 2>&1 < /dev/null
	eventually 10 test -s "$T/sync"
	jq -e '.pid == -1 and (.message | test("/no/such/program.*no such file or directory"))' "$T/sync" > "$T/jq" || fail "$(cat "$T/sync")"
	[ ! -s "$T/init.pid" ] || fail "there is a pid file"
	expect_nothing_left c
}

# exec with --process, as the shim of podman and CRI-O do it: its output and exit status arrive.
test_exec() {
	conmon_bundle b
	monitored c
	ok start c
	jq '.process | .args = ["sh", "-c", "echo from exec $MARK; exit 6"] | .env += ["MARK=mark"]' "$B/config.json" > "$T/process.json"
	mkdir "$T/e" "$T/e/exits"
	timeout 20 conmon -b "$T/e" -c c -u e1 -n e1 --exit-dir "$T/e/exits" --socket-dir-path "$T/sockets" -l "k8s-file:$T/e.log" -p "$T/exec.pid" \
		-r "$STASIS" --runtime-arg --root="$ROOT" -e --exec-process-spec "$T/process.json" > "$T/conmon.out" 2> "$T/conmon.err" < /dev/null ||
		fail "conmon exec: $(cat "$T/conmon.err")"
	eventually 10 said e 'stdout F from exec mark$'
	eventually 10 grep -qx 6 "$T/e/exits/c"
	ok kill c KILL
	exited_with c 137
	ok delete c
}

test_terminal() {
	conmon_bundle b sh -c 'tty; while :; do stty size; usleep 50000; done'
	edit '.process.terminal = true'
	monitored c -t
	ok start c
	eventually 5 said c '/dev/(pts/0|console)'
	echo "1 31 73" > "$B/ctl"
	eventually 5 said c '31 73'
	ok checkpoint --image-path "$T/i" --work-path "$T" c
	exited_with c 137
	rm "$T/exits/c" "$T/c.log"
	monitored c -t --restore "$T/i"
	eventually 5 said c '[0-9]+ [0-9]+'
	echo "1 29 71" > "$B/ctl"
	eventually 5 said c '29 71'
	ok delete --force c
}

# CRI-O's way: its options, and inventory.img must be there.
test_checkpoint_and_restore() {
	local n
	conmon_bundle b sh -c 'i=0; while :; do i=$((i+1)); echo count $i; usleep 20000; done'
	monitored c
	ok start c
	eventually 5 said c 'count 5$'
	ok checkpoint --file-locks --image-path "$T/i" --work-path "$T" --leave-running c
	[ -s "$T/i/inventory.img" ] && [ -s "$T/stats-dump" ] && [ -s "$T/dump.log" ] || fail "files that CRI-O looks for: $(ls "$T/i" "$T")"
	expect_status c running
	ok checkpoint --file-locks --image-path "$T/i" --work-path "$T" c
	exited_with c 137
	n=$(sed -n 's/.*count //p' "$T/c.log" | tail -1)
	rm "$T/exits/c"
	monitored c --restore "$T/i" --runtime-opt --file-locks
	eventually 5 said c "count $((n + 10))$"
	[ "$(grep -c 'count 1$' "$T/c.log")" = 1 ] || fail "it began anew"
	expect_status c running
	ok kill c KILL
	exited_with c 137
	ok delete c
	expect_nothing_left c
}

# pod_bundle ID TYPE NAME: one of a pod as CRI-O makes it; its network namespace is the first one's.
pod_bundle() {
	bundle "b-$1" sh -c 'i=0; while :; do i=$((i+1)); echo count $i; usleep 20000; done'
	edit '.linux.cgroupsPath = "/crio/" + $id | .annotations = {"io.kubernetes.cri-o.ContainerType": $type, "io.kubernetes.cri-o.SandboxID": "pod",
		"io.kubernetes.container.name": $name} | if $pid == "" then . else
		.linux.namespaces |= map(if .type == "network" or .type == "ipc" then .path = "/proc/" + $pid + "/ns/" + if .type == "ipc" then "ipc" else "net" end else . end) end' \
		--arg id "$1" --arg type "$2" --arg name "$3" --arg pid "${4:-}"
	mkdir -p "$T/exits" "$T/sockets"
}

# A pod checkpointed at one moment; each container comes back by a conmon of its own, which gets its output and its end.
test_pod() {
	local c infra
	declare -A counted=()
	pod_bundle pod sandbox POD
	monitored pod
	infra=$INIT
	ok start pod
	for c in web db; do
		pod_bundle "$c" container "$c" "$infra"
		monitored "$c"
		ok start "$c"
	done
	for c in pod web db; do
		eventually 5 said "$c" 'count 5$'
	done
	ok checkpoint --sandbox --image-path "$T/i" --work-path "$T" pod
	for c in pod web db; do
		exited_with "$c" 137
		rm "$T/exits/$c"
		counted[$c]=$(sed -n 's/.*count //p' "$T/$c.log" | tail -1)
	done
	B=$T/b-pod
	# It waits for the others as the child of a process of ours, which is conmon's and ends when all run.
	WAITING=1 monitored pod --restore "$T/i"
	infra=$INIT
	for c in web db; do
		expect_status pod created
		pod_bundle "$c" container "$c" "$infra"
		WAITING=1 monitored "$c" --restore "$T/i"
	done
	for c in pod web db; do
		eventually 5 is_child "$(init_pid "$c")" "${MONITORS[$c]}"
		eventually 5 said "$c" "count $((counted[$c] + 10))$"
		[ "$(grep -c 'count 1$' "$T/$c.log")" = 1 ] || fail "$c began anew"
		expect_status "$c" running
	done
	for c in db web pod; do
		ok kill "$c" KILL
		exited_with "$c" 137
		ok delete "$c"
		expect_nothing_left "$c"
	done
}

clean_up() {
	remove_all
	rmdir /sys/fs/cgroup/*/crio 2> /dev/null
	true
}

run_caller_test "$@"
