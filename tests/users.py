"""Another user of this machine, whom only root can become."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

OTHER = 65534
"""Nobody's number."""
_PROGRAM = f"import os; os.setgroups([]); os.setuid({OTHER}); import grpc"


def _can_be_used() -> bool:
    """Whether the other user can run this Python: it may lie in a folder of ours alone."""
    if os.geteuid() != 0:
        return False
    return subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True).returncode == 0


needs_another_user = pytest.mark.skipif(
    not _can_be_used(), reason="needs root, and a Python that another user can run"
)
