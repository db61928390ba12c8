#!/usr/bin/env bash
# A log that is far larger than the memory for it: what writes and hot reads cost then.
#
# The server, on core 0, lives in a memory cgroup with room for its index and about 1 % of its log, so
# that the kernel's page cache cannot hold the rest. The client is on core 1. Three tables in turn:
#
#   1. what ten million keys cost in memory
#   2. SET of any key, each of which must read its last version from the disk, beside what fio reads
#      at random from the same files, directly and at the same depth
#   3. p99 of connections that read only hot keys, at a fixed rate: alone, beside 2 % of cold reads,
#      and beside the same cold reads on a node whose budget for maps is beyond its memory, so that
#      the kernel takes mapped pages away and reads of them stall the core
#
#   tools/cold.sh        as root, for the cgroup; needs fio and taskset
#
#   STATOR_BIN (target/release/stator)   LOADGEN_BIN (target/release/loadgen)
#   ROUNDS (5)   SECONDS_EACH (5)   KEYS (10000000)   RATE (20000, of hot reads a second)
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
stator=${STATOR_BIN:-$root/target/release/stator}
loadgen=${LOADGEN_BIN:-$root/target/release/loadgen}
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-5} keys=${KEYS:-10000000} rate=${RATE:-20000}
hot_keys=$((keys / 500))
cold_rate=$((rate / 50))
depth=50
log_mib=$((keys / 1024 * 230 / 1024))
resident_mib=$((log_mib / 100 + 32)) # whole segments of 32 MiB

fail() { echo "cold.sh: $*" >&2; exit 1; }
command -v fio >/dev/null || fail "fio is not installed (Debian: apt-get install fio)"
command -v taskset >/dev/null || fail "taskset is not installed (Debian: util-linux)"
[ -x "$loadgen" ] || fail "no $loadgen: cargo build --release -p stator-loadgen"
[ -x "$stator" ] || fail "no $stator: cargo build --release"
[ "$(nproc)" -ge 2 ] || fail "one core for the server and one for the client are needed"

work=$(mktemp -d)
server=
cgroup=
limit_file=
make_cgroup() {
  if [ -d /sys/fs/cgroup/memory ]; then
    cgroup=/sys/fs/cgroup/memory/stator-cold-$$ limit_file=memory.limit_in_bytes
  else
    cgroup=/sys/fs/cgroup/stator-cold-$$ limit_file=memory.max
  fi
  mkdir "$cgroup" && [ -w "$cgroup/$limit_file" ] || fail "no memory cgroup: root, and its controller, are needed"
}
stop_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}
finish() {
  stop_server
  rm -rf "$work"
  [ -z "$cgroup" ] || rmdir "$cgroup" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT TERM

in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
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

# Starts it on the data that there is, without a limit of memory.
start_server() { # OPTIONS...
  echo -1 >"$cgroup/$limit_file" 2>/dev/null || echo max >"$cgroup/$limit_file"
  port=$(free_port)
  # Without the right to lock memory, which would be beyond the limit.
  (
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    exec setpriv --inh-caps -ipc_lock --bounding-set -ipc_lock prlimit --memlock=8388608 \
      taskset -c 0 "$stator" serve --shards 1 --listen "127.0.0.1:$port" --data "$work/data" "$@"
  ) >>"$work/log" 2>&1 &
  server=$!
  for _ in $(seq 1200); do
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; fail "the server ended"; }
    in_use "$port" && return
    sleep 0.05
  done
  fail "the server does not listen after 60 s; see $work/log"
}

anonymous_kib() { awk '/^RssAnon/ { print $2 }' "/proc/$server/status"; }

# Room for what it holds by now, for what the kernel holds for it, and so many MiB for pages of files.
limit_memory() { # MIB
  local bytes=$((($(anonymous_kib) + ($1 + 96) * 1024) * 1024))
  for _ in $(seq 50); do # version 1 refuses as long as it could not free enough
    if echo "$bytes" >"$cgroup/$limit_file" 2>/dev/null; then return; fi
    sleep 0.1
  done
  fail "the memory cgroup takes no limit of $bytes bytes"
}

load() { "$loadgen" --quiet --server "127.0.0.1:$port" --cpu 1 "$@"; }
field() { awk -v field="\"$1\":" '$1 == field && !seen++ { gsub(/[^0-9.]/, "", $2); print $2 }'; }
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

