"""What `import glossator` gives, and what it costs."""

from __future__ import annotations

import inspect

import pytest
from test_layers import modules_after

import glossator
from glossator.model.native.library import fast

PUBLIC = {
    "Bundle",
    "GlossatorError",
    "JobError",
    "LabelComments",
    "Labeller",
    "Outputs",
    "RefusedError",
    "UsageError",
    "__version__",
    "current_folder",
    "label_table",
    "load",
}


def test_exports_exactly_the_public_names() -> None:
    assert set(glossator.__all__) == PUBLIC
    assert set(dir(glossator)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(glossator, name) is not None
    assert inspect.isclass(glossator.LabelComments)
    assert issubclass(glossator.UsageError, glossator.GlossatorError)
    assert issubclass(glossator.UsageError, ValueError)
    assert issubclass(glossator.JobError, glossator.GlossatorError)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lable_table'"):
        glossator.lable_table  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    assert not modules_after("import glossator") & {"apache_beam", "torch", "pyarrow", "numpy"}


def test_labelling_a_table_needs_no_beam() -> None:
    modules = modules_after("from glossator import Labeller, label_table, load")
    assert "glossator.pipeline.tables" in modules
    assert "apache_beam" not in modules


@pytest.mark.skipif(not fast(), reason="torch computes here")
def test_labelling_needs_no_torch() -> None:
    code = "from glossator.pipeline import job; from glossator import Labeller, load; "
    code += "Labeller(load('default')).label(['It came broken'])"
    assert "torch" not in modules_after(code)
