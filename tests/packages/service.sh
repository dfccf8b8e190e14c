# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2317 # functions for whoever sources this, after lib.sh
# The packaged services under systemd, for tests in booted machines. UNIT is the one with the server,
# unless it is said.

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
