"""The house has floors: a module imports only from below its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CAFFE = ROOT / "python" / "caffe"

# module or package right under caffe -> floor
FLOORS = {
    "errors": 0,
    "glog": 0,
    "proto": 0,
    "parallel": 0,
    "threads": 0,
    "graph": 1,
    "net_spec": 1,
    "data": 1,
    "blob": 2,
    "device": 2,
    "rng": 0,
    "capture": 0,
    "fillers": 2,
    "onednn": 2,
    "packed": 2,
    "winograd": 2,
    "layers": 3,
    "wiring": 4,
    "chains": 4,
    "weights": 4,
    "batches": 4,
    "debug": 4,
    "passes": 4,
    "net": 4,
    "solvers": 5,
    "io": 6,
    "costs": 5,
    "classifier": 6,
    "detector": 6,
    "coord_map": 6,
    "draw": 6,
    "timer": 6,
    "_caffe": 7,
    "pycaffe": 7,
    "tools": 6,
    "": 7,
}


def floor_of(module: str) -> int:
    head = module.removeprefix("caffe").lstrip(".").split(".")[0]
    assert head in FLOORS, f"say in FLOORS on which floor {module} stands"
    return FLOORS[head]


def imports_of(path: Path) -> list[str]:
    """Modules of caffe that the file imports, wherever in it, but for annotations' sake."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            packages = [f"{base}.{a.name}" for a in node.names]
            is_package = (ROOT / "python" / base.replace(".", "/")).is_dir()
            found += packages if is_package else [base]
    return [m for m in found if m.split(".")[0] == "caffe" and m != "caffe"]


FILES = sorted(p for p in CAFFE.rglob("*.py") if p.name != "caffe_pb2.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CAFFE)))
def test_imports_go_down(path: Path) -> None:
    module = ".".join(("caffe", *path.relative_to(CAFFE).with_suffix("").parts)).removesuffix(".__init__")
    own = floor_of(module)
    upward = [m for m in imports_of(path) if floor_of(m) > own]
    assert not upward, f"{module} is on floor {own} and imports from above: {upward}"


FAMILIES = sorted(p for p in (CAFFE / "layers").glob("*.py") if p.stem not in ("__init__", "base", "registry"))


@pytest.mark.parametrize("path", FAMILIES, ids=lambda p: p.stem)
def test_layer_files_do_not_import_each_other(path: Path) -> None:
    allowed = ("caffe.layers.base", "caffe.layers.registry")
    sideways = [m for m in imports_of(path) if m.startswith("caffe.layers") and m not in allowed]
    assert not sideways


def test_the_toolkit_uses_only_public_names_of_pycaffe() -> None:
    """oxford102 and its scripts must also run on a BVLC installation; two scripts are tools of our runtime's."""
    tools = ("draw_net.py", "summarize.py")
    public = ("caffe.io", "caffe.proto", "caffe.proto.caffe_pb2", "caffe.layers", "caffe.params", "caffe.NetSpec")
    files = [*(ROOT / "oxford102").glob("*.py"), *(ROOT / "scripts").glob("*.py"), *ROOT.glob("*.py")]
    assert files
    found = {str(p): [m for m in imports_of(p) if m not in public] for p in files if p.name not in tools}
    assert not {p: m for p, m in found.items() if m}


def test_the_walk_sees_an_upward_import(tmp_path: Path) -> None:
    """The check itself can fail."""
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from caffe import net\n    import caffe.solvers.sgd\n")
    assert imports_of(bad) == ["caffe.net", "caffe.solvers.sgd"]
    assert floor_of("caffe.net") > floor_of("caffe.blob")
