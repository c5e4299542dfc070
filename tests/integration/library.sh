# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# libstasis: the example program, the promises of its header, and what it shows to others.
. "$TESTS/lib.sh"

library_bundle() {
	bundle b sh -c 'trap "exit 7" TERM; while :; do usleep 10000; done'
}

test_example() {
	library_bundle
	timeout 30 "$BUILD/examples/embed" "$STASIS" "$ROOT" "$B" "$T/image" < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	diff "$T/out" - <<- EOD || fail "the example says something else"
		embedded: created
		embedded: running
		exec: exit status 42
		embedded: paused
		embedded-again: running
		ended with status 7
	EOD
	expect_nothing_left embedded
	expect_nothing_left embedded-again
}

nothing_there() {
	[ -z "$(ls -A "$ROOT")" ]
}

test_promises() {
	local i
	for i in 0 1 2 3; do bundle t$i; done
	library_bundle
	timeout 50 "$BUILD/tests/tools/library" "$STASIS" "$ROOT" "$B" "$T" < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	eventually 5 nothing_there || fail "containers are left: $(ls -A "$ROOT")"
}

test_exports() {
	nm -D --defined-only "$BUILD/src/lib/libstasis.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort > "$T/exported"
	grep -ohE '\bstasis_[a-z_]+\(' "$TESTS/../include/stasis.h" | tr -d '(' | sort -u > "$T/declared"
	diff "$T/declared" "$T/exported" || fail "the header and the library differ"
	grep -oE 'stasis_[a-z_]+' <(grep '^\.BR stasis_' "$TESTS/../docs/man/libstasis.3") | sort -u > "$T/described"
	diff "$T/declared" "$T/described" || fail "the header and the manual page differ"
}

run_test "$@"
