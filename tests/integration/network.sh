# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The container's own network namespace through checkpoint and restore. The namespace is set up from outside, by
# Debian's ip; what ip, in JSON, says of all of it must be the same afterwards.
# time limit: 120
. "$TESTS/lib.sh"

inside() {
	nsenter -t "$(init_pid c)" -n "$@"
}

# All that ip shows, without what counts or passes.
view() {
	local family
	inside ip -j -d link show | jq -S 'map(del(.stats64, .stats, .permaddr, .linkinfo.info_data.root_id, .linkinfo.info_data.bridge_id,
		.linkinfo.info_data.gc_timer, .linkinfo.info_data.hello_timer, .linkinfo.info_data.tcn_timer,
		.linkinfo.info_data.topology_change_timer, .linkinfo.info_slave_data.hold_timer,
		.linkinfo.info_slave_data.message_age_timer, .linkinfo.info_slave_data.forward_delay_timer,
		.linkinfo.info_data.mcast_querier_state, .linkinfo.info_data.mcast_querier_ipv4_addr))'
	for family in -4 -6; do
		echo "addresses $family:"
		inside ip "$family" -j address show | jq -S 'map({ifname, addr_info: .addr_info | map(del(.valid_life_time, .preferred_life_time))})'
		echo "routes $family:"
		inside ip "$family" route show table all | sed 's/ expires [0-9]*sec//' | sort
		echo "rules $family:"
		inside ip "$family" rule show
	done
	echo "neighbours:"
	inside ip neigh show nud permanent | sort
	inside ip neigh show proxy | sort
	echo "bridges and labels:"
	inside bridge -d vlan show 2> "$T/none"
	inside bridge -d mdb show 2> "$T/none" | grep permanent | sort
	inside ip addrlabel list | sort
	inside sh -c 'grep -r . /proc/sys/net/ipv4/conf/v* /proc/sys/net/ipv6/conf/v* /proc/sys/net/ipv4/conf/lo /proc/sys/net/ipv6/conf/lo' 2> /dev/null |
		grep -v 'stable_secret\|mc_forwarding' | sort
}

busy_network() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
}

# The kernel's workers finish a little later: the state of a link, host routes of IPv6.
same_view() {
	view > "$T/after"
	diff "$T/before" "$T/after" > "$T/diff"
}

# Checkpoint, restore, and the same network as before.
round_trip() {
	view > "$T/before"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	(eventually 20 same_view) || fail "the network differs: $(cat "$T/diff")"
}

# A kernel without that kind of interface.
make_link() {
	inside ip link add "$@" 2> "$T/err" || skip "not on this machine: $*: $(cat "$T/err")"
}

test_lo_as_it_is() {
	busy_network
	round_trip
	inside ip addr add 127.0.0.9/8 dev lo
	inside ip addr add 10.9.8.7/32 dev lo
	inside ip addr add fd00::7/128 dev lo
	inside ip route add local 192.0.2.0/24 dev lo
	inside ip route add unreachable 198.51.100.0/24 metric 7
	inside ip link set lo mtu 1400
	round_trip
	inside ip link set lo down
	round_trip
}

