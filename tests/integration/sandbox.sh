# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Which sandbox a container is in.
. "$TESTS/lib.sh"

# member SANDBOX ID: the name that it has there.
member() {
	cat "$ROOT/@sandboxes/$1/members/$2"
}

expect_member() {
	[ "$(member "$1" "$2")" = "$3" ] || fail "in $1 the container $2 is \"$(member "$1" "$2")\", not \"$3\""
}

# made ID [OPTION...]: a container of $B in a cgroup of its own.
made() {
	local id=$1
	shift
	edit '.linux.cgroupsPath = $path' --arg path "$(cgroups_path "b-$id")"
	ok create --bundle "$B" "$@" "$id"
}

test_by_annotations() {
	bundle b sleep 1000
	edit '.annotations = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "pod"}'
	made pod
	expect_member pod pod POD
	edit '.annotations = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod",
		"io.kubernetes.cri.container-name": "web"}'
	made c1
	expect_member pod c1 web
	edit '.annotations = {"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "pod",
		"io.kubernetes.container.name": "db"}'
	made c2
	expect_member pod c2 db
	ok list -q
	cp "$T/out" "$T/list"
	[ "$(sort "$T/list" | tr '\n' ' ')" = "c1 c2 pod " ] || fail "listed: $(cat "$T/list")"
	ok delete --force c1
	[ ! -e "$ROOT/@sandboxes/pod/members/c1" ] || fail "deleted, and still a member"
	expect_member pod c2 db
}

# As podman does it: the container that the others name knows nothing of it.
test_root_without_annotations() {
	bundle b sleep 1000
	made infra
	edit '.annotations = {"io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.SandboxID": "infra"}'
	made c1
	expect_member infra infra POD
	expect_member infra c1 c1
	edit '.annotations = {}'
	made other
	made c2 --sandbox other
	[ ! -e "$ROOT/@sandboxes/other/members/other" ] || fail "of a sandbox that only happens to be called like it"
	ok start infra
	ok state infra
	ok delete --force infra
	[ ! -e "$ROOT/@sandboxes/infra/members/infra" ] || fail "deleted, and still a member"
	expect_member infra c1 c1
	# The last one takes the directory with it.
	for c in c1 c2; do
		[ -e "$ROOT/@sandboxes" ] || fail "removed before $c"
		ok delete --force "$c"
	done
	eventually 5 test ! -e "$ROOT/@sandboxes"	# its supervisor ends
}

test_by_options() {
	bundle b sleep 1000
	edit '.annotations = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod"}'
	made c1 --sandbox other --container-name app
	expect_member other c1 app
	made c2
	expect_member pod c2 c2
	edit '.annotations = {}'
	fails '--container-name is a name within a sandbox' create --container-name app --bundle "$B" c3
	fails 'sandbox' create --sandbox a/b --bundle "$B" c3
	[ ! -e "$ROOT/c3" ] || fail "something is left of it"
	made c3
	[ -z "$(find "$ROOT/@sandboxes" -name c3)" ] || fail "in a sandbox that nobody named"
}

echoed() {
	[ "$(wc -l < "$T/client/rootfs/tmp/got")" -gt "$1" ]
}

# Containers of a sandbox without a network namespace: the machine's connections are the sandbox's, and stay between its ends.
# shellcheck disable=SC2016
test_host_network() {
	local port=$((20000 + $$ % 20000)) b n
	bundle server nc -l -p "$port" -e cat
	bundle client sh -c 'i=0; while :; do i=$((i+1)); echo "line $i"; usleep 10000; done | until nc 127.0.0.1 '$port' >> /tmp/got; do usleep 10000; done'
	for b in server client; do
		B=$T/$b
		edit 'del(.linux.namespaces[] | select(.type == "network"))'
		ok run -d --sandbox pod --bundle "$B" "$b"
	done
	eventually 10 echoed 5
	fails 'TCP' checkpoint --sandbox --image-path "$T/i" pod
	eventually 10 echoed "$(wc -l < "$T/client/rootfs/tmp/got")"
	ok checkpoint --sandbox --leave-running --tcp-established --image-path "$T/i" pod
	eventually 10 echoed $(($(wc -l < "$T/client/rootfs/tmp/got") + 5))
	ok checkpoint --sandbox --tcp-established --image-path "$T/i" pod
	n=$(wc -l < "$T/client/rootfs/tmp/got")
	for b in server client; do
		ok restore -d --tcp-established --image-path "$T/i" --sandbox pod --bundle "$T/$b" "$b"
	done
	eventually 10 echoed $((n + 10))
	awk '$2 != NR { exit 1 }' "$T/client/rootfs/tmp/got" || fail "lines: $(head -$((n + 10)) "$T/client/rootfs/tmp/got" | tail -20)"
}

# Statistics of each and of all, by the name of the sandbox or of one in it; one call tells what happens to any.
test_events() {
	bundle b sleep 1000
	made pod --sandbox pod --container-name POD
	made c1 --sandbox pod --container-name web
	ok start pod
	local args
	for args in "--sandbox pod" "--sandbox c1"; do
		# shellcheck disable=SC2086
		ok events --stats $args
		[ "$(jq -r '"\(.type) \(.id) \(.name)"' "$T/out" | tr '\n' ' ')" = "stats pod POD stats c1 web total pod null " ] || fail "$(cat "$T/out")"
		jq -se '.[2].data.pids.current == .[0].data.pids.current + .[1].data.pids.current and
			.[2].data.memory.usage.usage == .[0].data.memory.usage.usage + .[1].data.memory.usage.usage' "$T/out" > "$T/jq" || fail "$(cat "$T/out")"
	done
	ok events --stats pod
	[ "$(jq -r .type "$T/out")" = stats ] || fail "a container of that id comes first: $(cat "$T/out")"
	fails 'no sandbox nosuch' events --sandbox nosuch
	fails 'does not exist: nosuch' events nosuch
	fails 'memory-pressure' events --sandbox --memory-pressure low pod
	made c2 --sandbox other
	ok events --stats other
	[ "$(jq -r .type "$T/out" | tr '\n' ' ')" = "stats total " ] || fail "the name of a sandbox: $(cat "$T/out")"
	stasis events --sandbox --interval 1h pod > "$T/events" 2> "$T/err" < /dev/null &
	local pid=$!
	eventually 5 grep -q '"total"' "$T/events"
	ok start c1
	ok checkpoint --leave-running --image-path "$T/i" c1
	ok kill c1 KILL
	expect_status c1 stopped
	ok delete c1
	ok delete --force pod
	wait "$pid" || fail "exit $?: $(cat "$T/err")"
	[ "$(jq -r 'select(.name == "web" and .type != "stats") | .type + " " + (.data.outcome // .data.signal // "" | tostring)' "$T/events" | tr '\n' ,)" = \
		"start ,checkpoint begun,checkpoint completed,exit 9,delete ," ] || fail "$(cat "$T/events")"
	[ "$(tail -n 1 "$T/events")" = '{"type":"end","id":"pod"}' ] || fail "$(cat "$T/events")"
	ok delete --force c2
	fails 'does not exist: other|has no containers' events other
}

run_test "$@"
