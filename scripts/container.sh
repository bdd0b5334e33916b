#!/usr/bin/env bash
# Builds and runs the images where there is no Docker: scripts/container.sh [slim] [full]; slim where none is named.
# As root on Debian. buildah builds the Dockerfile as it is, over a base of Debian's own Python that debootstrap makes;
# podman runs it with docker-compose.yml's limits. Then health, user, a read-only root, quota, a creation, a write, a
# search, a restart, a kill and an end are looked at. Exit status 1 where something is not as it must be.
#
# FOLDER keeps base and layers for the next run (several GB); without it a new one is made and removed.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=("${@:-slim}")
port=${PORT:-18471}
url=http://127.0.0.1:$port/v1
base=docker.io/library/$(sed -n 's/^ARG BASE=//p' Dockerfile)

if [ "$(id -u)" -ne 0 ]; then echo "scripts/container.sh: only root can do this" >&2; exit 1; fi
for tool in buildah podman debootstrap crun catatonit curl jq; do
    command -v $tool /usr/libexec/podman/$tool >/dev/null && continue
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet --quiet
    apt-get install --quiet --quiet --yes --no-install-recommends \
        buildah podman debootstrap crun iptables netavark catatonit curl jq >/dev/null
    break
done

folder=${FOLDER:-$(mktemp -d /var/tmp/sheaf-XXXXXX)}
mkdir -p "$folder"/{storage,run,build}
started=()
finish() {
    for name in "${started[@]}"; do pod rm --force --time 5 "$name" >/dev/null 2>&1 || true; done
    pod volume rm --force sheaf-try >/dev/null 2>&1 || true
    if [ -z "${FOLDER:-}" ]; then
        findmnt --raw --noheadings --output TARGET | grep "^$folder/" | sort --reverse | xargs --no-run-if-empty umount || true
        rm -rf "$folder"
    fi
}
trap finish EXIT

# Not every machine lets root raise limits, or has one hierarchy of control groups alone.
cat >"$folder/crun" <<'P'
#!/usr/bin/python3 -S
import json, os, sys
for flag, value in zip(sys.argv, sys.argv[1:]):
    if flag in ("--bundle", "-b", "--process"):
        path = value + ("" if flag == "--process" else "/config.json")
        whole = json.load(open(path))
        process = whole.get("process", whole)
        process.pop("rlimits", None), process.pop("oomScoreAdj", None)
        json.dump(whole, open(path, "w"))
os.execvp("unshare", ["unshare", "-m", "--propagation", "slave", "sh", "-c",
          'umount /sys/fs/cgroup/unified 2>/dev/null; exec /usr/bin/crun "$@"', "crun", *sys.argv[1:]])
P
chmod +x "$folder/crun"
printf '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n[containers]\nlog_driver="k8s-file"\n' \
    >"$folder/containers.conf"
export CONTAINERS_CONF=$folder/containers.conf
where=(--root "$folder/storage" --runroot "$folder/run")
# Where no systemd runs podman says so at every step: nobody asks for its timers of health checks.
pod() { podman "${where[@]}" --runtime "$folder/crun" --log-level=error "$@" 2> >(grep -v "systemd connection" >&2); }

