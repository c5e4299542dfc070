# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# docker with stasis as its default runtime (dockerd starts a containerd of its own).
# time limit: 90
. "$TESTS/callers/lib.sh"

need dockerd docker
export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=$T

docker_up() { # [MORE]: of daemon.json
	cat > "$T/daemon.json" <<- END
		{"runtimes": {"stasis": {"path": "$STASIS"}}, "default-runtime": "stasis", "iptables": false, "ip6tables": false, "bridge": "none",
		 "ip-forward": false, "userland-proxy": false, "experimental": true${1:-}}
	END
	dockerd --config-file "$T/daemon.json" > "$T/dockerd.log" 2>&1 < /dev/null &
	echo $! > "$T/dockerd.pid"
	eventually 30 says Server: docker version
	image
	succeeds docker import "$T/image.tar" bb
}

docker_down() {
	local pid
	pid=$(cat "$T/dockerd.pid" 2> /dev/null) || return 0
	rm "$T/dockerd.pid"
	docker ps -aq | xargs -r docker rm -f > "$T/rm" 2>&1
	kill "$pid"
	wait "$pid" 2> /dev/null
}

inspect() {
	docker inspect --format "$2" "$1"
}

state_is() {
	[ "$(inspect "$1" '{{.State.Status}}' 2> /dev/null)" = "$2" ]
}

logged() {
	says "$2" docker logs "$1"
}

# shellcheck disable=SC2016
COUNTING='i=0; while :; do i=$((i+1)); echo "count $i of $$"; usleep 20000; done'

last() {
	docker logs "$1" | tail -1 | sed 's/count \([0-9]*\) of 1/\1/' | grep -x '[0-9]*' || echo 0
}

counted_beyond() {
	[ "$(last "$1")" -gt "$2" ]
}

test_run() {
	docker_up
	expect stasis docker info --format '{{.DefaultRuntime}}'
	expect hello docker run --rm --runtime stasis bb echo hello
	ends 7 '' docker run --rm bb sh -c 'exit 7'
	[ "$(echo typed | docker run --rm -i bb cat)" = typed ] || fail "stdin"
	ends 127 'not found' docker run --rm bb no-such-command
	ends 126 'permission denied' docker run --rm bb /etc/passwd
	expect 'user 1000 /tmp here named' docker run --rm -u user -w /tmp -e X=here --hostname named bb sh -c 'echo "$(id -un) $(id -g) $PWD $X $(hostname)"'
	ends 1 'read-only' docker run --rm --read-only bb touch /x
	expect 'Seccomp:	2' docker run --rm bb grep Seccomp: /proc/self/status
	expect 'Seccomp:	0' docker run --rm --security-opt seccomp=unconfined bb grep Seccomp: /proc/self/status
	expect 'CapEff:	0000000000000000' docker run --rm --cap-drop all bb grep CapEff /proc/self/status
	expect kept docker run --rm -v vol:/v bb sh -c 'echo kept > /v/file; cat /v/file'
	expect kept docker run --rm -v vol:/v:ro --tmpfs /t:size=8k bb sh -c '! touch /v/x 2> /dev/null && cat /v/file'
	expect "$(readlink /proc/self/ns/net)" docker run --rm --network host bb readlink /proc/self/ns/net
	expect '1048576 100' docker run --rm --shm-size 1m --ulimit nofile=100:200 bb sh -c 'echo $(($(stat -f -c %b /dev/shm) * $(stat -f -c %S /dev/shm))) $(ulimit -Sn)'
	expect docker-init docker run --rm --init bb cat /proc/1/comm
	expect '' docker ps -aq
}

# All containers in a user namespace, whose ids a user of the host has: one who is in no file of this machine.
test_userns_remap() {
	mkdir "$T/etc"
	mount -t tmpfs none "$T/etc"
	mkdir "$T/etc/upper" "$T/etc/work"
	mount -t overlay -o "lowerdir=/etc,upperdir=$T/etc/upper,workdir=$T/etc/work" overlay /etc
	umount -l "$T/etc"
	echo 'remap:x:12346:12346::/:/bin/sh' >> /etc/passwd
	echo 'remap:x:12346:' >> /etc/group
	echo 'remap:500000:65536' > /etc/subuid
	echo 'remap:600000:65536' > /etc/subgid
	docker_up ', "userns-remap": "remap"'
	expect '0 500000 65536' docker run --rm bb sh -c 'read a b c < /proc/self/uid_map; echo $a $b $c'
	succeeds docker run -d --name one --user 1000 --memory 64m bb sh -c 'echo > /tmp/mine; sleep 1000'
	eventually 10 state_is one running
	[ "$(stat -c %u "/proc/$(inspect one '{{.State.Pid}}')")" = 501000 ] || fail "it runs as $(stat -c %u "/proc/$(inspect one '{{.State.Pid}}')")"
	expect '0 0' docker exec --user 0 one sh -c 'echo $(id -u) $(id -g)'
	expect '1000' docker exec one stat -c %u /tmp/mine
	succeeds docker pause one
	succeeds docker unpause one
	succeeds docker rm -f one
	docker_down
}

