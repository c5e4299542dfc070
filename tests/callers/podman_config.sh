# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What podman puts into config.json: limits, security, mounts, devices, namespaces, hooks.
# time limit: 90
. "$TESTS/callers/podman-lib.sh"

# The container's value of a cgroup file, from outside.
limit() {
	cat "/sys/fs/cgroup/$2/libpod_parent/libpod-$(podman inspect --format '{{.Id}}' "$1")/$3"
}

expect_limit() {
	[ "$(limit "$2" "$3" "$4")" = "$1" ] || fail "$4 of $2 is $(limit "$2" "$3" "$4"), expected $1"
}

test_resources() {
	podman_image
	succeeds podman run -d --name c --memory 64m --pids-limit 33 --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 bb sleep 1000
	expect_limit 67108864 c memory memory.limit_in_bytes
	expect_limit 33 c pids pids.max
	expect_limit 50000 c cpu cpu.cfs_quota_us
	expect_limit 512 c cpu cpu.shares
	expect_limit 0 c cpuset cpuset.cpus
	succeeds podman update --memory 96m --cpus 0.25 --cpu-shares 256 c
	expect_limit 100663296 c memory memory.limit_in_bytes
	expect_limit 25000 c cpu cpu.cfs_quota_us
	expect_limit 256 c cpu cpu.shares
	expect_limit 33 c pids pids.max
	expect running podman inspect --format '{{.State.Status}}' c
	# The shell cannot fork beyond the limit.
	succeeds podman run -d --name p --pids-limit 6 bb sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo forked; wait'
	eventually 5 logged p "can't fork"
}

test_out_of_memory() {
	podman_image
	ends 137 '' podman run --rm --memory 16m bb sh -c 'exec dd if=/dev/zero of=/dev/null bs=100M count=1'
	ends 0 '' podman run --rm --memory 256m bb sh -c 'exec dd if=/dev/zero of=/dev/null bs=100M count=1'
}

caps() {
	podman run --rm "$@" bb sh -c 'grep CapEff /proc/self/status | cut -f 2'
}

test_capabilities() {
	podman_image
	local default
	default=$(caps)
	[ $((0x$default)) -gt 0 ] || fail "default: $default"
	[ "$(caps --cap-drop all)" = 0000000000000000 ] || fail "--cap-drop all"
	[ "$(caps --cap-drop all --cap-add net_bind_service)" = 0000000000000400 ] || fail "--cap-add net_bind_service"
	[ "$((0x$(caps --cap-add sys_admin)))" = $((0x$default | 1 << 21)) ] || fail "--cap-add sys_admin"
	[ "$((0x$(caps --cap-drop chown)))" = $((0x$default & ~1)) ] || fail "--cap-drop chown"
	[ "$(caps --privileged)" = "$(grep CapBnd /proc/self/status | cut -f 2)" ] || fail "--privileged"
	[ "$(caps -u user)" = 0000000000000000 ] || fail "-u user"
	expect 'NoNewPrivs:	1' podman run --rm --security-opt no-new-privileges bb grep NoNewPrivs /proc/self/status
}

