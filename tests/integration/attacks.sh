# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What images, containers and configurations have done to other runtimes: docs/security.md names the CVE of each.
# time limit: 120
. "$TESTS/lib.sh"

# A directory of the host with something in it, and what it looks like.
host() {
	mkdir -p "$T/host/dir"
	echo precious > "$T/host/file"
	echo precious > "$T/host/ptmx"
	look_at_host > "$T/host.before"
}

look_at_host() {
	(cd "$T/host" && find . -printf '%p %y %m %U %G %s %l\n' | sort && cat file ptmx)
}

expect_host_untouched() {
	look_at_host | diff "$T/host.before" - || fail "the host's files were changed"
	! grep -q " $T/" /proc/self/mountinfo || fail "mounted on the host: $(grep " $T/" /proc/self/mountinfo)"
}

# Without the mounts whose destination matches.
without_mount() {
	edit 'del(.mounts[] | select(.destination | test($p)))' --arg p "$1"
}

add_mount() {
	edit '.mounts += [{"destination": $d, "source": $s, "type": $t, "options": ($o | split(","))}]' \
		--arg d "$1" --arg s "$2" --arg t "$3" --arg o "$4"
}

# ---- the image's /proc, /sys and /dev

test_proc_is_a_link() {
	local name
	bundle b true
	host
	for name in proc sys; do
		rmdir "$B/rootfs/$name"
		mkdir -p "$B/rootfs/elsewhere"
		for target in /elsewhere elsewhere ../../../../elsewhere "$T/host/dir" /proc/self/root/elsewhere; do
			ln -sfn "$target" "$B/rootfs/$name"
			fails "must be mounted on ordinary directory /$name|make mount point /$name|ordinary|too many|cross-device" run --bundle "$B" c
			expect_nothing_left c
		done
		rm "$B/rootfs/$name" && mkdir "$B/rootfs/$name"
	done
	expect_host_untouched
}

test_mounts_over_proc() {
	local d
	bundle b true
	host
	ln -s /proc "$B/rootfs/vol"
	ln -s ../proc/self "$B/rootfs/tmp/self"
	cp "$B/config.json" "$T/config.json"
	for d in /proc/self/attr /proc/sys/kernel /proc/version /vol/self/attr /tmp/self/attr /proc/../proc/self /vol //proc/; do
		cp "$T/config.json" "$B/config.json"
		add_mount "$d" "$T/host/dir" bind rbind
		[ "$d" != /proc/version ] || edit '.mounts[-1].source = $f' --arg f "$T/host/file"
		fails 'cannot be mounted because it is (inside /proc|not of type proc)' run --bundle "$B" c
		expect_nothing_left c
	done
	# also when there is no other /proc, and a filesystem in place of a bind mount
	cp "$T/config.json" "$B/config.json"
	without_mount '^/proc$'
	add_mount /proc "$T/host/dir" bind rbind
	fails 'not of type proc' run --bundle "$B" c
	cp "$T/config.json" "$B/config.json"
	add_mount /proc tmpfs tmpfs nosuid
	fails 'not of type proc' run --bundle "$B" c
	# what lxcfs does stays allowed
	cp "$T/config.json" "$B/config.json"
	add_mount /proc/uptime "$T/host/file" bind bind,ro
	edit '.process.args = ["cat", "/proc/uptime"]'
	ok run --bundle "$B" c
	[ "$(cat "$T/out")" = precious ] || fail "$(cat "$T/out")"
	expect_host_untouched
}

test_dev_is_a_link() {
	local target
	bundle b true
	host
	without_mount '^/dev'
	rmdir "$B/rootfs/dev"
	for target in "$T/host" ../../../../../../../../../../"$T/host" /proc/self/root/"$T/host" /proc/1/root/"$T/host"; do
		ln -sfn "$target" "$B/rootfs/dev"
		timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2>&1
		expect_host_untouched
		expect_nothing_left c
	done
}

# Without a /dev of its own the image says what /dev/console, /dev/ptmx and /dev/null are.
test_console_is_a_link() {
	local target
	bundle b true
	host
	without_mount '^/dev$'
	edit '.process.terminal = true'
	for target in /proc/version ../proc/sys/kernel/core_pattern /proc/self/attr/current /proc/1/environ; do
		ln -sfn "$target" "$B/rootfs/dev/console"
		fails '"/dev/console" cannot be mounted because it is inside /proc' run --bundle "$B" c
		expect_nothing_left c
	done
	for target in "$T/host/file" ../../../../../../../../"$T/host/file" "$T/host/new"; do
		ln -sfn "$target" "$B/rootfs/dev/console"
		timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2>&1
		expect_host_untouched
	done
}

