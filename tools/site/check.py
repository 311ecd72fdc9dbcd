"""Looks at the site: no broken link or anchor, no error, no sideways scrolling, and contrast enough. `make site`.

Every link of every page is followed in the files. Some pages are opened in a headless Chromium at two widths, light
and dark; axe-core (by npm) judges the contrast by WCAG AA.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urldefrag

ROOT: Final = Path(__file__).resolve().parents[2]
SITE: Final = ROOT / "build" / "site"
WORK: Final = ROOT / "build" / "site-check"
AXE: Final = "axe-core@4.10.3"
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
PAGES: Final = (
    "index.html", "spec/format/03-snapshot-file.html", "spec/format/18-fates.html",
    "spec/appendices/29-divergences.html", "spec/appendices/32-a-snapshot-by-hand.html",
    "cases/rttl/rttl-both-string-and-hll.html", "clauses.html", "test-your-decoder.html",
)  # fmt: skip
WIDTHS: Final = (1400, 400)
SCHEMES: Final = ("default", "slate")
"""Light and dark, by the theme's names."""
FRAME: Final = """<!DOCTYPE html><title>?</title><body style="margin:0">
<iframe id="f" src="{page}" style="width:{width}px;height:1480px;border:0"></iframe>
<script>
  onload = () => {{
    const page = document.getElementById("f").contentDocument;
    const still = page.createElement("style");
    still.textContent = "* {{ transition: none !important; animation: none !important; }}";
    page.head.appendChild(still);
    page.body.dataset.mdColorScheme = "{scheme}";
    for (const each of page.querySelectorAll("details")) each.open = true;
    const script = page.createElement("script");
    script.src = "{axe}";
    script.onload = async () => {{
      const root = page.documentElement;
      const wide = root.scrollWidth > root.clientWidth ? "wide " + root.scrollWidth : "";
      const found = await document.getElementById("f").contentWindow.axe.run({{runOnly: ["color-contrast"]}});
      const faint = found.violations.flatMap((each) => each.nodes.map((node) => node.target.join(" ")));
      document.title = "seen " + JSON.stringify({{wide, faint: faint.slice(0, 5)}});
    }};
    page.head.appendChild(script);
  }};
</script>
"""


class _Targets(HTMLParser):
    """Collects the links of a page, and what a link can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        link = values.get({"a": "href", "link": "href", "img": "src", "script": "src"}.get(tag, ""))
        if link:
            self.links.append(link)


def broken_links() -> list[str]:
    """Return the links that lead nowhere, of all pages."""
    pages = {}
    for path in sorted(SITE.rglob("*.html")):
        pages[path] = _Targets()
        pages[path].feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are from the root of a server
        for link in page.links:
            target, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", target):
                continue
            file = (path.parent / unquote(target)).resolve() if target else path
            if not file.is_file() or (anchor and file in pages and unquote(anchor) not in pages[file].anchors):
                found.append(f"{path.relative_to(SITE)}: {link}")
    return found


def look(page: str, width: int, scheme: str, axe: Path) -> str:
    """Return what is wrong with a page at a width; empty if nothing is."""
    frame = WORK / f"{Path(page).stem}-{width}-{scheme}.html"
    frame.write_text(FRAME.format(page=(SITE / page).as_uri(), width=width, scheme=scheme, axe=axe.as_uri()))
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        sys.exit("there is no Chromium: on Debian, apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="ekvdump-site.") as profile:
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1440,1500",
            "--allow-file-access-from-files", "--enable-logging=stderr", f"--user-data-dir={profile}",
            "--virtual-time-budget=20000", "--dump-dom", frame.as_uri(),
        ]  # fmt: skip
        ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    errors = re.findall(r"CONSOLE.*?\] \"(.*?)\", source", ended.stderr)
    title = re.search(r"<title>(.*?)</title>", ended.stdout)
    seen = unescape(title[1]) if title else "?"
    return "; ".join([*errors, *([] if seen == 'seen {"wide":"","faint":[]}' else [seen])])


def main() -> int:
    """Look at everything; return 1 if something is wrong."""
    WORK.mkdir(parents=True, exist_ok=True)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-save", "--no-package-lock", AXE]
    subprocess.run(install, cwd=WORK, check=True)
    wrong = [f"broken link: {each}" for each in broken_links()]
    axe = WORK / "node_modules" / "axe-core" / "axe.min.js"
    looks = list(itertools.product(PAGES, WIDTHS, SCHEMES))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as workers:
        seen = [workers.submit(look, page, width, scheme, axe) for page, width, scheme in looks]
    for (page, width, scheme), future in zip(looks, seen, strict=True):
        if words := future.result():
            wrong.append(f"{page} at {width} pixels, {scheme}: {words}")
    for each in wrong:
        print(each)
    print(f"{len(list(SITE.rglob('*.html')))} pages, {len(PAGES)} of them looked at: {len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
