# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# "mounts" of config.json: every option is what the program finds.
. "$TESTS/lib.sh"

in_container() {
	edit '.process.args = ["sh", "-c", $s]' --arg s "$1"
	ok run --bundle "$B" c
}

expect() {
	[ "$(cat "$T/out")" = "$1" ] || fail "output '$(cat "$T/out")', expected '$1'"
}

# with_mount PATH [OPTIONS]: the rest runs "run" in a mount namespace of its own, where PATH is a tmpfs (of $T).
in_container_with() {
	local prepare=$1
	edit '.process.args = ["sh", "-c", $s]' --arg s "$2"
	# shellcheck disable=SC2016
	timeout 30 unshare -m --propagation private sh -c "$prepare"'; shift; exec "$@"' sh "$T" "$STASIS" --root "$ROOT" run --bundle "$B" c \
		< /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
}

# bind OPTIONS...: mounts $T/src on /mnt.
bind() {
	mkdir -p "$T/src"
	edit '.mounts += [{"destination": "/mnt", "type": "bind", "source": $s, "options": ($o | split(" "))}]' --arg s "$T/src" --arg o "$*"
}

flags_of() {
	printf "awk '\$5 == \"%s\" { print \$6 }' /proc/self/mountinfo" "$1"
}

test_flags() {
	bundle b
	bind rbind ro nosuid nodev noexec nodiratime noatime nosymfollow
	edit '.mounts += [{"destination": "/rw", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nosuid", "noexec", "rw", "exec", "strictatime"]}]'
	in_container "$(flags_of /mnt); $(flags_of /rw)"
	expect "$(printf 'ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow\nrw,nosuid')"
}

test_superblock_flags() {
	bundle b
	edit '.mounts += [{"destination": "/a", "type": "tmpfs", "source": "a", "options": ["sync", "dirsync", "mand", "size=1m"]},
		{"destination": "/b", "type": "tmpfs", "source": "b", "options": ["lazytime", "iversion", "size=1m", "nodev", "shared"]}]'
	in_container 'grep -E " /[ab] " /proc/self/mountinfo | cut -d" " -f5-'
	grep -Eq '^/a rw,relatime - tmpfs a rw,sync,dirsync,mand,size=1024k' "$T/out" || fail "$(cat "$T/out")"
	grep -Eq '^/b rw,nodev,relatime shared:.* - tmpfs b rw,lazytime,size=1024k' "$T/out" || fail "$(cat "$T/out")"
}

test_recursive_flags() {
	local prepare='mkdir -p $1/src && mount -t tmpfs -o nodev none $1/src && mkdir $1/src/sub && mount -t tmpfs none $1/src/sub'
	bundle b
	bind rbind ro
	# shellcheck disable=SC2016
	in_container_with "$prepare" "$(flags_of /mnt); $(flags_of /mnt/sub)"
	expect "$(printf 'ro,nodev,relatime\nrw,relatime')"
	edit '.mounts[-1].options = ["rbind", "rro", "rnosuid", "rnoexec", "rdev", "rnoatime"]'
	# shellcheck disable=SC2016
	in_container_with "$prepare" "$(flags_of /mnt); $(flags_of /mnt/sub)"
	expect "$(printf 'ro,nosuid,noexec,noatime\nro,nosuid,noexec,noatime')"
	edit '.mounts[-1].options = ["bind"]'
	# shellcheck disable=SC2016
	in_container_with "$prepare" "$(flags_of /mnt); $(flags_of /mnt/sub)"
	expect 'rw,nodev,relatime'
}

# propagation DESTINATION: what mountinfo says.
test_propagation() {
	local one
	bundle b
	for one in private rprivate shared rshared slave rslave unbindable runbindable; do
		edit '.mounts |= map(select(.destination != "/mnt"))'
		bind rbind "$one"
		in_container "grep ' /mnt ' /proc/self/mountinfo | sed 's/ - .*//' | cut -d' ' -f7-"
		case $one in
		*private) expect "" ;;
		*shared) grep -q '^shared:' "$T/out" || fail "$one: $(cat "$T/out")" ;;
		*slave) ! grep -q 'shared:' "$T/out" || fail "$one: $(cat "$T/out")" ;;
		*unbindable) expect unbindable ;;
		esac
	done
}

