"""The shape of the code: which part may know which, what importing does, and that the documents tell the truth."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

from app.settings import Settings

ROOT = Path(__file__).parents[1]

# From the top down: a module may import from its own layer and those below, never from one above.
LAYERS = [
    {"app.__main__", "app.main", "app.mcp"},
    {"app.api"},
    {"app.evaluation", "app.integrations", "app.load", "app.measure", "app.tuning"},
    {"app.catalogue"},
    {"app.backup", "app.replicas", "app.shards", "app.tasks"},
    {"app.batch", "app.ingest", "app.search"},
    {
        "app.boosts",
        "app.changes",
        "app.diversity",
        "app.fusion",
        "app.highlights",
        "app.hits",
        "app.indexing",
        "app.query",
        "app.passages",
        "app.relevance",
        "app.rerank",
        "app.results",
    },
    {"app.collection"},
    {
        "app.columns",
        "app.encoders",
        "app.encodings",
        "app.lexical",
        "app.objects",
        "app.replication",
        "app.sources",
        "app.sparse",
        "app.store",
        "app.vector_index",
    },
    {"app.scoring"},
    {"app.codes"},
    {"app.documents", "app.filters"},
    {"app.metadata"},
    {"app.schema"},
    {"app.settings"},
    {"app.client", "app.compute", "app.keys"},
    {"app.reference"},
    {"app.types"},
    {"app.errors"},
    {"app"},
]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "app").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def layer_of(module: str) -> int:
    for depth, names in enumerate(LAYERS):
        for name in names:
            if module == name or (name != "app" and module.startswith(f"{name}.")):
                return depth
    raise AssertionError(f"{module} has no layer: give it one in this test, and a place in ARCHITECTURE.md")


@cache
def imports_of(path: Path) -> frozenset[str]:
    known = set(modules())
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known else node.module
                for alias in node.names
            }
    return frozenset(name for name in found if name.split(".")[0] == "app" and name != "app")


def test_no_import_points_up():
    wrong = [
        f"{module} -> {imported}"
        for module, path in modules().items()
        for imported in imports_of(path)
        if layer_of(imported) < layer_of(module)
    ]
    assert wrong == []


def test_no_circle_among_modules():
    graph = {module: imports_of(path) - {module} for module, path in modules().items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle: {' -> '.join((*trail, module))}"
        if module not in done:
            for imported in graph.get(module, ()):
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    ("package", "home"),
    [("faiss", "app.vector_index"), ("torch", "app.encoders"), ("sentence_transformers", "app.encoders")],
)
def test_a_library_has_one_home(package: str, home: str):
    users = []
    for module, path in modules().items():
        for node in ast.walk(tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.split(".")[0] == package for name in names):
                users.append(module)
    assert users, f"nothing imports {package} any more: change this test"
    assert all(user.startswith(home) for user in users)


def test_a_collections_kind_is_asked_where_its_layers_are_declared():
    """And where it is chosen or spoken of: by encoders, at creation, in what comes and goes as JSON."""
    asks = re.compile(r'(?<!task\.)\bkind (==|!=) "(dense|multi_vector)"')
    speak = {
        "app.collection.layers",
        "app.collection.spec",
        "app.catalogue.creating",
        "app.documents",
        "app.reference",
    }
    found = {module for module, path in modules().items() if asks.search(path.read_text())} - speak
    assert {module for module in found if not module.startswith(("app.api", "app.encoders", "app.load"))} == set()


FILES_OF_OTHERS = {
    "app.api.edge.openapi": "pages that come with a package",
    "app.api.routes.pages": "the pages of the service",
    "app.client": "files that are sent to a server, and that are written for its caller",
    "app.compute": "the machine: its quota, its stacks, kept code",
    "app.encoders": "models, and what is made of them",
    "app.keys": "the file of keys",
    "app.objects": "a folder in place of a bucket",
    "app.sources": "what is to be loaded",
}
"""Modules that read or write files which are none of a collection's."""
OF_PATHS = {
    "read_bytes", "read_text", "write_bytes", "write_text", "unlink", "rename", "iterdir", "glob", "rglob", "mkdir",
    "rmdir", "touch", "stat", "lstat", "chmod", "exists", "is_file", "is_dir", "symlink_to", "hardlink_to",
}  # fmt: skip
OF_OS = {
    "open", "read", "write", "pread", "pwrite", "close", "fsync", "fdatasync", "truncate", "ftruncate", "rename",
    "replace", "link", "symlink", "unlink", "remove", "rmdir", "mkdir", "makedirs", "listdir", "scandir", "walk",
    "stat", "lstat", "statvfs", "access", "chmod",
}  # fmt: skip


