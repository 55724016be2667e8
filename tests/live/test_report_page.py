"""The report in a browser: nothing is wider than the window, nothing runs and nothing is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ctrwatch.core import page
from tests.unit.test_report import hostile
from tests.unit.test_spending import stored, whole

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_LOOKS = """<!DOCTYPE html><body><iframe src="report.html" style="width:{width}px;height:900px;border:0"
 onload="const page = this.contentDocument; document.body.innerHTML = [
   page.documentElement.scrollWidth, page.querySelectorAll('script, [onload], [onerror]').length,
   page.querySelectorAll('section').length].join(' ')"></iframe>"""


@pytest.mark.skipif(_CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [360, 900, 1280])
@pytest.mark.parametrize("costs", [False, True], ids=["hostile", "costly"])
def test_it_is_as_wide_as_the_window(tmp_path: Path, width: int, *, costs: bool) -> None:
    made = whole(stored(tmp_path / "history.db")) if costs else hostile()
    (tmp_path / "report.html").write_text(page.html(made))
    looks = tmp_path / "looks.html"
    looks.write_text(_LOOKS.format(width=width))

    done = subprocess.run(
        [
            *(str(_CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--virtual-time-budget=10000", looks.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    found = re.search(r"<body>(\d+) (\d+) (\d+)", done.stdout)
    assert found is not None, done.stdout[-500:]
    wide, alive, sections = map(int, found.groups())
    assert wide <= width
    assert alive == 0
    assert sections > 5