test_veth_bridge_macvlan() {
	busy_network
	make_link v0 index 40 address 02:00:00:00:00:40 numtxqueues 2 type veth peer name v1 index 30 address 02:00:00:00:00:30
	make_link vbr index 35 type bridge ageing_time 5000 stp_state 0 mcast_snooping 0
	make_link vmac link v0 index 50 type macvlan mode bridge
	inside ip link set v1 master vbr
	inside bridge link set dev v1 hairpin on cost 7
	inside ip link set v0 mtu 1300 txqueuelen 77 alias "an alias" group 5
	inside ip link property add dev v0 altname another-name
	inside ip link set v0 arp off multicast off promisc on
	inside ip link set v0 up
	inside ip link set v1 up
	inside ip link set vbr up
	inside ip addr add 10.1.0.1/24 dev v0
	inside ip addr add 10.1.0.2/24 brd 10.1.0.255 dev v0 label v0:1
	inside ip addr add 10.7.0.1 peer 10.7.0.2 dev vbr
	inside ip addr add 10.8.0.1/24 dev vbr valid_lft 5000 preferred_lft 3000
	inside ip addr add 10.99.0.1/24 dev vmac
	inside ip -6 addr add fd01::1/64 dev v0 nodad
	inside ip -6 addr add fd02::1/64 dev vbr
	inside ip route add default via 10.1.0.254
	inside ip route add 10.20.0.0/16 via 10.1.0.253 metric 50 mtu 1200 advmss 1100 src 10.1.0.2
	inside ip route add 10.30.0.0/16 nexthop via 10.1.0.253 weight 2 nexthop via 10.7.0.2 weight 3
	inside ip route add 10.40.0.0/16 dev vbr scope link table 100
	inside ip route add blackhole 10.50.0.0/16
	inside ip -6 route add default via fd01::ff
	inside ip -6 route add fd09::/64 via fd01::fe metric 99
	inside ip rule add from 10.1.0.0/24 lookup 100 priority 1000
	inside ip rule add fwmark 0x5/0xff lookup 100
	inside ip -6 rule add to fd09::/64 lookup 101
	inside ip rule del from all lookup default
	inside ip neigh add 10.1.0.99 lladdr 02:11:22:33:44:55 dev v0 nud permanent
	inside ip neigh add proxy 10.1.0.98 dev v0
	inside ip -6 neigh add fd01::99 lladdr 02:11:22:33:44:56 dev v0 nud permanent
	inside sh -c 'echo 1 > /proc/sys/net/ipv4/conf/v0/forwarding; echo 2 > /proc/sys/net/ipv4/conf/v0/rp_filter
		echo 0 > /proc/sys/net/ipv6/conf/v0/accept_ra; echo 1 > /proc/sys/net/ipv6/conf/v1/disable_ipv6'
	inside ip link set vmac up
	sleep 2	# duplicate addresses are looked for
	round_trip
	round_trip
}

test_vxlan_ipvlan() {
	busy_network
	make_link v0 index 40 type veth peer name v1 index 41
	# before the one below it is up: else the kernel calls its state UNKNOWN instead of UP until that changes
	inside ip link add link v1 name ipv0 index 50 type ipvlan mode l3 bridge 2> "$T/err" && touch "$T/ipvlan"
	inside ip link set v0 up
	inside ip link set v1 up
	inside ip addr add 10.1.0.1/24 dev v0
	make_link vx0 index 42 type vxlan id 5 dstport 4789 local 10.1.0.1 dev v0 ttl 9 ageing 77 nolearning
	make_link vx1 index 43 address 02:00:00:00:00:43 type vxlan id 6 dstport 4790 remote 10.1.0.9 gbp udpcsum
	make_link vx2 index 44 type vxlan dstport 4791 external
	inside bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.1.0.7
	inside bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.1.0.8
	inside bridge fdb add 02:00:00:00:00:99 dev vx0 dst 10.1.0.8 port 5000
	make_link vbr type bridge
	inside ip link set vx1 master vbr
	inside ip link set vx0 mtu 1300 up
	inside ip link set vbr up
	inside ip link set vx1 up
	inside bridge fdb add 02:00:00:00:00:98 dev vx1 master static
	inside ip addr add 10.3.0.1/24 dev vx0
	[ ! -e "$T/ipvlan" ] || {
		inside ip link set ipv0 up
		inside ip addr add 10.9.0.1/24 dev ipv0
	}
	sleep 2
	entries > "$T/entries"
	round_trip
	round_trip
	entries > "$T/entries.after"
	diff "$T/entries" "$T/entries.after" > "$T/diff" || fail "forwarding entries differ: $(cat "$T/diff")"
	grep -q 02:00:00:00:00:98 "$T/entries" || fail "no entry of the bridge: $(cat "$T/entries")"
}

