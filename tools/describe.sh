#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# describe.sh PROGRAM man|bash|zsh|fish - the program's manual page or a shell's completions, made from its --help.
set -eu
program=$1 form=$2
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT

# One line each, with tabs: "command NAME HELP", "option COMMAND SHORT LONG ARGUMENT HELP", "heading COMMAND TEXT",
# "usage COMMAND LINE", "kind NAME HELP". What --help prints for people is regular enough to be read again.
read_help() {
    awk -v command="$1" -v OFS='\t' '
    function flush() { if (long != "") print "option", command, short, long, arg, help; long = "" }
    /^usage: / || (usage && /^ +controlnet /) { sub(/^(usage:)? */, ""); print "usage", command, $0; usage = 1; next }
    { usage = 0 }
    /^  (-., |    )--[a-z0-9]/ {
        flush(); line = $0; sub(/^ +/, "", line); short = ""; help = ""
        if (line ~ /^-., /) { short = substr(line, 2, 1); line = substr(line, 5) }
        n = match(line, /  +/)
        if (n) { help = substr(line, n); sub(/^ +/, "", help); line = substr(line, 1, n - 1) }
        long = line; arg = ""
        if (n = index(line, " ")) { long = substr(line, 1, n - 1); arg = substr(line, n + 1) }
        long = substr(long, 3); next
    }
    /^                    / { if (long != "") { sub(/^ +/, ""); help = help (help == "" ? "" : " ") $0 } next }
    /^  [a-z]/ { flush(); name = $1; sub(/^ +[^ ]+ +/, ""); print command == "" ? "command" : "kind", name, $0; next }
    { flush() }
    /^[A-Z][A-Za-z ]*([;:].*| \(.*)?$/ && command != "" { sub(/[;:].*| \(.*/, ""); print "heading", command, $0 }
    END { flush() }'
}
"$program" --help | read_help "" >"$here/table"
for command in $(awk -F'\t' '$1 == "command" { print $2 }' "$here/table"); do
    "$program" "$command" --help | read_help "$command" >>"$here/table"
    # commands of two words: what their usage names
    for second in $(awk -F'\t' -v c="$command" '$1 == "usage" && $2 == c { split($3, w, " "); if (w[3] ~ /^[a-z]+$/) print w[3] }' "$here/table"); do
        "$program" "$command" "$second" --help | read_help "$command $second" | grep -v '^usage' >>"$here/table"
    done
done

man_page() {
    awk -F'\t' -v version="$("$program" --version)" '
    function text(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); if (s ~ /^[.\x27]/) s = "\\&" s; return s }
    BEGIN {
        print ".TH CONTROLNET 1 \"\" \"" version "\" \"User Commands\""
        print ".SH NAME\ncontrolnet \\- train ControlNets for Stable Diffusion and draw with them"
        print ".SH SYNOPSIS\n.B controlnet\n.I COMMAND\n.RI [ options ]"
        print ".SH DESCRIPTION\nLong options take \\- or _ between words."
    }
    $1 == "command" { print ".TP\n.B " text($2) "\n" text($3) }
    $1 == "usage" && $2 != "" {
        print ($2 != last ? ".SH " toupper(text($2)) "\n" : ".br\n") text($3); last = $2; section = $2
    }
    $1 == "heading" { print ".SS " text($3) ($2 != section ? " of " text($2) : ""); next }
    $1 == "option" {
        print ".TP\n.B " ($3 != "" ? "\\-" $3 "\\fR, \\fB" : "") "\\-\\-" text($4) ($5 != "" ? " \\fI" text($5) "\\fR" : "")
        print text($6 == "" ? " " : $6)
    }
    $1 == "kind" { print ".TP\n.B " text($2) "\n" text($3) }
    END {
        print ".SH EXIT STATUS\n0 done, 1 failed (one line on standard error), 2 wrong usage."
    }' "$here/table"
}

# Words per command, as "command:word word".
words() {
    awk -F'\t' '$1 == "option" { split($2, w, " "); list[w[1]] = list[w[1]] " --" $4 }
        $1 == "kind" { list[$2 == "" ? "" : "annotate"] = list["annotate"] " " $2 }
        END { for (c in list) print c ":" list[c] }' "$here/table" | sort
}

bash_completion() {
    echo '# bash completion for controlnet'
    echo '_controlnet() {'
    echo '    local now=${COMP_WORDS[COMP_CWORD]} words='
    echo '    case ${COMP_WORDS[1]-} in'
    words | while IFS=: read -r command list; do echo "    $command) words='${list# }' ;;"; done
    echo '    esac'
    printf '    [ "$COMP_CWORD" -gt 1 ] || words="%s"\n' "$(awk -F'\t' '$1 == "command" { printf "%s%s", n++ ? " " : "", $2 }' "$here/table")"
    echo '    COMPREPLY=($(compgen -W "$words" -- "$now"))'
    echo '    [ "$COMP_CWORD" -gt 1 ] && [[ $now != -* ]] || return 0'
    echo '    COMPREPLY=($(compgen -W "$(printf "%s\n" $words | grep -v "^-")" -- "$now") $(compgen -f -- "$now"))'
    echo '}'
    echo 'complete -o filenames -F _controlnet controlnet'
}

zsh_completion() {
    echo '#compdef controlnet'
    echo 'local -a commands'
    echo 'commands=('
    awk -F'\t' -v q="'" '$1 == "command" { gsub(q, "", $3); print "    " q $2 ":" $3 q }' "$here/table"
    echo ')'
    echo 'if (( CURRENT == 2 )); then _describe command commands; return; fi'
    echo 'case $words[2] in'
    for command in $(awk -F'\t' '$1 == "command" { print $2 }' "$here/table"); do
        echo "$command) _arguments \\"
        awk -F'\t' -v q="'" -v c="$command" '$1 == "option" { split($2, w, " ") } $1 == "option" && w[1] == c {
            gsub(q, "", $6); gsub(/\\/, "", $6); gsub(/\[/, "(", $6); gsub(/\]/, ")", $6); gsub(/:/, "\\:", $6); gsub(/:/, "\\:", $5)
            print "    " q "*--" $4 "[" $6 "]" ($5 != "" ? ":" $5 ":_files" : "") q " \\" }' "$here/table"
        echo "    '*:file:_files' ;;"
    done
    echo 'esac'
}

fish_completion() {
    awk -F'\t' -v q="'" '
    function quoted(s) { gsub(/\\/, "\\\\", s); gsub(q, "\\" q, s); return q s q }
    $1 == "command" { print "complete -c controlnet -n __fish_use_subcommand -f -a " $2 " -d " quoted($3) }
    $1 == "option" {
        split($2, w, " ")
        print "complete -c controlnet -n " q "__fish_seen_subcommand_from " w[1] q ($3 != "" ? " -s " $3 : "") " -l " $4 ($5 != "" ? " -r" : "") " -d " quoted($6)
    }' "$here/table"
}

case $form in
man) man_page ;;
bash) bash_completion ;;
zsh) zsh_completion ;;
fish) fish_completion ;;
*) echo "usage: describe.sh PROGRAM man|bash|zsh|fish" >&2 && exit 2 ;;
esac
