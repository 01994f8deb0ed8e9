"""Extension of griffe: `Example:`, as the docstrings have it, is the section that griffe calls `Examples:`."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Rename the section of each docstring, so that its lines are shown as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section in one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
