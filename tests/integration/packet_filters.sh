# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# nftables (and iptables, which makes such) in the container's own network namespace, through checkpoint and restore: what
# Debian's nft says of all of it, with handles, must be the same afterwards.
# time limit: 180
. "$TESTS/lib.sh"

inside() {
	nsenter -t "$(init_pid c)" -n "$@"
}

busy_filter() {
	command -v nft > /dev/null || skip "not on this machine: nft"
	bundle b sh -c "$COUNTER"
	edit '.process.capabilities |= map_values(. + ["CAP_NET_ADMIN"])'
	start_filtered
}

start_filtered() {
	start c
	expect_progress
	inside nft list ruleset > "$T/err" 2>&1 || skip "not on this machine: nftables: $(cat "$T/err")"
}

# Expressions too, as the kernel has them, which nft abridges.
view() {
	{
		inside nft -a -n list ruleset
		inside nft --debug=netlink -a -n list ruleset | grep -v '^[[:space:]]*element'
	} | sed 's/expires [0-9a-z]*/expires/g; s/^\(table .*\) # handle .*/\1/' # handles of tables are not kept
}

round_trip() {
	view > "$T/before"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	view > "$T/after"
	diff "$T/before" "$T/after" > "$T/diff" || fail "packet filters differ: $(cat "$T/diff")"
	rm -rf "$T/i"
}

load() {
	inside nft -f - || fail "nft does not take the rules"
}

test_tables() {
	busy_filter
	load << 'END'
table inet f {
	comment "of this test"
	counter c1 {
		packets 3 bytes 4
	}
	quota q1 {
		over 5 mbytes used 3 kbytes
	}
	quota spent {
		over 5 bytes used 5 bytes
	}
	limit l1 {
		rate over 10/second burst 20 packets
	}
	ct helper ftp-standard {
		type "ftp" protocol tcp
	}
	ct timeout short {
		protocol tcp
		policy = { established : 100, close_wait : 4 }
	}
	ct expectation e {
		protocol tcp; dport 9876; timeout 2m; size 12; l3proto ip
	}
	synproxy sp {
		mss 1460; wscale 7; timestamp sack-perm
	}
	set s {
		type ipv4_addr; flags interval
		elements = { 10.0.0.0/8, 192.168.1.5-192.168.1.9, 192.168.1.10-192.168.1.20, 0.0.0.0-0.0.0.3, 255.0.0.0-255.255.255.255 }
	}
	set cc {
		type ipv4_addr . inet_service; flags interval; counter
		elements = { 10.0.0.0/8 . 80 counter packets 3 bytes 9, 192.168.1.5-192.168.1.9 . 1-1000 }
	}
	set dyn {
		type ipv4_addr; size 1000; flags dynamic,timeout; timeout 5h
		elements = { 1.2.3.4 timeout 2h expires 1h30m, 1.2.3.5 }
	}
	set empty {
		type ether_addr; comment "nothing here"
	}
	set fixed {
		type inet_service; flags constant
		elements = { 1, 2, 3 }
	}
	chain out {
		ip saddr @s counter packets 5 bytes 6 drop
		ip6 saddr fe80::/10 ct state new,established limit rate 5/minute accept comment "a comment"
	}
	map verdicts {
		type inet_service : verdict
		elements = { 22 : jump out, 23 : drop, 24 : goto later }
	}
	map counted {
		type ipv4_addr : counter
		elements = { 1.1.1.1 : "c1" }
	}
	map ports {
		type inet_service : inet_service; flags interval
		elements = { 1000-1999 : 5000, 2000 : 6000 }
	}
	chain later {
		tcp flags syn tcp option maxseg size set 1300 return
	}
	chain in {
		type filter hook input priority 0; policy drop
		iifname "lo" accept
		tcp dport { 80, 443, 8000-8010 } accept
		tcp dport vmap @verdicts
		udp dport vmap { 1 : accept, 2-5 : jump out }
		ip saddr . tcp dport @cc accept
		tcp dport @fixed ct mark set 7 meta mark set 0x1234
		add @dyn { ip saddr timeout 2h limit rate 5/second }
		tcp dport 99 jump {
			ip saddr 1.1.1.1 accept
			counter
		}
		counter name ip saddr map @counted
		quota name "q1"
		limit name "l1" drop
		ct helper set "ftp-standard"
		ct timeout set "short"
		ct expectation set "e"
		tcp dport 8888 tcp flags syn synproxy name "sp"
		ip ttl set 5 ip dscp set cs1
		ct count over 5 drop
		meta mark set ct mark lshift 3
		meta mark set meta mark & 0xff00 or 5
		ct original packets > 5 ct bytes 7-9 accept
		tcp option window exists ip6 nexthdr 43 exthdr rt exists accept
		socket mark 5 accept
		meta time > "2026-01-01 00:00" meta hour "10:00"-"12:00" meta day "Monday" accept
		@th,16,8 0x5 @nh,0,4 != 3 accept
		limit rate 4 mbytes/second burst 3000 kbytes accept
		log prefix "in: " group 3
		fib saddr type local reject with icmpx type admin-prohibited
	}
}
table ip nat {
	chain post {
		type nat hook postrouting priority srcnat
		ip saddr 10.0.0.0/8 masquerade random
		snat to 10.1.1.1-10.1.1.9
	}
	chain pre {
		type nat hook prerouting priority dstnat - 5
		dnat to tcp dport map { 80 : 10.0.0.1 . 8080, 81 : 10.0.0.2 . 8081 }
		tcp dport 5 redirect to :6
	}
	chain raw {
		type filter hook prerouting priority raw
		notrack
		rt classid 5 drop
		dup to 127.0.0.5 device "lo"
	}
	chain output {
		type route hook output priority -150
		numgen inc mod 3 vmap { 0 : accept, 1 : drop }
		meta mark set jhash ip saddr mod 4 offset 10
		meta mark set ip saddr map { 1.2.3.4 : 5 }
	}
}
table arp a {
	chain in {
		type filter hook input priority 0
		arp operation request accept
	}
}
table netdev dev {
	chain in {
		type filter hook ingress device "lo" priority -500
		ip saddr 192.0.2.0/24 drop
	}
}
table bridge br {
	chain f {
		type filter hook forward priority 0
		vlan id 5 drop
	}
}
table ip6 asleep {
	flags dormant
	chain f {
		type filter hook forward priority 0; policy drop
	}
}
END
	# the order of rules is not that of their handles, and some handles are gone
	inside nft insert rule inet f in tcp dport 1 accept
	inside nft add rule inet f in position "$(inside nft -a list chain inet f in | sed -n 's/.*@verdicts.*handle //p')" tcp dport 2 accept
	inside nft delete rule inet f in handle "$(inside nft -a list chain inet f in | sed -n 's/.*iifname.*handle //p')"
	inside nft delete set inet f empty
	inside nft insert rule inet f in udp dport '{ 7, 8, 9 }' accept
	inside nft add element inet f dyn '{ 7.7.7.7 timeout 1h }'
	round_trip
	inside nft insert rule inet f in tcp dport 3 accept
	round_trip
	inside nft delete table ip nat
	round_trip
}

