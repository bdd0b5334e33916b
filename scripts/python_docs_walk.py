"""Run by itself, in its own interpreter: writes the standard library's docstrings to standard output as NDJSON.

It imports nearly every module there is, so it never runs inside the service: ``python_docs`` gives this file to
``python -I -S``, where only the standard library is on the path. Output of modules during their import goes to
the null device. Modules that do something when imported (open a browser, start a game) are left alone, as are tests
and tables of character sets.

Documented objects, once each:
- modules, by their own docstring;
- classes, exceptions and functions, under the module that offers them to the public: one that lists them in
  ``__all__``, the shortest such name first (``asyncio.run``, not ``asyncio.runners.run``);
- methods and properties, under the class that defines them, never again under one that inherits them;
- other values that carry a docstring of their own (``typing.Union``).
Private names, objects without a docstring, and docstrings copied from a base class are left out.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

# Imported, these open a browser, print a poem, need a screen, or are not for users. The path modules are
# documented as os.path, posix as os.
LEFT_OUT = frozenset([
    "antigravity", "this", "idlelib", "turtledemo", "lib2to3", "test", "pydoc_data", "posix", "nt", "posixpath",
    "ntpath", "genericpath", "nturl2path", "sre_compile", "sre_constants", "sre_parse", "opcode", "msilib",
    "ctypes.wintypes",
])  # fmt: skip
NO_SUBMODULES = frozenset({"encodings"})  # 120 tables of character sets
PRIVATE = re.compile(r"(^|\.)(_|tests?($|\.))")
MODULE_DEPRECATED = re.compile(r"(?i)^(?:the )?(?:module )?'?([a-z0-9_.]+)'?(?: module| package)? is deprecated")
OBJECT_DEPRECATED = re.compile(
    r"(?im)^\W*deprecated\b|\bis (?:now )?deprecated(?:[.;:]|,? (?:since|use|in favou?r|and)\b)|\bdeprecated alias\b"
)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# A module that another platform owns fails in one of these ways; its error is counted, not hidden.
CANNOT_IMPORT = (ImportError, AttributeError, NameError, OSError, RuntimeError, ValueError)


class Walk:
    """The modules that could be imported, those that could not, and those that say they are deprecated."""

    def __init__(self) -> None:
        self.modules: dict[str, types.ModuleType] = {}
        self.failed: dict[str, str] = {}
        self.deprecated: set[str] = set()

    def import_all(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for name in sorted(sys.stdlib_module_names - LEFT_OUT):
                if not PRIVATE.search(name):
                    self._import(name)
        for warning in caught:
            if (match := MODULE_DEPRECATED.match(str(warning.message))) is not None:
                self.deprecated.add(match[1])
        self.modules["os.path"] = os.path

    def _import(self, name: str) -> None:
        try:
            module = importlib.import_module(name)
        except CANNOT_IMPORT as error:
            self.failed[name] = f"{type(error).__name__}: {error}"
            return
        self.modules[name] = module
        if name not in NO_SUBMODULES:
            for found in pkgutil.iter_modules(getattr(module, "__path__", []), name + "."):
                if found.name not in LEFT_OUT and not PRIVATE.search(found.name):
                    self._import(found.name)

    def is_deprecated(self, module: str) -> bool:
        parts = module.split(".")
        return any(".".join(parts[: i + 1]) in self.deprecated for i in range(len(parts)))


def public_names(module: types.ModuleType) -> list[str]:
    """The names that the module offers: its ``__all__``, or every name; never one with an underscore before it."""
    return sorted(name for name in set(getattr(module, "__all__", None) or vars(module)) if not name.startswith("_"))


def is_other_name(name: str, contents: types.ModuleType, value: Any) -> bool:
    """Whether a class goes here by another name than its own, which a class made of it has: ``socket.SocketType``."""
    if not inspect.isclass(value) or value.__name__ == name:
        return False
    heir = getattr(contents, value.__name__, None)
    return inspect.isclass(heir) and heir is not value and issubclass(heir, value)


def offers(module: str, contents: types.ModuleType, value: Any) -> bool:
    """Whether the module is a home of the value, rather than one that merely imported it."""
    if module == "builtins" or hasattr(contents, "__all__"):
        return True
    defined = getattr(value, "__module__", None) or module
    return defined == module or defined.startswith((module + ".", "_")) or defined in LEFT_OUT


def homes(modules: dict[str, types.ModuleType]) -> dict[str, tuple[str, Any]]:
    """Qualified name -> (module, value), each value under its one best name."""
    best: dict[int, tuple[tuple[Any, ...], str, str, Any]] = {}
    for module, contents in sorted(modules.items()):
        for name in public_names(contents):
            value = getattr(contents, name, None)
            if not inspect.isclass(value) and not isinstance(getattr(value, "__doc__", None), str):
                continue
            if isinstance(value, types.ModuleType) or not offers(module, contents, value):
                continue
            if is_other_name(name, contents, value):
                continue
            rank = (
                module != "builtins",
                getattr(value, "__name__", name) != name,
                module.count("."),
                getattr(value, "__module__", module) != module,
                not hasattr(contents, "__all__"),
                module,
                name,
            )
            if id(value) not in best or rank < best[id(value)][0]:
                best[id(value)] = (rank, module, name, value)
    return {f"{module}.{name}": (module, value) for _, module, name, value in best.values()}


def kind_of(value: Any) -> str | None:
    """`class`, `exception`, `function`, `data`, or None for what is documented nowhere but in its type."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    if inspect.isroutine(value):
        return "function"
    return "data" if value.__doc__ != type(value).__doc__ else None