test_stdio_of_a_foreign_dev_null() {
	bundle b sh -c 'readlink /proc/self/fd/0; cat /dev/null'
	host
	without_mount '^/dev$'
	ln -s "$T/host/file" "$B/rootfs/dev/null"
	mkdir -p "$B/rootfs/$T/host"
	echo inside > "$B/rootfs/$T/host/file"
	edit '.process.user = {"uid": 1000, "gid": 1000}'
	timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2>&1
	grep -q '^/dev/null' "$T/out" || fail "stdin is not what the caller gave: $(cat "$T/out")"
	expect_host_untouched
	[ "$(stat -c %u "$B/rootfs/$T/host/file")" = 0 ] || fail "its owner was changed"
}

# /dev/null of the image is not what masks.
test_masked_with_the_hosts_null() {
	bundle b sh -c 'stat -c "%F %t:%T" /proc/devices /proc/version; ls -A /sys/firmware; head -c 1 /proc/version | wc -c
		echo x > /proc/sys/kernel/core_pattern; true'
	host
	without_mount '^/dev$'
	edit '.linux.maskedPaths += ["/proc/version", "/proc/devices"]'
	local before
	before=$(cat /proc/sys/kernel/core_pattern)
	ln -s /proc/sys/kernel/core_pattern "$B/rootfs/dev/null"
	fails 'make device /dev/null' run --bundle "$B" c
	ln -sfn /tmp/mine "$B/rootfs/dev/null"
	ok run --bundle "$B" c
	[ "$(grep -c '^character special file 1:3$' "$T/out")" = 2 ] || fail "$(cat "$T/out")"
	[ "$(tail -n 1 "$T/out")" = 0 ] || fail "$(cat "$T/out")"
	[ "$(grep -ci 'read-only file system' "$T/err")" = 1 ] || fail "$(cat "$T/err")"
	[ "$(cat /proc/sys/kernel/core_pattern)" = "$before" ] || fail "core_pattern was changed"
}

# ---- mount points, directories and files that have to be made

test_mount_points_are_links() {
	local target kind
	bundle b true
	host
	mkdir "$T/vol"
	for target in "$T/host" ../../../../../../../../../../"$T/host" /proc/self/root/"$T/host" /proc/self/cwd; do
		ln -sfn "$target" "$B/rootfs/mnt"
		for kind in dir file new/deep; do
			cp "$B/config.json" "$T/config.json"
			if [ "$kind" = file ]; then
				add_mount /mnt/file /etc/passwd bind bind
			else
				add_mount "/mnt/$kind" "$T/vol" bind rbind
			fi
			timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2>&1
			expect_host_untouched
			expect_nothing_left c
			cp "$T/config.json" "$B/config.json"
		done
	done
	# destinations with "..", too
	add_mount "/../../../../../../$T/host/dir" "$T/vol" bind rbind
	ok run --bundle "$B" c
	expect_host_untouched
	# and the working directory, devices, masked and read-only paths
	cp "$T/config.json" "$B/config.json"
	ln -sfn "$T/host" "$B/rootfs/mnt"
	edit '.process.cwd = "/mnt/cwd" | .linux.devices = [{"path": "/mnt/device", "type": "c", "major": 1, "minor": 3}]
		| .linux.maskedPaths += ["/mnt/file"] | .linux.readonlyPaths += ["/mnt/dir"]'
	timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2>&1
	expect_host_untouched
}

