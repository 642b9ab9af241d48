"""The rules of the architecture, checked on the source: who may import whom, budgets, names, and imports without effects."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "deepclust_accel"
FILES = sorted(PACKAGE.rglob("*.py"))
CODE = [
    *FILES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "bench").rglob("*.py")),
    *sorted((ROOT / "docs").rglob("*.py")),
    *sorted((ROOT / "plugins").rglob("*.py")),
    *sorted(p for end in ("*.h", "*.cpp", "*.cu", "*.cuh") for p in (ROOT / "csrc").rglob(end)),
    ROOT / "setup.py",
]

_FIT = {"config", "errors", "data", "engine", "methods.registry"}
# package → what it may import of the project
ALLOWED = {
    "config": {"errors"},
    "errors": set(),
    "atomic": {"errors"},
    "ops": {"ops", "_native_cpu"},
    "nn": {"nn", "ops"},
    "data": {"data", "errors", "atomic"},
    "cluster": {"cluster", "ops", "data", "errors"},
    "metrics": {"errors"},
    "engine": {"engine", "data", "errors", "atomic"},
    "methods": {"methods", "nn", "cluster", "ops", "config", "errors", "data", "engine.stage", "engine.run"},
    "report": {"report", "metrics", "errors", "config", "data", "atomic"},
    "bench": {
        "bench",
        "ops",
        "errors",
        "atomic",
        "fitting",
        "engine.memory",
        "engine.runtime",
        "data",
        "metrics",
        "config",
        "methods.registry",
        "report",
    },
    "testing": {"testing", "ops", "config", "data", "engine", "errors", "estimator", "fitting", "methods.registry"},
    "scaffold": {"errors", "methods", "cluster", "nn", "testing"},
    "health": {"metrics", "engine.run", "methods.base"},
    "fitting": _FIT | {"health", "ops", "methods.base"},
    "runs": _FIT | {"fitting", "atomic"},
    "pretrained": _FIT | {"runs"},
    "estimator": _FIT | {"fitting", "pretrained", "runs"},
    "forecast": _FIT | {"fitting", "health", "methods.base"},
    "workflow": _FIT | {"atomic", "fitting", "forecast", "pretrained", "runs", "metrics", "report"},
    "doctor": {"fitting", "ops", "errors", "methods.registry"},
    "cli": _FIT
    | {"cli", "fitting", "forecast", "metrics", "runs", "workflow", "bench", "doctor", "scaffold", "testing"},
    "__main__": {"cli"},
    "__init__": {"estimator"},
}
# outside package → the only places that may import it
FENCED = {
    "lightning_fabric": {"engine/runtime.py"},
    "typer": {"cli"},
    "matplotlib": {"report", "bench"},
    "torch.utils.tensorboard": {"engine/tensorboard.py"},
    "torch.distributed": {"engine/collectives.py", "engine/runtime.py", "cli/processes.py"},
    "sklearn": {"estimator.py", "metrics.py", "methods", "data/named.py", "testing"},
    "scipy": {"metrics.py", "bench", "data/sparse.py", "data/hdf5.py"},
    "pyarrow": {"data/tables.py", "data/writing.py"},
    "h5py": {"data/hdf5.py"},
    "PIL": {"data/images.py"},
    "pykeops": {"bench"},
}


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path):
    """Absolute names of everything a file imports, wherever in the file; TYPE_CHECKING imports count too."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_downwards(path):
    inside = path.relative_to(PACKAGE).with_suffix("").parts[0]
    own = {name.removeprefix("deepclust_accel.") for name in imports_of(path) if name.startswith("deepclust_accel.")}
    wrong = {name for name in own if not any(name == a or name.startswith(a + ".") for a in ALLOWED[inside])}
    assert not wrong, f"{inside} may import only {sorted(ALLOWED[inside])}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_outside_packages_stay_behind_their_fence(path):
    place = path.relative_to(PACKAGE).as_posix()
    for fenced, homes in FENCED.items():
        used = any(name == fenced or name.startswith(fenced + ".") for name in imports_of(path))
        assert not used or any(place == home or place.startswith(home + "/") for home in homes), (
            f"{fenced} only in {homes}"
        )


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def test_no_module_is_a_drawer_for_everything():
    assert not [p for p in FILES if p.stem in ("utils", "util", "helpers", "common", "misc")]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_modules_have_narrow_faces_and_say_what_they_are(path):
    tree = ast.parse(path.read_text())
    public = [
        n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")
    ]
    assert len(public) <= 10, public
    assert path.stat().st_size == 0 or ast.get_docstring(tree), "a module docstring says the idea in one paragraph"


def test_an_operator_has_one_name_in_all_its_places():
    from deepclust_accel import ops

    folders = {p.name for p in (ROOT / "csrc").iterdir() if p.is_dir() and p.name != "common"}
    operators = set(ops.report())
    assert folders == operators
    for name in operators:
        assert (PACKAGE / "ops" / f"{name}.py").exists() and (ROOT / "tests" / "ops" / f"test_{name}.py").exists()
        assert hasattr(ops, name)
        assert name in (ROOT / "README.md").read_text()


IMPORT = """
import sys, os, random
{first}
before = dict(os.environ), os.getcwd(), random.getstate()
import {module}
assert (dict(os.environ), os.getcwd(), random.getstate()) == before
assert not {forbidden} & set(sys.modules), {forbidden} & set(sys.modules)
"""


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("deepclust_accel", {"torch", "numpy", "sklearn"}),
        ("deepclust_accel.cli", {"torch", "numpy", "sklearn"}),
        ("deepclust_accel.methods.registry", {"torch"}),
        ("deepclust_accel.estimator", {"matplotlib", "typer"}),
    ],
)
def test_import_has_no_effects_and_stays_light(module, forbidden):
    first = (
        "import torch, sklearn.base" if "sklearn" not in forbidden and "torch" not in forbidden else ""
    )  # these set variables
    code = IMPORT.format(module=module, forbidden=forbidden, first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_everything_leaves_torch_as_it_was():
    code = """
import torch, importlib, pkgutil
state, threads, dtype = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
import deepclust_accel
for module in pkgutil.walk_packages(deepclust_accel.__path__, "deepclust_accel."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert torch.equal(state, torch.get_rng_state())
assert (threads, dtype) == (torch.get_num_threads(), torch.get_default_dtype())
assert not torch.distributed.is_initialized()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
