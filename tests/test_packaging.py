"""Installing, running, shipping Sheaf. No container is built here; all that can be held to the code without one is."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import app
from app.keys import read_keys
from app.settings import Settings

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["sheaf"]
NAMES = {f"SHEAF_{name.upper()}" for name in Settings.model_fields}


def docker() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, (name, arguments)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def last(name: str) -> str:
    """The last instruction of that name: the one that holds for the images."""
    return [arguments for found, arguments in docker() if found == name][-1]


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """stage -> (what it stands on, its instructions), in their order."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for name, arguments in docker():
        if name == "FROM":
            base, _, stage = arguments.split()
            found[stage] = (base, [])
        elif found:
            found[stage][1].append((name, arguments))
    return found


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(last("ENV")))


def make(*arguments: str) -> list[str]:
    """The commands that make would run."""
    # VENV is a new place, so that nothing counts as installed already.
    line = ["make", "--dry-run", "--no-print-directory", "VENV=nowhere", *arguments]
    unset = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "TORCH_INDEX_URL"}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(line, cwd=ROOT, env=kept, check=True, capture_output=True, text=True).stdout.splitlines()


# pyproject.toml


@pytest.mark.parametrize("group", ["run", *PROJECT["optional-dependencies"]])
def test_every_dependency_is_pinned(group: str) -> None:
    asked = PROJECT["dependencies"] if group == "run" else PROJECT["optional-dependencies"][group]
    assert [one for one in asked if not re.fullmatch(r"[a-z0-9-]+==[0-9.]+(; .+)?", one)] == []


def test_what_is_imported_is_declared() -> None:
    # Of the extras, what is imported where it is asked for.
    extras = {name: asked for name, asked in PROJECT["optional-dependencies"].items() if name != "dev"}
    asked = [*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)]
    declared = {re.split(r"[=;]", one)[0] for one in asked}
    ours = {"app"} | {path.stem for path in (ROOT / "scripts").glob("*.py")}
    packages = packages_distributions()
    missing = {}
    for path in [*(ROOT / "app").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for top in {name.partition(".")[0] for name in names} - ours - sys.stdlib_module_names:
                homes = {re.sub(r"[-_.]+", "-", home).lower() for home in packages.get(top, [top])}
                # These belong to the interface of fastapi and of pydantic, and come at the versions that they pin.
                if not homes & (declared | {"starlette", "anyio", "pydantic-core"}):
                    missing[str(path.relative_to(ROOT))] = top
    assert missing == {}


def test_what_is_declared_is_used() -> None:
    # uvicorn takes httptools and uvloop where they are there; of fastapi-swagger only the files are used.
    text = "\n".join(path.read_text() for folder in ("app", "scripts") for path in (ROOT / folder).rglob("*.py"))
    used = {home.replace("_", "-").lower() for top, homes in packages_distributions().items() for home in homes
            if re.search(rf"^\s*(from|import) {re.escape(top)}\b", text, re.MULTILINE)}  # fmt: skip
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["models"], *extras["benchmarks"]]
    assert {re.split(r"[=;]", one)[0] for one in asked} - used == {"uvloop", "httptools", "fastapi-swagger"}


def test_one_version() -> None:
    assert PROJECT["version"] == app.__version__
    assert COMPOSE["image"] == f"sheaf:{app.__version__}-${{SHEAF_IMAGE:-slim}}"
    label = next(line for name, line in docker() if name == "LABEL" and "image.version" in line)
    assert f'org.opencontainers.image.version="{app.__version__}"' in label


# The locks


def locked(name: str) -> dict[str, tuple[str, int]]:
    """package -> (version, number of hashes). Of a package with several versions, by Python, the last."""
    found = {}
    for block in re.split(r"\n(?=\S)", (ROOT / name).read_text().strip()):
        package, _, version = block.split()[0].partition("==")
        found[package] = (version, len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)))
    return found


