# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# linux.seccomp: what a filtered program gets from each action, operator, flag and architecture; calls newer than the profile;
# the agent of SCMP_ACT_NOTIFY; the cache of compiled filters.
. "$TESTS/lib.sh"

# filter JSON SCRIPT: the script's output, in a container with that profile, is in $T/out.
filter() {
	[ -e "$T/b" ] || bundle b
	B=$T/b
	cp "$BUILD/tests/cr/call" "$B/rootfs/bin/call"
	edit '.linux.seccomp = ($p | fromjson) | .process.args = ["sh", "-c", $s]' --arg p "$1" --arg s "$2"
	ok run --bundle "$B" c
}

expect() {
	[ "$(cat "$T/out")" = "$1" ] || fail "output '$(cat "$T/out")', expected '$1'"
}

CACHE=".seccomp:cache"

test_errno_and_its_numbers() {
	# 110: getppid, 102: getuid, 104: getgid
	filter '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"},
		{"names": ["getuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}, {"names": ["getgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]}' \
		'call 110; call 102; call 104'
	expect "$(printf 'EPERM\nEBADFD\n0')"
}

test_kill_trap_and_trace() {
	local action
	for action in KILL_PROCESS KILL_THREAD KILL TRAP; do
		filter '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_'$action'"}]}' \
			'call 140; echo $?'
		grep -qx 159 "$T/out" || fail "$action: $(cat "$T/out")" # 128 + SIGSYS
	done
	filter '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpriority"], "action": "SCMP_ACT_TRACE", "errnoRet": 3},
		{"names": ["getuid"], "action": "SCMP_ACT_LOG"}]}' 'call 140; call 102'
	expect "$(printf 'ENOSYS\n0')" # nobody traces; logged and let through
}

# What "call" itself needs.
CALL='"execve","brk","arch_prctl","set_tid_address","set_robust_list","rseq","prlimit64","readlink","readlinkat","getrandom","mprotect",
	"fstat","newfstatat","write","exit_group"'

# A profile that allows no more than the program needs: after the filter is loaded, the runtime only calls execve.
test_strict_profile() {
	local new_privileges
	for new_privileges in true false; do
		filter '{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 95, "syscalls": [{"names": ['"$CALL"'], "action": "SCMP_ACT_ALLOW"}]}' true
		edit '.process.args = ["call", "104"] | .process.noNewPrivileges = $n' --argjson n "$new_privileges"
		ok run --bundle "$B" c
		expect EOPNOTSUPP
		edit '.linux.seccomp.defaultAction = "SCMP_ACT_KILL_PROCESS" | del(.linux.seccomp.defaultErrnoRet) | .process.args = ["call", "1", "1", "0", "0"]'
		ok run --bundle "$B" c
		expect 0
	done
}

# ... and of CAP_SYS_ADMIN, which loading takes, nothing is left.
test_capabilities_after_the_filter() {
	bundle b
	edit '.process.user.uid = 1000 | .process.capabilities = {"bounding": ["CAP_KILL", "CAP_SYS_ADMIN"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
		"inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}'
	filter '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}' 'grep -E "Cap(Inh|Prm|Eff|Amb)" /proc/self/status'
	[ "$(grep -c '0000000000000020$' "$T/out")" = 4 ] || fail "$(cat "$T/out")"
	# and a file that its user may not execute stays so
	chmod 700 "$B/rootfs/bin/call"
	edit '.process.args = ["/bin/call", "110"]'
	fails 'permission denied' run --bundle "$B" c
}

test_arguments() {
	local op
	check() { # OPERATOR VALUE [VALUETWO]: which of the arguments 0 1 2 3 it refuses
		filter '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["umask"], "action": "SCMP_ACT_ERRNO", "args":
			[{"index": 0, "value": '"$2"', "valueTwo": '"${3:-0}"', "op": "SCMP_CMP_'"$1"'"}]}]}' \
			'for a in 0 1 2 3; do [ "$(call 95 $a)" = EPERM ] && echo -n $a; done; echo'
		cat "$T/out"
	}
	[ "$(for op in NE LT LE EQ GE GT; do check $op 2; done | tr '\n' ' ')" = "013 01 012 2 23 3 " ] || fail "operators"
	[ "$(check MASKED_EQ 1 1)" = 13 ] || fail "masked: $(cat "$T/out")"
	[ "$(check MASKED_EQ 2 2)" = 23 ] || fail "masked: $(cat "$T/out")"
	# 64 bits are compared, and conditions of one rule are and-ed
	filter '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "args":
		[{"index": 1, "value": 4294967296, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 7, "op": "SCMP_CMP_EQ"}]}]}' \
		'call 8 -1 0x100000000 7; call 8 -1 0 7; call 8 -1 0x100000000 6'
	expect "$(printf 'EPERM\nEBADF\nEBADF')"
}

