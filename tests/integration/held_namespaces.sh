# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Namespaces of a container in which no process is, held by mounts (Debian's ip and unshare make them) or descriptors: they come back
# with what is in them, and all that had the same one have it again.
# time limit: 60
. "$TESTS/lib.sh"

# A container with the machine's programs. The command runs beside the counter.
with_programs() {
	bundle b sh -c "${1:-:}; $COUNTER"
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"])
		| .process.env = ["PATH=/usr/bin:/usr/sbin:/bin"]
		| .mounts += [{destination: "/usr", type: "bind", source: "/usr", options: ["rbind", "ro"]}]'
	mkdir -p "$B/rootfs/usr" "$B/rootfs/run" "$B/rootfs/var" "$B/rootfs/held"
	ln -s usr/lib "$B/rootfs/lib"
	ln -s usr/lib64 "$B/rootfs/lib64"
	ln -s ../run "$B/rootfs/var/run"
	if [ -n "${USERNS:-}" ]; then
		edit '.linux.namespaces += [{type: "user"}] | .linux |= (.uidMappings = [{containerID: 0, hostID: 100000, size: 65536}] | .gidMappings = .uidMappings)'
		chown -R 100000:100000 "$B/rootfs"
		chmod 755 "$T"
	fi
	start c
	expect_progress
}

# In the container, with its mounts; not by exec, whose processes come back in another way.
inside() {
	nsenter -t "$(init_pid c)" -m -n -p -u -i -- /usr/bin/env PATH=/usr/bin:/usr/sbin:/bin "$@" < /dev/null
}

in_x() {
	inside ip netns exec x "$@"
}

round_trip() {
	rm -rf "$T/i"
	ok checkpoint --image-path "$T/i" c
	ok restore -d "$@" --image-path "$T/i" --bundle "$B" c
	expect_progress
}

add_x() {
	inside ip netns add x 2> "$T/err" || fail "ip netns add: $(cat "$T/err")"
}

# The pair between the container and x.
connect_x() {
	inside ip link add v0 type veth peer name v1 netns x 2> "$T/err" || skip "not on this machine: veth: $(cat "$T/err")"
	inside ip addr add 10.7.0.1/24 dev v0
	inside ip link set v0 up
	in_x ip link set lo up
	in_x ip addr add 10.7.0.2/24 dev v1
	in_x ip link set v1 up
	in_x ip route add 192.0.2.0/24 via 10.7.0.1
	in_x ip rule add from 10.7.0.2 lookup 7
}

answers() {
	inside busybox ping -c 1 -W 1 10.7.0.2 > "$T/ping" 2>&1 && in_x busybox ping -c 1 -W 1 10.7.0.1 > "$T/ping" 2>&1
}

view() {
	inside ip netns list
	for family in -4 -6; do
		in_x ip "$family" -j address show | jq -S 'map({ifname, ifindex, addr_info: .addr_info | map(del(.valid_life_time, .preferred_life_time))})'
		in_x ip "$family" route show table all | sort
		in_x ip "$family" rule show
	done
	in_x cat /proc/sys/net/ipv4/ip_forward
}

# Duplicate addresses have been looked for.
settled() {
	view > "$T/before"
	! grep -q tentative "$T/before"
}

same_view() {
	view > "$T/after"
	diff "$T/before" "$T/after" > "$T/diff"
}

test_nobody_in_it() {
	with_programs
	add_x
	connect_x
	inside ip netns add y
	eventually 10 answers
	eventually 10 settled
	grep -q 192.0.2 "$T/before" || fail "$(cat "$T/before")"
	round_trip
	(eventually 10 same_view) || fail "the network differs: $(cat "$T/diff")"
	eventually 10 answers
	round_trip
	eventually 10 answers
	inside ip netns del x
	inside ip netns del y
	round_trip
	[ -z "$(inside ip netns list)" ] || fail "$(inside ip netns list)"
}

pids_of_x() {
	inside ip netns pids x > "$T/pids" && [ "$(wc -w < "$T/pids")" = "$1" ]
}

# "ip netns exec": the program has a mount namespace of its own, with a copy of the mount.
test_program_in_it() {
	with_programs 'ip netns add x; ip netns exec x busybox sleep 1001 & ip netns exec x busybox sleep 1002 & :'
	eventually 5 pids_of_x 2
	connect_x
	eventually 10 answers
	round_trip
	pids_of_x 2 || fail "in it: $(cat "$T/pids")"
	eventually 10 answers
	xargs kill < "$T/pids" # as the container has them
}

