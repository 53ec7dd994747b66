#!/bin/sh
# Older plugin in a newer host, and the reverse.
#
# The next minor version is made of this tree: every table that a plugin or the
# host fills grows by one function behind its prefix, versions and ABI_MINOR go
# up. Host, ping and segcache are built of both, and each host serves each pair.
# PREVIOUS=DIR (a checkout of an older tag) takes the place of this tree as the
# older side; with BUILT=1 the libraries of the last run are used again.
#
#   plugin-api/tests/versions/check.sh [WORKDIR]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../../.." && pwd)
work=${1:-$tree/target/versions}
mkdir -p "$work"
older=${PREVIOUS:-$tree}
newer=$work/newer

if [ "${BUILT:-0}" != 1 ]; then
    rm -rf "$newer"
    mkdir -p "$newer"
    (cd "$tree" && git ls-files -z --cached --others --exclude-standard | tar cf - --null -T - 2>/dev/null) |
        tar xf - -C "$newer"
    python3 "$here/grow.py" "$newer"

    # One target folder for both: what they depend on is built once.
    build() { # tree, name
        (cd "$1" && CARGO_TARGET_DIR="$work/target" cargo build --quiet \
            -p crucible-host -p crucible-ping-cdylib -p crucible-segcache-cdylib)
        mkdir -p "$work/$2-built"
        cp "$work/target/debug/crucible-host" "$work/target/debug/libping.so" \
            "$work/target/debug/libsegcache.so" "$work/$2-built/"
    }
    build "$older" older
    build "$newer" newer
fi

port=${PORT:-28880}
failed=0
for host in older newer; do
    for plugin in older newer; do
        for store in older newer; do
            port=$((port + 1))
            log=$work/$host-$plugin-$store.log
            "$work/$host-built/crucible-host" --threads 1 --heap-size 64MiB \
                --plugin "$work/$plugin-built/libping.so@127.0.0.1:$port" \
                --backend "$work/$store-built/libsegcache.so" 2>"$log" &
            pid=$!
            if python3 "$here/ask.py" "$port" "$pid"; then verdict=ok; else verdict=FAILED; failed=1; fi
            kill "$pid" 2>/dev/null || true
            wait "$pid" 2>/dev/null || true
            echo "host $host, ping $plugin, segcache $store: $verdict"
        done
    done
done
# A plugin that says it needs the newer host is refused by the older one, in a
# sentence.
LC_ALL=C sed 's/min_host_minor=0/min_host_minor=1/' "$work/newer-built/libping.so" >"$work/libneeds.so"
if "$work/older-built/crucible-host" --plugin "$work/libneeds.so@127.0.0.1:$port" \
    --check-config 2>"$work/needs.log"; then
    echo "a plugin for a newer host: FAILED, it was taken"
    failed=1
else
    echo "a plugin for a newer host is refused: $(grep -m1 -i 'minor\|newer\|needs' "$work/needs.log" || cat "$work/needs.log")"
fi
exit $failed
