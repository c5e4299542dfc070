#!/bin/bash
# The folders of src/ are layers whose arrows point down only (docs/architecture.md draws them). This test greps every
# quoted include against the allowed graph. It says what stands above which; it is not a list of what is used today.
set -uo pipefail
src=${1:-$(dirname "$0")/../../src}
cd "$src" || exit 1

declare -A below=(
	[base]=""
	[linux]="base"
	[oci]="base linux"
	[cgroup]="base linux oci"
	[container]="base linux oci cgroup"
	[image]="base"
	[checkpoint]="base linux oci cgroup container image"
	[sandbox]="base linux oci cgroup container image checkpoint"
	[cli]="base linux oci cgroup container image checkpoint sandbox"
	[lib]="base linux oci cgroup container sandbox"
)
proto_users=" image checkpoint cli "	# who may include the generated *.pb-c.h

bad=0
complain() {
	echo "$1:$2: $3"
	bad=1
}

check_include() {
	local file=$1 line=$2 inc=$3 layer=${1%%/*} dir=${1%/*} target

	case $inc in
	../* | */../*) complain "$file" "$line" "\"$inc\": includes are written from src/, without .."; return ;;
	*.pb-c.h)
		case $proto_users in *" $layer "*) ;; *) complain "$file" "$line" "$layer may not know the image's records ($inc)" ;; esac
		return ;;
	*/*) target=${inc%%/*} ;;
	*) complain "$file" "$line" "\"$inc\": includes are written from src/ (\"$dir/$inc\")"; return ;;
	esac
	if [ -z "${below[$target]+x}" ]; then
		complain "$file" "$line" "\"$inc\": no such layer"
	elif [ "$target" != "$layer" ]; then
		case " ${below[$layer]} " in *" $target "*) ;; *) complain "$file" "$line" "$layer may not include $target ($inc)" ;; esac
	fi
	# x-priv.h belongs to its folder (and what is below it).
	case $inc in
	*-priv.h) case $dir/ in "${inc%/*}"/*) ;; *) complain "$file" "$line" "\"$inc\" is private to src/${inc%/*}" ;; esac ;;
	esac
}

n=0
while IFS=: read -r file line text; do
	file=${file#./}
	inc=${text#*\"}
	inc=${inc%%\"*}
	n=$((n + 1))
	if [ -z "${below[${file%%/*}]+x}" ]; then
		complain "$file" "$line" "src/${file%%/*} is not a layer: add it to tests/unit/layers.sh and docs/architecture.md"
		continue
	fi
	check_include "$file" "$line" "$inc"
done < <(grep -rnE --include='*.[ch]' --include='*.S' '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' .)

[ "$n" -gt 0 ] || { echo "no includes found in $src"; exit 1; }
[ "$bad" = 0 ] && echo "ok: $n includes point down"
exit "$bad"
