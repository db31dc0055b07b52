"""Laws of what numba compiled: where it is kept, and when it is compiled anew."""

import errno
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed")

import numba

import model.loops
from model.loops import compiled, when_compiling


def test_a_loop_with_no_folder_to_keep_it_in_is_compiled_all_the_same():
    """And that it is compiled, which takes a while, is said once."""
    told, namespace = [], {}
    exec("def twice(x):\n    return 2 * x\n", namespace)  # in no file
    twice = compiled(namespace["twice"])
    with when_compiling(lambda: told.append("compiling")):
        assert (twice(3), twice(1.5)) == (6, 3.0)
    assert told == ["compiling"]
    assert twice(1j) == 2j
    assert told == ["compiling"]


def thrice(x):
    return 3 * x


def test_a_loop_that_finds_no_room_on_the_disk_is_not_kept_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as full:
        full.setattr("builtins.open", refuse_to_write)
        assert compiled(thrice)(3) == 9
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert compiled(thrice)(3) == 9
    assert [path for path in tmp_path.rglob("*") if path.is_file()]


def refuse_to_write(path, mode="r", *args, **kwargs):
    if "w" in mode:
        raise OSError(errno.ENOSPC, "No space left on device")
    return Path(path).open(mode, *args, **kwargs)


def test_a_loop_is_compiled_anew_when_one_that_it_may_call_was_written_anew(tmp_path, monkeypatch):
    """Numba looks at the file of the loop itself alone."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    told = []

    def call_it_anew():
        with when_compiling(lambda: told.append("compiling")):
            assert compiled(thrice)(3) == 9

    call_it_anew()
    call_it_anew()
    assert len(told) == 1
    monkeypatch.setattr(model.loops, "WRITTEN", "otherwise")
    call_it_anew()
    assert len(told) == 2


def test_all_files_with_loops_count():
    """And what is compiled into them: products.py has a size."""
    package = Path(model.loops.__file__).parent
    with_loops = {path.name for path in package.glob("*.py") if "@compiled" in path.read_text()}
    assert with_loops == set(model.loops.FILES) - {"loops.py", "products.py"}
