"""The page in a real browser: no complaint, every figure drawn, nothing wider than the screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.render.html import report_html
from benchmarks.report import Report
from tests.benchmarks.render.made_up import made_up_report
from tests.benchmarks.render.made_up_extremes import broken_report, crowded_report, unstable_report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="neither chromium nor google-chrome is installed; apt-get install chromium"
)

# Before anything else on the page, so that nothing it says is missed.
LISTEN = """<script>
window.complaints = [];
window.addEventListener('error', event => complaints.push('error: ' + event.message));
window.addEventListener('securitypolicyviolation', event => complaints.push('policy: ' + event.violatedDirective));
for (const kind of ['error', 'warn']) console[kind] = (...words) => complaints.push(kind + ': ' + words.join(' '));
</script>"""
LOOK = """<script>
window.addEventListener('load', () => setTimeout(() => {
  const page = document.documentElement;
  const figures = [...document.querySelectorAll('.js-plotly-plot')].map(plot => {
    const drawing = plot.querySelector('.main-svg'), box = plot.getBoundingClientRect();
    return {
      name: plot.id,
      shapes: drawing ? drawing.querySelectorAll('path, rect, image, text').length : 0,
      width: box.width, height: box.height, right: drawing ? drawing.getBoundingClientRect().right : -1,
    };
  });
  const text = JSON.stringify({complaints, figures, screen: page.clientWidth, page: page.scrollWidth});
  parent.document.getElementById('found').textContent = text;
}, 2000));
</script>"""


def look(page: str, width: int, folder: Path) -> dict[str, Any]:
    """What a browser made of a page on a screen of `width` pixels.

    In a frame, because a browser's own window is never narrower than 500 pixels.
    """
    watched = page.replace("<head>", f"<head>{LISTEN}", 1).replace("</body>", f"{LOOK}</body>", 1)
    file = folder / "frame.html"
    file.write_text(
        f'<body><pre id="found"></pre><iframe width="{width}" height="900" style="border:0" '
        f'srcdoc="{html.escape(watched)}"></iframe></body>',
        encoding="utf-8",
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width + 50},1000"]
    command = [str(BROWSER), *flags, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000"]
    done = subprocess.run(
        [*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, "the page's own script did not finish"
    seen: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return seen


@pytest.mark.parametrize(
    ("make", "width"),
    [
        (made_up_report, 400),
        (made_up_report, 1600),
        (unstable_report, 400),
        (broken_report, 400),
        (crowded_report, 400),
        (crowded_report, 1600),
    ],
)
def test_every_figure_is_drawn_and_nothing_is_cut(make: Callable[[], Report], width: int, tmp_path: Path) -> None:
    page = report_html(make())
    seen = look(page, width, tmp_path)
    assert seen["complaints"] == []
    assert seen["screen"] == width
    assert seen["page"] <= width
    assert {figure["name"] for figure in seen["figures"]} == set(re.findall(r'Plotly\.newPlot\(\s*"([\w-]+)"', page))
    for figure in seen["figures"]:
        assert figure["shapes"] > 0, figure
        assert figure["right"] <= width, figure
        assert figure["width"] >= (100 if figure["name"].startswith("image-") else 300), figure
        assert figure["height"] >= 100, figure


def test_a_page_that_complains_and_overflows_is_found_out(tmp_path: Path) -> None:
    page = report_html(made_up_report())
    page = page.replace(
        "</h1>", '</h1><div style="width:700px">x</div><script>console.error("x"); nothing()</script>', 1
    )
    page = re.sub(r'Plotly\.newPlot\(\s*"chart-accuracy"', 'void ("chart-accuracy"', page, count=1)
    seen = look(page, 400, tmp_path)
    assert seen["complaints"][0] == "error: x"
    assert any("nothing is not defined" in complaint for complaint in seen["complaints"])
    assert seen["page"] >= 700
    assert "chart-accuracy" not in {figure["name"] for figure in seen["figures"]}
