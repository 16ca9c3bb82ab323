"""The direction of imports, what may load torch, and that importing the package or asking for help loads little."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import neural_plasticity

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGE = "neural_plasticity"

# What each part may import, besides itself. Two chains leave the events: the record with everything that shows it,
# and the experiment with everything that computes. Only the session and the command line know both.
_FOUNDATION = {"errors", "heads", "events"}
_SHOWING = _FOUNDATION | {"record", "views"}
_COMPUTING = _FOUNDATION | {"config", "launch", "data", "models", "importance", "policies"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "heads": {"errors"},
    "events": {"errors", "heads"},
    "config": {"errors", "heads"},
    "record": _FOUNDATION,
    "views": _FOUNDATION | {"record"},
    "render": _SHOWING,
    "trackers": _SHOWING | {"render"},
    "dashboard": _SHOWING | {"render", "trackers"},
    "hub": {"errors"},
    "launch": set(),
    "data": {"errors", "hub"},
    "models": {"errors", "heads", "hub"},
    "importance": {"errors", "heads", "models"},
    "policies": {"errors", "heads", "models", "importance"},
    "experiment": _COMPUTING,
    "keeping": _SHOWING | {"experiment", "models"},
    "company": _COMPUTING | _SHOWING | {"experiment", "keeping"},
    "session": _COMPUTING | _SHOWING | {"experiment", "render", "trackers", "dashboard", "keeping", "company"},
    "sweep": _COMPUTING | _SHOWING | {"experiment", "render", "trackers", "session", "keeping"},
    "cli": _COMPUTING | _SHOWING | {"experiment", "render", "trackers", "dashboard", "session", "sweep"},
    "__main__": {"cli"},
    # __init__.py imports public names on first use (a table of strings), and for type checkers.
    "__init__": _COMPUTING | _SHOWING | {"experiment", "render", "trackers", "dashboard"},
}
TORCH = {"torch", "transformers", "accelerate"}
MAY_LOAD_TORCH = {"models", "data", "importance", "policies", "experiment"}
# module -> what it imports although its part must not, for a reason that stands in that module's docstring.
EXCEPTIONS: dict[str, set[str]] = {
    "neural_plasticity.dashboard.trainer_callback": {"transformers"},
    # The demo decides by the rules of a real run, which need no torch.
    "neural_plasticity.dashboard.demo_events": {
        "neural_plasticity.importance.criteria",
        "neural_plasticity.policies.selection",
        "neural_plasticity.policies.stabilisation",
    },
    "neural_plasticity.dashboard.demo_world": {"neural_plasticity.importance.criteria"},
    # Accelerate's trackers, loaded only when one of them was asked for.
    "neural_plasticity.trackers.accelerate_trackers": {"accelerate.state", "accelerate.tracking"},
}

HEAVY = ("torch", "transformers", "accelerate", "matplotlib", "datasets", "pandas", "wandb")
PUBLIC = {"attach", "score_heads", "compact", "save_pruned", "load_pruned", "export_dense", "open_run"}


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _part(module: str) -> str:
    """``neural_plasticity.record.store`` is of the part ``record``; the package itself is ``__init__``."""
    names = module.split(".")
    return names[1] if len(names) > 1 else "__init__"


def _imports(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Full names of all that a module imports, at its top or within functions, relative imports resolved."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = module.split(".")
                parent = parent[: len(parent) - node.level + (1 if is_package else 0)]
                base = ".".join([*parent, *([node.module] if node.module else [])])
            # `from package import part` names a part just as `import package.part` does.
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == PACKAGE else (base,)


def _imported_by(module: str) -> set[str]:
    path = MODULES[module]
    return set(_imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py"))


def _against_the_direction(module: str, imported: set[str]) -> set[str]:
    part = _part(module)
    own = {name for name in imported if name == PACKAGE or name.startswith(PACKAGE + ".")}
    wrong = {name for name in own if _part(name) not in MAY_IMPORT[part] | {part}}
    if part not in MAY_LOAD_TORCH:
        wrong |= {name for name in imported if name.split(".")[0] in TORCH}
    return wrong


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    assert _part(module) in MAY_IMPORT, f"{module}: a new part; say in MAY_IMPORT what it may import"
    assert _against_the_direction(module, _imported_by(module)) == EXCEPTIONS.get(module, set())


def test_no_exception_outlives_its_module() -> None:
    assert set(EXCEPTIONS) <= set(MODULES)


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("record.store", "from neural_plasticity.views import lines", {"neural_plasticity.views"}),
        ("record.store", "def f():\n    import torch.nn", {"torch.nn"}),
        ("render.page", "from neural_plasticity import policies", {"neural_plasticity.policies"}),
        ("render.page", "from ..experiment import phases", {"neural_plasticity.experiment"}),
        ("models.attach", "import torch\nfrom neural_plasticity.heads import HeadId\nfrom . import seam", set()),
    ],
)
def test_the_check_itself_sees_what_it_should(module: str, source: str, wrong: set[str]) -> None:
    name = f"{PACKAGE}.{module}"
    assert _against_the_direction(name, set(_imports(source, name, is_package=False))) == wrong


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith(".__main__")])
def test_every_module_imports(module: str) -> None:
    importlib.import_module(module)


def test_every_third_party_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        re.split(r"[^A-Za-z0-9_-]", line)[0].replace("-", "_").lower()
        for lines in (project["dependencies"], *project["optional-dependencies"].values())
        for line in lines
    }
    known = declared | set(sys.stdlib_module_names) | {PACKAGE}
    unknown = {
        f"{module}: {name}"
        for module in MODULES
        for name in _imported_by(module)
        if name.split(".")[0].lower() not in known
    }
    assert unknown == set()


def test_all_public_names_can_be_imported() -> None:
    assert set(neural_plasticity.__all__) >= PUBLIC
    for name in neural_plasticity.__all__:
        namespace: dict[str, object] = {}
        exec(f"from {PACKAGE} import {name}", namespace)
        assert namespace[name] is not None


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        neural_plasticity.no_such_name  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = _python(f"import sys, {PACKAGE}; print(*(set({HEAVY!r}) & set(sys.modules)))")
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["sweep", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from neural_plasticity.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print("status", status or 0, "loaded", *(set({HEAVY!r}) & set(sys.modules)))
"""
    done = _python(code, *arguments)
    assert done.stdout.rstrip().endswith("status 0 loaded"), done.stdout[-300:] + done.stderr[-2000:]
    assert done.stdout.startswith("usage: plasticity")


@pytest.mark.parametrize("part", ["record", "views", "render", "cli"])
def test_reading_works_where_torch_is_not_installed(part: str) -> None:
    """Spec row B2: a record is read on a machine without torch. ``None`` in sys.modules makes an import fail."""
    absent = dict.fromkeys(("torch", "transformers", "accelerate", "tokenizers", "datasets", "pandas"))
    code = f"""
import importlib, pkgutil, sys
sys.modules.update({absent!r})
import {PACKAGE}
{PACKAGE}.open_run
part = importlib.import_module("{PACKAGE}.{part}")
for found in pkgutil.walk_packages(getattr(part, "__path__", []), part.__name__ + "."):
    importlib.import_module(found.name)
print("read")
"""
    done = _python(code)
    assert done.stdout.strip() == "read", done.stderr[-2000:]
