# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What config.json asks for is what the program gets.
. "$TESTS/lib.sh"

# in_container SCRIPT: runs it in a fresh container from $B; its output is in $T/out.
in_container() {
	edit '.process.args = ["sh", "-c", $s]' --arg s "$1"
	ok run --bundle "$B" c
}

expect() {
	[ "$(cat "$T/out")" = "$1" ] || fail "output '$(cat "$T/out")', expected '$1'"
}

test_process() {
	bundle b
	edit '.process.user = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 63} | .process.cwd = "/tmp"
		| .process.env = ["PATH=/bin", "A=1", "B=two words"] | .process.noNewPrivileges = true'
	in_container 'id -u; id -g; id -G; pwd; echo $A $B; umask; grep NoNewPrivs /proc/self/status'
	expect "$(printf '1000\n1001\n1001 5 6\n/tmp\n1 two words\n0077\nNoNewPrivs:\t1')"
}

test_capabilities() {
	bundle b
	edit '.process.user.uid = 1000 | .process.capabilities = ({"bounding": ["CAP_KILL", "CAP_CHOWN"]}
		+ (["permitted", "effective", "inheritable", "ambient"] | map({key: ., value: ["CAP_KILL"]}) | from_entries))'
	in_container 'grep -E "Cap(Prm|Eff|Bnd)" /proc/self/status'
	expect "$(printf 'CapPrm:\t0000000000000020\nCapEff:\t0000000000000020\nCapBnd:\t0000000000000021')"
}

test_rlimits() {
	bundle b
	edit '.process.rlimits = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]'
	in_container 'ulimit -n; ulimit -Hn; ulimit -c'
	expect "$(printf '77\n88\n0')"
}

test_namespaces() {
	local ns
	bundle b
	in_container 'for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done'
	for ns in pid net ipc uts mnt; do
		! grep -qxF "$(readlink "/proc/self/ns/$ns")" "$T/out" || fail "the $ns namespace is the host's"
	done
	edit 'del(.linux.namespaces[] | select(.type == "uts" or .type == "network")) | del(.hostname)'
	in_container 'readlink /proc/self/ns/uts; readlink /proc/self/ns/net'
	expect "$(readlink /proc/self/ns/uts; readlink /proc/self/ns/net)"
}

test_namespace_by_path() {
	bundle a
	start other
	local pid
	pid=$(init_pid other)
	bundle b
	edit '.linux.namespaces |= map(if .type == "ipc" or .type == "uts" then .path = "/proc/\($p)/ns/\(.type)" else . end)
		| del(.hostname)' --arg p "$pid"
	in_container 'readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts; hostname'
	expect "$(readlink "/proc/$pid/ns/ipc"; readlink "/proc/$pid/ns/uts"; echo stasis)"
}

test_hostname_and_sysctl() {
	bundle b
	edit '.hostname = "its-name" | .linux.sysctl = {"net.ipv4.ip_forward": "1", "kernel.shmmni": "1234"}'
	in_container 'hostname; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni'
	expect "$(printf 'its-name\n1\n1234')"
}

test_masked_and_readonly() {
	bundle b
	edit '.linux.maskedPaths = ["/proc/kcore", "/proc/scsi", "/etc/group", "/nowhere"] | .linux.readonlyPaths = ["/proc/sys", "/etc/passwd"]
		| .root.readonly = true'
	in_container 'cat /etc/group | wc -c; (echo x > /etc/passwd) 2> /dev/null || echo refused
		(echo 1 > /proc/sys/kernel/shmmni) 2> /dev/null || echo refused; touch /x 2> /dev/null || echo refused; ls /proc/scsi | wc -l'
	expect "$(printf '0\nrefused\nrefused\nrefused\n0')"
	[ -s "$B/rootfs/etc/group" ] || fail "the mask reached the host"
}

