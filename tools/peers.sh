#!/usr/bin/env bash
# Stator beside Redis on this machine: one markdown table, and the commands that make it again.
#
# The server is pinned to core 0 and the client to core 1; while one server is measured the other
# is stopped (SIGSTOP); rounds alternate; figures are medians. On shared machines trust CPU per
# operation, and nothing below a difference of 10 %. "waited" is how many cores a server was denied by
# others: a row where it is above a few hundredths was disturbed.
#
# Both servers tidy up their logs in the background, Redis by a child that writes all of it anew (its
# CPU time counts). SETs are measured where neither does, where both do, as they come, and where only
# Stator does: there Redis' log grows without bound.
#
#   tools/peers.sh               Stator against Redis
#   tools/peers.sh --self-test   Redis against Redis: how far ratios are from 1 is the noise
#
#   STATOR_BIN (target/release/stator)   LOADGEN_BIN (target/release/loadgen)
#   ROUNDS (5)   DURATION (5s)   KEYS (1000000)   ROWS (a pattern, to run only some rows)
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
stator=${STATOR_BIN:-$root/target/release/stator}
loadgen=${LOADGEN_BIN:-$root/target/release/loadgen}
rounds=${ROUNDS:-5} duration=${DURATION:-5s} keys=${KEYS:-1000000} rows=${ROWS:-.}
side_a=stator
[ "${1:-}" = "--self-test" ] && side_a=redis

fail() { echo "peers.sh: $*" >&2; exit 1; }
command -v redis-server >/dev/null || fail "redis-server is not installed (Debian: apt-get install redis-server)"
command -v taskset >/dev/null || fail "taskset is not installed (Debian: util-linux)"
[ -x "$loadgen" ] || fail "no $loadgen: cargo build --release -p stator-loadgen"
[ "$side_a" = redis ] || [ -x "$stator" ] || fail "no $stator: cargo build --release"
[ "$(nproc)" -ge 2 ] || fail "one core for the server and one for the client are needed"

work=$(mktemp -d)
pids=()
stop_servers() {
  for pid in "${pids[@]}"; do
    kill -CONT "$pid" 2>/dev/null || true
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  pids=()
}
trap 'stop_servers; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A base port with its next twenty free: Stator derives its other ports from it.
free_port() {
  local port offset
  for _ in $(seq 50); do
    port=$((20000 + RANDOM % 10000))
    for offset in $(seq 0 20); do in_use $((port + offset)) && continue 2; done
    echo "$port"
    return
  done
  fail "no free ports"
}

await() { # PORT PID LOG
  for _ in $(seq 200); do
    kill -0 "$2" 2>/dev/null || { cat "$3" >&2; fail "the server ended"; }
    if in_use "$1"; then return; fi
    sleep 0.05
  done
  fail "the server does not listen after 10 s; see $3"
}

# Starts a server pinned to core 0; leaves HOST:PORT,PID in $started.
start_redis() { # NAME APPENDFSYNC TIDY
  local port dir=$work/$1 percentage=100
  [ "$3" = both ] || percentage=0
  port=$(free_port)
  mkdir -p "$dir"
  taskset -c 0 redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --save "" \
    --appendonly yes --appendfsync "$2" --auto-aof-rewrite-percentage "$percentage" >"$dir.log" 2>&1 &
  pids+=($!)
  started="127.0.0.1:$port,$!"
  await "$port" $! "$dir.log"
}

start_stator() { # NAME DURABILITY TIDY
  local port dir=$work/$1 percent=50
  [ "$3" = none ] && percent=99
  port=$(free_port)
  printf 'garbage_percent = %s\n[namespace.""]\ndurability = "%s"\n' "$percent" "$2" >"$dir.toml"
  taskset -c 0 "$stator" serve --shards 1 --listen "127.0.0.1:$port" --data "$dir" \
    --config "$dir.toml" >"$dir.log" 2>&1 &
  pids+=($!)
  started="127.0.0.1:$port,$!"
  await "$port" $! "$dir.log"
}

# Starts both sides afresh and fills them.
pair() { # DURABILITY APPENDFSYNC TIDY
  stop_servers
  rm -rf "${work:?}"/*
  if [ "$side_a" = redis ]; then start_redis a "$2" "$3"; else start_stator a "$1" "$3"; fi
  a=$started
  start_redis b "$2" "$3"
  b=$started
  setting="${side_a/stator/$1} / $2, tidy: $3"
  for side in "$a" "$b"; do
    "$loadgen" --quiet --cpu 1 --server "${side%,*}" --keys "$keys" --load-only >/dev/null
  done
}

row() { # LABEL LOAD OPTIONS...
  local label=$1
  shift
  local options=(--cpu 1 --keys "$keys" --value-size 100 --duration "$duration" "$@")
  echo "$label: loadgen compare --a $a --b $b --rounds $rounds --pause-other -- ${options[*]}" >&2
  "$loadgen" compare --a "$a" --b "$b" --rounds "$rounds" --pause-other \
    --row "$label ($setting) \`${*}\`" -- "${options[@]}"
}

wanted() { grep -qE "$rows" <<<"$*"; }

echo "A: $side_a, B: redis $(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/')." \
  "Server on core 0, client on core 1, $keys keys of 16 bytes, values of 100, $rounds rounds of $duration."
echo
echo "| load | server CPU µs/op A / B | ratio | k/s A / B | ratio | p50 µs A / B | p99 µs A / B | ratio | p99.9 µs A / B | client CPU µs/op A / B | waited A / B | failed A / B |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|"

group() { # DURABILITY APPENDFSYNC TIDY LABEL|OPTIONS...
  local durability=$1 appendfsync=$2 tidy=$3 started_pair=no entry
  shift 3
  for entry in "$@"; do
    wanted "${entry%%|*} $durability $appendfsync $tidy" || continue
    [ "$started_pair" = yes ] || pair "$durability" "$appendfsync" "$tidy"
    started_pair=yes
    # The options are words without blanks in them.
    # shellcheck disable=SC2086
    row "${entry%%|*}" ${entry#*|}
  done
}
set1="SET P=1|--connections 50 --pipeline 1 --mix set=1"
set16="SET P=16|--connections 50 --pipeline 16 --mix set=1"
set64="SET P=16|--connections 64 --pipeline 16 --mix set=1"
group interval:1000ms everysec none \
  "GET P=1|--connections 50 --pipeline 1 --mix get=1" \
  "GET P=16|--connections 50 --pipeline 16 --mix get=1" \
  "GET 20k/s|--connections 50 --rate 20000 --mix get=1" \
  "GET 60k/s|--connections 50 --rate 60000 --mix get=1" \
  "$set1" "$set16"
group interval:10ms everysec none "$set16"
group sync always none "$set64"
group interval:1000ms everysec both "$set1" "$set16"
group sync always both "$set64"
group interval:1000ms everysec stator "$set16"
