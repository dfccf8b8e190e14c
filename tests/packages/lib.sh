# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2154 # $work is a directory of whoever sources this
# What the tests of this directory share. They run where our packages are installed: nothing
# of the checkout is there but this directory, and no Python.

PATIENCE=60 # seconds for what takes moments on an idle machine

# try WHAT COMMAND...: a test case that passes if the command succeeds. One line for each, for
# scripts/packages to count.
try() {
	what=$1
	shift
	if "$@" >"$work/output" 2>&1; then
		echo "passed $what"
	else
		echo "failed $what"
		sed 's/^/    | /' "$work/output"
	fi
}

# eventually COMMAND...: succeeds once the command does
eventually() {
	deadline=$(($(date +%s) + PATIENCE))
	until "$@"; do
		[ "$(date +%s)" -lt $deadline ] || return 1
		sleep 0.1
	done
}

as() {
	user=$1
	shift
	setpriv --reuid "$user" --regid "$user" --init-groups "$@"
}

# is WANTED COMMAND...: the command prints that
is() {
	wanted=$1
	shift
	printed=$("$@") || return
	[ "$printed" = "$wanted" ] || { echo "$*: $printed, not $wanted"; return 1; }
}

fails() {
	if "$@"; then
		return 1
	fi
}

# refused URI USER: that user may not join
refused() {
	fails as "$2" ivshmem-client --uri "$1" info
}

# client NAME URI [PROGRAM]: a peer that stays, as the user alice. say NAME COMMAND... tells it what to
# do, and what it prints (JSON) is in $work/NAME.
client() {
	mkfifo -m 666 "$work/$1.in"
	sleep infinity <>"$work/$1.in" & # so that nobody waits who opens it
	# shellcheck disable=SC2086 # words
	${3:-as alice ivshmem-client} --json --connect-timeout $PATIENCE --uri "$2" \
		<"$work/$1.in" >"$work/$1" 2>&1 &
	eventually grep -q '"connected"' "$work/$1"
}

# as_machine COMMAND...: as a virtual machine of alice's
as_machine() {
	as alice "$@"
}

# machine NAME PATH: such a machine whose device is there; as a client, and $work/NAME.end
# is there once it has ended.
machine() {
	mkfifo -m 666 "$work/$1.in"
	sleep infinity <>"$work/$1.in" &
	{
		as_machine /tests/vmm "$2" <"$work/$1.in" >"$work/$1" 2>&1
		touch "$work/$1.end"
	} &
	eventually grep -q '"connected"' "$work/$1"
}

ended() {
	[ -e "$work/$1.end" ]
}

say() {
	to=$1
	shift
	echo "$*" >"$work/$to.in"
}

# heard NAME PATTERN [TIMES]: it has printed such a line, or so many
heard() {
	[ "$(grep -c "$2" "$work/$1")" -ge "${3:-1}" ]
}

id_of() {
	sed -n '/"connected"/s/.*"id": *\([0-9]*\).*/\1/p' "$work/$1" | head -n 1
}

# worker PID: the process below a keeper
worker() {
	tr -d ' ' <"/proc/$1/task/$1/children"
}

# they_talk URI ONE OTHER: two peers that are in ring each other, and a third that comes is seen by
# both. Once more than the last time for these two.
they_talk() {
	rings=$((${rings:-0} + 1))
	say "$2" "int $(id_of "$3") 0"
	say "$3" "int $(id_of "$2") 0"
	eventually heard "$2" '"interrupt"' $rings && eventually heard "$3" '"interrupt"' $rings || return
	left=$(grep -c '"left"' "$work/$2") others_left=$(grep -c '"left"' "$work/$3")
	as alice ivshmem-client --connect-timeout $PATIENCE --uri "$1" info >/dev/null || return
	eventually heard "$2" '"left"' $((left + 1)) &&
		eventually heard "$3" '"left"' $((others_left + 1)) &&
		! heard "$2" server-lost && ! heard "$3" server-lost
}

# they_play MACHINE CLIENT: the guest and the peer ring each other. Once more than the last time for
# these two.
they_play() {
	plays=$((${plays:-0} + 1))
	say "$2" "int $(id_of "$1") 1"
	say "$1" "int $(id_of "$2") 0"
	eventually heard "$1" '"interrupt"' $plays && eventually heard "$2" '"interrupt"' $plays
}

# ---- the recipes for machines without a service manager ----

# starts RECIPE COMMAND...: which succeeds once it serves
starts() {
	"/usr/share/doc/$1" >"$work/log" 2>&1 &
	keeper=$!
	shift
	eventually "$@" || { cat "$work/log"; return 1; }
}

# replaced PID: another server than that one runs below the keeper
replaced() {
	[ -n "$(worker "$keeper")" ] && [ "$(worker "$keeper")" != "$1" ]
}

ends() {
	kill "$keeper" && wait "$keeper" && is "" find /run/ivshmem -name '*.sock'
}
