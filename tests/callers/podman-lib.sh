# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# podman with stasis as its runtime: storage and state below the test's private /var/lib and /run.
. "$TESTS/callers/lib.sh"

need podman conmon

# podman's own limits want CAP_SYS_RESOURCE, which may be missing here.
cat > "$T/containers.conf" << END
[containers]
default_ulimits = ["nofile=1024:2048", "nproc=4096:4096"]
netns = "none"
[network]
network_backend = "cni"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "stasis"
[engine.runtimes]
stasis = ["$STASIS"]
END
export CONTAINERS_CONF=$T/containers.conf

# Its newer networks, instead of CNI's.
netavark() {
	[ -x "${NETAVARK:=/usr/lib/podman/netavark}" ] || skip "not on this machine: netavark"
	mkdir "$T/networks"
	sed -i "s:^network_backend.*:network_backend = \"netavark\"\nnetwork_config_dir = \"$T/networks\":; s:^\[engine\]:&\nhelper_binaries_dir = [\"$(dirname "$NETAVARK")\", \"/usr/lib/podman\", \"/usr/bin\"]:" "$CONTAINERS_CONF"
}

# The image "bb".
podman_image() {
	image
	succeeds podman import "$T/image.tar" bb
}

state_is() {
	[ "$(podman inspect --format '{{.State.Status}}' "$1" 2> /dev/null)" = "$2" ]
}

expect_state() {
	eventually 5 state_is "$2" "$1"
}

logged() {
	says "$2" podman logs "$1"
}

clean_up() {
	podman pod rm -a -f -t 0 > "$T/rm" 2>&1
	podman rm -a -f -t 0 >> "$T/rm" 2>&1
	[ -z "$(podman ps -aq --external 2> /dev/null)" ] || fail "podman rm: $(cat "$T/rm")"
}

# For eventually.
succeeds_at_last() {
	"$@" > "$T/rm" 2>&1
}