# What the host mounts later is seen in the container through a slave, and what the container mounts stays there; with
# shared both go both ways.
test_propagation_at_work() {
	bundle b
	bind rbind rslave
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"]) | .process.args = ["sleep", "1000"]'
	mkdir "$T/src/host" "$T/src/container"
	cat > "$T/script" <<-'END'
		set -e
		mount -t tmpfs none "$T/src" && mount --make-shared "$T/src" && mkdir "$T/src/host" "$T/src/container"
		"$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2>&1
		mount -t tmpfs none "$T/src/host" && echo > "$T/src/host/seen"
		"$STASIS" --root "$ROOT" exec c sh -c 'ls /mnt/host; mount -t tmpfs none /mnt/container && echo > /mnt/container/inside' < /dev/null
		ls "$T/src/container"
		"$STASIS" --root "$ROOT" delete -f c
	END
	export B T ROOT STASIS
	timeout 30 unshare -m --propagation private bash "$T/script" < /dev/null > "$T/out2" 2>&1 || fail "$(cat "$T/out" "$T/out2")"
	[ "$(cat "$T/out2")" = seen ] || fail "slave: $(cat "$T/out2")"
	edit '.mounts[-1].options = ["rbind", "rshared"] | .linux.rootfsPropagation = "shared"'
	timeout 30 unshare -m --propagation private bash "$T/script" < /dev/null > "$T/out2" 2>&1 || fail "$(cat "$T/out" "$T/out2")"
	[ "$(tr '\n' ' ' < "$T/out2")" = "seen inside " ] || fail "shared: $(cat "$T/out2")"
}

test_rootfs_propagation() {
	local one
	bundle b
	for one in private rprivate shared rshared slave rslave unbindable; do
		edit '.linux.rootfsPropagation = $p' --arg p "$one"
		in_container "grep ' / / ' /proc/self/mountinfo || sed -n 1p /proc/self/mountinfo"
		sed -i 's/ - .*//' "$T/out"
		case $one in
		*private) ! grep -Eq 'shared:|master:|unbindable' "$T/out" || fail "$one: $(cat "$T/out")" ;;
		*shared) grep -q 'shared:' "$T/out" || fail "$one: $(cat "$T/out")" ;;
		*slave) ! grep -q 'shared:' "$T/out" || fail "$one: $(cat "$T/out")" ;;
		unbindable) grep -q unbindable "$T/out" || fail "$one: $(cat "$T/out")" ;;
		esac
	done
	expect_nothing_left c
}

# Mount points that are not there, files, links of the image: never outside of the root file system.
test_mount_points() {
	mkdir "$T/dir" "$T/outside"
	echo file > "$T/file"
	bundle b
	ln -s "$T/outside" "$B/rootfs/link"
	ln -s ../../../../../../../../etc/target "$B/rootfs/link2"
	edit '.mounts += [{"destination": "/new/deep/file", "type": "bind", "source": ($t + "/file"), "options": ["bind"]},
		{"destination": "relative/dir", "type": "bind", "source": ($t + "/dir"), "options": ["rbind"]},
		{"destination": "/link/in", "type": "tmpfs", "source": "tmpfs"}, {"destination": "/link2", "type": "bind", "source": ($t + "/file"), "options": ["bind"]}]' \
		--arg t "$T"
	in_container "cat /new/deep/file /etc/target; grep -c ' /relative/dir ' /proc/self/mountinfo; grep -c ' $T/outside/in ' /proc/self/mountinfo"
	expect "$(printf 'file\nfile\n1\n1')"
	[ -z "$(ls -A "$T/outside")" ] || fail "something was made outside: $(ls -A "$T/outside")"
	[ -f "$B/rootfs/etc/target" ] && [ -d "$B/rootfs$T/outside/in" ] || fail "the mount points are not in the root file system"
	edit '.mounts += [{"destination": "/etc/passwd/x", "type": "tmpfs", "source": "tmpfs"}]'
	fails 'mount point /etc/passwd/x: not a directory' run --bundle "$B" c
	expect_nothing_left c
}

