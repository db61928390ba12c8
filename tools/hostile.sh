#!/usr/bin/env bash
# What clients that misbehave cost those that do not: p99 at a fixed rate, alone and beside them.
#
# The server is on core 0; both clients share core 1, where the bad ones run only while the good one
# is idle (SCHED_IDLE): what is seen is what they cost the server, not what they cost its client. A
# shared machine stalls for milliseconds now and then, which is a whole second's p99: so many short
# rounds, and their medians.
#
#   tools/hostile.sh
#   KINDS=flood tools/hostile.sh     600 connections that send without end: the server has no idle moment
#
#   STATOR_BIN (target/release/stator)   LOADGEN_BIN (target/release/loadgen)
#   ROUNDS (25)   SECONDS_EACH (1)   RATE (20000, of good requests a second)
#   BAD (10, clients of each kind a second)   KINDS (all but flood; or those of
#   `loadgen hostile --help`)
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
stator=${STATOR_BIN:-$root/target/release/stator}
loadgen=${LOADGEN_BIN:-$root/target/release/loadgen}
rounds=${ROUNDS:-25} seconds=${SECONDS_EACH:-1} rate=${RATE:-20000} bad=${BAD:-10}
kinds=${KINDS:-garbage,long-key,many-arguments,nested,half,burst,unread,http}

fail() { echo "hostile.sh: $*" >&2; exit 1; }
[ -x "$loadgen" ] || fail "no $loadgen: cargo build --release -p stator-loadgen"
[ -x "$stator" ] || fail "no $stator: cargo build --release"
[ "$(nproc)" -ge 2 ] || fail "one core for the server and one for the clients are needed"

work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

port=$((20000 + RANDOM % 10000))
taskset -c 0 "$stator" serve --shards 1 --listen "127.0.0.1:$port" --data "$work/data" \
  >"$work/out" 2>"$work/log" &
server=$!
for _ in $(seq 200); do
  kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; fail "the server ended"; }
  grep -q ^ready "$work/out" && break
  sleep 0.05
done

p99() { # beside whatever runs
  "$loadgen" --quiet --server "127.0.0.1:$port" --cpu 1 --keys 100000 --rate "$rate" \
    --duration "${seconds}s" --wait sleep --json - |
    awk '$1 == "\"p99\":" && !seen++ { gsub(/[^0-9.]/, "", $2); print $2 }'
}
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
resident() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$server/status"; }

"$loadgen" --quiet --server "127.0.0.1:$port" --cpu 1 --keys 100000 --load-only >/dev/null
before=$(resident)
alone=() beside=()
for _ in $(seq "$rounds"); do
  alone+=("$(p99)")
  taskset -c 1 chrt --idle 0 "$loadgen" hostile --server "127.0.0.1:$port" --rate "$bad" \
    --duration "$((seconds + 1))s" --kinds "$kinds" >"$work/bad" &
  other=$!
  beside+=("$(p99)")
  wait "$other" || fail "the server no longer answers: $(cat "$work/bad")"
done
cat "$work/bad"
a=$(printf '%s\n' "${alone[@]}" | median) b=$(printf '%s\n' "${beside[@]}" | median)
echo
echo "| p99 of $rate GETs a second | beside $bad bad clients of each kind a second | ratio | most memory before / after |"
echo "|---|---|---|---|"
echo "| $a µs | $b µs | **$(awk -v a="$b" -v b="$a" 'BEGIN { printf "%.2f", a / b }')** | $before / $(resident) MiB |"