test_bridge_vlans() {
	busy_network
	make_link vbr index 35 type bridge vlan_filtering 1 vlan_default_pvid 7 vlan_stats_enabled 1 group_address 01:80:c2:00:00:0f
	make_link v0 index 40 type veth peer name v1 index 41
	make_link v2 index 42 type veth peer name v3 index 43
	make_link vx index 44 type vxlan dstport 4791 external
	inside ip link set v1 master vbr
	inside ip link set v3 master vbr
	inside ip link set vx master vbr
	inside bridge vlan add dev v1 vid 100-199 || skip "not on this machine: VLANs of bridges"
	inside bridge vlan add dev v1 vid 5 pvid untagged
	inside bridge vlan del dev v3 vid 7
	inside bridge vlan add dev v3 vid 150 untagged
	inside bridge vlan add dev vbr vid 9 self
	inside bridge vlan add dev vbr vid 300-310 self
	inside bridge link set dev vx vlan_tunnel on
	inside bridge vlan add dev vx vid 20
	inside bridge vlan add dev vx vid 20 tunnel_info id 2000
	inside bridge link set dev v1 backup_port v3 locked on
	inside bridge vlan set dev v1 vid 120 state blocking
	inside bridge vlan del dev vx vid 7
	for l in vbr v0 v1 v2 v3 vx; do inside ip link set $l up; done
	inside bridge fdb add 02:00:00:00:00:98 dev v1 master static vlan 150
	sleep 2
	inside bridge -d vlan show > "$T/vlans"
	round_trip
	round_trip
	[ "$(wc -l < "$T/vlans")" -gt 9 ] || fail "bridge does not show them: $(cat "$T/vlans")"
	# one that filters none, but has others than the usual one
	inside ip link set vbr type bridge vlan_filtering 0
	round_trip
	inside ip link set vbr type bridge mcast_vlan_snooping 1 2> "$T/err" || return 0
	fails 'network bridge vbr.*each VLAN' checkpoint --image-path "$T/j" c
}

test_bridge_groups() {
	busy_network
	make_link vbr index 35 type bridge
	make_link v0 index 40 type veth peer name v1 index 41
	inside ip link set v1 master vbr
	for l in vbr v0 v1; do inside ip link set $l up; done
	inside bridge mdb add dev vbr port v1 grp 239.1.2.3 permanent || skip "not on this machine: multicast groups of bridges"
	inside bridge mdb add dev vbr port v1 grp ff05::77 permanent
	inside bridge mdb add dev vbr port vbr grp 239.1.2.4 permanent 2> "$T/err" || true
	inside bridge mdb add dev vbr port v1 grp 239.1.2.5 src 10.1.1.1 permanent 2> "$T/err" || true
	sleep 2
	inside bridge -d mdb show > "$T/groups"
	grep -q '239.1.2.3.*permanent' "$T/groups" || fail "bridge does not show them: $(cat "$T/groups")"
	round_trip
	round_trip
	inside ip link set vbr down
	fails 'multicast group: its bridge is down' checkpoint --image-path "$T/j" c
}

test_tunnels() {
	local name rest n=0
	busy_network
	make_link v0 index 40 type veth peer name v1 index 41
	inside ip addr add 10.1.0.1/24 dev v0
	for l in v0 v1; do inside ip link set $l up; done
	while read -r name rest; do
		# shellcheck disable=SC2086
		inside ip link add "$name" type $rest 2> "$T/err" || continue
		inside ip link set "$name" up
		n=$((n + 1))
	done << 'END'
t1 ipip local 10.1.0.1 remote 10.1.0.2 ttl 9 tos 4 dev v0
t2 sit local 10.1.0.1 remote 10.1.0.3 ttl 64 pmtudisc
t3 gre local 10.1.0.1 remote 10.1.0.4 key 5 csum
t4 gretap local 10.1.0.1 remote 10.1.0.5 ikey 7 okey 8 nopmtudisc ignore-df
t5 ip6tnl local fd00::1 remote fd00::2 hoplimit 9 encaplimit 3 mode ip6ip6
t6 ip6gre local fd00::1 remote fd00::3 key 9
END
	[ $n -gt 0 ] || skip "not on this machine: tunnels"
	sleep 2
	round_trip
	! inside ip link add t7 type gretap external 2> "$T/err" ||
		fails 'network interface t7 .gretap external' checkpoint --image-path "$T/j" c
}