# A neighbour with the same volume exchanges directories with links while containers are made.
test_race_with_links() {
	bundle b cat /proc/self/mountinfo
	host
	mkdir -p "$T/vol/a/sub" "$T/vol/d" "$T/vol/src"
	ln -s "$T/host" "$T/vol/to_host"
	ln -s ../../../../../../../../proc "$T/vol/to_proc"
	ln -s /proc/self/root "$T/vol/to_root"
	add_mount /vol "$T/vol" bind rbind
	add_mount /vol/a/sub "$T/vol/src" bind rbind
	add_mount /vol/a/made/deep "$T/vol/src" bind rbind
	add_mount /vol/a/file /etc/passwd bind bind
	edit '.linux.maskedPaths += ["/vol/a/dir"] | .linux.readonlyPaths += ["/vol/a/dir"] | .process.cwd = "/vol/a/cwd"
		| .linux.devices = [{"path": "/vol/a/device", "type": "c", "major": 1, "minor": 3}]'
	python3 -B - "$T/vol" <<- 'END' &
		import ctypes, itertools, os, sys, time
		libc, vol, end = ctypes.CDLL(None), sys.argv[1].encode(), time.monotonic() + 60
		for name in itertools.cycle((b"to_host", b"to_proc", b"to_root")):
		    for _ in range(2):  # there and back; 2: RENAME_EXCHANGE
		        libc.renameat2(-100, vol + b"/a", -100, vol + b"/" + name, 2)
		        for _ in range(300):
		            pass
		    if time.monotonic() > end:
		        break
	END
	local neighbour=$! n=0 made=0 end=$((SECONDS + 8))
	while [ $SECONDS -lt $end ]; do
		n=$((n + 1))
		if timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err"; then
			made=$((made + 1))
			! awk '$5 ~ "^/proc/" && $5 !~ "^/proc/(bus|fs|irq|sys|sysrq-trigger|kcore|keys|timer_list|scsi)$"' "$T/out" | grep . ||
				fail "a mount has landed in /proc"
			[ "$(awk '$5 == "/proc"' "$T/out" | wc -l)" = 1 ] || fail "mounted over /proc: $(cat "$T/out")"
		fi
		expect_nothing_left c
		expect_host_untouched
	done
	kill $neighbour
	wait $neighbour
	echo "$made of $n containers were made" >&2
	[ "$n" -ge 5 ] || fail "only $n tries"
}

# A neighbour with the same root moves a mount point away while it is masked, and puts a directory of its own there.
# race_for NAME SECRET: what is looked for in the output is what a mask was to hide.
race_for() {
	mkdir "$B/rootfs/${1}2"
	python3 -B - "$B/rootfs/$1" <<- 'END' &
		import ctypes, sys, time
		libc, name, end = ctypes.CDLL(None), sys.argv[1].encode(), time.monotonic() + 60
		while time.monotonic() < end:
		    libc.renameat2(-100, name, -100, name + b"2", 2)  # RENAME_EXCHANGE
		    time.sleep(0.0003)
	END
	local neighbour=$! n=0 end=$((SECONDS + 6))
	while [ $SECONDS -lt $end ]; do
		n=$((n + 1))
		timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || continue
		! grep -q "$2" "$T/out" || fail "in try $n: $(cat "$T/out")"
	done
	kill $neighbour
	wait $neighbour
	[ "$n" -ge 5 ] || fail "only $n tries"
	expect_nothing_left c
}

test_race_for_proc() {
	bundle b sh -c 'cat /proc/version /proc2/version; for f in /proc/sys/kernel/domainname /proc2/sys/kernel/domainname; do
		[ ! -e $f ] || { echo x > $f && echo Linux is WRITABLE in $f; }; done; true'
	without_mount '^/(dev|sys)'
	edit '.linux.maskedPaths += ["/proc/version"]'
	race_for proc Linux
}

test_race_for_sys() {
	bundle b sh -c 'ls /sys/kernel /sys2/kernel; true'
	without_mount '^/dev'
	edit '.linux.maskedPaths += ["/sys/kernel"]'
	race_for sys uevent_seqnum
}

# ---- descriptors and the working directory

test_cwd_by_a_descriptor() {
	local n
	bundle b sh -c 'pwd; ls -A'
	host
	ln -s /proc/self/fd "$B/rootfs/fds"
	for n in 0 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		edit '.process.cwd = $p' --arg p "/proc/self/fd/$n"
		fails 'cwd|working directory' run --bundle "$B" c
		edit '.process.cwd = $p' --arg p "/fds/$n/../made-by-stasis"
		fails 'cwd|working directory' run --bundle "$B" c
	done
	[ -z "$(find /sys/fs/cgroup "$ROOT" -name made-by-stasis 2> /dev/null)" ] || fail "a directory was made on the host"
	edit '.process.cwd = "/" | .process.args = ["sleep", "1000"]'
	start c
	for n in 0 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
		fails 'cwd|working directory' exec --cwd "/proc/self/fd/$n" c ls -A
		fails 'cwd|working directory' exec --cwd "/fds/$n/.." c ls -A
	done
	# the container may change what it is between two execs
	ok exec c ln -sfn /proc/self/fd/8 /work
	fails 'cwd|working directory' exec --cwd /work c ls -A
	expect_status c running
}

