"""What is freed is kept by the process: shown by the page faults that using it again costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import numpy as np
from glossator.model.training import malloc
SIZE = 24 << 20
if sys.argv[1] == "keep":
    malloc.keep_freed_memory()
def use() -> None:
    held = [np.ones(SIZE, np.uint8) for _ in range(8)]
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc has it")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    faults = {}
    for how in ("keep", "usual"):
        run = subprocess.run(
            [sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True
        )
        faults[how] = int(run.stdout)
    assert faults["keep"] < 100
    assert faults["usual"] > 500