class Shown:
    """Stands for a value in a signature."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def shown(value: Any) -> Any:
    """A default as it may be shown: a plain value as it is, what has a name by its name, all else as ``...``.

    A default can hold what only this process knows: ``cgi.FieldStorage`` has the environment, whole, as one.
    """
    if value is inspect.Parameter.empty or value is None or isinstance(value, (bool, int, float, bytes)):
        return value
    if value in ([], {}):
        return value
    if isinstance(value, str):
        return Shown("...") if any(place in value for place in (sys.prefix, sys.base_prefix, sys.executable)) else value
    if isinstance(value, tuple):
        return tuple(shown(item) for item in value)
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return Shown("...")
    return Shown(name if module == "builtins" or PRIVATE.search(module) else f"{module}.{name}")


def signature(name: str, value: Any, doc: str) -> str:
    """`name(arguments)`, or nothing where it is unknown, says nothing, or opens the docstring already."""
    if doc.lstrip().startswith(name + "(") or not callable(value):
        return ""
    try:
        found = inspect.signature(value)
    except (ValueError, TypeError, NameError, AttributeError):
        return ""
    parameters = [part.replace(default=shown(part.default)) for part in found.parameters.values()]
    arguments = str(found.replace(parameters=parameters))
    return "" if arguments == "(*args, **kwargs)" else name + ADDRESS.sub("", arguments)


def own_doc(owner: type, name: str, member: Any) -> str | None:
    """The member's docstring, unless a base class has the same one under this name."""
    doc = getattr(member, "__doc__", None)
    if not isinstance(doc, str) or doc.startswith("Alias for field number"):
        return None
    inherited = (vars(base).get(name) for base in owner.__mro__[1:])
    copied = any(base is not member and getattr(base, "__doc__", None) == doc for base in inherited)
    return None if copied else doc


def class_doc(value: type) -> str:
    """The class's own docstring and that of its own ``__init__``; empty where neither says anything."""
    doc = vars(value).get("__doc__")
    fields = getattr(value, "_fields", None)
    if not isinstance(doc, str) or (fields and doc == f"{value.__name__}({', '.join(fields)})"):
        doc = ""
    if doc.strip() == value.__name__:
        doc = ""
    constructor = vars(value).get("__init__")
    first = constructor.__doc__ if isinstance(constructor, types.FunctionType) else None
    return "\n\n".join(inspect.cleandoc(part) for part in (doc, first or "") if part.strip())