random_reads() { # how many of 4 KiB a second fio reads from the log
  local files
  files=$(find "$work/data" -name '*.seg*' -size +1M | tr '\n' ':' | sed 's/:$//')
  taskset -c 1 fio --name=reads --filename="$files" --rw=randread --bs=4k --direct=1 --readonly \
    --ioengine=io_uring --iodepth="$depth" --time_based --runtime="$seconds" --output-format=json |
    awk '/"read" : {/ { inside = 1 } inside && /"iops" :/ && !seen++ { gsub(/[^0-9.]/, ""); print }'
}


info() { # FIELD
  exec 4<>"/dev/tcp/127.0.0.1/$port"
  printf 'INFO\r\nQUIT\r\n' >&4
  tr -d '\r' <&4 | awk -F: -v field="$1" '$1 == field { print $2 }'
  exec 4<&-
}

make_cgroup
mkdir "$work/data"
start_server --resident-bytes "${resident_mib}MiB" --cache-bytes 16MiB
"$loadgen" --quiet --cpu 1 --server "127.0.0.1:$port" --keys "$keys" --value-size 100 --load-only >/dev/null
sleep 2 # what was sealed last is indexed
index=$(info keydir_bytes)
echo "$keys keys of 16 bytes, values of 100, one shard; medians of $rounds rounds of $seconds s."
echo
echo "| log on the disk | index | index a key | RssAnon |"
echo "|---|---|---|---|"
echo "| $(du -sm "$work/data" | cut -f1) MiB | $((index / 1048576)) MiB | $(ratio "$index" "$keys") bytes | $(($(anonymous_kib) / 1024)) MiB |"

echo
limit_memory "$resident_mib"
sets=() reads=()
for _ in $(seq "$rounds"); do
  reads+=("$(random_reads)")
  sets+=("$(load --keys "$keys" --value-size 100 --duration "${seconds}s" --connections "$depth" --mix set=1 --json - | field throughput)")
done
a=$(printf '%s\n' "${sets[@]}" | median) b=$(printf '%s\n' "${reads[@]}" | median)
echo "| SET, $depth connections, $resident_mib MiB of the log resident | fio, 4 KiB at random, depth $depth | ratio |"
echo "|---|---|---|"
echo "| ${a%.*}/s | ${b%.*}/s | **$(ratio "$a" "$b")** |"

# The p99 of hot reads beside COLD reads of KEYS keys. The second client takes its time from the first's
# core: it runs in every round, so that only what it reads differs.
hot_p99() { # KEYS
  load --keys "$1" --duration "$((seconds + 2))s" --rate "$cold_rate" --connections 8 --wait sleep \
    --seed $RANDOM >/dev/null 2>&1 &
  local other=$!
  load --keys "$hot_keys" --duration "${seconds}s" --rate "$rate" --connections 50 --wait sleep --json - | field p99
  wait "$other" || true # slow answers are what is measured
}
rest() { # the log comes to rest, and the hot keys are in memory
  load --keys "$hot_keys" --connections 50 --duration 3s >/dev/null
}

echo
alone=() beside=() mapped=()
stop_server
start_server --resident-bytes "${resident_mib}MiB" --cache-bytes 16MiB
rest
limit_memory "$((resident_mib + 128))" # a compaction may begin
for _ in $(seq "$rounds"); do
  alone+=("$(hot_p99 "$hot_keys")")
  beside+=("$(hot_p99 "$keys")")
done
stop_server
start_server --resident-bytes "$((log_mib * 4))MiB" --cache-bytes 16MiB
rest
limit_memory "$((resident_mib + 128))"
for _ in $(seq "$rounds"); do mapped+=("$(hot_p99 "$keys")"); done
a=$(printf '%s\n' "${alone[@]}" | median) b=$(printf '%s\n' "${beside[@]}" | median)
c=$(printf '%s\n' "${mapped[@]}" | median)
echo "| p99 of $rate hot reads a second | alone | beside $cold_rate cold reads a second | ratio | the same, maps beyond the memory | ratio |"
echo "|---|---|---|---|---|---|"
echo "| | $a µs | $b µs | **$(ratio "$b" "$a")** | $c µs | $(ratio "$c" "$a") |"