# Nothing but stdio, in init, in an exec, and in the init that waits for start.
test_descriptors() {
	local pid
	bundle b sh -c 'ls -l /proc/self/fd'
	# ls itself opens the directory
	exec 7< /etc/hostname 8< /proc 9< "$T"
	timeout 20 "$STASIS" --root "$ROOT" --log "$T/log" --debug run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err"
	[ "$(tail -n +2 "$T/out" | awk '{ print $9 }' | tr '\n' ' ')" = "0 1 2 3 " ] || fail "$(cat "$T/out")"
	edit '.process.args = ["sleep", "1000"]'
	ok --log "$T/log" --debug create --bundle "$B" c
	exec 7<&- 8<&- 9<&-
	pid=$(init_pid c)
	# stdio, and the sockets on which it is told to go on
	ls -l "/proc/$pid/fd" > "$T/fds"
	[ "$(grep -- '->' "$T/fds" | grep -vc -E ' [012] -> |-> socket:')" = 0 ] || fail "the waiting init has $(cat "$T/fds")"
	[ "$(readlink "/proc/$pid/cwd")" = / ] || fail "cwd $(readlink "/proc/$pid/cwd")"
	ok start c
	ok --log "$T/log" --debug exec c ls -l /proc/self/fd
	[ "$(tail -n +2 "$T/out" | awk '{ print $9 }' | tr '\n' ' ')" = "0 1 2 3 " ] || fail "$(cat "$T/out")"
	ok exec c sh -c 'cat /proc/1/environ | tr "\0" "\n"; env'
	! grep -q -E 'FAULT|_STASIS|STASIS' "$T/out" || fail "the runtime's environment: $(cat "$T/out")"
}

# A process in the container looks for the runtime's, at every exec.
test_snooping_at_exec() {
	local i
	bundle b /bin/snoop stasis
	cp "$BUILD/tests/cr/snoop" "$B/rootfs/bin/"
	timeout 30 "$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/snoop" 2> "$T/err" || fail "$(cat "$T/err")"
	eventually 5 grep -q ready "$T/snoop"
	for ((i = 0; i < 60; i++)); do
		ok exec c true
	done
	! grep GOT "$T/snoop" || fail "the runtime's process is open to the container"
	grep -q seen "$T/snoop" || echo "it was never fast enough to see one" >&2
}

# The image's program is an interpreter script that names the runtime.
test_exec_of_the_runtime() {
	local before
	before=$(sha256sum < "$STASIS")
	bundle b sleep 1000
	printf '#!/proc/self/exe\n' > "$B/rootfs/bin/evil"
	chmod 755 "$B/rootfs/bin/evil"
	ln -sf /proc/self/exe "$B/rootfs/bin/link"
	start c
	timeout 20 "$STASIS" --root "$ROOT" exec c /bin/evil < /dev/null > "$T/out" 2>&1 && fail "$(cat "$T/out")"
	timeout 20 "$STASIS" --root "$ROOT" exec c /bin/link < /dev/null > "$T/out" 2>&1
	edit '.process.args = ["/bin/evil"]'
	timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" d < /dev/null > "$T/out" 2>&1 && fail "$(cat "$T/out")"
	[ "$(sha256sum < "$STASIS")" = "$before" ] || fail "the runtime's program was changed"
	expect_status c running
}

# ---- what the container may do to exec

