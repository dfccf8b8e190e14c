# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2034,SC2154 # variables of the sourcing script, and for it
# Shared by the demos, sourced with $root and $name: steps with the time, a directory for what lasts
# no longer than the demo ($dir), processes that end with it ($running), build-demo/ ($build).

start=$(date +%s%N)
step() {
	tenths=$((($(date +%s%N) - start) / 100000000))
	printf '[%3d.%d s] %s\n' $((tenths / 10)) $((tenths % 10)) "$*"
}

# Everything started in the background, by process ID. They ignore Ctrl-C, as background processes
# of a script do; clean_up ends them.
running=
dir=$(mktemp -d "${TMPDIR:-/tmp}/ivshmem-demo.XXXXXX")
clean_up() {
	status=$?
	trap '' INT TERM
	for pid in $running; do
		kill "$pid" 2>/dev/null || :
	done
	wait
	case $status in
	0 | 130 | 143) rm -rf "$dir" ;;
	*) echo "demo: the logs are in $dir" >&2 ;;
	esac
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# fail REASON LOG...: show the ends of these logs.
fail() {
	reason=$1
	shift
	for log in "$@"; do
		[ ! -s "$dir/$log.log" ] || { echo "--- $log, its end:"; tail -n 8 "$dir/$log.log"; } >&2
	done
	die "$reason"
}

# ---- build ----

build=$root/build-demo

# A directory from before learns of new targets, and of compilers that were not there.
configure() {
	if [ -e "$build/build.ninja" ]; then
		meson setup --reconfigure "$build" "$root"
	else
		meson setup "$build" "$root" --buildtype release
	fi >"$dir/build.log" 2>&1 || fail "meson setup failed" build
}

# compile TARGET...
compile() {
	meson compile -C "$build" "$@" >"$dir/build.log" 2>&1 || fail "the build failed" build
}

# ---- the server ----

# serve VECTORS: start it, with 4 MiB of memory; its $socket and $server, the process.
serve() {
	socket=$dir/ivshmem.sock
	mkfifo "$dir/ready"
	"$build/tools/server/ivshmem-server" -F -S "$socket" -l 4M -n "$1" --ready-fd 3 \
		3>"$dir/ready" >"$dir/server.log" 2>&1 &
	server=$!
	running="$running $server"
	read -r _ <"$dir/ready" || fail "the server did not start" server
}

# How many messages it has sent, once it has ended.
server_messages() {
	sed -n 's/.* \([0-9]*\) messages sent$/\1/p' "$dir/server.log"
}