test_source_links() {
	echo file > "$T/file"
	ln -s file "$T/to-file"
	bundle b
	edit '.mounts += [{"destination": "/copied", "type": "bind", "source": ($t + "/to-file"), "options": ["bind", "copy-symlink"]},
		{"destination": "/followed", "type": "bind", "source": ($t + "/to-file"), "options": ["bind"]},
		{"destination": "/plain", "type": "bind", "source": ($t + "/file"), "options": ["bind", "copy-symlink"]}]' --arg t "$T"
	in_container 'readlink /copied; cat /followed /plain'
	expect "$(printf 'file\nfile\nfile')"
	# a second time the link is there already; what is something else is not replaced
	in_container 'readlink /copied'
	expect file
	ln -sf other "$B/rootfs/copied"
	fails 'something else at /copied' run --bundle "$B" c
	edit '.mounts |= map(select(.destination != "/copied") | if .destination == "/followed" then .options += ["src-nofollow"] else . end)'
	rm "$B/rootfs/followed"
	in_container 'grep " /followed " /proc/self/mountinfo | cut -d" " -f4'
	grep -q '/to-file$' "$T/out" || fail "$(cat "$T/out" "$T/err")"
}

test_tmpcopyup() {
	bundle b
	mkdir "$B/rootfs/data"
	echo kept > "$B/rootfs/data/file"
	ln -s file "$B/rootfs/data/link"
	chown 5:6 "$B/rootfs/data/file"
	chmod 750 "$B/rootfs/data"
	edit '.mounts += [{"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]}]'
	in_container 'cat /data/link; stat -c "%u %g" /data/file; stat -c %a /data; echo changed > /data/file'
	expect "$(printf 'kept\n5 6\n750')"
	[ "$(cat "$B/rootfs/data/file")" = kept ] || fail "the copy is the original"
}

