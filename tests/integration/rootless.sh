# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# An unprivileged user (12345, who is in no file of this machine) and his containers.
. "$TESTS/lib.sh"

as_user() {
	setpriv --reuid 12345 --regid 12345 --clear-groups env XDG_RUNTIME_DIR="$T/run" "$@"
}

# user_ok ARG...: stasis as the user, with his own state root; its output is in $T/out.
user_ok() {
	local status=0
	as_user timeout 30 "$T/stasis" "$@" > "$T/out" 2> "$T/err" < /dev/null || status=$?
	[ "$status" = 0 ] || fail "exit $status: stasis $*: $(cat "$T/err")"
}

user_fails() {
	local pattern=$1 status=0
	shift
	as_user timeout 30 "$T/stasis" "$@" > "$T/out" 2> "$T/err" < /dev/null || status=$?
	[ "$status" != 0 ] || fail "succeeds, should fail: stasis $*"
	grep -Eiq -- "$pattern" "$T/err" || fail "the message of 'stasis $*' does not match '$pattern': $(cat "$T/err")"
}

# user_bundle [FILTER]: a bundle as the user makes it, with the config.json of "spec --rootless".
user_bundle() {
	bundle b
	rm "$B/config.json"
	chmod 711 "$(dirname "$T")"
	chmod 755 "$T"
	cp "$STASIS" "$T/stasis"
	mkdir "$T/run"
	chown -R 12345:12345 "$T/run" "$B"
	as_user "$T/stasis" spec --rootless --bundle "$B" || fail "spec --rootless"
	edit '.process.terminal = false | .process.args = ["sleep", "1000"] | .root.readonly = false'
	trap 'as_user timeout 20 "$T/stasis" delete -f c > /dev/null 2>&1 < /dev/null' EXIT
}

in_container() {
	edit '.process.args = ["sh", "-c", $s]' --arg s "$1"
	user_ok run --bundle "$B" c
}

expect() {
	[ "$(cat "$T/out")" = "$1" ] || fail "output '$(cat "$T/out")', expected '$1'"
}

test_single_id() {
	user_bundle
	in_container 'id -u; id -g; cat /proc/self/uid_map | tr -s " "; cat /proc/self/setgroups; echo > /tmp/mine
		for d in null zero tty; do [ -c /dev/$d ] || echo no $d; done; [ -d /sys/class ] && echo sys; ls -A /sys/fs/cgroup | wc -l; mkdir /sys/fs/cgroup/x 2> /dev/null || echo refused; readlink /proc/self/ns/net; hostname'
	expect "$(printf '0\n0\n 0 12345 1\ndeny\nsys\n0\nrefused\n'; readlink /proc/self/ns/net; echo stasis)"
	[ "$(stat -c %u "$B/rootfs/tmp/mine")" = 12345 ] || fail "the file is not the user's"
	[ -z "$(ls -A "$T/run/stasis")" ] || fail "state is left"
}

# Its own view, hooks, and a checkpoint that it asks for.
test_application() {
	user_bundle
	mkdir -p "$B/rootfs/usr" "$B/rootfs/lib" "$B/rootfs/lib64"
	rmdir "$B/rootfs/lib" "$B/rootfs/lib64"
	ln -s usr/lib "$B/rootfs/lib"
	ln -s usr/lib64 "$B/rootfs/lib64"
	cp "$TESTS/../examples/ask.py" "$B/rootfs/cr/"
	chown -R 12345:12345 "$B/rootfs"
	edit '.mounts += [{"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}]
		| .annotations = {"io.stasis.application": "true", "io.stasis.application.image-path": ($t + "/run/i"),
			"io.stasis.hooks.save": "[\"/bin/sh\", \"-c\", \"echo saved >> /cr/hooks\"]"}
		| .process.args = ["/bin/sh", "-c", "/usr/bin/python3 /cr/ask.py > /cr/told; cat /run/stasis/generation >> /cr/told; exec sleep 1000"]' \
		--arg t "$T"
	user_ok run -d --bundle "$B" c
	eventually 20 sh -c 'grep -q "^0 *$" "$0"' "$B/rootfs/cr/told"
	[ "$(head -1 "$B/rootfs/cr/told")" = "checkpointed 0" ] || fail "told: $(cat "$B/rootfs/cr/told")"
	[ "$(cat "$B/rootfs/cr/hooks")" = saved ] || fail "hooks: $(cat "$B/rootfs/cr/hooks")"
	user_ok delete --force c
	: > "$B/rootfs/cr/told"
	user_ok restore -d --image-path "$T/run/i" --bundle "$B" c
	eventually 20 sh -c 'grep -q "^1 *$" "$0"' "$B/rootfs/cr/told"
	[ "$(head -1 "$B/rootfs/cr/told")" = "restored 1" ] || fail "told: $(cat "$B/rootfs/cr/told")"
}