test_seccomp() {
	podman_image
	expect 'Seccomp:	2' podman run --rm bb grep Seccomp: /proc/self/status
	expect 'Seccomp:	0' podman run --rm --security-opt seccomp=unconfined bb grep Seccomp: /proc/self/status
	cat > "$T/seccomp.json" <<- 'END'
		{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
		 "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}
	END
	ends 1 'not implemented' podman run --rm --security-opt "seccomp=$T/seccomp.json" bb mkdir /tmp/x
	expect ok podman run --rm --security-opt "seccomp=$T/seccomp.json" bb sh -c 'touch /tmp/x && echo ok'
}

test_read_only() {
	podman_image
	ends 1 'read-only' podman run --rm --read-only bb touch /x
	expect ok podman run --rm --read-only bb sh -c 'touch /tmp/x /run/x /dev/shm/x && echo ok'
	ends 1 'read-only' podman run --rm --read-only --read-only-tmpfs=false bb touch /tmp/x
	expect '8192 1755 noexec' podman run --rm --tmpfs /t:size=8k,mode=1755,noexec bb sh -c \
		'echo "$(($(stat -f -c %b /t) * $(stat -f -c %S /t))) $(stat -c %a /t) $(grep " /t " /proc/mounts | grep -o noexec)"'
	expect 1048576 podman run --rm --shm-size 1m bb sh -c 'echo $(($(stat -f -c %b /dev/shm) * $(stat -f -c %S /dev/shm)))'
	ends 1 'read-only' podman run --rm bb sh -c 'echo 1 > /proc/sys/kernel/msgmax'
	expect 0 podman run --rm bb sh -c 'cat /proc/timer_list /proc/kcore 2>/dev/null | wc -c'
}

test_volumes() {
	podman_image
	mkdir "$T/dir" && echo host > "$T/dir/file"
	expect host podman run --rm -v "$T/dir:/mnt/deep/dir" bb cat /mnt/deep/dir/file
	ends 1 'read-only' podman run --rm -v "$T/dir:/d:ro" bb touch /d/x
	expect host podman run --rm -v "$T/dir/file:/etc/one:ro" bb cat /etc/one
	succeeds podman volume create v
	succeeds podman run --rm -v v:/v bb sh -c 'echo kept > /v/file'
	expect kept podman run --rm --mount type=volume,source=v,destination=/v,ro bb cat /v/file
	succeeds podman run -d --name c -v v:/v bb sleep 1000
	expect kept podman run --rm --volumes-from c bb cat /v/file
	# What the host mounts there later arrives with rslave, and not without.
	mount --bind "$T/dir" "$T/dir" && mount --make-shared "$T/dir" && mkdir "$T/dir/sub"
	succeeds podman run -d --name slave -v "$T/dir:/d:rslave" bb sleep 1000
	succeeds podman run -d --name private -v "$T/dir:/d:private" bb sleep 1000
	mount -t tmpfs tmpfs "$T/dir/sub" && touch "$T/dir/sub/late"
	expect late podman exec slave ls /d/sub
	expect '' podman exec private ls /d/sub
	succeeds podman rm -f -t 0 slave private
	umount "$T/dir/sub" "$T/dir"
}

test_secrets() {
	podman_image
	echo hush > "$T/secret"
	succeeds podman secret create s "$T/secret"
	expect 'hush 400 user' podman run --rm -u user --secret s,mode=0400,uid=1000 bb sh -c \
		'echo "$(cat /run/secrets/s) $(stat -c "%a %U" /run/secrets/s)"'
	expect hush podman run --rm --secret s,type=env,target=HUSH bb sh -c 'echo $HUSH'
}

test_devices() {
	podman_image
	expect 'a ed' podman run --rm --device /dev/loop-control:/dev/named bb sh -c 'test -c /dev/named && stat -c "%t %T" /dev/named && : > /dev/named'
	# Read only, by the cgroup.
	ends 1 'not permitted' podman run --rm --device /dev/loop-control:/dev/named:r bb sh -c ': < /dev/named && : > /dev/named'
	ends 1 'not permitted' podman run --rm bb sh -c 'mknod /tmp/m b 7 0 && cat /tmp/m'
	expect '666 5 0' podman run --rm bb stat -c '%a %t %T' /dev/tty
	expect crw-rw-rw- podman run --rm bb sh -c "ls -l /dev/null | cut -d' ' -f1"
	succeeds podman run --rm --privileged bb sh -c 'test -c /dev/kmsg'
}

test_namespaces() {
	podman_image
	succeeds podman run -d --name c --hostname first --ipc shareable bb sleep 1000
	expect 1 podman run --rm --pid container:c bb pidof sleep
	expect "$(podman exec c readlink /proc/self/ns/net)" podman run --rm --network container:c bb readlink /proc/self/ns/net
	expect "$(podman exec c readlink /proc/self/ns/ipc)" podman run --rm --ipc container:c bb readlink /proc/self/ns/ipc
	expect "$(podman exec c readlink /proc/self/ns/uts)" podman run --rm --uts container:c bb readlink /proc/self/ns/uts
	expect "$(readlink /proc/self/ns/net)" podman run --rm --network host bb readlink /proc/self/ns/net
	expect "$(readlink /proc/self/ns/uts)" podman run --rm --uts host bb readlink /proc/self/ns/uts
	expect "$(readlink /proc/self/ns/ipc)" podman run --rm --ipc host bb readlink /proc/self/ns/ipc
	expect "$(readlink /proc/self/ns/pid)" podman run --rm --pid host bb readlink /proc/self/ns/pid
	expect 'lo ' podman run --rm bb sh -c 'ls /sys/class/net | tr "\n" " "'
	expect / podman run --rm --cgroupns private bb sh -c 'sed -n "s/^.*:pids://p" /proc/self/cgroup'
	says 'libpod_parent/libpod-' podman run --rm --cgroupns host bb sh -c 'grep pids /proc/self/cgroup' || fail "--cgroupns host"
}

test_user_namespaces() {
	podman_image
	expect '0 0 100000 65536 0' podman run --rm --uidmap 0:100000:65536 bb sh -c \
		'touch /tmp/x && echo $(id -u) $(cat /proc/self/uid_map) $(stat -c %u /etc/passwd /tmp/x | uniq)'
	expect '1000 0000000000000000' podman run --rm --uidmap 0:100000:65536 -u user bb sh -c \
		'echo $(id -u) $(grep CapEff /proc/self/status | cut -f 2)'
	succeeds podman run -d --name c --uidmap 0:100000:65536 --gidmap 0:200000:65536 bb sleep 1000
	expect '0 200000 65536' podman exec c sh -c 'echo $(cat /proc/self/gid_map)'
	expect 1000 podman exec -u user c id -u
	says '^root +100000$' podman top c user huser || fail "$(podman top c user huser)"
	# With the ids that /etc/subuid has for the user "containers", and in another container's.
	echo containers:300000:100000 > "$T/subid"
	mount --bind "$T/subid" /etc/subuid
	mount --bind "$T/subid" /etc/subgid
	succeeds podman run -d --name auto --userns auto:size=2048 bb sleep 1000
	expect '0 300000 2048' podman exec auto sh -c 'echo $(cat /proc/self/uid_map)'
	expect "$(podman exec auto readlink /proc/self/ns/user)" podman run --rm --userns container:auto --network container:auto bb readlink /proc/self/ns/user
	# podman's own cleanup, which conmon has started, may still hold the mount of /dev/shm.
	eventually 10 succeeds_at_last podman rm -f -t 0 c auto
}

# A bridge of CNI: the container has its address, and reaches the host's.
test_bridge() {
	podman_image
	cat > /etc/cni/net.d/inside.conflist <<- 'END'
		{"cniVersion": "0.4.0", "name": "inside", "plugins": [
		 {"type": "bridge", "bridge": "inside0", "isGateway": true, "ipam": {"type": "host-local",
		  "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.77.0.0/24", "gateway": "10.77.0.1"}]]}}]}
	END
	succeeds podman run -d --name c --network inside --ip 10.77.0.9 bb sh -c 'ip -o -4 addr show eth0; nc -l -p 99 -e echo served'
	eventually 5 logged c 'inet 10.77.0.9/24'
	eventually 5 says served podman run --rm --network inside bb nc -w 1 10.77.0.9 99
	podman wait c > "$T/waited"
	succeeds podman rm -f -t 0 c
	[ -z "$(ls /run/netns)" ] || fail "network namespaces are left: $(ls /run/netns)"
}

