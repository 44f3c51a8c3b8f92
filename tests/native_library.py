"""The native functions over texts: those that were installed, or built here for a test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import glossator.model
from glossator.model import native_text

SOURCES = Path(glossator.model.__path__[0]) / "native"


def native_library(folder: Path) -> native_text.Library:
    """Skips the test where there are neither the functions nor a compiler."""
    if (found := native_text.library()) is not None:
        return found
    compiler = shutil.which("cc")
    if compiler is None or not SOURCES.is_dir():
        pytest.skip("no C compiler")
    built = folder / "text.so"
    flags = ("-O2", "-std=c11", "-fPIC", "-shared")
    subprocess.run([compiler, *flags, "-o", built, *sorted(SOURCES.glob("*.c"))], check=True)
    return native_text.Library(str(built))
