# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the callers of a runtime read: the log as text and JSON, the words of errors, exit statuses, --version.
. "$TESTS/lib.sh"

# logged PATTERN COMMAND...: fails; the log's last line is a JSON error whose msg matches, as containerd and conmon read it;
# standard error has the same words.
logged() {
	local pattern=$1
	shift
	rm -f "$T/log"
	fails . --log "$T/log" --log-format json "$@"
	tail -1 "$T/log" | jq -e --arg p "$pattern" '.level == "error" and (.msg | test($p)) and
		(.time | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$"))' > "$T/jq" || fail "the log of '$*': $(cat "$T/log")"
	jq -r .msg "$T/log" | tail -1 | grep -Fqf - "$T/err" || fail "standard error says something else: $(cat "$T/err")"
}

test_json_lines() {
	bundle b
	logged '^container does not exist' state nobody
	logged 'config.json not found' run --bundle "$T" c
	edit '.process.args = ["say \"\\\u0001 \u00e9"]'
	logged 'executable file not found in \$PATH' run --bundle "$B" c
	jq -e . "$T/log" > "$T/jq" || fail "not JSON: $(cat "$T/log")"
	# a file name that is not UTF-8 does not spoil the line
	fails 'no such file or directory' --log "$T/log" --log-format json run --bundle "$T/"$'\xff\xc3( \xed\xa0\x80 \xc3\xa9' c
	python3 -c 'import json, sys; [json.loads(l.decode("utf-8")) for l in open(sys.argv[1], "rb")]' "$T/log" || fail "$(cat "$T/log")"
	tail -1 "$T/log" | grep -q '/.ufffd.ufffd( .ufffd.ufffd.ufffd é:' || fail "$(cat "$T/log")"
	# lines are added to what is there
	echo '{"level":"info","msg":"before"}' > "$T/log"
	fails 'exist' --log "$T/log" --log-format json state nobody
	[ "$(jq -rs '.[0].msg' "$T/log")" = before ] || fail "$(cat "$T/log")"
}

test_text_lines() {
	fails 'exist' --log "$T/log" state nobody
	grep -Eq '^time="[^"]*" level=error msg="container does not exist: nobody"$' "$T/log" || fail "$(cat "$T/log")"
	# without a file JSON goes to standard error, and nothing else does
	fails 'exist' --log-format json state nobody
	jq -e '.level == "error"' "$T/err" > "$T/jq" || fail "$(cat "$T/err")"
	fails 'log-format' --log-format xml state nobody
	fails 'log-level' --log-level loud state nobody
	fails 'no such file' --log "$T/no/such" state nobody
}

test_levels() {
	bundle b true
	edit '.process.capabilities.bounding += ["CAP_TO_FLY"]'
	ok --log "$T/warning" --log-level warning run --bundle "$B" c
	grep -q 'level=warning.*CAP_TO_FLY' "$T/warning" || fail "$(cat "$T/warning")"
	ok --log "$T/error" --log-level error run --bundle "$B" c
	[ ! -s "$T/error" ] || fail "$(cat "$T/error")"
	ok --log "$T/debug" --debug run --bundle "$B" c
	grep -q 'level=warning' "$T/debug" || fail "$(cat "$T/debug")"
}

test_words_that_callers_match() {
	bundle b
	local c
	for c in state start pause resume ps "events --stats" update checkpoint "kill" delete; do
		# shellcheck disable=SC2086
		logged '^container does not exist' $c nobody
	done
	logged 'exec failed: container does not exist' exec nobody true
	ok create --bundle "$B" c
	logged 'container with given ID already exists' create --bundle "$B" c
	logged 'container not paused' resume c
	ok start c
	logged 'cannot start an already running container' start c
	logged 'cannot delete container c that is not stopped: running' delete c
	ok pause c
	logged 'container not running' pause c
	logged 'cannot exec in a paused container' exec c true
	logged 'cannot start a container in the paused state' start c
	ok resume c
	ok kill c KILL
	expect_status c stopped
	logged '^container not running' kill c TERM
	logged 'container not running' update --memory 100m c
	logged 'cannot exec in a stopped container' exec c true
	logged 'cannot start a container that has stopped' start c
	logged 'flag needs an argument' restore --lsm-mount-context
	logged 'flag provided but not defined: -bogus' run --bogus c
	logged 'requires exactly 1 argument' run
}

# podman and docker make 126 and 127 of these words.
test_programs_that_cannot_be_executed() {
	bundle b
	echo text > "$B/rootfs/etc/text"
	start c
	local how
	for how in run exec; do
		reason "$how" 'exec: "nosuch": executable file not found in \$PATH' nosuch
		reason "$how" 'exec: "/no/such": stat /no/such: no such file or directory' /no/such
		reason "$how" 'exec: "/etc/text": permission denied' /etc/text
		reason "$how" 'exec: "/etc": is a directory' /etc
	done
	chmod 755 "$B/rootfs/etc/text"
	reason exec 'exec /etc/text: exec format error' /etc/text
}

reason() {
	local how=$1 pattern=$2 program=$3 status=0
	if [ "$how" = exec ]; then
		logged "$pattern" exec c "$program"
		stasis exec c "$program" < /dev/null 2> "$T/err" || status=$?
		[ "$status" = 255 ] || fail "status $status"
	else
		jq --arg p "$program" '.process.args = [$p] | .linux.cgroupsPath += "-other"' "$B/config.json" > "$T/other.json"
		logged "$pattern" run --bundle "$B" --config "$T/other.json" d
	fi
}

test_version() {
	ok --version
	[ "$(sed -n '1s/ [0-9.]*$//p' "$T/out")" = "stasis version" ] || fail "$(cat "$T/out")"
	grep -Eq '^commit: ([0-9a-f]{40}|unknown)$' "$T/out" || fail "$(cat "$T/out")"
	grep -Eq '^spec: 1\.[0-9]+\.[0-9]+$' "$T/out" || fail "$(cat "$T/out")"
	cp "$T/out" "$T/long"
	ok -v
	diff "$T/out" "$T/long" || fail "-v"
}

run_test "$@"
