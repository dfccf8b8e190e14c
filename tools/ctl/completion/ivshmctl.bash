# SPDX-License-Identifier: MIT
# Completion of ivshmctl for bash. tests/lint/completion.py compares it with `ivshmctl --help`.

_ivshmctl() {
	local cur prev word command="" socket="" place=0 i
	local common="--socket --json --timeout --help --version"
	local -A options=(
		[list]="--names"
		[channels]="--every"
		[capture]="--write --count --duration --no-doorbells"
		[create]="--size --vectors --allow --uuid --header --listen --listen-mode
			--listen-owner --shm --dir --file --reuse --no-prealloc --memory-reserve
			--huge-pages --numa-node --region-mode --zero-on-last-leave --max-peers
			--max-peers-per-uid --max-queue --stall-timeout"
		[remove]="--force"
		[drain]="--off"
		[evict]="--reason"
		[top]="--interval"
	)
	local commands="list show peers watch capture channels create remove drain evict reload top
		devices version"
	local takes_value=" -S --socket --timeout --size --vectors --allow --uuid --listen --listen-mode
		--listen-owner --shm --dir --file --memory-reserve --huge-pages --numa-node
		--region-mode --max-peers --max-peers-per-uid --max-queue --stall-timeout --reason
		--interval --every -w --write --count --duration "

	COMPREPLY=()
	cur=${COMP_WORDS[COMP_CWORD]}
	prev=${COMP_WORDS[COMP_CWORD - 1]}

	# The command, how many arguments it has so far, and where the server is.
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		-S | --socket) socket=${COMP_WORDS[++i]} ;;
		-*) [[ $takes_value =~ [[:space:]]"$word"[[:space:]] ]] && ((++i)) ;;
		*) if [[ -z $command ]]; then command=$word; else ((++place)); fi ;;
		esac
	done

	case $prev in
	-S | --socket | --dir | --file | --listen | -w | --write)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--huge-pages)
		mapfile -t COMPREPLY < <(compgen -W "2M 1G" -- "$cur")
		return
		;;
	esac
	[[ $takes_value =~ [[:space:]]"$prev"[[:space:]] ]] && return

	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$common ${options[$command]:-}" -- "$cur")
	elif [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
	elif [[ $place == 0 && " show peers watch capture channels remove drain evict " == *" $command "* ]]; then
		word=$("${COMP_WORDS[0]}" --timeout 2 ${socket:+--socket "$socket"} list --names 2>/dev/null)
		mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
	fi
}

complete -F _ivshmctl ivshmctl
