# SPDX-License-Identifier: MIT
# shellcheck shell=sh disable=SC2154,SC2317 # functions for whoever sources this, after service.sh
# What SELinux does to the packaged services, for tests/packages/booted. The tests are initrc_t, which may
# do everything; /tests/guest and /tests/httpd are ivshmem-client with the labels of others' programs.

confinement="in its SELinux domain"
guest=system_u:system_r:svirt_t:s0:c100,c200 # as libvirt makes them up for each machine
other_guest=system_u:system_r:svirt_t:s0:c100,c300

as_machine() {
	as alice runcon "$guest" "$@"
}

label_of() {
	tr -d '\0' <"/proc/$1/attr/current"
}

# confined_as UNIT PID
confined_as() {
	case $1 in
	ivshmem-device) domain=ivshmem_device_t ;;
	*) domain=ivshmem_t ;;
	esac
	is "system_u:system_r:$domain:s0" label_of "$2"
}

may_serve_http() {
	setsebool ivshmem_metrics on
}

# denied PATTERN: what our domains, or others at ours, were denied, as far as it fits. What never was is
# an error to ausearch.
denied() {
	ausearch --input-logs -m avc --raw 2>/dev/null | grep '^type=AVC.*denied.*:ivshmem_' | grep "$1"
}

nothing_denied() {
	fails denied . && is "lost 0" sh -c 'auditctl -s | grep ^lost'
}

# ---- more than what every security module is tested with ----

# types_are TYPE PATH...
types_are() {
	type=$1
	shift
	for path in "$@"; do
		is "system_u:object_r:$type:s0" stat -Lc %C "$path" || return
	done
}

# memories_of PID: its descriptors of memory files
memories_of() {
	find "/proc/$1/fd" -lname '/memfd:*'
}

files_have_types() {
	memories=$(memories_of "$(worker "$(keeper)")")
	# shellcheck disable=SC2086 # a list
	[ -n "$memories" ] && types_are ivshmem_run_t /run/ivshmem /run/ivshmem/*.sock &&
		types_are ivshmem_conf_t /etc/ivshmem /etc/ivshmem/* &&
		types_are ivshmem_lib_t /var/lib/ivshmem &&
		types_are ivshmem_memory_t $memories
}

# joins OPTION...: alice joins a region of such memory
joins() {
	ivshmctl create try --vectors 1 --listen-mode 0660 --allow group=ivshmem "$@" &&
		as alice ivshmem-client --uri region:try info && as_machine /tests/guest --uri region:try info &&
		ivshmctl remove --force try
}

file_is_joined() {
	truncate -s 1M /var/lib/ivshmem/kept && chown ivshmem:ivshmem /var/lib/ivshmem/kept &&
		joins --file /var/lib/ivshmem/kept
}

huge_pages_are_joined() {
	echo 2 >/proc/sys/vm/nr_hugepages && joins --size 2M --huge-pages 2M
}

guest_is_in() {
	rings=0
	client g $frames "as_machine /tests/guest" && client h $frames && they_talk $frames g h
}

survives_with_guest() {
	before=$(worker "$(keeper)")
	kill_worker && eventually replaced "$before" && they_talk $frames g h
}

label_is_seen() {
	ivshmctl --json peers frames | grep "\"label\": *\"$guest\""
}

# Without --allow it would let in nobody but root and the server's user.
label_is_a_condition() {
	ivshmctl create labelled --size 1M --vectors 1 --listen-mode 0660 --allow 'label=*:svirt_t:*c200' &&
		as_machine /tests/guest --uri region:labelled info &&
		fails as alice ivshmem-client --uri region:labelled info &&
		fails as alice runcon $other_guest /tests/guest --uri region:labelled info &&
		eventually is 2 sh -c 'journalctl -q -u ivshmem-server | grep -c "labelled: .*refused"'
}

# With what docs/operations.md says.
executable_is_a_condition() {
	conf=/run/systemd/system/ivshmem-server.service.d/ptrace.conf
	mkdir -p ${conf%/*}
	cat >$conf <<-END
	[Service]
	CapabilityBoundingSet=CAP_SYS_PTRACE
	AmbientCapabilities=CAP_SYS_PTRACE
	SystemCallFilter=capset
	END
	setsebool ivshmem_executables on && systemctl daemon-reload && systemctl restart ivshmem-server &&
		ivshmctl create programs --size 1M --vectors 1 --listen-mode 0660 \
			--allow executable=/tests/guest &&
		as_machine /tests/guest --uri region:programs info &&
		fails as alice ivshmem-client --uri region:programs info
	status=$?
	[ $status = 0 ] || journalctl -q -u ivshmem-server | tail -n 5
	rm $conf
	return $status
}

more_of_confinement() {
	try "SELinux enforces" is Enforcing getenforce
	try "sockets, files and memory have types of their own" files_have_types
	try "a machine with libvirt's label and a peer ring each other" guest_is_in
	try "the server is killed with a machine in it" survives_with_guest
	try "the server knows its label" label_is_seen
	try "a rule by label lets that in, no other machine and nobody else" label_is_a_condition
	try "memory that has a name" joins --size 1M --shm try --region-mode 0660
	try "memory in a file" file_is_joined
	try "memory of huge pages" huge_pages_are_joined
	try "a rule by executable" executable_is_a_condition
}

# It is alice, too, and the socket would let her in.
web_server_stays_out() {
	fails as alice /tests/httpd --uri $frames info && eventually denied 'scontext=[^ ]*:httpd_t:'
}

# As root, with all capabilities: what the unit takes away besides does not count.
server_reads_no_secrets() {
	fails systemd-run --quiet --property Type=oneshot ivshmem-server --config /etc/shadow --check &&
		eventually denied 'scontext=[^ ]*:ivshmem_t:.*tcontext=[^ ]*:shadow_t:'
}

# The unit of the devices names a domain that is not there unless somebody has loaded the module.
unknown_domain_is_none() {
	cat >/run/systemd/system/nothing.service <<-END
	[Service]
	Type=oneshot
	SELinuxContext=-system_u:system_r:nothing_t:s0
	ExecStart=cat /proc/self/attr/current
	END
	systemctl daemon-reload && systemctl start nothing && eventually nothing_said
}

nothing_said() {
	journalctl -q -u nothing | grep ':initrc_t:\|:init_t:'
}

what_is_denied() {
	systemctl start ivshmem-server
	try "a web server stays out" web_server_stays_out
	try "the server's domain reads no secrets, not as root either" server_reads_no_secrets
	try "a service whose domain the policy does not know starts" unknown_domain_is_none
}