test_mounts() {
	mkdir -p "$T/source/sub"
	echo there > "$T/source/file"
	bundle b
	edit '.mounts += [{"destination": "/data", "type": "bind", "source": $s, "options": ["rbind", "ro"]},
		{"destination": "/one/file", "type": "bind", "source": ($s + "/file"), "options": ["bind"]},
		{"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=0710", "noexec"]}]' --arg s "$T/source"
	in_container 'cat /data/file /one/file; touch /data/x 2> /dev/null || echo refused; stat -c %a /scratch; grep " /scratch " /proc/mounts | grep -c noexec'
	expect "$(printf 'there\nthere\nrefused\n710\n1')"
	expect_nothing_left c
}

# As with runc, a tmpfs has the mode that its options say, else that of the directory below it.
test_mode_of_a_tmpfs() {
	bundle b
	mkdir -m 751 "$B/rootfs/there" && echo text > "$B/rootfs/there/file"
	local options
	for options in '"tmpcopyup"' '"size=1m"'; do
		edit ".mounts += [{destination: \"/there\", type: \"tmpfs\", source: \"tmpfs\", options: [$options]}]"
		in_container 'stat -c %a /there'
		expect 751
		edit ".mounts[-1].options += [\"mode=1700\"]"
		in_container 'stat -c %a /there; ls /there'
		[ "$(head -1 "$T/out")" = 1700 ] || fail "with $options,mode=1700: $(cat "$T/out")"
		edit 'del(.mounts[-1])'
	done
}

# A link in the root file system must not lead a mount out of it.
test_mount_through_a_link() {
	bundle b
	mkdir "$T/outside"
	ln -s "$T/outside" "$B/rootfs/link"
	ln -s /proc/../../../../../../.."$T/outside" "$B/rootfs/link2"
	edit '.mounts += [{"destination": "/link/x", "type": "tmpfs", "source": "tmpfs"}, {"destination": "/link2/y", "type": "tmpfs", "source": "tmpfs"}]'
	stasis run -d --bundle "$B" c < /dev/null > "$T/out" 2>&1
	[ -z "$(ls -A "$T/outside")" ] || fail "something was made outside of the root file system: $(ls -A "$T/outside")"
}

test_devices() {
	bundle b
	edit '.linux.devices = [{"path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 3, "fileMode": 384, "uid": 5, "gid": 6}]'
	in_container 'for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done
		echo > /dev/null; stat -c "%a %u %g %t %T" /dev/kmsg2; [ -L /dev/ptmx ] && [ -L /dev/fd ] && [ -L /dev/stdin ] && echo links'
	expect "$(printf '600 5 6 1 3\nlinks')"
}

test_seccomp() {
	bundle b
	edit '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
		"syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
		{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]}'
	in_container 'mkdir /tmp/x 2>&1; [ -d /tmp/x ] || echo refused; grep "Seccomp:" /proc/self/status'
	grep -q refused "$T/out" && grep -q 'Seccomp:.2' "$T/out" || fail "$(cat "$T/out")"
}

# An unprivileged program with a seccomp filter: the filter must not forbid what the runtime does before exec.
test_seccomp_strict() {
	bundle b
	edit '.process.user.uid = 1000 | .process.noNewPrivileges = true | .linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW",
		"syscalls": [{"names": ["setuid", "setgid", "setgroups", "capset", "mount", "pivot_root", "umount2", "unshare", "sethostname"],
		"action": "SCMP_ACT_ERRNO"}]}'
	in_container 'id -u'
	expect 1000
}

test_environment_is_not_the_callers() {
	bundle b
	export LEAK=leaked
	in_container 'env'
	! grep -q leaked "$T/out" || fail "$(cat "$T/out")"
}

test_no_descriptor_leaks() {
	bundle b
	exec 7< /etc/passwd 8< /etc
	in_container 'ls /proc/self/fd | tr "\n" " "'
	exec 7<&- 8<&-
	expect "0 1 2 3 "
}

test_preserve_fds() {
	bundle b
	echo passed > "$T/file"
	edit '.process.args = ["sh", "-c", "cat <&3"]'
	stasis run --preserve-fds 1 --bundle "$B" c 3< "$T/file" < /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	expect passed
}

run_test "$@"
