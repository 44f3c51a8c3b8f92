"""Kinds of tasks: all that differs between them is here, a class for each."""

from __future__ import annotations

from collections.abc import Mapping

from glossator.model.kinds.multi import Multi
from glossator.model.kinds.regression import Regression
from glossator.model.kinds.rules import Kind, Labels, Rules
from glossator.model.kinds.single import Single

__all__ = ["RULES", "Kind", "Labels", "Multi", "Regression", "Rules", "Single"]

RULES: Mapping[Kind, Rules] = {
    "single": Single(),
    "multi": Multi(),
    "regression": Regression(),
}
