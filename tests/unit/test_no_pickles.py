"""Nothing in the source unpickles, but tensors, in the files that are named here."""

import ast
from pathlib import Path

import pytest

import patchscout

MODULES = {"pickle", "cPickle", "_pickle", "joblib", "shelve", "dill", "cloudpickle", "marshal"}
"""What can run code when it reads."""

LOADERS = {"torch.load", "torch.jit.load", "torch.export.load", "torch.hub.load", "torch.package"}
LOADERS |= {"np.load", "numpy.load", "pd.read_pickle", "yaml.load", "yaml.unsafe_load"}
LOADERS |= {"yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all"}

SAFELY = {"np.load": "allow_pickle=False", "torch.load": "weights_only=True"}
"""What must be among the arguments."""

OF_TENSORS = {"backbones/weights.py"}
"""Reads a pickle of tensors alone: a backbone's weights."""


def unpickled(source, file="detector.py"):
    """Return what in a file may unpickle."""
    nodes = list(ast.walk(ast.parse(source)))
    found = []
    safe = set()
    for node in nodes:
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            arguments = [ast.unparse(keyword) for keyword in node.keywords]
            is_allowed = name != "torch.load" or file in OF_TENSORS
            if is_allowed and SAFELY.get(name) in arguments:
                safe.add(id(node.func))
            found += [ast.unparse(keyword) for keyword in node.keywords if is_permissive(keyword)]
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and id(node) not in safe:
            names = [ast.unparse(node)]
        found += [name for name in names if name in LOADERS or name.split(".")[0] in MODULES]
    return found


def is_permissive(keyword):
    """Whether an argument allows to unpickle, or hides whether it does."""
    forbidden = {"allow_pickle": "False", "weights_only": "True"}
    return keyword.arg in forbidden and ast.unparse(keyword.value) != forbidden[keyword.arg]


def test_nothing_in_the_source_unpickles():
    root = Path(patchscout.__file__).parent
    sources = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    assert len(sources) > 30
    found = {
        name: unpickled(path.read_text(encoding="utf-8"), name) for name, path in sources.items()
    }
    assert {name: calls for name, calls in found.items() if calls} == {}
    assert set(sources) >= OF_TENSORS


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import joblib as j",
        "from pickle import loads",
        "from torch import load",
        "import torch; torch.load(f)",
        "import torch; torch.load(f, weights_only=True)",
        "import torch; torch.export.load(f)",
        "import torch; read = torch.load",
        "import numpy as np; np.load(f)",
        "import numpy as np; np.load(f, allow_pickle=True)",
        "import numpy; numpy.lib.format.read_array(f, allow_pickle=True)",
        "import yaml; yaml.load(f, yaml.Loader)",
        "import yaml; yaml.full_load(f)",
    ],
)
def test_what_would_be_found(source):
    assert unpickled(source)


@pytest.mark.parametrize(
    "source",
    ["import yaml; yaml.safe_load(f)", "import numpy as np; np.load(f, allow_pickle=False)"],
)
def test_what_is_safe(source):
    assert not unpickled(source)


def test_tensors_are_read_where_it_is_allowed():
    source = "import torch; torch.load(f, weights_only=True)"
    assert not unpickled(source, "backbones/weights.py")
    assert unpickled("import torch; torch.load(f)", "backbones/weights.py")
