# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Network namespaces that processes of a container have made, as those who run containers in it: a bridge in the container's own, veth
# pairs to theirs, and packet filters in all of them. What ip and nft say of each must be the same afterwards.
# time limit: 60
. "$TESTS/lib.sh"

# in_ns NAME COMMAND...: in the network namespace of the process that sleeps so long; "own" is the container's.
in_ns() {
	local name=$1
	shift
	nsenter -t "$(pid_in "$name")" -n "$@"
}

pid_in() {
	local init p
	init=$(init_pid c)
	[ "$1" != own ] || { echo "$init"; return; }
	for p in $(< "/proc/$init/task/$init/children"); do # some are gone already
		! tr '\0' ' ' < "/proc/$p/cmdline" | grep -qx "sleep $1 " || echo "$p"
	done 2> "$T/gone"
}

# Two namespaces beside the container's own; the second belongs to a user namespace. With a capability, or others.
busy_namespaces() {
	command -v nft > /dev/null || skip "not on this machine: nft"
	bundle b sh -c "unshare -n sleep 1001 & unshare -Urn sleep 1002 & $COUNTER"
	edit '.process.capabilities |= map_values(. + $more)' --argjson more "[$1]"
	start c
	expect_progress
	eventually 5 there 1001
	eventually 5 there 1002
	in_ns own nft list ruleset > "$T/err" 2>&1 || skip "not on this machine: nftables: $(cat "$T/err")"
}

there() {
	[ -n "$(pid_in "$1")" ] && ! [ "/proc/$(pid_in "$1")/ns/net" -ef "/proc/$(pid_in own)/ns/net" ]
}

view() {
	local name family
	for name in own 1001 1002; do
		echo "== $name"
		in_ns "$name" ip -j -d link show | jq -S 'map(del(.stats64, .stats, .linkinfo.info_data, .linkinfo.info_slave_data))'
		for family in -4 -6; do
			in_ns "$name" ip "$family" -j address show | jq -S 'map({ifname, addr_info: .addr_info | map(del(.valid_life_time, .preferred_life_time))})'
			in_ns "$name" ip "$family" route show table all | sort
		done
		in_ns "$name" nft -a -n list ruleset | sed 's/^\(table .*\) # handle .*/\1/'
		in_ns "$name" tc -d qdisc show | grep -v noqueue
		in_ns "$name" cat /proc/sys/net/ipv4/ip_forward
	done
}

same_view() {
	view > "$T/after"
	diff "$T/before" "$T/after" > "$T/diff"
}

# FOLDER, then options of restore.
round_trip() {
	local folder=$1
	shift
	view > "$T/before"
	ok checkpoint --image-path "$T/$folder" c
	ok restore -d "$@" --image-path "$T/$folder" --bundle "$B" c
	expect_progress
	(eventually 20 same_view) || fail "the network differs: $(cat "$T/diff")"
}

# NAME NUMBER: what podman and docker do for a container.
connect() {
	in_ns own ip link add "v$1" index "$2" type veth peer name eth0 index 2 netns "$(pid_in "$1")" 2> "$T/err" || skip "not on this machine: veth: $(cat "$T/err")"
	in_ns own ip link set "v$1" master br0 up
	in_ns "$1" ip link set lo up
	in_ns "$1" ip addr add "10.88.0.$((2 + $2))/24" dev eth0
	in_ns "$1" ip link set eth0 up
	in_ns "$1" ip route add default via 10.88.0.1
}

filters() {
	in_ns own nft -f - << 'END'
table inet netavark {
	chain forward {
		type filter hook forward priority filter; policy drop
		ip daddr 10.88.0.0/24 ct state established,related counter accept
		ip saddr 10.88.0.0/24 counter accept
	}
	chain post {
		type nat hook postrouting priority srcnat
		ip saddr 10.88.0.0/24 ip daddr != 10.88.0.0/24 masquerade
	}
	chain pre {
		type nat hook prerouting priority dstnat
		tcp dport 8080 dnat ip to 10.88.0.12:80
	}
}
END
	in_ns 1001 nft add table ip here
	in_ns 1002 nft -f - << 'END'
table ip inner {
	set seen {
		type ipv4_addr; elements = { 10.88.0.1, 10.88.0.99 }
	}
	chain in {
		type filter hook input priority 0; policy accept
		ip saddr @seen counter accept
		tcp dport { 80, 443 } counter drop
	}
}
END
}

answers() {	# NAME ADDRESS: a port that nobody listens at says so
	in_ns "$1" bash -c "echo > /dev/tcp/$2/9" 2> "$T/err"
	grep -q "Connection refused" "$T/err"
}

test_containers_in_it() {
	busy_namespaces '"CAP_SYS_ADMIN", "CAP_NET_ADMIN"'
	in_ns own ip link add br0 index 9 address 02:00:00:00:00:09 type bridge || skip "not on this machine: bridge"
	in_ns own ip addr add 10.88.0.1/24 dev br0
	in_ns own ip link set br0 up
	connect 1001 10
	connect 1002 20
	in_ns 1001 ip link add inner index 7 type veth peer name outer index 8 netns "$(pid_in 1002)"
	in_ns 1001 ip link set inner up
	in_ns 1002 ip link set outer mtu 1400 up
	filters
	in_ns own tc qdisc add dev v1001 root handle 5: tbf rate 90mbit burst 5000 latency 50ms
	in_ns 1002 tc qdisc add dev eth0 root handle 6: pfifo limit 7
	in_ns 1002 tc qdisc add dev eth0 clsact
	in_ns 1002 tc filter add dev eth0 ingress protocol arp prio 6 u32 match u32 0 0 action mirred ingress mirror dev outer
	sleep 2 # duplicate addresses are looked for
	eventually 10 answers 1001 10.88.0.22
	round_trip i
	eventually 10 answers 1001 10.88.0.22
	in_ns 1002 nft list ruleset > "$T/rules"
	grep -q 'saddr @seen counter packets 0 ' "$T/rules" || fail "it counts what is not from them: $(cat "$T/rules")"
	eventually 10 answers own 10.88.0.22
	in_ns 1002 nft list ruleset > "$T/rules"
	grep -q 'saddr @seen counter packets [1-9]' "$T/rules" || fail "it does not count: $(cat "$T/rules")"
	ok checkpoint --image-path "$T/k" c
	fails 'v1001 leads to a network namespace.*restore needs' restore -d --empty-ns network --image-path "$T/k" --bundle "$B" c
	expect_nothing_left c
}

# Whose other end is in a namespace that is not recorded.
test_what_leads_elsewhere_is_refused() {
	busy_namespaces '"CAP_SYS_ADMIN", "CAP_NET_ADMIN"'
	in_ns 1001 ip link add away type veth peer name "nn$$" netns $$ 2> "$T/err" || skip "not on this machine: veth: $(cat "$T/err")"
	fails 'network interface away \(veth\)' checkpoint --image-path "$T/i" c
	in_ns 1001 ip link del away
	in_ns 1001 ip link add eth0 type veth peer name v0 netns "$(pid_in own)"
	fails 'network interface eth0 \(veth\)' checkpoint --empty-ns network --image-path "$T/i" c
	round_trip i
}

# A process that may make a network namespace, but no packet filters: these came from outside.
test_filters_that_it_may_not_make() {
	busy_namespaces '"CAP_SYS_ADMIN"'
	in_ns 1001 nft add table ip here
	ok checkpoint --image-path "$T/i" c
	fails 'packet filter here.*CAP_NET_ADMIN' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

run_test "$@"
