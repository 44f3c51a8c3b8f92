"""The frame of our pages: they open offline, and show texts of strangers as what they are.

No script, nothing fetched, which a page's own content security policy holds it to. A page is a
template that extends `frame.html.jinja`, and may import the tables and charts of
`blocks.html.jinja`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glossator.model.errors import UsageError
from glossator.model.report.blocks import cell

_HERE = Path(__file__).parent


def available() -> bool:
    """Whether Jinja, which the extra `report` brings, is installed."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        return False
    return True


def rendered(template: Path, **values: Any) -> str:
    """A page; what is printed in it is made visible, and escaped after that.

    Args:
        template: its file.
        values: what is printed.

    Raises:
        UsageError: Jinja is missing.
    """
    if not available():
        raise UsageError("the report needs Jinja: pip install 'glossator[report]'")
    import jinja2
    from markupsafe import Markup

    from glossator.model.terminal import visible

    def shown(value: Any) -> Any:
        if isinstance(value, Markup):
            return value
        return "" if value is None else visible(str(value))

    environment = jinja2.Environment(
        autoescape=True,
        finalize=shown,
        loader=jinja2.FileSystemLoader(_HERE, encoding="utf-8"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "drawn": Markup}
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)