# Of other kinds, and of the container itself.
test_other_kinds() {
	with_programs 'touch /held/cgroup; unshare --cgroup=/held/cgroup true' # by one who is in the container's cgroup
	inside touch /held/uts /held/ipc /held/own /held/user /held/net
	# shellcheck disable=SC2016
	inside sh -c 'unshare -Urn sleep 60 & sleep 1; mount --bind /proc/$!/ns/user /held/user && mount --bind /proc/$!/ns/net /held/net; kill $!'
	inside nsenter --user=/held/user --net=/held/net ip link set lo up
	inside unshare --uts=/held/uts hostname inner
	inside unshare --ipc=/held/ipc ipcmk -Q > "$T/queue"
	inside mount --bind /proc/1/ns/net /held/own
	inside nsenter --ipc=/held/ipc ipcs -q > "$T/before"
	grep -q 0x "$T/before" || fail "$(cat "$T/queue" "$T/before")"
	round_trip
	[ "$(inside nsenter --uts=/held/uts hostname)" = inner ] || fail "uts"
	inside nsenter --ipc=/held/ipc ipcs -q > "$T/after"
	diff "$T/before" "$T/after" || fail "ipc"
	[ "$(inside nsenter --user=/held/user --net=/held/net sh -c 'cat /proc/self/uid_map; ip link set lo mtu 1400; ip -o link' | tr -s ' \n' ' ' | grep -c ' 0 0 1 .*LOOPBACK,UP.* mtu 1400')" = 1 ] || fail "user and its net: $(cat "$T/err")"
	inside sh -c '[ /held/own -ef /proc/1/ns/net ] && ! [ /held/uts -ef /proc/1/ns/uts ]' || fail "which is which"
	round_trip
	inside sh -c '[ /held/own -ef /proc/1/ns/net ]' || fail "which is which"
}

# One by a descriptor and by a mount, one by a descriptor only; those of a process.
test_descriptors() {
	local major minor
	IFS=. read -r major minor _ < <(uname -r)
	[ "$((major * 100 + minor))" -ge 611 ] || skip "not on this machine: Linux 6.11, which tells of a pid namespace by its descriptor"
	# shellcheck disable=SC2016
	with_programs 'unshare -pm --fork busybox sleep 1003 & until child=$(pgrep -P $!); do busybox usleep 1000; done; exec 5< /proc/$child/ns/pid 6< /proc/$child/ns/mnt; ip netns add x; exec 7< /run/netns/x; ip netns add z; exec 8< /run/netns/z; ip -n z addr add 10.1.2.3/32 dev lo; umount -l /run/netns/z; rm /run/netns/z'
	local same='c=$(pgrep -f "^busybox sleep 1003"); [ /proc/1/fd/5 -ef /proc/$c/ns/pid ] && [ /proc/1/fd/6 -ef /proc/$c/ns/mnt ] && [ /proc/1/fd/7 -ef /run/netns/x ] && nsenter --net=/proc/1/fd/8 ip addr show dev lo | grep 10.1.2.3'
	eventually 5 inside sh -c "$same" > "$T/err" 2>&1
	round_trip
	inside sh -c "$same" > "$T/err" 2>&1 || fail "$(cat "$T/err")"
}

test_in_a_user_namespace() {
	USERNS=1 with_programs 'ip netns add x; nsenter --net=/run/netns/x ip addr add 10.1.2.3/32 dev lo; nsenter --net=/run/netns/x busybox sleep 1001 & ip netns add y; ip link add v0 type veth peer name v1 netns y'
	eventually 5 pids_of_x 1
	inside ip -n y -o link show v1 > "$T/before" 2> "$T/err" || skip "not on this machine: veth: $(cat "$T/err")"
	round_trip
	pids_of_x 1 || fail "in it: $(cat "$T/pids")"
	in_x ip addr show dev lo > "$T/lo"
	grep -q 10.1.2.3 "$T/lo" || fail "$(cat "$T/lo")"
	inside ip -n y -o link show v1 > "$T/after"
	diff "$T/before" "$T/after" || fail "y"
}

test_what_is_refused() {
	with_programs
	inside touch /held/time /held/pid
	add_x
	nsenter --net="/proc/$(init_pid c)/root/run/netns/x" sleep 60 &
	eventually 5 test "/proc/$!/ns/net" -ef "/proc/$(init_pid c)/root/run/netns/x"
	fails 'nsfs on /run/netns/x.*a process outside is in it' checkpoint --image-path "$T/i" c
	kill %1
	inside unshare --pid=/held/pid --fork true
	fails 'nsfs on /held/pid.*pid namespace in which no process is' checkpoint --image-path "$T/i" c
	inside umount /held/pid
	inside unshare --ipc=/held/pid python3 -c '
import ctypes
c = ctypes.CDLL("librt.so.1")
q = c.mq_open(b"/q", 0o102, 0o600, None)
assert q >= 0 and c.mq_send(q, b"text", 4, 1) == 0'
	fails 'messages wait in it' checkpoint --image-path "$T/i" c
	inside umount /held/pid
	nsenter --net="/proc/$(init_pid c)/root/run/netns/x" ip link add away type veth peer name "nh$$" netns $$ 2> "$T/err" || skip "not on this machine: veth: $(cat "$T/err")"
	fails 'network interface away \(veth\)' checkpoint --image-path "$T/i" c
	in_x ip link del away
	inside umount /run/netns/x
	expect_progress
	round_trip
}

run_test "$@"
