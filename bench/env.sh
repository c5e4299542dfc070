# shellcheck shell=bash
# Settings of the bench; each one can be overridden from the environment. Sourced by the scripts here.
: "${BENCH_CACHE:=/var/cache/stasis-bench}" # the peers' root, the containers' roots, images, raw results: never in git
: "${BENCH_SUITE:=sid}"                     # Debian 12's criu does not start on current kernels, its crun refuses hybrid cgroups
: "${BENCH_RUNS:=10}"
: "${BENCH_PEERS:=stasis,runc,crun,runsc}"
: "${BENCH_CASES:=}"                        # empty: all of them
: "${BENCH_STORE:=disk}"                    # where images are written: disk (below BENCH_CACHE) or tmpfs
export BENCH_CACHE BENCH_SUITE BENCH_RUNS BENCH_PEERS BENCH_CASES BENCH_STORE
BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export BENCH_DIR
