# SPDX-License-Identifier: Apache-2.0
# compdb.awk - the compiler's calls among what make -n prints, as compile_commands.json has them.
# -v once=1: of a file that is compiled several times the last call alone.
BEGIN { "pwd" | getline directory }
function quoted(text) {
    gsub(/\\/, "\\\\", text)
    gsub(/"/, "\\\"", text)
    return "\"" text "\""
}
/ -c [^ ]+\.c -o / {
    command = $0
    sub(/^ccache /, "", command)
    file = $0
    sub(/.* -c /, "", file)
    sub(/ -o .*/, "", file)
    at = once && (file in place) ? place[file] : ++n
    place[file] = at
    entry[at] = "{\"directory\": " quoted(directory) ", \"command\": " quoted(command) ", \"file\": " quoted(file) "}"
}
END {
    print "["
    for (i = 1; i <= n; i++) print entry[i] (i < n ? "," : "")
    print "]"
}
