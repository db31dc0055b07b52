"""What is freed is used again, which shows in how many pages the system has to hand out."""

import ctypes
import subprocess
import sys

import pytest

COUNT = """
import resource
import numpy as np
from bpe.freed_memory import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(100 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = pages()
keep_freed_memory()
pages()
print(given_back, pages())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library is not glibc"
)
def test_large_arrays_take_the_memory_of_those_before_them():
    counted = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    given_back, kept = map(int, counted.stdout.split())
    assert kept * 10 < given_back