FORMATS = ["documents", "tables", "zstd", "store"]
LOCKS = {"requirements-slim.lock": FORMATS, "requirements.lock": ["models", "benchmarks", *FORMATS],
         "requirements-dev.lock": ["models", "benchmarks", "dev"]}  # fmt: skip
"""Each with the extras that it has beside the dependencies."""


@pytest.mark.parametrize("name", LOCKS)
def test_everything_but_torch_is_locked_with_hashes(name: str) -> None:
    packages = locked(name)
    assert len(packages) > 35
    assert [package for package, (_, hashes) in packages.items() if not hashes] == []
    # torch and what only its CUDA builds need come first, by themselves.
    assert not [package for package in packages if re.match(r"torch$|nvidia-|cuda-|triton", package)]
    text = (ROOT / name).read_text()
    assert not re.search(r"://|--index-url|--find-links|^-e|@ ", text, re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_has_what_the_project_pins(name: str) -> None:
    packages = locked(name)
    asked = [
        *PROJECT["dependencies"],
        *(one for extra in LOCKS[name] for one in PROJECT["optional-dependencies"][extra]),
    ]
    pinned = dict(re.match(r"([a-z0-9-]+)==([0-9.]+)", one).groups() for one in asked)  # type: ignore[union-attr]
    assert ("torch" in pinned) == ("slim" not in name)
    pinned.pop("torch", None)
    assert {package: packages.get(package, ("",))[0] for package in pinned} == pinned, "run: make lock"
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert build == [f"setuptools=={packages['setuptools'][0]}"]


def test_the_locks_agree() -> None:
    slim, run, dev = (locked(name) for name in LOCKS)
    assert {package: dev.get(package) for package in run} == run
    assert {package: run.get(package) for package in slim} == slim
    assert set(dev) - set(run) >= {"pytest", "ruff", "mypy"}


# Makefile and .ci/run


def test_make_installs_torch_by_its_pin_and_all_else_by_hash() -> None:
    (pinned,) = (one for one in PROJECT["optional-dependencies"]["models"] if one.startswith("torch=="))
    first, *others = [line for line in make("install-dev") if " install " in line]
    assert first.endswith(f"install  {pinned}")
    assert all("--no-deps --require-hashes" in line or line.endswith("--editable .") for line in others)
    first, second = [line for line in make("install-slim") if " install " in line]
    assert first.endswith("install --no-deps --require-hashes --requirement requirements-slim.lock")
    assert second.endswith("--editable .")
    (first, *_) = (line for line in make("install", "TORCH_INDEX_URL=https://example.org/cpu") if " install " in line)
    assert first.endswith(f"install --index-url https://example.org/cpu {pinned}")


def test_make_run_builds_what_the_build_command_takes_and_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, build, serve = make("run")
    words = shlex.split(build)
    assert (ROOT / words[1]).is_file()
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from build_index import parser

    args = parser().parse_args(words[2:])
    assert (args.source, args.collection, args.model, args.on_error) == (["python-docs"], "python-docs", None, "stop")
    # A small collection need not be kept in few bytes, and a newcomer judges by its order.
    assert args.precision == "8bit"
    assert shlex.split(serve)[-2:] == ["-m", "app"]
    assert (ROOT / "app" / "__main__.py").is_file()


def test_a_second_make_run_installs_nothing(tmp_path: Path) -> None:
    assert any(" install " in line for line in make("run", f"VENV={tmp_path}"))
    (tmp_path / ".installed").touch()
    later = max((ROOT / name).stat().st_mtime for name in ("pyproject.toml", "requirements.lock")) + 60
    os.utime(tmp_path / ".installed", (later, later))
    assert not any(" install " in line for line in make("run", f"VENV={tmp_path}"))


def test_ci_runs_every_guard_and_lets_no_browser_test_be_skipped() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert "export SHEAF_REQUIRE_BROWSER=1 SHEAF_REQUIRE_DEPLOYMENT=1 SHEAF_REQUIRE_NODE=1\n" in text
    assert {"audit", "test"} <= set(re.findall(r"make ([a-z]+)", text))
    assert "scripts/container.sh ${IMAGES:-slim}" in text, "the images are built and run, where root may"
    commands = "\n".join(make("test"))
    for guard in ("ruff format --check .", "ruff check .", "-m mypy", "-m pytest"):
        assert guard in commands


# Dockerfile


def test_what_the_image_copies_is_there_and_reaches_the_build() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    taken = [shlex.split(arguments) for name, arguments in docker() if name == "COPY" and "--from" not in arguments]
    for source in {word for words in taken for word in words[:-1] if not word.startswith("--")}:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, one) or source.startswith(f"{one}/") for one in kept), source