test_lifecycle() {
	local pid
	user_bundle
	user_ok create --bundle "$B" c
	user_ok state c
	[ "$(jq -r .status "$T/out")" = created ] || fail "$(cat "$T/out")"
	# into what waits for start, too, as runc does
	pid=$(jq .pid "$T/out")
	user_ok exec c sh -c 'id -u; readlink /proc/self/ns/user; hostname; cat /proc/1/environ || echo hidden'
	expect "$(printf '0\n%s\nstasis\nhidden' "$(readlink "/proc/$pid/ns/user")")"
	user_ok start c
	user_ok list
	grep -q 'c .*running' "$T/out" || fail "$(cat "$T/out")"
	user_ok state c
	pid=$(jq .pid "$T/out")
	[ "$(awk '/^Uid/ { print $2 }' "/proc/$pid/status")" = 12345 ] || fail "it is not the user's process"
	user_ok exec --env A=b c sh -c 'id -u; echo $A; readlink /proc/self/ns/user'
	expect "$(printf '0\nb\n'; readlink "/proc/$pid/ns/user")"
	user_ok exec -d c sleep 1234
	user_fails 'without a cgroup' pause c
	user_fails 'without a cgroup' ps c
	user_fails 'not stopped' delete c
	user_ok kill c KILL
	eventually 5 test ! -e "/proc/$pid"
	user_ok delete c
	[ -z "$(ls -A "$T/run/stasis")" ] || fail "state is left"
}

test_new_network() {
	user_bundle
	edit '.linux.namespaces += [{"type": "network"}] | .mounts |= map(if .destination == "/sys" then {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]} else . end)
		| .linux.sysctl = {"net.ipv4.ip_forward": "1"}'
	in_container 'ls /sys/class/net; cat /sys/class/net/lo/operstate /proc/sys/net/ipv4/ip_forward; ping -c 1 -W 1 127.0.0.1 > /dev/null 2>&1; ifconfig lo | grep -c UP'
	[ "$(head -1 "$T/out")" = lo ] && [ "$(tail -2 "$T/out" | tr '\n' ' ')" = "1 1 " ] || fail "$(cat "$T/out")"
}

# newuidmap knows who may have which ids: a user in /etc/subuid, in a mount namespace where there is such a user.
test_sub_ids() {
	user_bundle
	cat > "$T/with-user" <<-'END'
		set -e
		mkdir "$T/upper" "$T/work"
		mount -t tmpfs none "$T/upper"
		mkdir "$T/upper/u" "$T/upper/w"
		mount -t overlay -o "lowerdir=/etc,upperdir=$T/upper/u,workdir=$T/upper/w" overlay /etc
		echo 'rootless:x:12345:12345::/:/bin/sh' >> /etc/passwd
		echo 'rootless:x:12345:' >> /etc/group
		echo 'rootless:300000:1000' > /etc/subuid
		echo 'rootless:400000:1000' > /etc/subgid
		exec setpriv --reuid 12345 --regid 12345 --clear-groups env XDG_RUNTIME_DIR="$T/run" "$T/stasis" "$@"
	END
	edit '.linux.uidMappings += [{"containerID": 1, "hostID": 300000, "size": 1000}] | .linux.gidMappings += [{"containerID": 1, "hostID": 400000, "size": 1000}]
		| .process.user = {"uid": 7, "gid": 8, "additionalGids": [9]} | .process.args = ["sh", "-c", "id -u; id -G; cat /proc/self/uid_map | tr -s \" \"; echo > /tmp/mine"]'
	export T
	unshare -m bash "$T/with-user" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	expect "$(printf '7\n8 9\n 0 12345 1\n 1 300000 1000')"
	[ "$(stat -c %u:%g "$B/rootfs/tmp/mine")" = 300006:400007 ] || fail "the file is $(stat -c %u:%g "$B/rootfs/tmp/mine")"
	rmdir "$T/upper" "$T/work"
	edit '.linux.uidMappings[1].size = 1001'
	! unshare -m bash "$T/with-user" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "more ids than he has"
	grep -q 'newuidmap refuses the mappings of linux.uidMappings.*subuid' "$T/err" || fail "$(cat "$T/err")"
	# who is in no such file has none
	user_fails 'newuidmap refuses' run --bundle "$B" c
}