test_remount() {
	bundle b
	edit '.mounts += [{"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
		{"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "ro", "size=2m"]}]'
	in_container 'grep " /scratch " /proc/self/mountinfo | sed "s/.* - //"; grep -c " /scratch " /proc/self/mountinfo; touch /scratch/x 2> /dev/null || echo refused'
	grep -q 'size=2048k' "$T/out" && [ "$(tail -2 "$T/out" | tr '\n' ' ')" = "1 refused " ] || fail "$(cat "$T/out")"
}

# The container's own cgroups, read-only or not, with and without a cgroup namespace.
test_cgroup() {
	bundle b
	edit '.mounts += [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}]'
	in_container 'cat $(find /sys/fs/cgroup -name cgroup.procs -maxdepth 2) | grep -c "^1$"; mkdir $(dirname $(find /sys/fs/cgroup -name cgroup.procs -maxdepth 2 | head -1))/x 2> /dev/null || echo refused'
	[ "$(head -1 "$T/out")" -ge 1 ] && grep -q refused "$T/out" || fail "$(cat "$T/out")"
	edit '.mounts[-1].options = ["rw"] | .linux.namespaces |= map(select(.type != "cgroup"))'
	in_container 'd=$(dirname $(find /sys/fs/cgroup -name cgroup.procs -maxdepth 2 | head -1)); mkdir $d/x && rmdir $d/x && grep -c . $d/cgroup.procs'
	[ "$(cat "$T/out")" -ge 1 ] || fail "$(cat "$T/out")"
}

# Who owns files on a mount whose ids are mapped: 10000 on disk is 5 here.
test_idmap() {
	bundle b
	bind bind
	touch "$T/src/file"
	chown 10000:20000 "$T/src/file"
	edit '.mounts[-1] += {"uidMappings": [{"containerID": 10000, "hostID": 5, "size": 10}], "gidMappings": [{"containerID": 20000, "hostID": 6, "size": 10}]}'
	in_container 'stat -c "%u %g" /mnt/file'
	expect '5 6'
	edit '.mounts[-1].options += ["idmap"] | .process.user = {"uid": 5, "gid": 6}'
	in_container 'echo > /mnt/file && stat -c "%u %g" /mnt/file'
	expect '5 6'
	[ "$(stat -c '%u %g' "$T/src/file")" = "10000 20000" ] || fail "the file on disk has changed its owner"
	# ids that have no mapping
	chown 1:1 "$T/src/file"
	in_container 'stat -c "%u %g" /mnt/file'
	expect '65534 65534'
}

test_idmap_recursive() {
	# shellcheck disable=SC2016
	local prepare='mount -t tmpfs none $1/src && mkdir $1/src/sub && mount -t tmpfs none $1/src/sub && touch $1/src/sub/file $1/src/file'
	bundle b
	bind rbind idmap
	edit '.mounts[-1] += {"uidMappings": [{"containerID": 0, "hostID": 5, "size": 10}], "gidMappings": [{"containerID": 0, "hostID": 6, "size": 10}]}'
	in_container_with "$prepare" 'stat -c "%u %g" /mnt/file /mnt/sub/file'
	expect "$(printf '5 6\n0 0')"
	edit '.mounts[-1].options = ["rbind", "ridmap"]'
	in_container_with "$prepare" 'stat -c "%u %g" /mnt/file /mnt/sub/file'
	expect "$(printf '5 6\n5 6')"
}

test_label() {
	bundle b
	edit '.linux.mountLabel = "system_u:object_r:container_file_t:s0:c1,c2"'
	if [ -e /sys/fs/selinux/enforce ]; then
		in_container 'grep " /dev " /proc/self/mountinfo'
		grep -q 'context=.*container_file_t:s0:c1,c2' "$T/out" || fail "$(cat "$T/out")"
	else
		fails 'linux.mountLabel: SELinux is not enabled' run --bundle "$B" c
	fi
	edit '.linux.mountLabel = ""'
	in_container true
}

# In a user namespace: with its ids the files of the host's root are those of the container's.
test_idmap_in_a_user_namespace() {
	bundle b
	chown -R 100000:200000 "$B/rootfs"
	chmod 755 "$T"
	bind bind
	touch "$T/src/file"
	edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
		| .linux.gidMappings = [{"containerID": 0, "hostID": 200000, "size": 65536}]'
	in_container 'stat -c "%u %g" /mnt/file'
	expect '65534 65534'
	edit '.mounts[-1].options += ["idmap"]'
	in_container 'stat -c "%u %g" /mnt/file; touch /mnt/new'
	expect '0 0'
	[ "$(stat -c '%u %g' "$T/src/new")" = "0 0" ] || fail "made as $(stat -c '%u %g' "$T/src/new")"
	edit '.mounts[-1] += {"uidMappings": [{"containerID": 0, "hostID": 100007, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 200008, "size": 1}]}'
	in_container 'stat -c "%u %g" /mnt/file'
	expect '7 8'
}

# crun's option: ids on disk, ids on the host, or with '@' ids of the container.
test_idmap_option() {
	bundle b
	bind bind 'idmap=uids=10000-5-10#7-100-1;gids=20000-6-10'
	touch "$T/src/file" "$T/src/seven"
	chown 10000:20000 "$T/src/file"
	chown 7:20003 "$T/src/seven"
	in_container 'stat -c "%u %g" /mnt/file /mnt/seven'
	expect "$(printf '5 6\n100 9')"
	edit '.mounts[-1].options[1] = "idmap=uids=10000-5-10"'
	in_container 'stat -c "%u %g" /mnt/file'
	expect '5 20000'
	chown -R 100000:200000 "$B/rootfs"
	chmod 755 "$T"
	edit '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 1}, {"containerID": 1, "hostID": 150000, "size": 1000}]
		| .linux.gidMappings = [{"containerID": 0, "hostID": 200000, "size": 65536}] | .mounts[-1].options[1] = "idmap=uids=@10000-8-1#7-100000-1;gids=@20000-0-10"'
	in_container 'stat -c "%u %g" /mnt/file /mnt/seven'
	expect "$(printf '8 0\n0 3')"
	edit '.mounts[-1].options[1] = "idmap=uids=@10000-2000-1"'
	fails "mounts\[.*options: idmap=uids=@10000-2000-1: .*not mapped" run --bundle "$B" c
	edit '.mounts[-1].options[1] = "idmap=uids=@10000-0-2"'
	fails 'split it' run --bundle "$B" c
}

test_idmap_refused() {
	bundle b
	bind bind idmap
	fails 'mounts\[.*options: idmap needs uidMappings' run --bundle "$B" c
	edit '.mounts[-1] = {"destination": "/mnt", "type": "bind", "source": "/proc", "options": ["rbind"], "uidMappings": [{"containerID": 0, "hostID": 5, "size": 1}],
		"gidMappings": [{"containerID": 0, "hostID": 5, "size": 1}]}'
	fails "/proc can't be mounted with id mappings" run --bundle "$B" c
	expect_nothing_left c
}

run_test "$@"