def test_the_images_are_built_by_targets_and_arguments_that_are_there() -> None:
    built = stages()
    assert list(built)[-1] == "slim", "the one that is built where none is named"
    for name in ("slim", "full"):
        base, instructions = built[name]
        assert base == "runtime"
        # Whatever changes most comes last, and nobody is root again.
        assert [line for kind, line in instructions if kind == "COPY"][-1] == "app app"
        assert not {kind for kind, _ in instructions} & {"RUN", "USER", "CMD", "ENV"}
        runs = " ".join(line for kind, line in built[f"installed-{name}"][1] if kind == "RUN")
        target = "install-slim" if name == "slim" else "install"
        assert re.findall(r"\bmake ([a-z-]+) VENV", runs) == [target]
        make(target)
    assert built["runtime"][1][-1] == ("USER", "10001:10001")
    bases = {base for base, _ in built.values()}
    assert bases - set(built) == {"${BASE}"}
    assert ("ARG", "BASE=python:3.11-slim-bookworm") in docker()
    declared = {arguments.partition("=")[0] for name, arguments in docker() if name == "ARG"}
    assert declared == {"REVISION", *COMPOSE["build"]["args"]}
    # By compose the same base for good, of the same tag.
    assert re.fullmatch(
        r"\$\{SHEAF_BASE:-python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}\}", COMPOSE["build"]["args"]["BASE"]
    )
    assert COMPOSE["build"]["target"] == "${SHEAF_IMAGE:-slim}"


def test_the_settings_of_the_image_are_settings() -> None:
    environment = image_environment()
    given = {name: value for name, value in environment.items() if name.startswith("SHEAF_")}
    assert set(given) <= NAMES
    settings = Settings.model_validate({name.removeprefix("SHEAF_").lower(): value for name, value in given.items()})
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert str(settings.indexes) == last("VOLUME")
    assert last("EXPOSE") == str(settings.port)
    assert last("USER") != "root"


def test_the_image_starts_the_server_and_its_health_check_tells_up_from_down(tmp_path: Path) -> None:
    start, check = (json.loads(text[text.index("[") :]) for text in (last("CMD"), last("HEALTHCHECK")))
    assert start[0] == check[0] == "python"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SHEAF_")},
        "PYTHONPATH": str(ROOT),
        "SHEAF_INDEXES": str(tmp_path),
        "SHEAF_PORT": "0",
    }
    command = [sys.executable, *start[1:]]
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout is not None
            found = re.search(rb"http://127\.0\.0\.1:(\d+)", server.stdout.readline())
            assert found is not None
            at = {**environment, "SHEAF_PORT": found[1].decode()}
            health = [sys.executable, *check[1:]]
            up = subprocess.run(health, env=at, check=False)
        finally:
            server.terminate()
    down = subprocess.run(health, env=at, check=False, stderr=subprocess.DEVNULL)
    assert (up.returncode, down.returncode) == (0, 1)


