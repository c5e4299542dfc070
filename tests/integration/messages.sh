# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What users meet when something is not as it should be: what failed, why, and what to do about it.
. "$TESTS/lib.sh"

make_image() {
	start c
	ok checkpoint --image-path "$T/i" c
}

# A config.json with other kinds of namespaces must not put a container into the machine's network, or among its processes.
test_namespaces_of_the_bundle() {
	local kind
	bundle b
	cp "$B/config.json" "$T/whole.json"
	make_image
	for kind in network pid ipc uts cgroup; do
		cp "$T/whole.json" "$B/config.json"
		edit '.linux.namespaces |= map(select(.type != $k))' --arg k "$kind"
		[ $kind != uts ] || edit 'del(.hostname)'
		fails "had a $kind namespace, and linux.namespaces .* has none .*restored, it would be .*the machine's.*--spec-check warning or ignore" \
			restore -d --image-path "$T/i" --bundle "$B" d
		expect_nothing_left d
	done
	cp "$T/whole.json" "$B/config.json"
	edit '.linux.namespaces |= map(if .type == "network" then .path = "/proc/self/ns/net" else . end)'
	fails "had a network namespace.*the machine's by its path" restore -d --image-path "$T/i" --bundle "$B" d
	cp "$T/whole.json" "$B/config.json"
	edit '.linux.namespaces |= map(select(.type != "cgroup"))'
	ok restore -d --spec-check warning --image-path "$T/i" --bundle "$B" d
	grep -q 'had a cgroup namespace' "$T/err" || fail "no warning: $(cat "$T/err")"
	ok delete -f d
	ok restore -d --spec-check ignore --image-path "$T/i" --bundle "$B" d
	[ ! -s "$T/err" ] || fail "a warning: $(cat "$T/err")"
}

test_namespaces_of_the_image() {
	bundle b
	edit '.linux.namespaces |= map(select(.type != "network"))'
	make_image
	edit '.linux.namespaces += [{"type": "network"}]'
	fails "was in the machine's network, .*gives it a network namespace: take \"network\" out" restore -d --image-path "$T/i" --bundle "$B" d
	expect_nothing_left d
	edit '.linux.namespaces |= map(if .type == "network" then .path = "/proc/self/ns/net" else . end)'
	ok restore -d --image-path "$T/i" --bundle "$B" d
}

run_test "$@"
