# fish completion for stasis. The program itself says which commands and options it has.

function __stasis_command
    set -l words (commandline -opc)
    set -l i 2
    while test $i -le (count $words)
        switch $words[$i]
            case --root --log --log-format --log-level --cgroup-manager --rootless
                set i (math $i + 1)
            case '-*'
            case '*'
                echo $words[$i]
                return
        end
        set i (math $i + 1)
    end
end

# What an option says after "=", or as the next word.
function __stasis_values
    set -l command (__stasis_command)
    set -l option (commandline -opc)[-1]
    set -l prefix
    if string match -q -- '--*=*' (commandline -ct)
        set option (string replace -r '=.*' '' -- (commandline -ct))
        set prefix $option=
    else if test "$option" = -f; and test "$command" != spec
        set option --format
    end
    set -l values (stasis __options 2>/dev/null | awk -F '\t' -v c="$command" -v o="$option" '$1 == c && $2 == o { print $3 }')
    if test -n "$prefix"
        set values (string replace -r '^=' '' -- $values)
    else if string match -q -- '=*' $values
        return
    end
    for value in (string split -n '|' -- $values)
        echo "$prefix$value"
    end
end

function __stasis_words
    set -l command (__stasis_command)
    set -l values (__stasis_values)
    if test (count $values) -gt 0
        printf '%s\n' $values
        return
    end
    stasis __options 2>/dev/null | awk -F '\t' -v c="$command" '$1 == c { print $2 }'
    if test -z "$command"
        stasis __options 2>/dev/null | awk -F '\t' '$1 != "" && !seen[$1]++ { print $1 }'
    else if test "$command" = image
        printf '%s\n' pack squash stats unpack
    else if not contains -- $command spec features create run restore inspect
        stasis list -q 2>/dev/null
    end
end

complete -c stasis -a '(__stasis_words)'
