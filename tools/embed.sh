#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# embed.sh FILE... - a C source on standard output with the bytes of the files and page_files, the
# table of them by name (src/server/page.h).
set -eu
echo '#include "server/page.h"'
i=0
for file; do
    echo "static const unsigned char f$i[] = {"
    od -An -v -tu1 "$file" | sed 's/ *\([0-9][0-9]*\)/\1,/g'
    echo '};'
    i=$((i + 1))
done
echo 'const page_file page_files[] = {'
i=0
for file; do
    echo "    {\"${file##*/}\", f$i, sizeof f$i},"
    i=$((i + 1))
done
echo '    {0}};'
