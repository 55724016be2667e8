"""The table of helpers in docs/policies.md, from core/helpers.py: `python -m scripts.gen_helpers_md`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ctrwatch.core.helpers import HELPERS

PAGE: Final = Path(__file__).parents[1] / "docs/policies.md"
_BLOCK: Final = re.compile(r"(<!-- helpers: \S+ -->\n).*?(<!-- /helpers -->)", re.DOTALL)
_LISTED: Final = (
    "| `listed(string, string)` | the text is an entry of the policy's list of that name |"
)


def page(text: str) -> str:
    return _BLOCK.sub(lambda found: found[1] + "\n".join(_table()) + "\n" + found[2], text)


def _table() -> Iterator[str]:
    yield from ("| function | true if |", "|---|---|")
    for name, helper in HELPERS.items():
        arguments = ", ".join(each.lower() for each in helper.arguments)
        yield f"| `{name}({arguments})` | {helper.meaning} |"
    yield _LISTED


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
