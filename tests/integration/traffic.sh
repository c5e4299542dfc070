# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Traffic control in the container's network namespace: what Debian's tc says of all of it must be the same after a restore. Kernels
# differ in what kinds they have; each test makes what it can.
# time limit: 60
. "$TESTS/lib.sh"

inside() {
	nsenter -t "$(init_pid c)" -n "$@"
}

busy_network() {
	bundle b sh -c "$COUNTER"
	edit '.process.capabilities |= map_values(. + ["CAP_NET_ADMIN"])'
	start c
	expect_progress
	inside ip link add v0 index 40 type veth peer name v1 index 41 2> "$T/err" || skip "not on this machine: veth: $(cat "$T/err")"
	inside ip link set v0 up
	inside ip link set v1 up
}

# may COMMAND...: in the container's namespace, unless the kernel has no such thing.
may() {
	inside "$@" 2> "$T/err"
}

must() {
	inside "$@" || fail "$*"
}

view() {
	local l place
	for l in lo v0 v1; do
		inside tc -d qdisc show dev $l | sed 's/ refcnt [0-9]*//; s/direct_packets_stat [0-9]*//'
		inside tc -d class show dev $l
		for place in "" "parent 1:1" "parent 10:" ingress egress; do
			echo "$l $place:"
			# shellcheck disable=SC2086
			inside tc -d filter show dev $l $place 2> "$T/none" | sed '/used_hw_stats/d; s/(rule hit.*//; s/(success.*//'
		done
	done
}

round_trip() {
	view > "$T/before"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	view > "$T/after"
	diff "$T/before" "$T/after" > "$T/diff" || fail "traffic control differs: $(cat "$T/diff")"
	rm -rf "$T/i"
}

test_classes() {
	busy_network
	may tc qdisc add dev v0 root handle 1: htb default 20 r2q 7 direct_qlen 77 || skip "not on this machine: htb: $(cat "$T/err")"
	must tc class add dev v0 parent 1: classid 1:1 htb rate 10mbit ceil 20gbit burst 15k
	must tc class add dev v0 parent 1:1 classid 1:10 htb rate 3mbit ceil 10mbit prio 1 quantum 3000 cburst 1600
	must tc class add dev v0 parent 1:1 classid 1:20 htb rate 7mbit
	must tc qdisc add dev v0 parent 1:10 handle 10: tbf rate 1mbit burst 10k latency 10ms
	must tc qdisc add dev v0 parent 1:20 handle 20: bfifo limit 12345
	must tc filter add dev v0 parent 1: protocol ip prio 3 u32 match ip dport 22 0xffff match ip tos 0x10 0xff flowid 1:10
	must tc filter add dev v0 parent 1: protocol ip prio 2 u32 match ip src 10.1.0.0/16 flowid 1:20
	must tc filter add dev v0 parent 1: protocol ip prio 2 handle 5: u32 divisor 16
	must tc filter add dev v0 parent 1: protocol ip prio 2 u32 ht 5:3: match ip dst 10.2.0.3 flowid 1:10
	must tc filter add dev v0 parent 1: protocol ip prio 2 u32 match ip dst 10.2.0.0/16 hashkey mask 0xf at 16 link 5:
	must tc filter add dev v0 parent 1:1 protocol ipv6 prio 9 u32 match ip6 dst fd00::/8 indev v1 flowid 1:20
	round_trip
	round_trip
	# its tables would get other numbers
	must tc filter del dev v0 parent 1: prio 3
	fails 'filter u32 of interface number 40.*tables other numbers' checkpoint --image-path "$T/i" c
}

test_ends_of_an_interface() {
	busy_network
	may tc qdisc add dev v0 clsact || skip "not on this machine: clsact: $(cat "$T/err")"
	must tc filter add dev v0 egress protocol all prio 5 u32 match u32 0 0 action mirred egress redirect dev v1
	must tc filter add dev v0 ingress protocol ip chain 7 prio 4 u32 match ip protocol 17 0xff action mirred ingress mirror dev v1 index 9
	must tc filter add dev v0 ingress protocol arp prio 6 u32 match u32 0 0 action mirred ingress mirror dev v1 index 9
	must tc qdisc add dev v1 handle ffff: ingress
	must tc qdisc add dev v1 root handle 3: pfifo limit 55
	must tc qdisc add dev lo root handle 4: pfifo_fast
	! may tc filter add dev v1 parent ffff: protocol ip prio 7 u32 match u32 0 0 police rate 5mbit burst 20k conform-exceed drop/pipe ||
		inside tc filter show dev v1 parent ffff: | grep -q police || fail "no police"
	round_trip
	round_trip
	must tc actions add action mirred egress redirect dev v1
	fails 'action mirred.*no filter has it' checkpoint --image-path "$T/i" c
}