def file_access(tree: ast.AST) -> list[str]:
    """Calls that open, change, look at or list files of the disk, and modules that are for nothing else."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name in ("shutil", "tempfile", "fcntl", "mmap")]
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id="open"):
                found.append("open")
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in OF_OS:
                found.append(f"os.{name}")
            case ast.Attribute(attr=name) if name in OF_PATHS:
                found.append(name)
            case ast.Attribute(attr="open"):
                modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                found += ["Path.open" for mode in modes if isinstance(mode, str) and set(mode) <= set("rwxabt+")]
                found += ["Path.open"] * (not node.args)
            case ast.Attribute(attr="replace") if len(node.args) == 1 and not node.keywords:
                found.append("Path.replace")
    return found


@pytest.mark.parametrize(
    "line",
    [
        "import shutil", "from mmap import mmap", "open(path)", "os.rename(a, b)", "path.read_bytes()",
        "(folder / 'x').open('xb')", "path.open()", "part.replace(path)", "folder.glob('*')",
    ],
)  # fmt: skip
def test_access_to_files_is_seen(line: str):
    assert len(file_access(ast.parse(line))) == 1


def test_files_of_collections_are_reached_through_the_store():
    """A collection can lie elsewhere only if nobody opens its files behind the back of ``Directory``."""
    wrong = {
        module: found
        for module, path in modules().items()
        if not module.startswith(("app.store.", *FILES_OF_OTHERS))
        and (found := file_access(ast.parse(path.read_text())))
    }
    assert wrong == {}
    for module in FILES_OF_OTHERS:
        paths = [path for name, path in modules().items() if name == module or name.startswith(f"{module}.")]
        assert any(file_access(ast.parse(path.read_text())) for path in paths), f"{module} needs no exception any more"


def test_the_http_layer_knows_no_arrays():
    for module, path in modules().items():
        if module.startswith("app.api"):
            for node in ast.walk(tree(path)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                assert not {name.split(".")[0] for name in names} & {"numpy", "faiss", "torch"}, module


@pytest.mark.slow
def test_importing_the_service_loads_no_model_library():
    code = (
        "import sys, app.main, app.__main__\n"
        "print(sorted({'torch', 'faiss', 'sentence_transformers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_route_has_a_scope():
    """app/api/edge/access.py has the table; tests/api/test_access.py holds the server to it."""
    from app.api.edge.access import UNLISTED, rule_of
    from app.main import create_app

    routes = create_app(Settings(keys=(), keys_file=None)).routes
    assert [
        (method, route.path) for route in routes for method in route.methods if rule_of(route, method) is UNLISTED
    ] == []


def test_every_setting_is_documented():
    readme = (ROOT / "README.md").read_text()
    source = (ROOT / "app/settings.py").read_text()
    example = (ROOT / "docker.env.example").read_text()
    for name in Settings.model_fields:
        assert f"`SHEAF_{name.upper()}`" in readme, f"SHEAF_{name.upper()} is missing in README.md"
        assert f"\n#SHEAF_{name.upper()}=" in example, f"SHEAF_{name.upper()} is missing in docker.env.example"
        assert re.search(rf"^    {name}: .*\n    \"\"\"", source, re.MULTILINE), f"{name} has no docstring"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "indexes/README.md",
        "docs/operations.md",
        "docs/decisions.md",
        "docs/integrations.md",
        "docs/papers.md",
        "RELIABILITY.md",
        "docs/security.md",
        "docs/cluster.md",
    ],
)
def test_every_path_that_a_page_names_is_there(page: str):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    named = re.findall(r"`((?:app|scripts|tests|indexes)/[A-Za-z0-9_./]+)`", text)
    for path in [*links, *named]:
        base = ROOT / page if path in links else ROOT / "x"
        assert (base.parent / path).exists(), f"{page} names {path}"


def test_the_map_is_short_and_names_every_folder():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert len(text.split()) <= 2_500
    folders = {path.parent.relative_to(ROOT).as_posix() for path in modules().values()}
    assert {folder for folder in folders if f"]({folder})" not in text} == set()


def test_files_and_folders_stay_small_enough_to_read():
    long = {module: len(path.read_text().splitlines()) for module, path in modules().items()}
    assert {module: lines for module, lines in long.items() if lines > 500} == {}
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules().values())
    most = {folder: 12 if folder == "app" else 15 for folder in folders}
    assert {folder: count for folder, count in folders.items() if count > most[folder]} == {}


def kept() -> Iterator[Path]:
    """Every file that .gitignore does not name, whether git is here or not."""
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()} | {".git"}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not any(fnmatch(name, one) for one in ignored)]
        for name in files:
            path = Path(folder, name)
            place = path.relative_to(ROOT).as_posix()
            if place == "indexes/README.md" or not any(fnmatch(name, one) or fnmatch(place, one) for one in ignored):
                yield path


def test_no_path_of_one_machine_is_committed():
    texts = {".py", ".md", ".toml", ".yml", "", ".sh", ".html", ".js", ".css", ".lock"}
    files = [path for path in kept() if path.is_file() and path.suffix in texts]
    assert {"Makefile", "README.md", "main.py", "test_architecture.py"} <= {path.name for path in files}
    for path in files:
        content = path.read_text(errors="replace")
        for place in ("/" + "work/", "/" + "root/", "/" + "opt/wheels"):
            assert place not in content, f"{path} names {place}"


def test_only_tests_marked_as_slow_start_processes():
    """tests/conftest.py refuses it to the others, this one too; so `make quick` stays quick."""
    with pytest.raises(pytest.fail.Exception, match=r"mark it with pytest\.mark\.slow"):
        subprocess.run(["true"], check=True)