test_what_is_refused() {
	user_bundle
	edit '.process.user.additionalGids = [5]'
	user_fails 'additionalGids' run --bundle "$B" c
	edit 'del(.process.user.additionalGids) | .linux.resources = {"memory": {"limit": 100000000}}'
	user_fails 'cgroup: .*permission denied' run --bundle "$B" c
	edit 'del(.linux.resources)'
	user_fails 'cgroup: .*permission denied' --rootless false run --bundle "$B" c
	user_fails 'XDG_RUNTIME_DIR' --root /no/such/directory run --bundle "$B" c
	edit '.linux.namespaces |= map(select(.type != "user")) | del(.linux.uidMappings, .linux.gidMappings)'
	user_fails 'clone.*permitted' run --bundle "$B" c
	[ -z "$(ls -A "$T/run/stasis")" ] || fail "state is left"
}

# As podman runs it for a user: root of a user and mount namespace of his own. Cgroups can't be made there either.
test_in_a_user_namespace() {
	user_bundle
	edit '.linux.namespaces |= map(select(.type != "user")) | del(.linux.uidMappings, .linux.gidMappings) | .mounts |= map(select(.type != "sysfs"))
		| .process.args = ["sh", "-c", "id -u; cat /proc/self/uid_map | tr -s \" \""]'
	as_user unshare -Urm timeout 30 "$T/stasis" run --bundle "$B" c > "$T/out" 2> "$T/err" < /dev/null || fail "$(cat "$T/err")"
	expect "$(printf '0\n 0 12345 1')"
}

# In cgroups that root has given to the user, and in which he is himself: limits, pause, statistics, checkpoint with a freezer.
test_delegated_cgroups() {
	local h f mounts
	mapfile -t mounts < <(awk '/ - cgroup2? / { print $5 }' /proc/self/mountinfo)
	[ ! -e /sys/fs/cgroup/cgroup.controllers ] || skip "not on this machine: cgroups of version 1"
	user_bundle
	edit '.linux.cgroupsPath = $c | .linux.resources = {"pids": {"limit": 50}, "memory": {"limit": 50000000}}' --arg c "$CGROUP/c"
	edit '.process.args = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tmp/m; mv /tmp/m /tmp/n; sleep 0.01; done"]'
	for h in "${mounts[@]}"; do
		mkdir -p "$h$CGROUP/shell" 2> "$T/mkdir" || continue
		[ ! -e "$h/cpuset.cpus" ] || for f in cpuset.cpus cpuset.mems; do
			cat "$h/$f" > "$h$(dirname "$CGROUP")/$f"
			cat "$h/$f" > "$h$CGROUP/$f"
			cat "$h/$f" > "$h$CGROUP/shell/$f"
		done
		chown 12345 "$h$CGROUP" "$h$CGROUP/cgroup.procs" "$h$CGROUP/shell" "$h$CGROUP/shell/cgroup.procs"
		[ ! -e "$h$CGROUP/tasks" ] || chown 12345 "$h$CGROUP/tasks" "$h$CGROUP/shell/tasks"
		echo "$BASHPID" > "$h$CGROUP/shell/cgroup.procs"
	done
	[ -e "/sys/fs/cgroup/pids$CGROUP/shell" ] || skip "not on this machine: cgroups of version 1"
	user_ok run -d --bundle "$B" c
	[ "$(cat "/sys/fs/cgroup/pids$CGROUP/c/pids.max")" = 50 ] || fail "no limit"
	user_ok update --pids-limit 60 c
	[ "$(cat "/sys/fs/cgroup/pids$CGROUP/c/pids.max")" = 60 ] || fail "not updated"
	user_ok ps c
	user_ok events --stats c
	[ "$(jq .data.pids.limit "$T/out")" = 60 ] || fail "$(cat "$T/out")"
	user_ok pause c
	user_ok checkpoint --leave-running --image-path "$T/run/i" c
	user_ok state c
	[ "$(jq -r .status "$T/out")" = paused ] || fail "$(cat "$T/out")"
	user_ok resume c
	user_ok checkpoint --image-path "$T/run/j" c
	user_ok restore -d --bundle "$B" --image-path "$T/run/j" c
	[ "$(cat "/sys/fs/cgroup/pids$CGROUP/c/pids.max")" = 50 ] || fail "no limit after the restore"
	user_ok delete -f c
	[ ! -e "/sys/fs/cgroup/pids$CGROUP/c" ] || fail "the cgroup is left"
	for h in "${mounts[@]}"; do
		[ ! -e "$h$CGROUP/shell" ] || echo "$BASHPID" > "$h/cgroup.procs"
	done
	for h in "${mounts[@]}"; do
		[ ! -e "$h$CGROUP/shell" ] || rmdir "$h$CGROUP/shell" "$h$CGROUP"
	done
}