test_architectures() {
	# 64 of i386 is getppid; without SCMP_ARCH_X86 its calls have no rules, and libseccomp kills
	filter '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
		"syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]}' 'call 110; call -32 64; call -32 20 > /dev/null && echo pid'
	expect "$(printf 'EPERM\nEPERM\npid')"
	filter '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []}' 'call -32 20; echo $?'
	grep -qx 159 "$T/out" || fail "$(cat "$T/out")"
	edit '.linux.seccomp.architectures = ["SCMP_ARCH_LOONGARCH64"]'
	fails 'architecture SCMP_ARCH_LOONGARCH64 is not known' run --bundle "$B" c
	edit '.linux.seccomp.architectures = ["SCMP_ARCH_PDP11"]'
	fails 'linux.seccomp.architectures\[0\]' run --bundle "$B" c
}

test_flags() {
	local f='{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}], "flags": '
	filter "$f"'["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}' \
		'call 110; grep Speculation_Store_Bypass /proc/self/status'
	grep -q EPERM "$T/out" || fail "$(cat "$T/out")"
	filter "$f"'[]}' 'call 110'
	expect EPERM
	edit '.linux.seccomp.flags = ["SECCOMP_FILTER_FLAG_NO_SUCH"]'
	fails 'linux.seccomp.flags\[0\]: unknown seccomp flag' run --bundle "$B" c
}

# Unknown names are skipped; calls newer than the last one named are ENOSYS, so that programs fall back.
test_calls_newer_than_the_profile() {
	one() { # EXPECTED ARGUMENT...: what "call" prints
		local expected=$1
		shift
		edit '.process.args = ["call"] + ($a | split(" "))' --arg a "$*"
		stasis run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err"
		[ "$(cat "$T/out")" = "$expected" ] || fail "call $*: $(cat "$T/out" "$T/err"), expected $expected"
	}
	# 104: getgid, 439: faccessat2, the last one named, 440: process_madvise; i386: 384: arch_prctl is its last, 47: getgid
	filter '{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
		"syscalls": [{"names": ['"$CALL"', "no_such_call", "faccessat2"], "action": "SCMP_ACT_ALLOW"}]}' true
	one EPERM 104
	one EFAULT 439 -1 0 0 0
	one ENOSYS 440
	one ENOSYS 500
	one ENOSYS -32 500
	one EPERM -32 47
	one "" 0x40000068 # x32 is not listed: killed
	edit '.linux.seccomp.architectures += ["SCMP_ARCH_X32"]'
	one ENOSYS 0x400003e8
	edit '.linux.seccomp.defaultErrnoRet = 5'
	one EIO 104
	one ENOSYS 440
	edit '.linux.seccomp |= (del(.defaultErrnoRet) | .defaultAction = "SCMP_ACT_LOG")'
	one EBADF 440 -1
}

test_exec_is_filtered() {
	bundle b
	cp "$BUILD/tests/cr/call" "$B/rootfs/bin/call"
	edit '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]}'
	start c
	ok exec c call 110
	expect EPERM
	ok delete -f c
}

# agent FILE: accepts once, writes what it is told to FILE, then answers every getppid with 4242.
agent() {
	cat > "$T/agent.py" <<- 'END'
		import array, fcntl, json, os, select, socket, struct, sys
		path, out = sys.argv[1:3]
		s = socket.socket(socket.AF_UNIX)
		s.bind(path)
		s.listen(4)
		open(out + ".ready", "w").close()
		RECV, SEND = 0xc0502100, 0xc0182101
		while True:
		    c, _ = s.accept()
		    if os.fork():
		        c.close()
		        continue
		    text, data, flags, _ = c.recvmsg(65536, socket.CMSG_SPACE(64))
		    state = json.loads(text)
		    fds = array.array("i", data[0][2])
		    state["link"] = os.readlink(f"/proc/self/fd/{fds[0]}")
		    new = f"{out}.{os.getpid()}"
		    with open(new, "w") as f:
		        json.dump(state, f)
		    os.rename(new, out)
		    while True:
		        b = bytearray(80)
		        waits = select.poll()
		        waits.register(fds[0], select.POLLIN)
		        if not waits.poll()[0][1] & select.POLLIN:
		            break
		        try:
		            fcntl.ioctl(fds[0], RECV, b)
		            call = struct.unpack_from("<QIIi", b)
		            value, flags = (4242, 0) if call[3] == 110 else (0, 1)
		            fcntl.ioctl(fds[0], SEND, struct.pack("<QqiI", call[0], value, 0, flags))
		        except FileNotFoundError:  # who asked has been interrupted
		            pass
		    break
	END
	python3 "$T/agent.py" "$T/agent.sock" "$1" < /dev/null > "$T/agent.log" 2>&1 &
	AGENT=$!
	eventually 30 [ -e "$1.ready" ]
}

