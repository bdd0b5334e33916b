#!/usr/bin/env bash
# Builds and runs the images where there is no Docker: scripts/container.sh [slim] [full]; slim where none is named.
# As root on Debian. buildah builds the Dockerfile as it is, over a base of Debian's own Python that mmdebstrap makes, or
# debootstrap; podman runs it with docker-compose.yml's limits. Then health, user, a read-only root, quota, a creation, a
# write, files of every format, a search, a restart, a kill and an end are looked at, of both images at once. Exit status
# 1 where something is not as it must be, 77 where this machine runs no containers, for the reason on the last line.
#
# FOLDER keeps base and layers for the next run (several GB); without it a new one is made and removed, in memory where
# there is enough of it.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=("${@:-slim}")
port=${PORT:-18471}
base=docker.io/library/$(sed -n 's/^ARG BASE=//p' Dockerfile)

cannot() { echo "no image was built: $1"; exit 77; }
if [ "$(id -u)" -ne 0 ]; then cannot "only root can do that"; fi
if ! command -v apt-get >/dev/null; then cannot "this is no Debian"; fi
if ! unshare --mount mount -t tmpfs tmpfs /mnt 2>/dev/null; then cannot "root may not mount here"; fi
for tool in buildah podman mmdebstrap debootstrap crun catatonit curl jq; do
    command -v $tool /usr/libexec/podman/$tool >/dev/null && continue
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet --quiet
    apt-get install --quiet --quiet --yes --no-install-recommends \
        buildah podman mmdebstrap debootstrap crun iptables netavark catatonit curl jq >/dev/null
    break
done

