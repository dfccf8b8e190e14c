# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2317 # functions for whoever sources this, after service.sh
# What AppArmor does to the packaged services, for tests/packages/booted.

confinement="in its AppArmor profile"

# confined_as UNIT PID: in the profile of the same name
confined_as() {
	is "$1 (enforce)" cat "/proc/$2/attr/current"
}

nothing_denied() {
	! dmesg | grep -m 5 'apparmor="DENIED".*profile="ivshmem-'
}

# What tests of SELinux do besides.
may_serve_http() { :; }
more_of_confinement() { :; }
what_is_denied() { :; }
