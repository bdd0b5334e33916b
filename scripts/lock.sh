#!/usr/bin/env bash
# Writes requirements.lock, requirements-slim.lock, requirements-dev.lock and those of scripts/peers from pyproject.toml:
# every package at one version, with the hashes of all its files as the index lists them, for every platform and Python that Sheaf runs on.
# `make lock` runs it; with KEEP=1 what is locked already stays at its version.
#
# torch is not among them: it is installed first, by itself, because its builds for the CPU come from another index with
# other hashes. What only its CUDA builds need is left out too. The slim lock has what a server needs with the built-in
# encoder; of that model's package the libraries that it names are left out (Sheaf reads its files alone), of OpenVINO
# its telemetry, of tokenizers the client of a hub. All but the dev lock have what reads every format of documents, and the
# client of object stores.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=${UV:-uv}
excluded=$(mktemp)
trap 'rm -f "$excluded"' EXIT
printf '%s\n' torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cudnn-cu13 \
    nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13 >"$excluded"
# What is built from a source of its own, which it fetches, where there is no build of it: left out for that processor.
overrides=$(mktemp)
printf '%s\n' "pytrec-eval-terrier>=0.5.5; platform_machine != 'aarch64'" >"$overrides"
common=(--universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url
    --no-emit-find-links --quiet --excludes "$excluded"
    --overrides "$overrides")
if [ -z "${KEEP:-}" ]; then common+=(--upgrade); fi
# torch's own needs, which its exclusion would leave out; setuptools builds Sheaf itself.
needs=$(mktemp)
trap 'rm -f "$excluded" "$needs" "$overrides"' EXIT
printf '%s\n' filelock fsspec jinja2 networkx sympy typing-extensions "$(sed -n 's/^requires = \["\(setuptools==[^"]*\)".*/\1/p' pyproject.toml)" >"$needs"

# The larger set first: what it needs decides for the others.
"$uv" pip compile "${common[@]}" pyproject.toml "$needs" --extra models --extra benchmarks --extra dev \
    --output-file requirements-dev.lock
"$uv" pip compile "${common[@]}" pyproject.toml "$needs" --extra models --extra benchmarks \
    --extra documents --extra tables --extra zstd --extra store --constraints requirements-dev.lock \
    --output-file requirements.lock
# What mteb needs beside all that; its own lock, for nothing else here imports it.
beside=$(mktemp)
"$uv" pip compile "${common[@]}" pyproject.toml "$needs" --extra peers --extra models --constraints requirements-dev.lock \
    --output-file "$beside"
awk 'FNR == NR { if (/^[a-z0-9]/) known[$1]; next } /^[a-z0-9]/ { new = !($1 in known) } new' \
    requirements-dev.lock "$beside" >scripts/peers/requirements.lock
# What generates a client from the API's description; it wants another typer than transformers does.
"$uv" pip compile "${common[@]}" <(echo openapi-python-client==0.29.1) \
    --constraints <(grep -v '^typer==' requirements-dev.lock | grep -E '^[a-z0-9]' | tr -d '\\') --output-file "$beside"
awk 'FNR == NR { if (/^[a-z0-9]/) known[$1]; next } /^[a-z0-9]/ { new = !($1 in known) } new' \
    requirements-dev.lock "$beside" >scripts/peers/generator.lock
rm "$beside"
printf '%s\n' sentence-transformers openvino-telemetry huggingface-hub >>"$excluded"
"$uv" pip compile "${common[@]}" pyproject.toml <(grep setuptools "$needs") --extra documents \
    --extra tables --extra zstd --extra store --constraints requirements-dev.lock \
    --output-file requirements-slim.lock
