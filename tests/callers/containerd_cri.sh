# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# containerd's CRI plugin, which Kubernetes talks to, with stasis for runc. Its pods are sandboxes: the pause container and the
# containers of the pod. tests/callers/cri makes the calls, as Debian 12 has no crictl.
# time limit: 120
. "$TESTS/callers/lib.sh"

need containerd ctr
/usr/bin/python3 -c 'import grpc' 2> /dev/null || fail "python3-grpcio is not installed: scripts/setup test"

containerd_up() {
	cat > "$T/containerd.toml" <<- END
		version = 2
		disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
		 "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
		[plugins."io.containerd.grpc.v1.cri"]
		 sandbox_image = "docker.io/local/bb:1"
		 restrict_oom_score_adj = true
		[plugins."io.containerd.grpc.v1.cri".cni]
		 bin_dir = "/usr/lib/cni"
		[plugins."io.containerd.grpc.v1.cri".containerd]
		 default_runtime_name = "stasis"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.stasis]
		 runtime_type = "io.containerd.runc.v2"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.stasis.options]
		 BinaryName = "$STASIS"
		 Root = "$ROOT"
	END
	cat > /etc/cni/net.d/10-inside.conflist <<- 'END'
		{"cniVersion": "0.4.0", "name": "inside", "plugins": [
		 {"type": "bridge", "bridge": "inside0", "isGateway": true, "ipam": {"type": "host-local",
		  "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.77.0.0/24", "gateway": "10.77.0.1"}]]}}]}
	END
	containerd -c "$T/containerd.toml" > "$T/containerd.log" 2>&1 < /dev/null &
	echo $! > "$T/containerd.pid"
	eventually 20 says Server ctr version
	image
	# The pause container runs what the image names.
	python3 -B "$TESTS/callers/oci-archive" "$T/image.tar" docker.io/local/bb:1 "$T/oci.tar" sleep 100000 || fail "oci-archive"
	succeeds ctr -n k8s.io image import "$T/oci.tar"
	eventually 20 says '"runtime_name": "containerd"' cri Version
}

cri() {
	timeout 60 /usr/bin/python3 -B "$TESTS/callers/cri" "$@"
}

# pod NAME: a pod; sets POD to its id. PIDS: 1 each container has a pid namespace of its own, 0 all are in the pod's (shareProcessNamespace).
PIDS=1
pod() {
	POD_CONFIG=$(jq -nc --arg name "$1" --arg logs "$T/logs-$1" --argjson pids "$PIDS" '{metadata: {name: $name, uid: ("uid-" + $name), namespace: "default"}, hostname: $name,
		log_directory: $logs, linux: {security_context: {namespace_options: {pid: $pids}}}}')
	POD=$(cri RunPodSandbox "{\"config\": $POD_CONFIG}" | jq -r .pod_sandbox_id)
	[ -n "$POD" ] || fail "RunPodSandbox: $(tail -3 "$T/containerd.log")"
}

# member NAME COMMAND...: a running container of the pod; sets ID to its id.
member() {
	local config
	config=$(jq -nc '{metadata: {name: $ARGS.positional[0]}, image: {image: "docker.io/local/bb:1"}, command: $ARGS.positional[1:],
		log_path: ($ARGS.positional[0] + ".log"), linux: {security_context: {namespace_options: {pid: $pids}}}}' --argjson pids "$PIDS" --args -- "$@")
	ID=$(cri CreateContainer "{\"pod_sandbox_id\": \"$POD\", \"config\": $config, \"sandbox_config\": $POD_CONFIG}" | jq -r .container_id)
	[ -n "$ID" ] || fail "CreateContainer: $(tail -3 "$T/containerd.log")"
	cri StartContainer "{\"container_id\": \"$ID\"}" > "$T/started" || fail "StartContainer: $(tail -3 "$T/containerd.log")"
}

in_member() {
	local id=$1
	shift
	cri ExecSync "$(jq -nc --arg id "$id" '{container_id: $id, cmd: $ARGS.positional, timeout: 20}' --args -- "$@")" | jq -r .stdout
}

# Its state: 0 created, 1 running, 2 exited.
state() {
	[ "$(cri ContainerStatus "{\"container_id\": \"$1\"}" | jq ".status.state // 0")" = "$2" ]
}

removed() {
	cri StopPodSandbox "{\"pod_sandbox_id\": \"$1\"}" > "$T/stopped" || fail "StopPodSandbox"
	cri RemovePodSandbox "{\"pod_sandbox_id\": \"$1\"}" > "$T/stopped" || fail "RemovePodSandbox"
}

members() {
	local f
	for f in "$ROOT/k8s.io/@sandboxes/$1/members"/*; do
		echo "${f##*/}=$(cat "$f")"
	done | sort
}

expect_members() {
	local sandbox=$1
	shift
	[ "$(members "$sandbox")" = "$(printf '%s\n' "$@" | sort)" ] || fail "members: $(members "$sandbox"), expected $*"
}

# By another container of the same pod.
served() {
	[ "$(in_member "$1" nc -w 1 127.0.0.1 77)" = served ]
}