test_disciplines() {
	local d
	busy_network
	while read -r d; do
		inside tc qdisc del dev v0 root 2> "$T/none" || true
		# shellcheck disable=SC2086
		may tc qdisc add dev v0 root handle 1: $d || { echo "not on this machine: $d"; continue; }
		round_trip
	done << 'END'
tbf rate 900mbit burst 3001 limit 100000 peakrate 1gbit mtu 2000
tbf rate 40gbit burst 100001 latency 1ms
tbf rate 7kbit burst 1540 limit 3000
prio bands 4 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 3
fq_codel limit 1000 target 7ms interval 90ms flows 512 quantum 300 noecn memory_limit 5mb ce_threshold 3ms drop_batch 32
codel limit 500 target 6ms interval 70ms ecn
fq limit 777 flow_limit 33 quantum 3000 initial_quantum 16000 maxrate 9mbit buckets 64 refill_delay 41ms orphan_mask 15 low_rate_threshold 100kbit
sfq limit 100 perturb 9 quantum 3000 depth 50 divisor 256 headdrop
sfq limit 200 redflowlimit 100000 min 8000 max 60000 probability 0.2 ecn
netem delay 30ms loss 3% 25% duplicate 1% reorder 20% 50% gap 3 corrupt 0.5% rate 5mbit
netem loss gemodel 1% 10% 70% 0.1% limit 555
pfifo limit 4
END
}

# Of kinds that not every kernel has.
test_filters() {
	local f n=0
	busy_network
	may tc qdisc add dev v0 clsact || skip "not on this machine: clsact: $(cat "$T/err")"
	while read -r f; do
		# shellcheck disable=SC2086
		! may tc filter add dev v0 $f || n=$((n + 1))
	done << 'END'
ingress protocol all prio 1 matchall action gact drop
ingress protocol ip prio 2 flower src_ip 10.0.0.0/8 ip_proto tcp dst_port 80 ip_flags nofrag action skbedit mark 7 pipe action gact ok
ingress protocol ipv6 prio 3 flower src_ip fd01::/16 ip_tos 4/0xfc action vlan pop
egress protocol ipv6 prio 4 handle 9 flower dst_ip fd00::/64 src_mac 02:00:00:00:00:00/ff:00:00:00:00:00 action vlan push id 7 priority 3
egress protocol all prio 5 handle 6 fw action mirred egress redirect dev v1
egress protocol ip prio 6 flower ip_proto udp dst_port 100-200 action police rate 3mbit burst 9k conform-exceed drop/ok
ingress protocol arp prio 7 flower arp_op request arp_tip 10.1.2.3 action gact pass random determ drop 5
END
	[ $n -gt 0 ] || skip "not on this machine: filters but u32"
	round_trip
	! may tc filter add dev v0 ingress protocol 802.1q prio 9 flower vlan_id 5 action gact ok ||
		fails 'filter flower.*VLANs' checkpoint --image-path "$T/j" c
}

test_what_is_not_recorded_is_refused() {
	busy_network
	if may tc qdisc add dev v0 root handle 1: netem delay 10ms 3ms; then
		fails 'queueing discipline netem of interface number 40.*by which table' checkpoint --image-path "$T/i" c
		must tc qdisc del dev v0 root
	fi
	if may tc qdisc add dev v0 root handle 1: drr; then
		fails 'queueing discipline drr' checkpoint --image-path "$T/i" c
		must tc qdisc del dev v0 root
	fi
	must tc qdisc add dev v0 clsact
	if may tc filter add dev v0 ingress bpf bytecode "1,6 0 0 1,"; then
		fails 'filter bpf of interface number 40' checkpoint --image-path "$T/i" c
		must tc qdisc del dev v0 clsact
		must tc qdisc add dev v0 clsact
	fi
	must tc qdisc add dev v1 stab overhead 10 linklayer ethernet root handle 2: pfifo
	fails 'discipline pfifo of interface number 41.*sizes' checkpoint --image-path "$T/i" c
	must tc qdisc del dev v1 root
	round_trip
}

is_gone() {
	! ip link show "$1" > "$T/link" 2>&1
}

# One that was given: what the container did to it is done again, what its hook did is the hook's. None without the capability.
test_whose_it_is() {
	bundle b sh -c "$COUNTER"
	edit '.process.capabilities |= map_values(. + ["CAP_NET_ADMIN"]) | .linux.netDevices = {"tq'$$'": {"name": "eth0"}}'
	ip link add "tq$$" type veth peer name "tp$$" 2> "$T/err" || skip "not on this machine: veth: $(cat "$T/err")"
	trap 'ip link del tp'$$ EXIT
	start c
	expect_progress
	inside tc qdisc add dev eth0 root handle 7: pfifo limit 9
	ok checkpoint --leave-running --image-path "$T/i" c
	again() {
		ok delete -f c
		eventually 10 is_gone "tp$$" # with the namespace that its other end was in, which takes a moment
		ip link add "tq$$" type veth peer name "tp$$"
	}
	again
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	inside tc qdisc show dev eth0 | tee "$T/qdisc" | grep -q 'pfifo 7: root.*limit 9p' || fail "not as it was: $(cat "$T/qdisc")"
	again
	tc qdisc add dev "tq$$" root handle 8: bfifo limit 5000
	ok restore -d --image-path "$T/i" --bundle "$B" c
	inside tc qdisc show dev eth0 | tee "$T/qdisc" | grep -q 'bfifo 8: root' || echo "moved without: $(cat "$T/qdisc")"
	ok delete -f c
}

test_without_the_capability() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	inside tc qdisc add dev lo root handle 7: pfifo limit 9
	ok checkpoint --image-path "$T/i" c
	fails 'traffic control.*CAP_NET_ADMIN' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

run_test "$@"
