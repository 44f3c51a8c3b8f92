"""Where files of this user lie that outlive a process."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """A folder of this user, for what can be had or made again."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "glossator"