# Even the calls that send the listener may be the agent's to allow.
test_notify() {
	bundle b
	agent "$T/state"
	cp "$BUILD/tests/cr/call" "$B/rootfs/bin/call"
	edit '.annotations = {"a": "b"} | .process.args = ["sh", "-c", "call 110; exec sleep 1000"] | .linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": $p,
		"listenerMetadata": "of the test", "syscalls": [{"names": ["getppid", "sendmsg", "sendto", "execve", "close", "futex"], "action": "SCMP_ACT_NOTIFY"}]}' --arg p "$T/agent.sock"
	timeout 30 "$STASIS" --root "$ROOT" create --bundle "$B" c < /dev/null > "$T/printed" 2> "$T/err" || fail "$(cat "$T/err")"
	[ -e "$T/state" ] || fail "the agent has nothing after create"
	ok start c
	eventually 30 grep -q 4242 "$T/printed"
	jq -e --argjson pid "$(init_pid c)" '.ociVersion and .fds == ["seccompFd"] and .metadata == "of the test" and .pid == $pid and .state.pid == $pid
		and .state.id == "c" and .state.status == "creating" and .state.annotations.a == "b" and .state.bundle and (.link | contains("seccomp"))' \
		"$T/state" > "$T/jq" || fail "init: $(cat "$T/state")"
	rm "$T/state"
	ok exec c call 110
	expect 4242
	jq -e --argjson pid "$(init_pid c)" '.pid != $pid and .pid > 1 and .state.pid == $pid and .state.status == "running"' "$T/state" > "$T/jq" || fail "exec: $(cat "$T/state")"
	ok delete -f c
	kill "$AGENT"
}

# A restore gives the agent the new listeners, as create and exec did: of the container's own filter, and of one that exec has loaded.
test_notify_restored() {
	bundle b
	agent "$T/state"
	cp "$BUILD/tests/cr/call" "$B/rootfs/bin/call"
	local asks='while :; do call 110 >> "/cr/$0"; sleep 0.05; done'
	edit '.process.args = ["sh", "-c", $s, "init"] | .mounts += [{"destination": "/cr", "type": "bind", "source": $cr, "options": ["rbind", "rw"]}] | .linux.seccomp =
		{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": $p, "listenerMetadata": "of the test", "syscalls": [{"names": ["getppid", "munmap", "personality", "setsid", "dup3", "capset"],
		"action": "SCMP_ACT_NOTIFY"}]}' --arg p "$T/agent.sock" --arg s "$asks" --arg cr "$T/cr"
	mkdir -p "$T/cr"
	ok run -d --bundle "$B" c
	ok exec -d c sh -c "$asks" exec
	eventually 30 grep -q 4242 "$T/cr/init"
	eventually 30 grep -q 4242 "$T/cr/exec"
	ok checkpoint --leave-running --image-path "$T/a" c
	: > "$T/cr/init"
	eventually 30 grep -q 4242 "$T/cr/init"
	rm "$T/state"
	ok checkpoint --image-path "$T/image" c
	mv "$T/agent.sock" "$T/gone"
	fails listenerPath restore -d --image-path "$T/image" --bundle "$B" c
	expect_nothing_left c
	mv "$T/gone" "$T/agent.sock"
	ok restore -d --image-path "$T/image" --bundle "$B" c
	: > "$T/cr/init"
	: > "$T/cr/exec"
	eventually 30 grep -q 4242 "$T/cr/init"
	eventually 30 grep -q 4242 "$T/cr/exec"
	! grep -vq 4242 "$T/cr/init" || fail "$(sort "$T/cr/init" | uniq -c)"
	jq -e --argjson pid "$(init_pid c)" '.fds == ["seccompFd"] and .metadata == "of the test" and .state.pid == $pid and .state.id == "c" and .state.status == "creating"' \
		"$T/state" > "$T/jq" || fail "$(cat "$T/state")"
	ok delete -f c
	edit '.linux.seccomp.syscalls = [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]'
	fails 'an agent answers for' restore -d --image-path "$T/image" --bundle "$B" c
	kill "$AGENT"
}

