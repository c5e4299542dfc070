# bash completion for stasis. The program itself says which commands and options it has, so this cannot go stale.

_stasis() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} prog=${COMP_WORDS[0]} command='' root='' i
	local -a globals=()
	COMPREPLY=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--root) root=${COMP_WORDS[i + 1]}; i=$((i + 1)) ;;
		--root=*) root=${COMP_WORDS[i]#*=} ;;
		--log | --log-format | --log-level | --cgroup-manager | --rootless) i=$((i + 1)) ;;
		-* | =) ;;
		*) command=${COMP_WORDS[i]}; break ;;
		esac
	done
	[ -z "$root" ] || globals=(--root "$root")

	case $prev in
	--bundle | -b | --root | --image-path | --work-path | --parent-path)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		compopt -o filenames 2> /dev/null
		return ;;
	--log | --pid-file | --console-socket | --pidfd-socket | --process | -p | --config | --resources | -r)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames 2> /dev/null
		return ;;
	--lazy) mapfile -t COMPREPLY < <(compgen -W 'yes no auto' -- "$cur"); return ;;
	--log-level) mapfile -t COMPREPLY < <(compgen -W 'error warning info debug' -- "$cur"); return ;;
	--log-format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$cur"); return ;;
	--format | -f)
		case $command in
		list | ps) mapfile -t COMPREPLY < <(compgen -W 'table json' -- "$cur"); return ;;
		check) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$cur"); return ;;
		inspect) mapfile -t COMPREPLY < <(compgen -W 'text json html' -- "$cur"); return ;;
		esac ;;
	--progress) mapfile -t COMPREPLY < <(compgen -W 'auto tty json none' -- "$cur"); return ;;
	--compress) mapfile -t COMPREPLY < <(compgen -W 'none lz4 zstd' -- "$cur"); return ;;
	esac

	local options
	options=$("$prog" __options 2> /dev/null) || return 0
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(awk -F '\t' -v c="$command" '$1 == c { print $2 }' <<< "$options")" -- "$cur")
	elif [ -z "$command" ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(awk -F '\t' '$1 != "" && !seen[$1]++ { print $1 }' <<< "$options")" -- "$cur")
	else
		case $command in
		spec | features | create | run | restore) ;;
		image | inspect)
			if [ "$prev" = image ]; then
				mapfile -t COMPREPLY < <(compgen -W 'pack squash stats unpack' -- "$cur")
				return
			fi
			mapfile -t COMPREPLY < <(compgen -d -- "$cur"); compopt -o filenames 2> /dev/null ;;
		*) mapfile -t COMPREPLY < <(compgen -W "$("$prog" "${globals[@]}" list -q 2> /dev/null)" -- "$cur") ;;
		esac
	fi
}
complete -F _stasis stasis