if ! pod image exists "$base"; then
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    if [ "$release" != bookworm ]; then release=bookworm; fi
    mirror=$(grep -rhoE '(https?|file)://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 || true)
    debootstrap --variant=minbase --include=ca-certificates,netbase,tzdata,python3.11-venv,python3-distutils,python3 \
        $release "$folder/base" "${mirror% }" >"$folder/debootstrap.log" || { tail "$folder/debootstrap.log"; exit 1; }
    for name in python python3; do ln -sf /usr/bin/python3.11 "$folder/base/usr/local/bin/$name"; done
    rm -rf "$folder"/base/var/cache/apt/archives/*.deb "$folder"/base/var/lib/apt/lists/*
    tar -C "$folder/base" -cf - . | pod import --quiet - "$base" >/dev/null
    rm -rf "$folder/base"
    echo "base: $SECONDS s"
fi

# pip in the build is set up as this machine's is, by the files that its own settings name.
mounts=()
while read -r file; do if [ -e "$file" ]; then mounts+=(--volume "$file:$file:ro"); fi; done < <(
    { python3 -m pip config debug | grep -oE '/[^ ,]+, exists: True' | cut -d, -f1
      python3 -m pip config list | grep -oE "(file://)?/[A-Za-z0-9_./-]+" | sed 's#^file://##; s#/simple/*$##'
      echo /etc/ssl/certs/ca-certificates.crt; } 2>/dev/null | sort -u)

failed=0
command=()
same() { if [ "$2" = "$3" ]; then echo "ok    $1"; else echo "FAIL  $1: $2, not $3"; failed=$((failed + 1)); fi; }
most() {
    if awk "BEGIN { exit !($2 <= $3) }"; then echo "ok    $1: $2, of $3 at most"
    else echo "FAIL  $1: $2, more than $3"; failed=$((failed + 1)); fi
}
ask() { curl --silent --max-time 60 "$url$1" -H 'content-type: application/json' "${@:2}"; }
serve() {
    local name=$1 image=$2; shift 2
    started+=("$name")
    pod run --detach --pull=never --name "$name" --init --stop-timeout 60 --restart unless-stopped \
        --publish "127.0.0.1:$port:8000" --volume sheaf-try:/srv/sheaf/indexes --read-only --read-only-tmpfs=false \
        --tmpfs /tmp:rw,noexec,nosuid,nodev --cap-drop ALL --security-opt no-new-privileges --cpus 1 --memory 2g \
        --memory-swap 2g --pids-limit 512 --env SHEAF_ALLOW_ANONYMOUS=true "$@" "$image" "${command[@]}" >/dev/null
}
ready() {
    for _ in $(seq 300); do
        if curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health/ready"; then return; fi
        sleep 0.1
    done
    echo "FAIL  $1 is not ready"; pod logs "$1" 2>&1 | tail; exit 1
}
# Seconds of the processor that the server has taken; its parent is the container's init.
spent() { awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) / ticks }' "/proc/$(server "$1")/stat"; }
server() { pgrep --parent "$(pod inspect "$1" --format '{{.State.Pid}}')"; }
documents() { ask "/collections/papers" | jq .documents; }

for target in "${targets[@]}"; do
    begun=$SECONDS
    image=localhost/sheaf:try-$target
    tar --exclude-vcs -cf - $(sed -n 's/^!//p' .dockerignore) Dockerfile .dockerignore | tar -C "$folder/build" -xf -
    buildah "${where[@]}" bud --quiet --network host --pull-never --layers --format docker --isolation chroot \
        "${mounts[@]}" --target "$target" --build-arg TORCH_INDEX_URL="${TORCH_INDEX_URL:-}" \
        --tag "$image" "$folder/build" >/dev/null
    echo "$target: built in $((SECONDS - begun)) s; layers:"
    pod history "$image" --format '{{.Size}} {{.CreatedBy}}' | grep -v '^0B' | cut -c1-100
    size=$(pod image inspect "$image" --format '{{.Size}}')
    below=$(pod image inspect "$base" --format '{{.Size}}')
    echo "$target: $((size / 1000000)) MB, $(((size - below) / 1000000)) MB of them over the base"
    if [ "$target" = slim ]; then most "MB of $target" $((size / 1000000)) 900; fi

    status=0; pod run --rm --pull=never "$image" >/dev/null 2>&1 || status=$?
    same "refuses to listen without keys" $status 2
    name=sheaf-try-$target
    serve "$name" "$image" --env SHEAF_MODELS='{"late": {"type": "colbert", "path": "/models/none"}}'
    ready "$name"
    if [ "$target" = slim ]; then most "seconds of the processor until ready" "$(spent "$name")" 5; fi
    status=0; pod healthcheck run "$name" >/dev/null || status=$?
    same "healthy" $status 0
    same "user and group" "$(pod exec "$name" sh -c 'id -u; id -g' | xargs)" "10001 10001"
    same "read-only but for collections" "$(pod exec "$name" sh -c 'touch /srv/sheaf/app/x /opt/sheaf/x 2>&1 | grep -c Read-only')" 2
    same "cores of the quota" "$(pod exec "$name" python -c 'from app.compute.quota import cores; print(cores())')" 1
    same "memory of the quota" "$(pod exec "$name" python -c 'from app.compute.quota import available_memory as a; print(a() < 2 * 2**30)')" True
    if [ "$(documents)" = null ]; then
        before=$(spent "$name")
        ask /collections --data '{"name": "papers"}' >/dev/null
        most "seconds of the processor for the first creation" "$(awk "BEGIN { print $(spent "$name") - $before }")" 2
    fi
    same "written" "$(ask /collections/papers/documents --data '{"documents": [
        {"id": "zip", "text": "Reads and writes zip archives."}, {"id": "mail", "text": "Sends email."}]}' | jq .written)" 2
    same "found by its meaning" "$(ask /collections/papers/search --data '{"query": "compressed files", "k": 1, "mode": "semantic"}' | jq -r '.hits[0].id')" zip
    said=$(ask /collections --data '{"name": "late", "encoder": {"model": "late"}}' | jq -r .detail)
    if [ "$target" = slim ]; then
        same "torch is not there" "$(pod exec "$name" python -c 'import importlib.util as u; print(u.find_spec("torch"))')" None
        same "a model of torch's is refused with the way out" "$(grep -c "take the full image" <<<"$said")" 1
    else
        same "a model of torch's is looked for" "$(grep -c "/models/none" <<<"$said")" 1
    fi
    same "the build command beside the server" "$(echo '{"id": "tar", "text": "Tapes."}' | pod exec --interactive "$name" \
        python scripts/build_index.py - --collection cli >/dev/null 2>&1; echo $?)" 0
    same "saved whole beside the server" "$(pod exec "$name" python scripts/backup.py save /tmp/saved 2>&1 | tail -1 |
        grep -c 'are in /tmp/saved')" 1
    pod restart "$name" >/dev/null; ready "$name"
    same "kept over a restart" "$(documents)" 2
    kill -KILL "$(server "$name")"; sleep 1; ready "$name"
    same "ended by a signal, started again, nothing lost" "$(documents)" 2
    pod stop "$name" >/dev/null
    same "a clean end" "$(pod inspect "$name" --format '{{.State.ExitCode}}')" 0
    pod rm --force "$name" >/dev/null

    # One whose event loop stands still from a signal on.
    command=(python -c 'import signal, sys, time; from app.__main__ import main
signal.signal(signal.SIGUSR2, lambda *_: time.sleep(1000)); sys.exit(main())')
    serve "$name" "$image" --env SHEAF_WATCHDOG_S=2
    command=()
    ready "$name"
    hung=$(server "$name")
    kill -USR2 "$hung"
    for _ in $(seq 100); do if [ ! -e "/proc/$hung" ]; then break; fi; sleep 0.1; done
    sleep 1; ready "$name"
    same "one that hangs ends, and is started again" "$([ "$(server "$name")" != "$hung" ] && echo yes)" yes
    same "and says where it hung" "$(pod logs "$name" 2>&1 | grep -o "in <lambda>" | sort -u)" "in <lambda>"
    pod rm --force --time 5 "$name" >/dev/null
    echo "$target: $((SECONDS - begun)) s in all"
done
echo "$failed failed"
[ "$failed" = 0 ]
