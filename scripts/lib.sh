# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2034,SC2154 # variables of the sourcing script, and for it
# Shared by the scripts of this directory: sourced with $root (the checkout) and $name (the script).

cache=$root/.cache
kernel=$cache/kernel/vmlinuz

say() {
	echo "$name: $*"
}

die() {
	echo "$name: $*" >&2
	exit 1
}