# Its root covers /proc with a fake one: labels and scores must not go there.
test_fake_proc() {
	bundle b sh -c 'mount -t tmpfs none /proc && mkdir -p /proc/self/attr/apparmor /proc/self/fd /proc/thread-self/attr &&
		touch /proc/self/oom_score_adj /proc/self/attr/exec /proc/self/attr/apparmor/exec /proc/self/attr/current && touch /cr/done && sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])'
	start c
	eventually 5 test -e "$B/rootfs/cr/done"
	jq '.process | .args = ["sleep", "1001"] | .oomScoreAdj = 321' "$B/config.json" > "$T/process.json"
	ok exec --detach --pid-file "$T/pid" --process "$T/process.json" c
	[ "$(cat "/proc/$(cat "$T/pid")/oom_score_adj")" = 321 ] || fail "oom_score_adj is $(cat "/proc/$(cat "$T/pid")/oom_score_adj")"
	ok exec c sh -c 'cat /proc/self/oom_score_adj'
	[ ! -s "$T/out" ] || fail "it was written to the container's file: $(cat "$T/out")"
	# without an LSM there is nothing that could take the profile: it must be an error, not a success by a fake file
	if [ ! -d /sys/kernel/security/apparmor ]; then
		fails 'apparmor|attr' exec --apparmor profile c true
		fails 'attr' exec --process-label label c true
	fi
	ok exec c sh -c 'cat /proc/self/attr/exec /proc/self/attr/apparmor/exec'
	[ ! -s "$T/out" ] || fail "it was written to the container's file: $(cat "$T/out")"
}

# A container that joins the mount namespace of another: what is there is not trusted either.
test_joined_mount_namespace() {
	bundle other sh -c 'mkdir -p /proc/self; mount -t tmpfs none /proc && mkdir -p /proc/self /proc/sys/net/ipv4 &&
		touch /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward && touch /cr/done && sleep 1000'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])'
	start other
	eventually 5 test -e "$B/rootfs/cr/done"
	local pid
	pid=$(init_pid other)
	bundle b cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward
	edit '.linux.namespaces |= map(if .type == "mount" then .path = "/proc/\($p)/ns/mnt" else . end) | .mounts = []
		| del(.linux.maskedPaths, .linux.readonlyPaths) | .process.oomScoreAdj = 321 | .linux.sysctl = {"net.ipv4.ip_forward": "1"}' --arg p "$pid"
	ok run --bundle "$B" c
	[ ! -s "$T/out" ] || fail "written to the files of the other container: $(cat "$T/out")"
}

# Mounts are added to a container that has prepared for it.
test_mounts_added_to_a_hostile_one() {
	local d
	bundle b sh -c 'mount -t tmpfs none /proc && mkdir -p /proc/self/fd /target && ln -s / /proc/self/fd/7 && touch /cr/done && sleep 1000'
	host
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])'
	start c
	eventually 5 test -e "$B/rootfs/cr/done"
	ok exec c ln -s "$T/host" /link
	ok exec c ln -s ../../../../../../../.."$T/host" /up
	ok exec c ln -s /proc/self/root"$T/host" /magic
	for d in /link/dir /up/dir /magic/dir /link/new/deep "/../../../$T/host/dir"; do
		jq -n --arg d "$d" --arg s "$T/host/dir" '[{destination: $d, type: "bind", source: $s, options: ["bind", "ro"]}]' > "$T/mounts.json"
		timeout 20 "$STASIS" --root "$ROOT" mounts add c "$T/mounts.json" < /dev/null > "$T/out" 2>&1
		timeout 20 "$STASIS" --root "$ROOT" mounts remove c "$T/mounts.json" < /dev/null > "$T/out" 2>&1
		expect_host_untouched
	done
	# options that are too long for fsconfig(2) take another way, which must not go by the container's /proc
	ok exec c sh -c 'mkdir -p /lower /upper /work; for i in 1 2 3 4 5 6 7 8 9; do mkdir /lower/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa$i; done; echo lower > /lower/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1/file'
	jq -n '[{destination: "/target", type: "overlay", source: "overlay", options: ["lowerdir=" + ([range(1; 10) | "/lower/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\(.)"] | join(":"))]}]' > "$T/mounts.json"
	ok mounts add c "$T/mounts.json"
	ok exec c cat /target/file
	[ "$(cat "$T/out")" = lower ] || fail "$(cat "$T/out")"
	expect_status c running
}

test_fake_ptmx() {
	local what
	bundle b sleep 1000
	start c
	for what in 'mkfifo ptmx' 'ln -s null ptmx' 'ln -s zero ptmx' 'ln -s tty ptmx' 'echo > ptmx' 'mkdir ptmx' 'ln -s /proc/self/fd/0 ptmx' 'ln -s ptmx ptmx'; do
		ok exec c sh -c "cd /dev; rm -rf ptmx; $what"
		fails 'ptmx' exec --tty c true
	done
	expect_status c running
}

