"""Open the HTML report in a headless Chromium and see that it works: `make browser`."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "browser"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

# A decoder that is wrong on purpose, so that the page has failures to show: it changes a byte of some
# blobs, and says something that a careless page would run.
WRONG = """
import os, subprocess, sys
ended = subprocess.run([sys.executable, "-m", "ekvdump", "decode", "--quiet", "--no-sync", *sys.argv[1:3]])
print("<script>document.title = 'escaped'</script>", file=sys.stderr)
for base, _, names in os.walk(sys.argv[2]):
    for name in names:
        if name == "k.bin":
            with open(os.path.join(base, name), "ab") as file:
                file.write(b"!")
sys.exit(ended.returncode)
"""


WIDTHS = (1400, 1000, 400)
"""Of a page, in pixels."""
# The page in a frame of a given width, with all failures opened; the title says how wide it is and wants to be.
FRAME = """<!DOCTYPE html><title>?</title><body style="margin:0">
<iframe id="f" src="{page}" style="width:{width}px;height:1480px;border:0"></iframe>
<script>
  onload = () => {{
    const root = document.getElementById("f").contentDocument.documentElement;
    for (const each of root.querySelectorAll("details")) each.open = true;
    document.title = root.clientWidth + " " + root.scrollWidth;
    for (const each of root.querySelectorAll("details")) each.open = false;
  }};
</script>
"""


def ekvconform(*words: str) -> None:
    """Run the command; a program with failures ends it with 1."""
    ended = subprocess.run([sys.executable, "-m", "ekvconform", *words], check=False, stdout=subprocess.DEVNULL)
    if ended.returncode not in (0, 1):
        sys.exit(f"ekvconform {' '.join(words)}: exit status {ended.returncode}")


def chromium(*words: str) -> str:
    """Run the browser; return what it prints."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        sys.exit("there is no Chromium: on Debian, apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="ekvconform-browser.") as profile:
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1440,1500",
            "--allow-file-access-from-files", f"--user-data-dir={profile}", *words,
        ]  # fmt: skip
        ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return ended.stdout


def rows(document: str) -> list[tuple[str, bool]]:
    """Return the case of each row, and whether it is hidden."""
    body = document.split('<table id="cases">')[1]
    found = re.findall(r'<tr data-verdicts="[^"]*" data-text="([a-z0-9-]+)[^"]*"( hidden="")?>', body)
    return [(case, bool(hidden)) for case, hidden in found]


def expect(holds: bool, words: str) -> None:
    """Stop where something is not as it has to be."""
    if not holds:
        sys.exit(f"the page is not right: {words}")
    print(f"seen: {words}")


def main() -> int:
    """Make a page of one program and a page of two, and look at both."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    wrong = ["--", sys.executable, "-c", WRONG, "{snapshot}", "{out}"]
    page, both = BUILD / "wrong.html", BUILD / "both.html"
    selection = ["file", "envl", "rstr"]
    ekvconform("run", *selection, "--name", "wrong", "--html", str(page), "--jsonl", str(BUILD / "wrong.jsonl"), *wrong)
    ekvconform(
        "run", *selection, "--profile", "conformance/profiles/command.toml", "--jsonl", str(BUILD / "command.jsonl")
    )
    ekvconform("combine", str(BUILD / "wrong.jsonl"), str(BUILD / "command.jsonl"), "--html", str(both))

    whole = chromium("--dump-dom", page.as_uri())
    cases = rows(whole)
    expect(len(cases) > 50 and not any(hidden for _, hidden in cases), "all cases are shown without a filter")
    expect(f"{len(cases)} of {len(cases)} cases" in whole, "the script counted them")
    expect("<title>ekvconform: wrong</title>" in whole, "nothing that a program printed was run")
    expect("byte 2 is the first that differs" in whole, "differing bytes are annotated")
    expect("payload magic `EKVPBBL1`" in whole, "snapshots are annotated")
    expect('class="cause"' in whole.split('id="matrix"')[0], "causes come first")
    expect("<details open" not in whole, "failures are closed until they are opened")
    for width in WIDTHS:
        frame = BUILD / f"frame-{width}.html"
        frame.write_text(FRAME.format(width=width, page=page.name), encoding="utf-8")
        sizes = re.search("<title>([0-9]+) ([0-9]+)</title>", chromium("--dump-dom", frame.as_uri()))
        expect(sizes is not None, f"the page is measured at {width} pixels")
        expect(sizes is not None and int(sizes[2]) <= int(sizes[1]), f"nothing to scroll sideways at {width} pixels")
        for mode in ("light", "dark"):
            picture = BUILD / f"{width}-{mode}.png"
            dark = ["--blink-settings=preferredColorScheme=0"] if mode == "dark" else []
            chromium(*dark, f"--screenshot={picture}", frame.as_uri())
            expect(picture.stat().st_size > 10_000, f"a picture lies in {picture.relative_to(ROOT)}")

    failing = [case for case, hidden in rows(chromium("--dump-dom", f"{page.as_uri()}#verdict=FAIL")) if not hidden]
    expect(0 < len(failing) < len(cases) and "rstr-envelope" in failing, "the filter by verdict shows failures only")
    found = [case for case, hidden in rows(chromium("--dump-dom", f"{page.as_uri()}#q=envl-8")) if not hidden]
    expect(found == ["envl-expiry-0"], "the filter by words finds a clause")

    combined = chromium("--dump-dom", both.as_uri())
    expect(combined.count("<th colspan=") == 2, "two programs stand side by side")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
