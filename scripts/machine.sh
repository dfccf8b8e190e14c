# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # of lib.sh, and of the script that sources this after lib.sh
# A minimal Debian in a directory, to run commands in: new_machine makes it, inside runs them, and it
# is gone when the script ends, unless $keep says something. Needs root, and scripts/setup fresh.
#
# From this machine it inherits only what it takes to reach a Debian archive: addresses, keys, apt's
# settings for fetching, proxies, certificates and the resolver. Mounts are made in a mount namespace
# and processes live in a PID namespace of their own: however the script ends, none of them stays, and
# the directory can be removed without fear for /dev.

suite=bookworm

# As root, with the arguments of this script: as_root "$@"
as_root() {
	[ "$(id -u)" != 0 ] || return 0
	command -v sudo >/dev/null || die "needs root, and there is no sudo"
	exec sudo --preserve-env=http_proxy,https_proxy,no_proxy,TMPDIR "$0" "$@"
}

remove_machine() {
	# With it all of its namespace ends. Nothing else is waited for: what reads the script's output
	# ends after the script.
	[ -z "$child" ] || { kill -KILL "$child" && wait "$child"; } 2>/dev/null
	if [ -n "${keep:-}" ]; then
		say "the machine is in $machine (remove with: rm -rf --one-file-system $dir)"
	else
		rm -rf --one-file-system "$dir" 2>/dev/null && return
		sleep 1 # the last of its processes was still dying
		rm -rf --one-file-system "$dir"
	fi
}

# Debian's archives as apt knows them here: "URI RELEASE COMPONENT".
archives() {
	# shellcheck disable=SC2016 # fields of apt, not shell variables
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' |
		awk -v suite=$suite '$2 == suite || index($2, suite "-") == 1' | sort -u
}

bootstrap() {
	rm -rf --one-file-system "$machine" && mkdir "$machine" &&
		debootstrap --variant=minbase \
			--keyring=/usr/share/keyrings/debian-archive-keyring.gpg "$@"
}

# make_base TAR
make_base() {
	local archive proxy base=$1
	archive=$(awk -v suite=$suite '$2 == suite { print $1; exit }' "$dir/archives")
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	say "making a minimal Debian $suite (kept in .cache for a week)"
	http_proxy=${http_proxy:-${proxy:-}} persist "$dir/debootstrap.log" \
		bootstrap $suite "$machine" "$archive" || {
		tail -n 20 "$dir/debootstrap.log" >&2
		die "debootstrap failed"
	}
	rm -f "$machine"/var/cache/apt/archives/*.deb
	tar -C "$machine" -cf "$base.new" . && mv "$base.new" "$base"
}

# What it takes to reach the archive, and no more: other settings of apt name programs that a
# minimal system lacks.
connect() {
	sed 's/^/deb /' "$dir/archives" >"$machine/etc/apt/sources.list"
	apt-config dump | grep -E '^(Acquire::|APT::Sandbox::User)' |
		grep -Ev '^Acquire::(IndexTargets|Changelogs)' >"$machine/etc/apt/apt.conf.d/90host"
	local path
	for path in /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d /etc/apt/keyrings \
		/etc/apt/auth.conf /etc/apt/auth.conf.d /etc/resolv.conf /etc/hosts \
		/etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates; do
		[ -e "$path" ] || continue
		mkdir -p "$machine${path%/*}"
		rm -rf "${machine:?}$path"
		cp -rL "$path" "$machine$path"
	done
}

# The namespace's first process, which collects orphans as an init does.
# shellcheck disable=SC2016 # expanded there
boot='
set -e
machine=$1
shift
mount --bind "$machine" "$machine" # as / of a machine is: what runs there may want namespaces, too
mount -t proc proc "$machine/proc"
mount --rbind /sys "$machine/sys"
mount --rbind /dev "$machine/dev"
mount -t tmpfs -o mode=1777 tmpfs "$machine/dev/shm"
chroot "$machine" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" <&0 &
wait $!
'

# inside COMMAND...: run in the machine, in its folder $workplace. In the background, so that a signal
# ends this script at once and not after the command; hence the standard input by name. In a chroot
# already, mounts are nobody else's business anyway, and can't be made so.
inside() {
	local variable environment=("TERM=${TERM:-dumb}") propagation=()
	mountpoint -q / || propagation=(--propagation unchanged)
	for variable in http_proxy https_proxy ftp_proxy no_proxy; do
		[ -z "${!variable:-}" ] || environment+=("$variable=${!variable}")
	done
	# shellcheck disable=SC2016 # expanded there
	unshare --mount "${propagation[@]}" --pid --fork --kill-child bash -c "$boot" boot \
		"$machine" "${environment[@]}" bash -c 'cd "$1" && shift && exec "$@"' bash \
		"${workplace:-/}" "$@" <&0 &
	child=$!
	wait $child
	local status=$?
	child=
	return $status
}

# new_machine: $machine is its root, $dir a folder around it for other things.
new_machine() {
	dir=$(mktemp -d "${TMPDIR:-/var/tmp}/ivshmem-fresh.XXXXXX") || exit 1
	machine=$dir/machine
	child=
	trap remove_machine EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	local base=$cache/fresh-$suite.tar
	mkdir -p "$cache"
	chmod 755 "$dir"
	mkdir "$machine"
	archives >"$dir/archives"
	if [ ! -s "$dir/archives" ]; then
		persist "$dir/apt.log" apt-get -qq update
		archives >"$dir/archives"
		[ -s "$dir/archives" ] || die "apt knows no Debian archive with $suite"
	fi
	if [ -n "$(find "$base" -mtime -7 2>/dev/null)" ]; then
		tar -C "$machine" -xf "$base" || exit 1
	else
		make_base "$base"
	fi
	connect
}