# The filter holds for the hooks in the container, too, and for who waits for start.
test_notify_before_start() {
	bundle b
	agent "$T/state"
	cp "$BUILD/tests/cr/call" "$B/rootfs/bin/call"
	edit '.process.args = ["sleep", "1000"] | .linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": $p, "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]}
		| .hooks.startContainer = [{"path": "/bin/sh", "args": ["sh", "-c", "call 110 > /hook"]}] | .process.noNewPrivileges = true | .root.readonly = false' --arg p "$T/agent.sock"
	ok run -d --bundle "$B" c
	grep -q 4242 "$B/rootfs/hook" || fail "$(cat "$B/rootfs/hook")"
	expect_status c running
	ok delete -f c
	edit '.linux.seccomp.syscalls = [{"names": ["accept4"], "action": "SCMP_ACT_ERRNO"}, {"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]'
	timeout 30 "$STASIS" --root "$ROOT" create --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	eventually 30 stopped c
	ok delete c
	kill "$AGENT"
}

stopped() {
	[ "$(stasis state "$1" | jq -r .status)" = stopped ]
}

test_notify_without_an_agent() {
	bundle b
	edit '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": $p, "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]}' --arg p "$T/nobody"
	fails 'listenerPath' run -d --bundle "$B" c
	expect_nothing_left c
	edit 'del(.linux.seccomp.listenerPath)'
	fails 'listenerPath' run -d --bundle "$B" c
	# a path that nothing uses is not an error
	edit '.linux.seccomp.listenerPath = "/no/such" | .linux.seccomp.syscalls[0].action = "SCMP_ACT_ERRNO"'
	start c
	ok delete -f c
}

# The filter comes from the cache: shown by a program of another profile under this one's name, with a right checksum.
test_cache() {
	local profile='{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]}' file
	filter "$profile" 'call 110'
	expect EPERM
	file=("$ROOT/$CACHE/"*)
	[ "${#file[@]}" = 1 ] && [ "$(stat -c '%a %u' "${file[0]}" "$ROOT/$CACHE" | tr '\n' ' ')" = "600 0 700 0 " ] || fail "$(ls -laR "$ROOT/$CACHE")"
	[ "$(stasis list -q < /dev/null)" = "" ] || fail "list shows the cache"
	swap() { # getppid's errno in the kept program: EPERM becomes EDOM
		python3 - "${file[0]}" <<- 'END'
			import struct, sys
			path = sys.argv[1]
			d = bytearray(open(path, "rb").read())
			at = d.rindex(struct.pack("<HBBI", 6, 0, 0, 0x50001))
			d[at + 4:at + 8] = struct.pack("<I", 0x50000 + 33)
			h = 0xcbf29ce484222325
			for c in d[32:]:
			    h = ((h ^ c) * 0x100000001b3) & (1 << 64) - 1
			d[24:32] = struct.pack("<Q", h)
			open(path, "wb").write(d)
		END
	}
	swap
	filter "$profile" 'call 110'
	expect EDOM
	# ... and is not believed when somebody else could have written it, or when it is damaged
	chmod 620 "${file[0]}"
	filter "$profile" 'call 110'
	expect EPERM
	swap
	chown 1234 "${file[0]}"
	filter "$profile" 'call 110'
	expect EPERM
	swap
	ln "${file[0]}" "$T/link"
	filter "$profile" 'call 110'
	expect EPERM
	swap
	cp "${file[0]}" "$T/moved"
	ln -sf "$T/moved" "${file[0]}"
	filter "$profile" 'call 110'
	expect EPERM
	swap
	printf x >> "${file[0]}"
	filter "$profile" 'call 110'
	expect EPERM
	swap
	chmod 750 "$ROOT/$CACHE"
	filter "$profile" 'call 110'
	expect EPERM
	chmod 700 "$ROOT/$CACHE"
	: > "${file[0]}"
	filter "$profile" 'call 110'
	expect EPERM
}

# Another profile under the same name (a collision of the hash) is not taken for this one.
test_cache_compares_the_profile() {
	local a b one='{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO"}]}'
	filter "$one" 'call 110'
	a=("$ROOT/$CACHE/"*)
	mv "${a[0]}" "$T/one"
	filter '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33}]}' 'call 110'
	b=("$ROOT/$CACHE/"*)
	mv "${b[0]}" "${a[0]}"
	filter "$one" 'call 110'
	expect EPERM
}

test_cache_has_an_end() {
	local i
	bundle b
	for ((i = 1; i <= 70; i++)); do
		edit '.process.args = ["true"] | .linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": '$i'}]}'
		ok run --bundle "$B" c
	done
	[ "$(find "$ROOT/$CACHE" -type f | wc -l)" -le 64 ] || fail "grows without an end"
}

run_test "$@"