# What stands still for a checkpoint must be let go, whatever happens; tests/cr runs most of its programs so.
test_checkpoint_with_faults() {
	local pid point error before
	user_bundle
	edit '.process.args = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tmp/m; mv /tmp/m /tmp/n; sleep 0.01 & wait; done"]'
	user_ok run -d --bundle "$B" c
	user_ok state c
	pid=$(jq .pid "$T/out")
	runs_on() {
		before=$(cat "$B/rootfs/tmp/n")
		eventually 5 sh -c '[ "$(cat "$1/rootfs/tmp/n")" -gt "$2" ]' sh "$B" "${before:-0}"
		eventually 5 sh -c '! cat /proc/[0-9]*/status 2> /dev/null | grep -q "TracerPid:.$1\$"' sh "$pid"
	}
	mkdir "$T/images"
	chown 12345 "$T/images"
	for point in start preflight directory frozen seized thawed injected collected files memory removed image manifest; do
		point=checkpoint-$point
		for error in '' :EIO; do
			as_user env FAULT="$point$error" timeout 30 "$T/stasis" checkpoint --leave-running --image-path "$T/images/$point" c > "$T/out" 2> "$T/err" < /dev/null && fail "no failure: $point$error"
			runs_on
			[ ! -e "$T/images/$point/manifest.json" ] || fail "$point$error: an image"
		done
	done
	user_ok checkpoint --image-path "$T/images/last" c
	user_ok restore -d --bundle "$B" --image-path "$T/images/last" c
	user_ok state c
	runs_on
	user_ok delete -f c
	[ -z "$(ls -A "$T/run/stasis")" ] || fail "state is left"
}

# He may not watch memory: he is told so, or all of it is copied.
test_pre_copy() {
	user_bundle
	user_ok run -d --bundle "$B" c
	user_fails 'pre-dump is not possible.*ordinary user' checkpoint --pre-dump --image-path "$T/run/i" c
	[ ! -e "$T/run/i" ] || fail "a directory is left"
	user_ok checkpoint --pre-copy --image-path "$T/run/i" c
	grep -q 'pre-copy is not possible.*ordinary user' "$T/err" || fail "no word: $(cat "$T/err")"
	user_ok restore -d --bundle "$B" --image-path "$T/run/i" c
	user_ok delete -f c
}

# Podman's own profile, with what it gives to a container without capabilities, and a process of exec.
test_checkpoint_under_podmans_profile() {
	local profile=/usr/share/containers/seccomp.json
	[ -e $profile ] || skip "not on this machine: podman"
	user_bundle
	edit '.linux.seccomp = ($p[0] | {defaultAction, architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], syscalls: [.syscalls[]
			| select((.includes.caps | not) and (.includes.minKernel | not) and ((.includes.arches | not) or any(.includes.arches[]; . == "amd64")))
			| with_entries(select(.key | IN("names", "action", "args", "errnoRet")))]})' --slurpfile p $profile
	cp "$BUILD/tests/cr/threads" "$B/rootfs/bin/"
	mkdir -p "$B/rootfs/cr"
	chmod 1777 "$B/rootfs/cr"
	edit '.process.args = ["/bin/threads"]'
	user_ok run -d --bundle "$B" c
	user_ok exec -d c sleep 1234
	eventually 5 test -e "$B/rootfs/cr/ready.1"
	for n in 1 2; do
		user_ok checkpoint --image-path "$T/run/i$n" c
		user_ok restore -d --bundle "$B" --image-path "$T/run/i$n" c
		let_check "$n"
	done
	user_ok exec c grep -H Seccomp /proc/1/status /proc/self/status
	[ "$(awk '/Seccomp_filters/ { n += $2 } /Seccomp:/ { n += $2 * 10 } END { print n }' "$T/out")" = 42 ] || fail "$(cat "$T/out")"
	user_ok delete -f c
}