test_mptcp_endpoints() {
	bundle b sh -c "$COUNTER"
	edit '.process.capabilities |= map_values(. + ["CAP_NET_ADMIN"])'
	start c
	expect_progress
	make_link v0 index 40 type veth peer name v1 index 41
	make_link vt link v0 index 50 type macvtap mode bridge
	inside ip addr add 10.5.0.1/24 dev v0
	inside ip -6 addr add fd05::1/64 dev v0 nodad
	for l in v0 v1 vt; do inside ip link set $l up; done
	inside ip mptcp endpoint add 10.5.0.1 id 7 dev v0 subflow backup || skip "not on this machine: MPTCP"
	inside ip mptcp endpoint add fd05::1 id 3 signal
	inside ip mptcp endpoint add 10.5.0.1 port 7007 signal
	inside ip mptcp limits set subflow 5 add_addr_accepted 4
	sleep 2
	endpoints > "$T/endpoints"
	[ "$(wc -l < "$T/endpoints")" = 4 ] || fail "ip shows: $(cat "$T/endpoints")"
	round_trip
	endpoints | diff "$T/endpoints" - > "$T/diff" || fail "endpoints of MPTCP: $(cat "$T/diff")"
	round_trip
}

endpoints() {
	inside ip mptcp endpoint show | sort
	inside ip mptcp limits show
}

test_address_labels() {
	busy_network
	inside ip addrlabel add prefix 2001:db8::/32 label 99 || skip "not on this machine: address labels"
	inside ip addrlabel add prefix 2001:db9::/32 dev lo label 98
	inside ip addrlabel del prefix 3ffe::/16
	round_trip
	[ "$(inside ip addrlabel list | grep -c 'label 9[89]')" = 2 ] || fail "labels: $(inside ip addrlabel list)"
	inside ip addrlabel flush
	round_trip
}

entries() {
	inside bridge fdb show | grep -v '33:33:\|01:00:5e:' | sort
}

test_nexthops() {
	busy_network
	make_link v0 type veth peer name v1
	inside ip link set v0 up
	inside ip link set v1 up
	inside ip addr add 10.1.0.1/24 dev v0
	inside ip -6 addr add fd01::1/64 dev v0 nodad
	inside ip nexthop add id 7 via 10.1.0.7 dev v0 || skip "not on this machine: nexthop objects"
	inside ip nexthop add id 8 via 10.1.0.8 dev v0
	inside ip nexthop add id 5 group 7/8,3
	inside ip nexthop add id 9 blackhole
	inside ip -6 nexthop add id 10 via fd01::9 dev v0
	inside ip route add 10.30.0.0/16 nhid 5
	inside ip route add 10.31.0.0/16 nhid 7 metric 9
	inside ip route add 10.32.0.0/16 nhid 9
	inside ip -6 route add fd30::/64 nhid 10
	sleep 2
	inside ip -d nexthop show > "$T/nexthops"
	round_trip
	round_trip
	inside ip -d nexthop show > "$T/nexthops.after"
	diff "$T/nexthops" "$T/nexthops.after" > "$T/diff" || fail "nexthops differ: $(cat "$T/diff")"
}

test_persistent_tun() {
	bundle b sh -c "$COUNTER"
	edit '.linux.devices += [{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 438}] |
		.linux.resources.devices += [{"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]'
	start c
	expect_progress
	inside ip tuntap add dev tap0 mode tap user 7 group 8 multi_queue vnet_hdr || skip "not on this machine: tap"
	inside ip tuntap add dev tun0 mode tun pi
	inside ip link set tap0 address 02:00:00:00:00:77 mtu 1400
	inside ip addr add 10.4.0.1/24 dev tap0
	inside ip link set tap0 up
	inside ip link set tun0 up
	round_trip
	round_trip
	inside python3 -c '
import fcntl, os, struct, sys, time
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"outside", 0x1001))
print(os.getpid(), file=open(sys.argv[1], "w"))
time.sleep(1000)' "$T/holder" &
	eventually 20 [ -s "$T/holder" ]
	fails 'outside.*a process outside of the container holds it' checkpoint --image-path "$T/j" c
	kill "$(cat "$T/holder")"
	expect_progress
}