# HOME comes from the image's /etc/passwd.
test_hostile_passwd() {
	local what
	bundle b sh -c 'echo $HOME'
	edit '.process.env = ["PATH=/bin"]'
	for what in 'mkfifo etc/passwd' 'ln -s /dev/zero etc/passwd' 'ln -s /dev/tty etc/passwd' 'mkdir etc/passwd' 'ln -s passwd etc/passwd' \
		'ln -s /proc/kmsg etc/passwd' 'head -c 3000000 /dev/zero | tr "\0" x > etc/passwd' 'yes root:x:0:0 | head -c 500000 > etc/passwd' \
		'printf "root:x:0:0:root:relative:/bin/sh\n" > etc/passwd' 'printf "a:x:0\0:0::/evil:\n:::::::\n" > etc/passwd'; do
		(cd "$B/rootfs" && rm -rf etc/passwd && eval "$what")
		ok run --bundle "$B" c
		[ "$(cat "$T/out")" = / ] || fail "after '$what' HOME is $(cat "$T/out")"
	done
	rm -rf "$B/rootfs/etc/passwd"
	mkfifo "$B/rootfs/etc/passwd"
	edit '.process.args = ["sleep", "1000"]'
	start c
	ok exec c sh -c 'echo $HOME'
	[ "$(cat "$T/out")" = / ] || fail "$(cat "$T/out")"
}