# Only root may do some things: said before anything stops.
test_checkpoint_refused() {
	user_bundle
	forbid() {
		edit '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{"names": $n, "action": "SCMP_ACT_ERRNO"}]}' --argjson n "$1"
	}
	forbid '["sigaltstack"]'
	user_ok run -d --bundle "$B" c
	user_fails 'process 1: seccomp filter: .*call sigaltstack.*as root' checkpoint --image-path "$T/run/i" c
	as_user timeout 30 "$T/stasis" check --format json c > "$T/out" 2> "$T/err" < /dev/null && fail "check finds nothing"
	grep -q '"kind": *"seccomp"' "$T/out" || fail "$(cat "$T/out")"
	user_ok delete -f c
	# it could have a keyring that it may not be asked for
	forbid '["keyctl"]'
	user_ok run -d --bundle "$B" c
	user_fails 'process 1: seccomp filter: .*call keyctl.*as root' checkpoint --image-path "$T/run/i" c
	user_ok delete -f c
	# filters of the program's own
	forbid '["swapon"]'
	cp "$BUILD/tests/cr/seccomp" "$B/rootfs/bin/"
	mkdir -p "$B/rootfs/cr"
	chmod 1777 "$B/rootfs/cr"
	edit '.process.args = ["/bin/seccomp"]'
	user_ok run -d --bundle "$B" c
	eventually 5 test -e "$B/rootfs/cr/ready.1"
	user_fails 'process 1: seccomp filter: .*not the container.s own.*as root' checkpoint --image-path "$T/run/i" c
	user_ok delete -f c
	# its program is gone from its path and open nowhere but as /proc/PID/exe; a library has no such link
	edit 'del(.linux.seccomp) | .process.args = ["/opt/sleep", "1000"]'
	mkdir "$B/rootfs/opt"
	cp "$B/rootfs/bin/busybox" "$B/rootfs/opt/sleep"
	user_ok run -d --bundle "$B" c
	rm "$B/rootfs/opt/sleep"
	user_ok checkpoint --leave-running --image-path "$T/run/i" c
	user_ok delete -f c
}

# A socket with a name in the file system, in the host's network namespace: where its file is the kernel tells only root.
test_checkpoint_of_a_named_socket() {
	user_bundle
	cp "$BUILD/tests/cr/unix_backlog" "$B/rootfs/bin/"
	mkdir -p "$B/rootfs/cr"
	chmod 1777 "$B/rootfs/cr"
	edit '.process.args = ["/bin/unix_backlog"]'
	user_ok run -d --bundle "$B" c
	eventually 5 test -e "$B/rootfs/cr/ready.1"
	user_ok checkpoint --image-path "$T/run/i" c
	user_ok restore -d --bundle "$B" --image-path "$T/run/i" c
	let_check 1
	rm "$B/rootfs/tmp/backlog.sock"
	user_fails 'not at this path' checkpoint --image-path "$T/run/j" c
	user_ok delete -f c
}

# Root may checkpoint what a user runs, too.
test_checkpoint_by_root() {
	user_bundle
	user_ok run -d --bundle "$B" c
	"$STASIS" --root "$T/run/stasis" checkpoint --leave-running --image-path "$T/i" c > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	chown -R 12345 "$T/i"
	user_ok delete -f c
	user_ok restore -d --bundle "$B" --image-path "$T/i" c
	user_ok delete -f c
}

