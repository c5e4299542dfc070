# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# --trace: where the time of a checkpoint and of a restore goes.
. "$TESTS/lib.sh"

# spans FILE PROCESSES NAME...: well-formed, whole, of so many processes at least, with these spans, each of which is a second at most.
spans() {
	python3 - "$@" <<- 'END' || fail "$1: $(head -c 2000 "$1")"
		import json, sys
		events = json.load(open(sys.argv[1]))
		spans = [e for e in events if e["ph"] == "X"]
		for e in spans:
		    assert e["dur"] >= 0 and e["ts"] > 0 and isinstance(e["pid"], int) and isinstance(e["tid"], int), e
		names = {e["name"] for e in spans}
		missing = set(sys.argv[3:]) - names
		assert not missing, missing
		assert len({e["pid"] for e in spans}) >= int(sys.argv[2]), "processes"
		named = {e["pid"] for e in events if e["ph"] == "M"}
		assert {e["pid"] for e in spans} <= named, "a process without a name"
		assert events[-1]["name"] == "end"
	END
}

test_trace() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	fails 'no such file' checkpoint --trace "$T/none/t.json" --image-path "$T/i" c
	expect_progress
	ok checkpoint --leave-running --trace "$T/t.json" --image-path "$T/i" c
	spans "$T/t.json" 2 preflight capture "stop tasks" collect "ask tasks" files "complete image"
	ok checkpoint --image-path "$T/i" c
	ok restore -d --trace "$T/t.json" --image-path "$T/i" --bundle "$B" d
	spans "$T/t.json" 1 "read image" create "clone init" coordinate registers unmap
	expect_progress
	ok delete -f d
	# Also of one that fails.
	export FAULT=restore-registers:EIO
	fails 'fault point' restore -d --trace "$T/t.json" --image-path "$T/i" --bundle "$B" e
	unset FAULT
	spans "$T/t.json" 1 registers
}

run_test "$@"