test_a_given_interface_is_theirs() {
	busy_network
	ip link add sv$$ type veth peer name in$$ || skip "not on this machine: veth"
	trap 'ip link del sv'$$' 2> /dev/null' EXIT
	ip link set in$$ netns "$(init_pid c)"
	inside ip link set in$$ name eth0
	inside ip addr add 10.77.0.2/24 dev eth0
	inside ip link set eth0 up
	ok checkpoint --image-path "$T/i" c
	fails 'eth0.*--veth-pair.*--empty-ns network' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

test_veth_pair() {
	busy_network
	ip link add "br$$" type bridge || skip "not on this machine: bridge"
	trap 'ip link del br'$$'; ip link del sv'$$ EXIT
	ip link add "sv$$" type veth peer name "in$$" index 77 address 02:00:00:00:00:77 numtxqueues 2 || skip "not on this machine: veth"
	ip link set "in$$" netns "$(init_pid c)"
	inside ip link set "in$$" name eth0 mtu 1400 alias "the door"
	inside ip addr add 10.77.0.2/24 dev eth0
	inside ip -6 addr add fd77::2/64 dev eth0 nodad
	inside ip link set eth0 up
	inside ip route add default via 10.77.0.1
	ip link set "sv$$" up
	eventually 20 addresses_settled
	view | without_number > "$T/before"
	ok checkpoint --image-path "$T/i" c
	fails 'eth0.*--veth-pair IN=OUT' restore -d --image-path "$T/i" --bundle "$B" c
	fails 'veth-pair "eth0"' restore -d --veth-pair eth0 --image-path "$T/i" --bundle "$B" c
	fails 'eth7.*no interface of this name' restore -d --veth-pair eth7=x --image-path "$T/i" --bundle "$B" c
	fails 'lo.*no interface of this name' restore -d --veth-pair lo=x --image-path "$T/i" --bundle "$B" c
	fails 'network namespace' restore -d --empty-ns network --veth-pair eth0=x --image-path "$T/i" --bundle "$B" c
	eventually 20 not_there "sv$$"
	fails "up, as a port of none$$.*no such device" restore -d --veth-pair "eth0=sv$$@none$$" --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
	eventually 20 not_there "sv$$"
	fails "other end br$$.*exists" restore -d --veth-pair "eth0=br$$" --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
	ok restore -d --veth-pair "eth0=sv$$@br$$" --image-path "$T/i" --bundle "$B" c
	expect_progress
	(eventually 20 same_view_but_number) || fail "the network differs: $(cat "$T/diff")"
	[ "$(ip -j link show dev "sv$$" | jq -r '.[0] | "\(.master) \(.flags | contains(["UP"]))"')" = "br$$ true" ] ||
		fail "the other end: $(ip link show dev "sv$$")"
	ip addr add 10.77.0.1/24 dev "br$$"
	ip link set "br$$" up
	eventually 20 reached 10.77.0.2
}

# That of the other end is a new one.
without_number() {
	grep -v '"link_index"'
}

same_view_but_number() {
	view | without_number > "$T/after"
	diff "$T/before" "$T/after" > "$T/diff"
}

addresses_settled() {
	inside ip -6 addr show > "$T/addresses"
	! grep -q tentative "$T/addresses" && grep -q 'scope link' "$T/addresses"
}

not_there() {
	! ip link show dev "$1" > "$T/link" 2>&1
}

# linux.netDevices: a restore takes the device again, and one that fails gives it back as it was.
test_a_failed_restore_gives_devices_back() {
	local fault
	bundle b sh -c "$COUNTER"
	edit '.linux.netDevices = {"nl'$$'": {"name": "eth0"}}'
	ip link add "nl$$" type veth peer name "np$$" || skip "not on this machine: veth"
	trap 'ip link del np'$$ EXIT
	ip addr add 10.78.0.2/24 dev "nl$$"
	ip link set "nl$$" up
	ip -j addr show dev "nl$$" | jq '.[0] | {ifname, address, addr_info: [.addr_info[] | select(.family == "inet")]}' > "$T/device"
	start c
	expect_progress
	ok checkpoint --leave-running --image-path "$T/i" c
	inside ip link set eth0 down
	inside ip link set eth0 name "nl$$" netns $$
	ip addr add 10.78.0.2/24 dev "nl$$"
	ip link set "nl$$" up
	ok delete -f c
	for fault in restore-created restore-files restore-memory restore-end; do
		FAULT=$fault:EIO fails "$fault" restore -d --image-path "$T/i" --bundle "$B" c
		expect_nothing_left c
		ip -j addr show dev "nl$$" | jq '.[0] | {ifname, address, addr_info: [.addr_info[] | select(.family == "inet")]}' > "$T/device.after"
		diff "$T/device" "$T/device.after" > "$T/diff" || fail "$fault: the device is not as it was: $(cat "$T/diff")"
	done
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	inside ip addr show dev eth0 | tee "$T/inside" | grep -c 'inet 10.78.0.2/24' > /dev/null || fail "the device inside: $(cat "$T/inside")"
}

# A port that nobody listens at says so.
reached() {
	bash -c "echo > /dev/tcp/$1/9" 2> "$T/err"
	grep -q "Connection refused" "$T/err"
}

test_what_is_not_recorded_is_refused() {
	busy_network
	inside ip xfrm policy add src 10.1.0.0/16 dst 10.2.0.0/16 dir out action block || skip "not on this machine: IPsec"
	fails 'IPsec' checkpoint --image-path "$T/i" c
	expect_progress
}

test_packet_filters_are_refused() {
	command -v iptables-legacy > /dev/null || skip "not on this machine: iptables-legacy"
	busy_network
	inside iptables-legacy -L -n > /dev/null 2>&1 || skip "not on this machine: tables of iptables"
	round_trip
	inside iptables-legacy -P INPUT DROP
	fails 'table filter of iptables.*--empty-ns' checkpoint --image-path "$T/i" c
	inside iptables-legacy -P INPUT ACCEPT
	inside ip6tables-legacy -A OUTPUT -d fd99::/64 -j DROP
	fails 'table filter of ip6tables' checkpoint --image-path "$T/i" c
	ok checkpoint --empty-ns network --image-path "$T/i" c
	fails '"user".*network' restore -d --empty-ns user --image-path "$T/i" --bundle "$B" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
}

test_sysctls() {
	bundle b sh -c "$COUNTER"
	edit '.linux.readonlyPaths -= ["/proc/sys"] | .process.capabilities |= map_values(. + ["CAP_NET_ADMIN"])'
	start c
	expect_progress
	make_link v0 type veth peer name v1
	inside sh -c 'cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv4/conf/all/rp_filter; echo 2 > ipv4/conf/default/rp_filter
		echo 0 > ipv4/conf/v1/forwarding; echo 77 > core/somaxconn; echo "20000 30000" > ipv4/ip_local_port_range
		echo 5 > ipv6/conf/all/hop_limit; echo 44 > ipv6/conf/v0/router_solicitation_interval; echo 9 > ipv4/neigh/v1/unres_qlen
		echo 8 > ipv4/neigh/default/app_solicit; echo 0 > ipv4/conf/lo/accept_local'
	sysctls > "$T/sysctls"
	round_trip
	sysctls > "$T/sysctls.after"
	diff "$T/sysctls" "$T/sysctls.after" > "$T/diff" || fail "sysctls differ: $(cat "$T/diff")"
	ok exec c cat /proc/sys/net/core/somaxconn
	[ "$(cat "$T/out")" = 77 ] || fail "somaxconn in the container is $(cat "$T/out")"
	# an image sets none where config.json does not let the container
	ok checkpoint --image-path "$T/j" c
	edit '.linux.readonlyPaths += ["/proc/sys"]'
	fails 'sysctls of the network' restore -d --image-path "$T/j" --bundle "$B" c
	expect_nothing_left c
}

# All that are there in the namespace; a count that changes by itself is none of them.
sysctls() {
	inside grep -r . /proc/sys/net 2> /dev/null | grep -v nf_conntrack_count | sort
}

test_in_a_user_namespace() {
	bundle b sh -c "$COUNTER"
	edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}] |
		.linux.gidMappings = .linux.uidMappings'
	chmod -R o+rX "$T"
	chown -R 100000:100000 "$B/rootfs"
	start c
	expect_progress
	make_link v0 type veth peer name v1
	inside ip link set v0 up
	inside ip link set v1 up
	inside ip addr add 10.1.0.1/24 dev v0
	inside ip -6 addr add fd01::1/64 dev v0 nodad
	inside ip route add default via 10.1.0.254
	inside sh -c 'echo 2 > /proc/sys/net/ipv4/conf/v0/rp_filter; echo 0 > /proc/sys/net/ipv6/conf/v1/accept_ra'
	sleep 2
	round_trip
}

run_test "$@"
