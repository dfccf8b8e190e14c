# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2034,SC2154 # variables of the sourcing script, and for it
# Shared by the scripts of this directory: sourced with $root (the checkout) and $name (the script).

cache=$root/.cache
kernel=$cache/kernel/vmlinuz

# What guests with a driver load, in this order: vfio-pci, uio_pci_generic and our own module, and what
# they need. Newer kernels have fewer.
kernel_modules="irqbypass vfio vfio_virqfd vfio_iommu_type1 vfio-pci-core vfio-pci
	uio uio_pci_generic"

# For meson setup with clang: fuzz targets, and the layers under them with coverage too: else the
# fuzzer is blind.
fuzz_options="-Dfuzzers=true -Db_sanitize=address,undefined -Db_lundef=false
	-Dc_args=-fsanitize=fuzzer-no-link"

say() {
	echo "$name: $*"
}

die() {
	echo "$name: $*" >&2
	exit 1
}

# persist LOG COMMAND...: for what comes over the network. Its output goes to LOG; if it fails, it is
# tried again, for a mirror may be out of breath, or in the middle of its own update.
persist() {
	output=$1
	shift
	for pause in 5 15 45 end; do
		! "$@" >"$output" 2>&1 || return 0
		[ "$pause" != end ] || return 1
		say "that failed, once more in $pause s: $(tail -n 1 "$output")" >&2
		sleep "$pause"
	done
}

# copy_checkout DIRECTORY: the tracked files
copy_checkout() {
	mkdir -p "$1"
	if git -C "$root" rev-parse --git-dir >/dev/null 2>&1; then
		git -C "$root" ls-files -z | tar -C "$root" -c --null -T -
	else
		tar -C "$root" -c --exclude='./build*' --exclude=./.cache .
	fi | tar -C "$1" -x --no-same-owner
}

# ---- apt with a system of its own ----
#
# Newer releases, other architectures and sources come from the archive that this machine's apt uses
# already, but with lists and a state of their own: the machine's own sources stay as they are.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The codename of the Debian that this is.
own_release() {
	# shellcheck disable=SC1091 # whatever Debian says about itself
	(. /etc/os-release && echo "${VERSION_CODENAME:-}")
}

# The address of the archive.
archive_address() {
	# shellcheck disable=SC2016 # fields of apt, not shell variables
	address=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' \
		'Created-By: Packages' | awk -v own="$(own_release)" \
		'$1 == own && $2 == "main" { print $3; exit }')
	[ -n "$address" ] || die "apt has no source for $(own_release) main: try apt-get update"
	echo "$address"
}

# apt_system DIRECTORY KIND SUITE...: prepare one that has nothing installed. KIND is deb or deb-src.
apt_system() {
	system=$1
	kind=$2
	shift 2
	target=Packages
	[ "$kind" = deb ] || target=Sources
	address=$(archive_address) || exit 1
	mkdir -p "$system/lists/partial" "$system/cache/archives/partial"
	: >"$system/status"
	for suite in "$@"; do
		echo "$kind [target=$target signed-by=$keyring] $address $suite main"
	done >"$system/sources.list"
}

# private_apt DIRECTORY ARGUMENT...: apt-get on it
private_apt() {
	system=$1
	shift
	apt-get -q -o APT::Sandbox::User=root -o Dir::State="$system" \
		-o Dir::State::lists="$system/lists" -o Dir::State::status="$system/status" \
		-o Dir::Cache="$system/cache" -o Dir::Etc::sourcelist="$system/sources.list" \
		-o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=- \
		-o APT::Update::Error-Mode=any "$@"
}
