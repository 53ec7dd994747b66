#!/bin/sh
# Builds the third-party plugins as a stranger would, tests them, and serves
# them by CRUCIBLE_HOST (skipped, and said so, without one).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# Their own target directory: a shared one once gave stale libraries.
CARGO_TARGET_DIR=${THIRD_PARTY_TARGET:-$here/target}
export CARGO_TARGET_DIR
for crate in notes lru; do
    echo "== $crate"
    (cd "$here/$crate" && cargo build --quiet && cargo test --quiet)
done

host=${CRUCIBLE_HOST:-$here/../../target/release/crucible-host}
if [ ! -x "$host" ]; then
    echo "no host at $host: not served"
    exit 0
fi
libs=$CARGO_TARGET_DIR/debug
for file in libnotes.so liblru_store.so; do
    "$host" plugin inspect "$libs/$file" >/dev/null
done
free='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
port=${NOTES_PORT:-$(python3 -c "$free")}
"$host" --plugin "$libs/libnotes.so@127.0.0.1:$port" --backend "$libs/liblru_store.so" \
    --heap-size 64MB --threads 1 2>"$CARGO_TARGET_DIR/host.log" &
pid=$!
trap 'kill $pid 2>/dev/null || true' EXIT
python3 - "$port" <<'PY'
import socket, sys, time
port, deadline = int(sys.argv[1]), time.monotonic() + 120
while True:
    try:
        s = socket.create_connection(("127.0.0.1", port), timeout=120)
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
s.sendall(b"put milk 2 litres\nlook milk\nrm milk\nlook milk\n")
got = b""
while got.count(b"\n") < 4:
    more = s.recv(4096)
    assert more, f"closed after {got!r}"
    got += more
assert got == b"done\n2 litres\ndone\nnothing there\n", got
print("served: a third party's protocol over a third party's store")
PY
kill $pid
wait $pid 2>/dev/null || true

# What `plugin new` writes builds, passes its tests and holds the contract.
new=$CARGO_TARGET_DIR/new
rm -rf "$new"
mkdir -p "$new"
for kind in protocol backend; do
    echo "== plugin new $kind"
    "$host" plugin new "$kind" "my_$kind" --dir "$new/my_$kind" --api "$here/../../plugin-api" >/dev/null
    (cd "$new/my_$kind" && cargo test --quiet && cargo build --quiet)
    "$host" plugin check "$libs/libmy_$kind.so"
done
