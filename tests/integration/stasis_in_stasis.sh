# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# A container in a container, by the same program: the outer one is checkpointed with it, and the inner one from within.
. "$TESTS/lib.sh"

# What the outer one lets the inner one have.
both() {
	! pure_v2 || skip "not on this machine: cgroups of version 1 (with version 2 only, the inner one stands still, for a reason not known yet)"
	bundle b sh -c "mkdir -p /run/s; stasis --root /run/s run -d --bundle /inner in > /cr/log 2>&1 < /dev/null; $COUNTER"
	cp "$STASIS" "$B/rootfs/bin/stasis"
	mkdir -p "$B/rootfs/usr" "$B/rootfs/inner/rootfs"/{proc,dev,sys,cr,tmp}
	ln -s usr/lib "$B/rootfs/lib"
	ln -s usr/lib64 "$B/rootfs/lib64"
	cp -a "$B/rootfs/bin" "$B/rootfs/inner/rootfs/"
	edit '.mounts |= map(select(.type != "cgroup")) + [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["rw"]},
			{destination: "/usr", type: "bind", source: "/usr", options: ["rbind", "ro"]}]
		| .linux.maskedPaths = [] | .linux.readonlyPaths = [] | .linux.resources.devices = [{allow: true, access: "rwm"}]
		| .process.capabilities |= map_values(. + ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_SETPCAP",
			"CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_NICE", "CAP_IPC_OWNER", "CAP_SYS_TIME"] | unique)'
	(cd "$B/rootfs/inner" && "$STASIS" spec) || fail "spec"
	jq --arg s "$COUNTER" '.process.args = ["sh", "-c", $s] | .process.terminal = false | .root.readonly = false | .linux.cgroupsPath = "/inner"' \
		"$B/rootfs/inner/config.json" > "$T/inner.json" && mv "$T/inner.json" "$B/rootfs/inner/config.json"
	start c
	eventually 10 inner_counts
}

inner_count() {
	local n
	n=$(cat "$B/rootfs/inner/rootfs/cr/count" 2> "$T/none")
	echo "${n:-0}"
}

inner_counts() {
	local before
	before=$(inner_count)
	sleep 0.3
	[ "$(inner_count)" -gt "$before" ]
}

within() {
	stasis exec c stasis --root /run/s "$@" < /dev/null > "$T/within" 2>&1 || fail "$*: $(cat "$T/within")"
}

test_outer() {
	both
	for way in i k; do
		ok checkpoint --image-path "$T/$way" c
		ok restore -d --image-path "$T/$way" --bundle "$B" c
		expect_progress
		eventually 5 inner_counts
	done
}

test_inner() {
	both
	within checkpoint --image-path /cr/image in
	! inner_counts || fail "it still runs"
	within restore -d --image-path /cr/image --bundle /inner in
	eventually 5 inner_counts
	within delete -f in
}

run_test "$@"