test_exec_user_is_a_number() {
	bundle b sleep 1000
	# a user whose name is another's number
	printf '1:x:0:0:root:/root:/bin/sh\n4294967296:x:0:0::/:\n' > "$B/rootfs/etc/passwd"
	start c
	local u
	for u in 1 1:2 65534 4294967294:1; do
		ok exec --user "$u" c sh -c 'id -u; id -g'
		[ "$(tr '\n' : < "$T/out")" = "${u%%:*}:$([ "$u" = "${u#*:}" ] && echo 0 || echo "${u#*:}"):" ] || fail "-u $u is $(tr '\n' : < "$T/out")"
	done
	for u in -1 4294967295 4294967296 18446744073709551616 1x 0x1 '' root 1: :1 ' 1' 1:4294967296 1:2:3; do
		fails 'user|argument|usage' exec --user="$u" c id
	done
}

test_no_inheritable_capabilities() {
	bundle b sh -c 'grep -E "Cap(Inh|Amb)" /proc/self/status'
	edit 'del(.process.capabilities.inheritable)'
	ok run --bundle "$B" c
	[ "$(grep -c '0000000000000000' "$T/out")" = 2 ] || fail "$(cat "$T/out")"
	edit '.process.args = ["sleep", "1000"]'
	start c
	ok exec --cap CAP_SYS_PTRACE c grep -E 'Cap(Inh|Amb)' /proc/self/status
	[ "$(grep -c '0000000000000000' "$T/out")" = 2 ] || fail "$(cat "$T/out")"
	ok exec --user 1000 --cap CAP_SYS_PTRACE c grep CapInh /proc/self/status
	grep -q '0000000000000000' "$T/out" || fail "$(cat "$T/out")"
}

# ---- cgroups and sysctls

test_cgroup_is_read_only() {
	bundle b sh -c 'cd /sys/fs/cgroup; find . -type d | while read d; do mkdir $d/x && echo MADE $d/x; done
		find . -name release_agent; for f in $(find . -name cgroup.procs -o -name notify_on_release); do (echo 1 > $f) && echo WROTE $f; done
		mkdir /m; mount -t cgroup -o rdma none /m && echo MOUNTED; mount -t cgroup2 none /m && echo MOUNTED; true'
	add_mount /sys/fs/cgroup cgroup cgroup ro,nosuid,noexec,nodev
	ok run --bundle "$B" c
	[ ! -s "$T/out" ] || fail "$(cat "$T/out")"
}

test_sysctl_with_more_in_it() {
	local before
	before=$(cat /proc/sys/kernel/core_pattern)
	bundle b true
	for value in '1+kernel.core_pattern=|/evil' $'1\nkernel.core_pattern=|/evil' '1,kernel.core_pattern=x'; do
		edit '.linux.sysctl = {"kernel.shm_rmid_forced": $v}' --arg v "$value"
		timeout 20 "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2>&1
	done
	[ "$(cat /proc/sys/kernel/core_pattern)" = "$before" ] || fail "core_pattern was changed"
	# the host's namespace by its path is the host's namespace
	edit '.linux.sysctl = {"net.ipv4.ip_forward": "1"} | .linux.namespaces |= map(if .type == "network" then .path = "/proc/1/ns/net" else . end)'
	[ "$(readlink /proc/1/ns/net)" = "$(readlink /proc/self/ns/net)" ] || edit '.linux.namespaces |= map(if .path then .path = "/proc/self/ns/net" else . end)'
	fails 'linux.sysctl\["net.ipv4.ip_forward"\]: not allowed in the host' run --bundle "$B" c
	expect_nothing_left c
}

# ---- the runtime's own files and sockets

test_own_files_are_private() {
	bundle b
	ok create --bundle "$B" c
	[ "$(stat -c %a "$ROOT/c")" = 700 ] || fail "mode $(stat -c %a "$ROOT/c")"
	[ -z "$(find "$ROOT/c" -type f -perm /077)" ] || fail "$(ls -l "$ROOT/c")"
	# in the host's network namespace an abstract socket would be open to every container there
	! grep -E '@.*(stasis|start)' /proc/net/unix || fail "an abstract socket"
	ok delete -f c
	[ -z "$(find "$B" -newer "$B/config.json" -name '.*' -type f)" ] || fail "files were put into the bundle"
}

# Lengths that once overflowed the message in which another runtime told its child what to do.
test_long_configurations() {
	bundle b true
	edit '.linux.namespaces |= map(if .type == "ipc" then .path = ("/" + "a" * 70000) else . end)'
	fails 'name too long|no such file' run --bundle "$B" c
	edit '.linux.namespaces |= map(del(.path)) | .linux.maskedPaths += [range(3000) | "/proc/\(.)" * 20]
		| .process.env += [range(2000) | "A\(.)=" + "x" * 500]'
	ok run --bundle "$B" c
	edit '.mounts += [range(300) | {"destination": "/tmp/\(.)", "type": "tmpfs", "source": "tmpfs"}]'
	ok run --bundle "$B" c
	edit '.process.cwd = "/" + "a/" * 5000'
	fails 'cwd|name too long' run --bundle "$B" c
	expect_nothing_left c
}

# A checkpoint's directory may be an attacker's: what it holds is not followed.
test_image_of_links() {
	local f
	bundle b
	host
	start c
	ok checkpoint --image-path "$T/i" c
	for f in manifest.json checkpoint.img pages.img pages_meta.img; do
		mv "$T/i/$f" "$T/kept"
		ln -s "$T/kept" "$T/i/$f"
		fails "$f" restore -d --image-path "$T/i" --bundle "$B" c
		rm "$T/i/$f"
		mkfifo "$T/i/$f"
		fails "$f" restore -d --image-path "$T/i" --bundle "$B" c
		rm "$T/i/$f"
		mv "$T/kept" "$T/i/$f"
	done
	ln -s "$T/host/file" "$T/i/restore.log"
	ok restore -d --image-path "$T/i" --work-path "$T/i" --bundle "$B" c
	ln -s "$T/host/file" "$T/i/dump.log"
	stasis checkpoint --leave-running --image-path "$T/i2" --work-path "$T/i" c < /dev/null > "$T/out" 2>&1
	expect_host_untouched
}

# The same with a user namespace, where other ways are taken to mounts, devices and files of /proc. Its ids are the
# host's, so that nobody but the kernel's rules for namespaces is in the way.
test_in_a_user_namespace() {
	local name
	eval "plain_$(declare -f bundle)"
	bundle() {
		plain_bundle "$@"
		edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 0, "size": 4294967295}]
			| .linux.gidMappings = .linux.uidMappings'
	}
	for name in proc_is_a_link dev_is_a_link stdio_of_a_foreign_dev_null mount_points_are_links cwd_by_a_descriptor descriptors \
		fake_proc fake_ptmx hostile_passwd exec_user_is_a_number no_inheritable_capabilities race_with_links race_for_proc; do
		echo "$name, in a user namespace" >&2
		mkdir -p "$T/$name/root"
		(T=$T/$name ROOT=$T/$name/root CGROUP=$CGROUP/$name && "test_$name" && remove_all) || fail "$name"
	done
}

run_test "$@"
