"""The public corpora of the default bundle: fetched, cleaned, split and written as Parquet.

Nothing of theirs is part of the distribution: their licences differ, so what is kept here is
the recipe, with each file's version and digest, and not the text.
"""

from glossator.model.corpora.recipe import TASKS, build

__all__ = ["TASKS", "build"]