test_pod() {
	containerd_up
	local a b
	pod p
	member web sh -c 'while :; do nc -l -p 77 -e echo served; done'
	a=$ID
	member db sleep 1000
	b=$ID
	expect_members "$POD" "$POD=POD" "$a=web" "$b=db"
	[ "$(in_member "$b" hostname)" = p ] || fail "hostname"
	eventually 5 served "$b"
	in_member "$a" sh -c 'echo shared > /dev/shm/file'
	[ "$(in_member "$b" cat /dev/shm/file)" = shared ] || fail "/dev/shm"
	cri StopContainer "{\"container_id\": \"$a\", \"timeout\": 0}" > "$T/out" || fail "StopContainer"
	state "$a" 2 || fail "$(cri ContainerStatus "{\"container_id\": \"$a\"}")"
	cri RemoveContainer "{\"container_id\": \"$a\"}" > "$T/out" || fail "RemoveContainer"
	expect_members "$POD" "$POD=POD" "$b=db"
	state "$b" 1 || fail "$(cri ContainerStatus "{\"container_id\": \"$b\"}")"
	removed "$POD"
	[ ! -e "$ROOT/k8s.io/@sandboxes" ] || fail "left: $(find "$ROOT/k8s.io/@sandboxes")"
}

# shellcheck disable=SC2016
COUNTING='i=0; while :; do i=$((i+1)); echo $i > /tmp/.count; mv /tmp/.count /tmp/count; usleep 20000; done'

counted_beyond() {
	[ "$(in_member "$1" cat /tmp/count | grep -x '[0-9]*' || echo 0)" -gt "$2" ]
}

# All of the pod at one moment. containerd has no call for that yet; its containers go on, and end as it knows them.
test_checkpoint_of_the_pod() {
	containerd_up
	local a b n m
	pod p
	member web sh -c "$COUNTING"
	a=$ID
	member db sh -c "$COUNTING"
	b=$ID
	eventually 10 counted_beyond "$a" 3
	eventually 10 counted_beyond "$b" 3
	"$STASIS" --root "$ROOT/k8s.io" checkpoint --sandbox --leave-running --image-path "$T/i" "$POD" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	jq -e '[.containers[].name] | sort == ["POD", "db", "web"]' "$T/i/manifest.json" > "$T/jq" || fail "$(cat "$T/i/manifest.json")"
	n=$(in_member "$a" cat /tmp/count) m=$(in_member "$b" cat /tmp/count)
	eventually 10 counted_beyond "$a" "$n"
	eventually 10 counted_beyond "$b" "$m"
	"$STASIS" --root "$ROOT/k8s.io" checkpoint --sandbox --image-path "$T/j" "$a" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	eventually 10 state "$a" 2
	eventually 10 state "$b" 2
	removed "$POD"
}

# shareProcessNamespace: the pause is process 1 of all, and the others die with it.
test_shared_pids() {
	containerd_up
	local a b n
	PIDS=0
	pod p
	member web sh -c "sleep 1234 & $COUNTING"
	a=$ID
	member db sh -c "$COUNTING"
	b=$ID
	eventually 10 counted_beyond "$a" 3
	[ "$(in_member "$b" cat /proc/1/comm)" = sleep ] || fail "process 1 is $(in_member "$b" cat /proc/1/comm)"
	in_member "$b" ps | grep -q 'sleep 1234' || fail "$(in_member "$b" ps)"
	"$STASIS" --root "$ROOT/k8s.io" checkpoint --image-path "$T/k" "$a" > "$T/out" 2>&1 && fail "one of them alone"
	grep -q 'pid namespace of another container' "$T/out" || fail "$(cat "$T/out")"
	"$STASIS" --root "$ROOT/k8s.io" checkpoint --image-path "$T/k" "$POD" > "$T/out" 2>&1 && fail "process 1 alone"
	grep -q 'would be killed with its first process' "$T/out" || fail "$(cat "$T/out")"
	"$STASIS" --root "$ROOT/k8s.io" checkpoint --sandbox --leave-running --image-path "$T/i" "$POD" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	n=$(in_member "$a" cat /tmp/count)
	eventually 10 counted_beyond "$a" "$n"
	"$STASIS" inspect --format json "$T/i" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	jq -e '.containers[] | select(.name == "web") | .processes >= 2' "$T/out" > "$T/jq" || fail "$(cat "$T/out")"
	"$STASIS" --root "$ROOT/k8s.io" checkpoint --sandbox --image-path "$T/j" "$POD" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	eventually 10 state "$a" 2
	eventually 10 state "$b" 2
	removed "$POD"
}

containerd_down() {
	local pid
	pid=$(cat "$T/containerd.pid" 2> /dev/null) || return 0
	rm "$T/containerd.pid"
	kill "$pid"
	wait "$pid" 2> /dev/null
}

clean_up() {
	containerd_down
	[ -n "$(ls "$ROOT/k8s.io" 2> /dev/null)" ] || rm -rf "$ROOT/k8s.io"
	rmdir /sys/fs/cgroup/*/k8s.io 2> /dev/null
	true
}

run_caller_test "$@"
