# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2317 # functions for whoever sources this, after lib.sh
# The packaged services under systemd, for tests in booted machines. UNIT is the one with the server,
# unless it is said.

# What the kernel says must not be in the middle of a line of ours. It says its last words anyway.
echo 1 >/proc/sys/kernel/printk

property() {
	systemctl show --property "$2" --value "$1"
}

# keeper [UNIT]
keeper() {
	property "${1:-ivshmem-server}" MainPID
}

# replaced PID [UNIT]: another process than that one runs below the keeper
replaced() {
	below=$(worker "$(keeper "${2:-}")")
	[ -n "$below" ] && [ "$below" != "$1" ]
}

# kill_worker [UNIT]
kill_worker() {
	kill -KILL "$(worker "$(keeper "${1:-}")")"
}