def heirs(classes: dict[str, type]) -> dict[type, str]:
    """Each base class without a public name -> the public class that documents its members for all who inherit them.

    It is the nearest one, of those the one with the fewest ancestors: what ``_socket.socket`` defines is found under
    ``socket.socket``, what ``_io._IOBase`` defines under ``io.IOBase`` and not under each kind of file again.
    """
    public = set(classes.values())
    best: dict[type, tuple[int, int, str]] = {}
    for qualified, owner in classes.items():
        for distance, base in enumerate(owner.__mro__[1:]):
            if base not in public and PRIVATE.search(f"{base.__module__}.{base.__qualname__}"):
                rank = (distance, len(owner.__mro__), qualified)
                best[base] = min(rank, best.get(base, rank))
    return {base: qualified for base, (_, _, qualified) in best.items()}


def members(owner: type, inherits: list[type]) -> Iterator[tuple[str, str, Any, str]]:
    """(name, kind, value, docstring) of what the class and the named bases of it define for the public."""
    found: dict[str, Any] = {}
    for definer in reversed([owner, *inherits]):
        found.update(vars(definer))
    for name, raw in sorted(found.items()):
        if name.startswith("_"):
            continue
        if inspect.isclass(raw):
            if raw.__qualname__ == f"{owner.__qualname__}.{name}" and class_doc(raw):
                yield name, "class", raw, class_doc(raw)
            continue
        value = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
        if inspect.isroutine(value):
            kind = "method"
        elif inspect.isdatadescriptor(value):
            kind = "property"
        else:
            continue
        if doc := own_doc(owner, name, value):
            yield name, kind, getattr(owner, name) if isinstance(raw, classmethod) else value, inspect.cleandoc(doc)


def documents(walk: Walk) -> Iterator[dict[str, Any]]:
    """Every document, in no order."""

    def document(
        qualified: str, module: str, kind: str, heading: str, doc: str, inside: str | None = None
    ) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "module": module,
            "package": module.partition(".")[0],
            "kind": kind,
            "deprecated": walk.is_deprecated(module) or OBJECT_DEPRECATED.search(doc) is not None,
        }
        if inside is not None:
            metadata["class"] = inside
        return {
            "id": qualified,
            "title": qualified.removeprefix("builtins."),
            "text": f"{heading}\n\n{doc}" if heading else doc,
            "metadata": metadata,
        }

    for name, module in walk.modules.items():
        if isinstance(module.__doc__, str) and module.__doc__.strip():
            yield document(name, name, "module", "", inspect.cleandoc(module.__doc__))
    named = homes(walk.modules)
    inheriting = heirs({name: value for name, (_, value) in named.items() if inspect.isclass(value)})
    for qualified, (home, value) in named.items():
        kind = kind_of(value)
        if kind is None:
            continue
        name = qualified.rpartition(".")[2]
        doc = class_doc(value) if inspect.isclass(value) else inspect.cleandoc(value.__doc__)
        if doc:
            yield document(qualified, home, kind, signature(name, value, doc), doc)
        if inspect.isclass(value):
            bases = [base for base in value.__mro__[1:] if inheriting.get(base) == qualified]
            for member, member_kind, found, text in members(value, bases):
                heading = signature(member, found, text) if member_kind != "property" else ""
                yield document(f"{qualified}.{member}", home, member_kind, heading, text, name)


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace", newline="\n")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(null, descriptor)
    walk = Walk()
    walk.import_all()
    unique = {found["id"]: found for found in documents(walk)}
    out.write(json.dumps({"documents": len(unique), "failed": walk.failed}) + "\n")
    for _, found in sorted(unique.items()):
        out.write(json.dumps(found, ensure_ascii=False) + "\n")
    out.close()


if __name__ == "__main__":
    main()