test_flow_tables() {
	busy_filter
	inside nft -f - 2> "$T/err" << 'END' || skip "not on this machine: flow tables"
table inet fast {
	flowtable ft {
		hook ingress priority 0
		devices = { lo }
	}
	chain f {
		type filter hook forward priority 0
		ip protocol tcp flow add @ft
	}
}
END
	round_trip
}

packet() {
	inside bash -c "echo hello > /dev/udp/$1/9" 2> "$T/err" || true # refused
}

shows() {
	inside nft list ruleset > "$T/rules"
	grep -q "$1" "$T/rules" || fail "$2: $(cat "$T/rules")"
}

# They do what they say, with the numbers that they had.
test_they_filter() {
	busy_filter
	load << 'END'
table ip f {
	set seen {
		type ipv4_addr; flags dynamic,timeout; timeout 1h
	}
	chain in {
		type filter hook input priority 0
		ip daddr 127.0.0.7 add @seen { ip daddr } counter drop
	}
}
END
	packet 127.0.0.7
	shows 'counter packets 1 ' 'nothing was counted'
	shows '127.0.0.7 ' 'nothing was noted'
	round_trip
	packet 127.0.0.7
	packet 127.0.0.8
	shows 'counter packets 2 ' 'the count is not 2'
	ok checkpoint --leave-running --image-path "$T/i" c
	expect_progress
	shows 'counter packets 2 ' 'the count of the original is not 2'
}

test_iptables() {
	local command
	command -v iptables-nft > /dev/null || skip "not on this machine: iptables-nft"
	busy_filter
	for command in iptables-nft ip6tables-nft; do
		inside "$command" -N MINE || skip "not on this machine: $command"
		inside "$command" -P FORWARD DROP
		inside "$command" -A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -m comment --comment "ssh" -j MINE
		inside "$command" -A INPUT -p tcp -m multiport --dports 1,2,3 -j REJECT
		inside "$command" -A INPUT ! -p udp -m mark --mark 5/7 -j ACCEPT
		inside "$command" -A MINE -p tcp -m tcp --tcp-flags SYN,ACK SYN -m limit --limit 5/min -j LOG --log-prefix "x: "
		inside "$command" -A MINE -p udp -m udp --sport 5:9 -m hashlimit --hashlimit-above 5/sec --hashlimit-name h -j DROP
		inside "$command" -A MINE -p tcp -m statistic --mode nth --every 3 --packet 0 -j RETURN
		inside "$command" -t nat -A POSTROUTING -j MASQUERADE
		inside "$command" -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080
		inside "$command" -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
	done
	inside iptables-nft-save -c | grep -v '^#' > "$T/save"
	inside ip6tables-nft-save -c | grep -v '^#' >> "$T/save"
	round_trip
	round_trip
	inside iptables-nft-save -c | grep -v '^#' > "$T/save.after"
	inside ip6tables-nft-save -c | grep -v '^#' >> "$T/save.after"
	diff "$T/save" "$T/save.after" > "$T/diff" || fail "iptables differ: $(cat "$T/diff")"
}

