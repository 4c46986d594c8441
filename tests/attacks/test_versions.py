"""Defects of others that are known, by their CVE: what is installed, pinned and asked for is at or above the mended version."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
MENDED = {
    "CVE-2026-32711": ("pydicom", "3.0.2"),  # a DICOMDIR names files outside its folder
    "CVE-2026-56445": ("pynetdicom", "3.0.4"),  # the program qrscp writes where a data set says
    "CVE-2026-42561": ("python-multipart", "0.0.27"),  # header fields of a part without end
    "CVE-2025-32434": ("torch", "2.6.0"),  # torch.load runs code despite weights_only
    "CVE-2026-24747": ("torch", "2.10.0"),  # torch.load writes out of bounds despite weights_only
    "CVE-2025-43859": ("h11", "0.16.0"),  # a chunk's end is not looked at, and a request smuggled in it
}


def floors() -> dict[str, str]:
    """The lowest version of each package that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    found = {}
    for requirement in map(Requirement, asked):
        lowest = [specifier.version for specifier in requirement.specifier if specifier.operator == ">="]
        found[requirement.name] = lowest[0] if lowest else "0"
    return found


@pytest.mark.parametrize("cve", MENDED)
def test_no_version_with_a_known_defect_is_installed_pinned_or_asked_for(cve: str) -> None:
    package, mended = MENDED[cve]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert Version(version(package)) >= Version(mended)
    assert Version(pinned[package]) >= Version(mended)
    assert Version(floors()[package]) >= Version(mended)


def sources() -> list[Path]:
    return sorted((ROOT / "spinepaint").rglob("*.py"))


def test_nothing_is_unpickled() -> None:
    """CVE-2025-32434: weights are safetensors, and checkpoints of one's own training are read as weights alone."""
    loads = []
    for path in sources():
        text = path.read_text()
        assert not re.search(r"^\s*(import|from)\s+(pickle|cPickle|dill|joblib|cloudpickle|shelve|marshal)\b", text, re.M), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load", "yaml.load"):
                arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                loads.append(ast.unparse(node.func))
                if loads[-1] == "torch.load":
                    assert arguments.get("weights_only") == "True", path
                elif loads[-1] == "yaml.load":
                    pytest.fail(f"{path} reads YAML with its tags")
                else:
                    assert arguments.get("allow_pickle", "False") == "False", path
    assert "torch.load" in loads  # the search finds what there is


def test_no_dicom_file_set_is_opened_and_no_dicom_node_listens() -> None:
    """CVE-2026-32711 and CVE-2026-56445: the parts that have the defects are not used at all."""
    for path in sources():
        text = path.read_text()
        assert not re.search(r"\bfileset\b|FileSet\(|start_server\(|make_server\(|pynetdicom\.apps", text), path


def test_the_gateway_does_not_import_what_unpickles_or_listens() -> None:
    program = "import sys, spinepaint.app.serve, spinepaint.app.gateway\n"
    program += "assert not {'torch', 'pickletools', 'pynetdicom', 'pydicom'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
