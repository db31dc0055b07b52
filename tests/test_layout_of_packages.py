"""Imports point one way: bpe <- data <- model <- scripts, and the first two know nothing of torch."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {"bpe": {"bpe"}, "data": {"bpe", "data"}, "model": {"bpe", "data", "model"}}


def imported(file: Path) -> Iterator[str]:
    """The top-level names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_comes_before_it(package: str) -> None:
    for file in (ROOT / package).rglob("*.py"):
        wrong = set(imported(file)) & MAY_IMPORT.keys() - MAY_IMPORT[package]
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("package", ["bpe", "data.sources", "data.batches"])
def test_tokenizer_and_data_work_without_torch(package: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import {package}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_files_stay_small_enough_to_read_in_one_sitting() -> None:
    lengths = {file: len(file.read_text().splitlines()) for p in MAY_IMPORT for file in (ROOT / p).rglob("*.py")}
    assert {str(file): length for file, length in lengths.items() if length > 350} == {}


def test_files_are_written_where_it_is_done_atomically_and_in_three_places_more() -> None:
    writes = re.compile(r"""(?<!\(os\.devnull\))\.open\("[wax]|write_text|write_bytes""")
    files = [*ROOT.glob("*.py"), *(file for package in MAY_IMPORT for file in (ROOT / package).rglob("*.py"))]
    found = {file.relative_to(ROOT).as_posix() for file in files if writes.search(file.read_text(encoding="utf-8"))}
    assert found == {"bpe/files.py", "data/partial.py", "model/report.py", "model/run.py"}
    told = (ROOT / "bpe" / "files.py").read_text(encoding="utf-8").split('"""')[1]
    assert all(file in told for file in found - {"bpe/files.py"})


def test_every_file_opens_with_what_it_is_for() -> None:
    for package in MAY_IMPORT:
        for file in (ROOT / package).rglob("*.py"):
            assert ast.get_docstring(ast.parse(file.read_text())), f"{file.relative_to(ROOT)} has no docstring"


FROM_THE_BASE = {"forward", "hidden", "logits"}  # of model/language_model.py


def undocumented(file: Path) -> Iterator[str]:
    """Public functions, classes and methods without a docstring, but for methods that another class's of the same file,
    a protocol's say, has told of, and those of private classes."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    methods = [node for owner in classes for node in owner.body if isinstance(node, ast.FunctionDef)]
    told = FROM_THE_BASE | {method.name for method in methods if ast.get_docstring(method)}
    public = [owner for owner in classes if not owner.name.startswith("_")]
    inside = [node for owner in public for node in owner.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    outside = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in outside + [node for node in inside if node.name not in told]:
        if not node.name.startswith("_") and ast.get_docstring(node) is None:
            yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_every_public_name_has_a_docstring() -> None:
    files = [
        *(ROOT / "LLM-BPE.py", ROOT / "LLM-Generate.py"),
        *(f for p in MAY_IMPORT for f in (ROOT / p).rglob("*.py")),
    ]
    assert [name for file in files for name in undocumented(file)] == []