test_terminal() {
	docker_up
	cat > "$T/typed" <<- 'END'
		stty rows 33 cols 77
		docker run --rm -i -t bb sh -c 'tty; until stty size 2> /dev/null | grep "33 77"; do usleep 10000; done; read x; echo got $x'
	END
	(sleep 1.5; echo hello) | timeout 30 script -qec "bash $T/typed" /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	grep -q '/dev/pts/0 33 77 .*got hello' <<< "$(tr -d '\r' < "$T/out" | paste -sd' ')" || fail "$(cat "$T/out")"
}

test_life() {
	docker_up
	succeeds docker run -d --name one --memory 64m --pids-limit 40 bb sh -c "$COUNTING"
	local id n
	id=$(inspect one '{{.Id}}')
	eventually 10 counted_beyond one 3
	expect 'user from-exec' docker exec -u user -e A=from-exec one sh -c 'echo $(id -un) $A'
	ends 5 '' docker exec one sh -c 'exit 5'
	ends 126 'executable file not found' docker exec one no-such-command
	expect 67108864 cat "/sys/fs/cgroup/memory/docker/$id/memory.limit_in_bytes"
	succeeds docker update --memory 96m --memory-swap -1 --cpus 0.5 --pids-limit 50 one
	expect 100663296 cat "/sys/fs/cgroup/memory/docker/$id/memory.limit_in_bytes"
	expect 50000 cat "/sys/fs/cgroup/cpu/docker/$id/cpu.cfs_quota_us"
	expect 50 cat "/sys/fs/cgroup/pids/docker/$id/pids.max"
	succeeds docker pause one
	state_is one paused || fail "$(docker ps)"
	n=$(last one)
	sleep 0.2
	[ "$(last one)" = "$n" ] || fail "it runs while it is paused"
	ends 1 'paused' docker exec one true
	succeeds docker unpause one
	eventually 10 counted_beyond one "$n"
	says 'sh -c' docker top one || fail "top"
	docker stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' one > "$T/out"
	grep -Eq '^one [12] [1-9][0-9.]*[KM]iB / 96MiB' "$T/out" || ! all_hierarchies_are_mounted || fail "stats: $(cat "$T/out")"
	succeeds docker kill one
	eventually 10 state_is one exited
	[ "$(inspect one '{{.State.ExitCode}}')" = 137 ] || fail "exit status $(inspect one '{{.State.ExitCode}}')"
	succeeds docker start one
	eventually 10 counted_beyond one 3
	succeeds docker stop -t 1 one
	eventually 10 state_is one exited
	succeeds docker rm one
	succeeds docker run -d --name two bb sh -c "trap 'exit 3' TERM; $COUNTING"
	eventually 10 counted_beyond two 3
	succeeds docker stop -t 10 two
	[ "$(inspect two '{{.State.ExitCode}}')" = 3 ] || fail "stop: $(inspect two '{{.State.ExitCode}}')"
}

test_checkpoint() {
	docker_up
	succeeds docker run -d --name one --memory 64m bb sh -c "$COUNTING"
	eventually 10 counted_beyond one 3
	succeeds docker exec one sh -c 'echo new > /tmp/new'
	local n
	succeeds docker checkpoint create --leave-running one first
	n=$(last one)
	eventually 10 counted_beyond one "$n"
	succeeds docker checkpoint create one second
	eventually 10 state_is one exited
	[ "$(docker checkpoint ls one | awk 'NR > 1 { print $1 }' | sort | paste -sd' ')" = "first second" ] || fail "$(docker checkpoint ls one)"
	n=$(last one)
	succeeds docker start --checkpoint second one
	eventually 10 counted_beyond one "$n"
	[ "$(docker logs one | grep -c '^count 1 of')" = 1 ] || fail "it began anew"
	expect new docker exec one cat /tmp/new
	expect 67108864 cat "/sys/fs/cgroup/memory/docker/$(inspect one '{{.Id}}')/memory.limit_in_bytes"
	succeeds docker checkpoint rm one second
	succeeds docker rm -f one
}

clean_up() {
	docker_down
}

run_caller_test "$@"