def test_the_images_are_built_and_run_by_a_script(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "container.sh"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert make("container", "IMAGES=slim full") == ["scripts/container.sh slim full"]
    # Where it cannot be done, that is said, and is no failure of what was not built.
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    said = subprocess.run([script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (77, "no image was built: only root can do that\n")
    # The flags of docker-compose.yml.
    text = script.read_text()
    assert COMPOSE["read_only"]
    assert COMPOSE["init"]
    for flag in ("--read-only ", "--init", "--cap-drop ALL", "--security-opt no-new-privileges", "--tmpfs /tmp"):
        assert flag in text
    assert f"--pids-limit {COMPOSE['pids_limit']}" in text
    assert f"--restart {COMPOSE['restart']}" in text


# docker-compose.yml


def test_compose_keeps_the_collections() -> None:
    volume, models = COMPOSE["volumes"]
    assert volume.endswith(f":{image_environment()['SHEAF_INDEXES']}")
    assert models.endswith(":/models:ro")
    assert image_environment()["HF_HOME"].startswith(tuple(COMPOSE["tmpfs"])), "all else is read-only"


def test_compose_does_without_keys_only_because_it_is_published_on_loopback() -> None:
    assert "SHEAF_ALLOW_ANONYMOUS" in COMPOSE["environment"]
    (port,) = COMPOSE["ports"]
    assert port.startswith("127.0.0.1:")
    assert port.endswith(f":{image_environment()['SHEAF_PORT']}")
    assert COMPOSE.get("network_mode") is None
    # The image alone says nothing of the kind.
    assert "SHEAF_ALLOW_ANONYMOUS" not in image_environment()


def test_compose_passes_on_every_setting_from_a_file_that_the_example_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COMPOSE["env_file"] == [{"path": "docker.env", "required": False}]
    # The image's own settings, whatever the file says.
    given = {name: str(value) for name, value in COMPOSE["environment"].items() if name in image_environment()}
    assert given == {name: value for name, value in image_environment().items() if name.startswith("SHEAF_")}
    assert set(COMPOSE["environment"]) <= NAMES
    lines = re.findall(r"^#(SHEAF_\w+)=(.*)$", (ROOT / "docker.env.example").read_text(), re.MULTILINE)
    assert sorted(name for name, _ in lines) == sorted(NAMES)
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    default = Settings()
    for name, value in lines:
        monkeypatch.setenv(name, value)
    assert Settings() == default


def test_keys_come_to_the_container_as_a_secret_of_which_the_first_has_none() -> None:
    everything = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert COMPOSE["environment"]["SHEAF_KEYS_FILE"] == f"/run/secrets/{COMPOSE['secrets'][0]}"
    file = re.fullmatch(r"\$\{SHEAF_KEYS_JSON:-(.+)\}", everything["secrets"]["keys"]["file"])
    assert file is not None
    assert read_keys(ROOT / file[1]) == []


@pytest.mark.parametrize(("stage", "lock"), [("slim", "requirements-slim.lock"), ("full", "requirements.lock")])
def test_a_changed_text_installs_nothing_again(stage: str, lock: str) -> None:
    """The files copied before the installation in its stage of the image."""
    before = [*stages()["build"][1], *stages()[f"installed-{stage}"][1]]
    copied = {word for name, arguments in before if name == "COPY" for word in shlex.split(arguments)[:-1]}
    assert copied == {"pyproject.toml", "Makefile", lock}
    assert [stages()[f"installed-{name}"][0] for name in ("slim", "full")] == ["build", "installed-slim"]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    made = next(arguments for name, arguments in before if name == "RUN" and "touch" in arguments)
    assert all(file in made for file in ("app/__init__.py", build["readme"], *build["license-files"]))


def test_the_logs_of_a_container_end() -> None:
    options = COMPOSE["logging"]["options"]
    assert COMPOSE["logging"]["driver"] == "local"
    assert re.fullmatch(r"[0-9]+m", options["max-size"])
    assert int(options["max-file"]) > 1
