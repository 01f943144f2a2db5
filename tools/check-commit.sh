#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check-commit.sh [FILE] - the message of the last commit (or in FILE): a subject of at most 72
# characters, an empty line, then why and what was measured. Merges are passed over, and a tree
# without git. Says what is wrong and exits 1.
set -eu
if [ $# -gt 0 ]; then
    message=$(cat "$1")
else
    cd "$(dirname "$0")/.."
    git rev-parse -q --verify HEAD >/dev/null 2>&1 || exit 0
    if git rev-parse -q --verify 'HEAD^2' >/dev/null; then exit 0; fi
    message=$(git log -1 --format=%B)
fi
printf '%s\n' "$message" | LC_ALL=C awk '
function complain(why) { print "the last commit: " why; bad = 1 }
{ gsub(/[\200-\277]/, "") } # UTF-8: what follows the first byte of a character
NR == 1 && length($0) > 72 { complain("its subject has " length($0) " characters; 72 are the most: " $0) }
NR == 1 && $0 ~ /^[ \t]*$/ { complain("it has no subject") }
NR == 2 && $0 !~ /^[ \t]*$/ { complain("its second line must be empty, the body begins below it") }
NR > 2 && $0 !~ /^[ \t]*$/ { body = 1 }
END {
    if (!body) complain("its body is empty: say why, and what was measured")
    exit bad
}'