# More than goes into one message, or one batch.
test_large() {
	busy_filter
	{
		echo "table inet big {"
		echo "set addresses { type ipv4_addr; elements = {"
		awk 'BEGIN { for (i = 0; i < 20000; i++) printf "%s10.%d.%d.%d", i ? "," : "", i / 65536, i / 256 % 256, i % 256 }'
		echo "} }"
		echo "set ranges { type ipv4_addr; flags interval; elements = {"
		awk 'BEGIN { for (i = 0; i < 5000; i++) printf "%s10.%d.%d.0-10.%d.%d.9", i ? "," : "", i / 256, i % 256, i / 256, i % 256 }'
		echo "} }"
		echo "chain in { type filter hook input priority 0; policy accept;"
		awk 'BEGIN { for (i = 0; i < 3000; i++) printf "tcp dport { %d, %d } counter\n", i + 1, i + 20000 }'
		echo "} }"
	} | load
	# thousands of handles are gone
	awk 'BEGIN { for (i = 0; i < 3000; i++) print "insert rule inet big in tcp sport " i + 1 " accept" }' | load
	inside nft -a list chain inet big in | sed -n 's/.*sport.*[02468] accept # handle /delete rule inet big in handle /p' | load
	round_trip
}

test_in_a_user_namespace() {
	command -v nft > /dev/null || skip "not on this machine: nft"
	bundle b sh -c "$COUNTER"
	edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}] |
		.linux.gidMappings = .linux.uidMappings | .process.capabilities |= map_values(. + ["CAP_NET_ADMIN"])'
	chmod -R o+rX "$T"
	chown -R 100000:100000 "$B/rootfs"
	start_filtered
	load << 'END'
table inet f {
	chain in {
		type filter hook input priority 0; policy drop
		meta skuid 5 accept
		tcp dport { 80, 443 } counter accept
	}
}
END
	awk 'BEGIN { for (i = 0; i < 9000; i++) print "add rule inet f in tcp dport " i + 1 " counter accept" }' | load
	round_trip
}

# What a hook of the bundle makes is there when a restore comes to it; an image brings none where config.json gives no say.
test_whose_they_are() {
	command -v nft > /dev/null || skip "not on this machine: nft"
	bundle b # with no file that a second restore would find changed
	start c
	inside nft list ruleset > "$T/err" 2>&1 || skip "not on this machine: nftables: $(cat "$T/err")"
	load <<< 'table ip f { chain in { type filter hook input priority 0; policy drop; }; }'
	ok checkpoint --image-path "$T/i" c
	fails 'packet filter f.*CAP_NET_ADMIN.*--empty-ns' restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
	edit '.hooks.createRuntime = [{"path": "/bin/sh", "args": ["sh", "-c",
		"p=$(sed s/.*pid[^0-9]*// | sed s/[^0-9].*//); nsenter -t $p -n nft add table ip f"], "env": ["PATH=/usr/sbin:/usr/bin:/bin"]}]'
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_status c running
	[ "$(inside nft list ruleset | tr -d '\n')" = "table ip f {}" ] || fail "not the hook's table: $(inside nft list ruleset)"
	ok delete -f c
	edit 'del(.hooks)'
	ok restore -d --empty-ns network --image-path "$T/i" --bundle "$B" c
	expect_status c running
	[ -z "$(inside nft list ruleset)" ] || fail "there is a table in an empty namespace"
}

# Where a connection goes through NAT, its packets would be nobody's after a restore.
test_tracked_connections() {
	busy_filter
	load <<< 'table ip n { chain out { type nat hook output priority -100; tcp dport 7001 redirect to :7000; }; }'
	inside ip link set lo up
	inside python3 -c '
import os, socket, sys, time
s = socket.create_server(("127.0.0.1", 7000))
c = socket.create_connection(("127.0.0.1", 7001))
p = s.accept()[0]
print(os.getpid(), file=open(sys.argv[1], "w"))
time.sleep(1000)' "$T/connected" &
	eventually 20 [ -s "$T/connected" ]
	fails 'TCP connections through NAT' checkpoint --image-path "$T/i" c
	kill "$(cat "$T/connected")"
	expect_progress
}

test_what_is_not_recorded_is_refused() {
	busy_filter
	if command -v iptables-nft > /dev/null && inside iptables-nft -A INPUT -p tcp -m recent --name r --set; then
		fails 'recent' checkpoint --image-path "$T/i" c
		inside nft flush ruleset
	fi
	load <<< 'table inet f { chain in { type filter hook input priority 0; socket cgroupv2 level 1 "." accept; }; }' 2> /dev/null ||
		skip "rules about cgroups cannot be made here"
	fails 'cgroup' checkpoint --image-path "$T/i" c
}

run_test "$@"