folder=${FOLDER:-$(mktemp -d /var/tmp/sheaf-XXXXXX)}
mkdir -p "$folder"
# dpkg waits for the disk after each file.
spare=$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
if [ -z "${FOLDER:-}" ] && [ "$spare" -ge 12 ]; then mount -t tmpfs -o size=10g tmpfs "$folder"; fi
mkdir -p "$folder"/{storage,run,build}
finish() {
    jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true
    for target in "${targets[@]}"; do
        pod rm --force --time 5 "sheaf-try-$target" >/dev/null 2>&1 || true
        pod volume rm --force "sheaf-try-$target" >/dev/null 2>&1 || true
    done
    if [ -z "${FOLDER:-}" ]; then
        findmnt --raw --noheadings --output TARGET | grep -E "^$folder(/|$)" | sort --reverse | xargs --no-run-if-empty umount || true
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
    packages=ca-certificates,netbase,tzdata,python3.11-venv,python3-distutils,python3
    if command -v mmdebstrap >/dev/null; then
        TMPDIR=$folder mmdebstrap --quiet --variant=minbase --include=$packages \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            --dpkgopt='path-exclude=/usr/share/doc/*' $release "$folder/base" "${mirror% }"
    else
        debootstrap --variant=minbase --include=$packages $release "$folder/base" "${mirror% }" >"$folder/base.log" ||
            { tail "$folder/base.log"; exit 1; }
    fi
    for name in python python3; do ln -sf /usr/bin/python3.11 "$folder/base/usr/local/bin/$name"; done
    # As Debian's own slim image is without them.
    rm -rf "$folder"/base/usr/share/{doc,man,locale} "$folder"/base/etc/dpkg/dpkg.cfg.d/99mmdebstrap \
        "$folder"/base/var/cache/apt/archives/*.deb "$folder"/base/var/lib/apt/lists/*
    tar -C "$folder/base" -cf - . | pod import --quiet - "$base" >/dev/null
    rm -rf "$folder/base"
    echo "base: $SECONDS s"
fi

pod run --rm --pull=never --cpus 1 --memory 1g "$base" true 2>"$folder/run.log" ||
    cannot "a container does not run here: $(tail -1 "$folder/run.log")"

# pip in the build is set up as this machine's is, by the files that its own settings name.
mounts=()
while read -r file; do if [ -e "$file" ]; then mounts+=(--volume "$file:$file:ro"); fi; done < <(
    { python3 -m pip config debug | grep -oE '/[^ ,]+, exists: True' | cut -d, -f1
      python3 -m pip config list | grep -oE "(file://)?/[A-Za-z0-9_./-]+" | sed 's#^file://##; s#/simple/*$##'
      echo /etc/ssl/certs/ca-certificates.crt; } 2>/dev/null | sort -u)

# Layers of stages that both images stand on are made once.
made() {
    buildah "${where[@]}" bud --quiet --network host --pull-never --layers --format docker --isolation chroot \
        "${mounts[@]}" --target "$1" --build-arg TORCH_INDEX_URL="${TORCH_INDEX_URL:-}" "${@:2}" "$folder/build" >/dev/null
    echo "$1: made by second $SECONDS"
}

failed=0
command=()
same() { if [ "$2" = "$3" ]; then echo "ok    $1"; else echo "FAIL  $1: $2, not $3"; failed=$((failed + 1)); fi; }
most() {
    if awk "BEGIN { exit !($2 <= $3) }"; then echo "ok    $1: $2, of $3 at most"
    else echo "FAIL  $1: $2, more than $3"; failed=$((failed + 1)); fi
}
ask() { curl --silent --max-time 60 "$url$1" -H 'content-type: application/json' "${@:2}"; }
serve() {
    pod run --detach --pull=never --name "$name" --init --stop-timeout 60 --restart unless-stopped \
        --publish "127.0.0.1:$port:8000" --volume "$name:/srv/sheaf/indexes" --read-only --read-only-tmpfs=false \
        --tmpfs /tmp:rw,noexec,nosuid,nodev --cap-drop ALL --security-opt no-new-privileges --cpus 1 --memory 2g \
        --memory-swap 2g --pids-limit 512 --env SHEAF_ALLOW_ANONYMOUS=true "$@" "$image" "${command[@]}" >/dev/null
}
ready() {
    for _ in $(seq 600); do
        if curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health/ready"; then return; fi
        sleep 0.1
    done
    echo "FAIL  $name is not ready"; pod logs "$name" 2>&1 | tail; exit 1
}
# Seconds of the processor that the server has taken; its parent is the container's init.
spent() { awk -v ticks="$(getconf CLK_TCK)" '{ print ($14 + $15) / ticks }' "/proc/$(server)/stat"; }
server() { pgrep --parent "$(pod inspect "$name" --format '{{.State.Pid}}')"; }
documents() { ask "/collections/$1" | jq .documents; }
inside() { pod exec --interactive "$name" "$@"; }
task() {
    for _ in $(seq 300); do
        state=$(ask "/tasks/$1" | jq -r .state)
        case $state in queued | running) sleep 0.2 ;; *) echo "$state"; return ;; esac
    done
    echo "still $state"
}
formats="csv html json md trec docx pdf parquet feather arrows xlsx"

# What an image is and does. The second is looked at on the next port.
look() {
    local target=$1 begun=$SECONDS
    image=localhost/sheaf:try-$target name=sheaf-try-$target
    if [ "$target" != "${targets[0]}" ]; then port=$((port + 1)); fi
    url=http://127.0.0.1:$port/v1
    pod history "$image" --format '{{.Size}} {{.CreatedBy}}' | grep -v '^0 *B' | cut -c1-100
    size=$(pod image inspect "$image" --format '{{.Size}}')
    below=$(pod image inspect "$base" --format '{{.Size}}')
    echo "$target: $((size / 1000000)) MB, $(((size - below) / 1000000)) MB of them over the base"
    if [ "$target" = slim ]; then
        most "MB of $target" $((size / 1000000)) 900
        most "MB of them over the base" $(((size - below) / 1000000)) 700
    fi

    status=0; pod run --rm --pull=never "$image" >/dev/null 2>&1 || status=$?
    same "refuses to listen without keys" $status 2
    serve --env SHEAF_MODELS='{"late": {"type": "colbert", "path": "/models/none"}}'
    ready
    most "seconds of the processor until ready" "$(spent)" 5
    status=0; pod healthcheck run "$name" >/dev/null || status=$?
    same "healthy" $status 0
    same "user and group" "$(inside sh -c 'id -u; id -g' | xargs)" "10001 10001"
    same "read-only but for collections" "$(inside sh -c 'touch /srv/sheaf/app/x /opt/sheaf/x 2>&1 | grep -c Read-only')" 2
    same "cores of the quota, memory of the quota" \
        "$(inside python -c 'from app.compute.quota import available_memory as a, cores; print(cores(), a() < 2 * 2**30)')" "1 True"
    if [ "$(documents papers)" = null ]; then
        before=$(spent)
        ask /collections --data '{"name": "papers"}' >/dev/null
        most "seconds of the processor for the first creation" "$(awk "BEGIN { print $(spent) - $before }")" 2
    fi
    same "written" "$(ask /collections/papers/documents --data '{"documents": [
        {"id": "zip", "text": "Reads and writes zip archives."}, {"id": "mail", "text": "Sends email."}]}' | jq .written)" 2
    same "found by its meaning" "$(ask /collections/papers/search --data '{"query": "compressed files", "k": 1, "mode": "semantic"}' | jq -r '.hits[0].id')" zip
    said=$(ask /collections --data '{"name": "late", "encoder": {"model": "late"}}' | jq -r .detail)
    if [ "$target" = slim ]; then
        same "torch is not there" "$(inside python -c 'import importlib.util as u; print(u.find_spec("torch"))')" None
        same "a model of torch's is refused with the way out" "$(grep -c "take the full image" <<<"$said")" 1
    else
        same "a model of torch's is looked for" "$(grep -c "/models/none" <<<"$said")" 1
        same "torch, and what reads its models, can be imported" \
            "$(inside python -c 'import sentence_transformers, torch; print(torch.ones(2).sum().item())' 2>&1 | tail -1)" 2.0
    fi
    inside sh -c 'mkdir -p /tmp/made/files && cat >/tmp/made/files_made.py' <tests/sources/files_made.py
    inside python - $formats <<'P'
import gzip, sys
from pathlib import Path
sys.path.insert(0, "/tmp/made")
import h5py
from backports import zstd
from files_made import make
folder = Path("/tmp/made/files")
for form in sys.argv[1:]:
    make(folder / f"a.{form}")
with h5py.File(folder / "a.h5", "w") as file:
    file["id"], file["text"] = ["h"], ["x"]
(folder / "z.ndjson.zst").write_bytes(zstd.compress(b'{"id": "z", "text": "x"}\n'))
(folder / "g.ndjson.gz").write_bytes(gzip.compress(b'{"id": "g", "text": "x"}\n'))
P
    same "a folder of every format, by the build command beside the server" \
        "$(inside python scripts/build_index.py /tmp/made/files --collection cli 2>/dev/null)" \
        "collection cli: 19 written, 0 unchanged, 0 faults, 0 without title and text"
    for form in pdf docx html parquet; do
        # Of rows each has its own.
        named=$([ "$form" = parquet ] || echo "&id=$form")
        id=$(inside cat "/tmp/made/files/a.$form" | curl --silent --max-time 60 --data-binary @- \
            -H 'content-type: application/octet-stream' "$url/collections/papers/import?format=$form$named" | jq -r .id)
        same "an import of $form" "$(task "$id")" succeeded
    done
    same "saved whole beside the server" "$(inside python scripts/backup.py save /tmp/saved 2>&1 | tail -1 |
        grep -c 'are in /tmp/saved')" 1
    count=$(documents papers)
    pod restart "$name" >/dev/null; ready
    same "kept over a restart" "$(documents papers)" "$count"
    kill -KILL "$(server)"; sleep 1; ready
    same "ended by a signal, started again, nothing lost" "$(documents papers)" "$count"
    pod stop "$name" >/dev/null
    same "a clean end" "$(pod inspect "$name" --format '{{.State.ExitCode}}')" 0
    pod rm --force "$name" >/dev/null

    # One whose event loop stands still from a signal on.
    command=(python -c 'import signal, sys, time; from app.__main__ import main
signal.signal(signal.SIGUSR2, lambda *_: time.sleep(1000)); sys.exit(main())')
    serve --env SHEAF_WATCHDOG_S=2
    ready
    hung=$(server)
    kill -USR2 "$hung"
    for _ in $(seq 100); do if [ ! -e "/proc/$hung" ]; then break; fi; sleep 0.1; done
    sleep 1; ready
    same "one that hangs ends, and is started again" "$([ "$(server)" != "$hung" ] && echo yes)" yes
    same "and says where it hung" "$(pod logs "$name" 2>&1 | grep -o "in <lambda>" | sort -u)" "in <lambda>"
    pod rm --force --time 5 "$name" >/dev/null
    echo "$target: $((SECONDS - begun)) s to look at, $failed failed"
    [ "$failed" = 0 ]
}

tar --exclude-vcs -cf - $(sed -n 's/^!//p' .dockerignore) Dockerfile .dockerignore | tar -C "$folder/build" -xf -
made installed-slim
torch= looks=()
if [[ " ${targets[*]} " = *" full "* ]]; then made installed-full & torch=$!; fi
for target in "${targets[@]}"; do
    # The largest layer of `full` is made while `slim` is.
    if [ "$target" = full ]; then wait "$torch"; fi
    made "$target" --tag "localhost/sheaf:try-$target"
    look "$target" >"$folder/$target.log" 2>&1 &
    looks+=($!)
done
status=0
for place in "${!looks[@]}"; do
    wait "${looks[$place]}" || status=1
    cat "$folder/${targets[$place]}.log"
done
echo "$SECONDS s in all"
exit $status