# netavark gives addresses, and names by aardvark-dns.
test_netavark() {
	netavark
	podman_image
	succeeds podman network create --subnet 10.78.0.0/24 inside
	succeeds podman run -d --name c --network inside --ip 10.78.0.9 bb sh -c 'ip -o -4 addr show eth0; while :; do nc -l -p 99 -e echo served; done'
	eventually 10 logged c 'inet 10.78.0.9/24'
	eventually 10 says served podman run --rm --network inside bb nc -w 1 10.78.0.9 99
	expect 10.78.0.9 podman inspect --format '{{.NetworkSettings.Networks.inside.IPAddress}}' c
	succeeds podman rm -f -t 0 c
	[ -z "$(ls /run/netns)" ] || fail "network namespaces are left: $(ls /run/netns)"
}

test_hooks() {
	podman_image
	mkdir "$T/hooks"
	local h
	for h in prestart createRuntime createContainer startContainer poststart poststop; do
		cat > "$T/hooks/$h.json" <<- END
			{"version": "1.0.0", "when": {"annotations": {"^hooked$": "^yes$"}}, "stages": ["$h"],
			 "hook": {"path": "/bin/sh", "args": ["sh", "-c", "cat >> $T/said.$h; echo >> $T/said.$h; echo noise"]}}
		END
	done
	# This one runs in the container's root.
	sed -i "s:$T/said:/tmp/said:g" "$T/hooks/startContainer.json"
	expect created podman --hooks-dir "$T/hooks" run --name c --annotation hooked=yes bb grep -o created /tmp/said.startContainer
	succeeds podman --hooks-dir "$T/hooks" rm -f -t 0 c
	for h in prestart createRuntime createContainer poststart poststop; do
		jq -e '.id and .bundle and .ociVersion' "$T/said.$h" > "$T/jq" || fail "the state for $h: $(cat "$T/said.$h")"
	done
	succeeds podman --hooks-dir "$T/hooks" run --rm --name c bb true
	[ "$(grep -c . "$T/said.prestart")" = 1 ] || fail "hooks run without their annotation"
}

run_caller_test "$@"
