# bash completion for stasis. The program itself says which commands and options it has, so this cannot go stale.

_stasis() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} prog=${COMP_WORDS[0]} command='' root='' equals='' options values i
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

	# --lazy=yes is three words here.
	if [ "$cur" = = ]; then
		cur='' equals=1
	elif [ "$prev" = = ]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]} equals=1
	fi
	case $prev in
	--bundle | -b | --root | --image-path | --work-path | --parent-path)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		compopt -o filenames 2> /dev/null
		return ;;
	--log | --pid-file | --console-socket | --pidfd-socket | --process | -p | --config | --resources | -r)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames 2> /dev/null
		return ;;
	-f) [[ $command == spec ]] || prev=--format ;;
	esac

	options=$("$prog" __options 2> /dev/null) || return 0
	values=$(awk -F '\t' -v c="$command" -v o="$prev" '$1 == c && $2 == o { print $3 }' <<< "$options")
	if [[ -n $values && ($values != =* || -n $equals) ]]; then
		mapfile -t COMPREPLY < <(IFS='|'; compgen -W "${values#=}" -- "$cur")
		return
	fi
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