# A sandbox of his own: its supervisor is his, and does through the control socket what he may. Others may not speak to it.
test_sandbox() {
	user_bundle
	edit '.process.args = ["sh", "-c", "trap \"exit 9\" TERM; while :; do usleep 10000; done"] | .linux.namespaces += [{"type": "network"}]'
	user_ok ctl --sandbox pod --new StartRoot "{\"id\": \"c\", \"bundle\": \"$B\"}"
	user_ok ctl --sandbox pod List
	[ "$(jq -r '.containers[0] | .name + " " + .status' "$T/out")" = "POD running" ] || fail "$(cat "$T/out")"
	user_ok ctl --sandbox pod ExecuteAsync '{"id": "c", "args": ["sh", "-c", "exit 5"]}'
	user_ok ctl --sandbox pod WaitPID "{\"id\": \"c\", \"pid\": $(jq .pid "$T/out")}"
	[ "$(jq .exit.code "$T/out")" = 5 ] || fail "$(cat "$T/out")"
	user_ok ctl --sandbox pod Processes '{"id": "c"}'
	[ "$(jq '.processes[0].pid' "$T/out")" = 1 ] || fail "$(cat "$T/out")"
	user_ok ctl --sandbox pod io.stasis.Network.CreateLinksAndRoutes '{"links": [{"name": "lo", "addresses": ["10.5.0.1/32"]}]}'
	user_ok exec c ip addr
	grep -q 'inet 10.5.0.1/32' "$T/out" || fail "$(cat "$T/out")"
	user_fails 'links\[0\].*(permitted|denied)' ctl --sandbox pod io.stasis.Network.CreateLinksAndRoutes \
		'{"links": [{"name": "v0", "kind": "veth", "peer": "sm-rootless"}]}'
	user_fails 'without a cgroup' ctl --sandbox pod Pause
	chmod 755 "$T/run" "$T/run/stasis" "$T/run/stasis/@sandboxes" "$T/run/stasis/@sandboxes/pod"
	! setpriv --reuid 12346 --regid 12346 --clear-groups timeout 10 "$T/stasis" ctl --socket "$T/run/stasis/@sandboxes/pod/control.sock" List \
		> "$T/out" 2>&1 || fail "somebody else may use it: $(cat "$T/out")"
	user_ok ctl --sandbox pod Signal '{"id": "c", "signal": 15}'
	user_ok ctl --sandbox pod Wait '{"id": "c"}'
	[ "$(jq .exit.code "$T/out")" = 9 ] || fail "$(cat "$T/out")"
	user_ok ctl --sandbox pod Destroy '{"id": "c"}'
	eventually 5 test ! -e "$T/run/stasis/@sandboxes"
}

# Two of the user's containers, each in a user namespace of its own: a surgeon enters each.
test_checkpoint_of_a_sandbox() {
	local name
	user_bundle
	trap 'for i in c-a c-b; do as_user timeout 20 "$T/stasis" delete -f $i > /dev/null 2>&1 < /dev/null; done' EXIT
	edit '.process.args = ["sh", "-c", $s] | .linux.namespaces += [{"type": "network"}]' --arg s 'i=0; while :; do i=$((i+1)); echo $i > /.n; mv /.n /n; usleep 5000; done'
	for name in a b; do
		as_user cp -a "$B" "$T/run/b-$name"
		user_ok run -d --bundle "$T/run/b-$name" --sandbox pod --container-name "$name" "c-$name"
	done
	counted() {
		cat "$T/run/b-$1/rootfs/n" 2> /dev/null || echo 0
	}
	beyond() {
		[ "$(counted "$1")" -gt "$2" ]
	}
	for name in a b; do
		eventually 5 beyond "$name" 3
	done
	user_ok checkpoint --sandbox --leave-running --image-path "$T/run/i" pod
	[ "$(jq .container_count "$T/run/i/manifest.json")" = 2 ] || fail "$(cat "$T/run/i/manifest.json")"
	for name in a b; do
		eventually 5 beyond "$name" "$(counted "$name")"
	done
	user_ok checkpoint --sandbox --image-path "$T/run/i" c-b
	[ ! -e "$T/run/stasis/c-a" ] && [ ! -e "$T/run/stasis/c-b" ] || fail "they are still there"
	for name in a b; do
		user_ok restore -d --image-path "$T/run/i/containers/$name" --bundle "$T/run/b-$name" "c-$name"
		eventually 5 beyond "$name" "$(counted "$name")"
		user_ok delete -f "c-$name"
	done
	# Together, as another sandbox.
	for name in a b; do
		user_ok restore -d --image-path "$T/run/i" --bundle "$T/run/b-$name" --sandbox two --container-name "$name" "c-$name"
	done
	for name in a b; do
		eventually 5 beyond "$name" "$(counted "$name")"
	done
	user_fails 'image pack' checkpoint --sandbox --image-path fd:8 two 8> "$T/part"
	for name in a b; do
		user_ok delete -f "c-$name"
	done
}

run_test "$@"
