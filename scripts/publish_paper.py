"""Keep what ``make paper`` measured: its CSVs in benchmarks/results/paper, its figures and tables in docs/findings.md.

    python scripts/publish_paper.py                     # from output/paper
    python scripts/publish_paper.py --output_dir DIR    # from elsewhere

Tables and figures are computed from the CSVs that are kept, so that whoever has the repository can compute them again:
a test holds the page to them. What the page says in words is written by hand, and has to be read again after this.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import paper_results
from make_paper import ARMS, ROOT

KEPT = ROOT / "benchmarks" / "results" / "paper"
PAGE = ROOT / "docs" / "findings.md"
FIGURES = ROOT / "docs" / "images" / "findings"
SOURCES = ("untuned/*.csv", "tuned/*/sweep.csv")


def keep(home: Path) -> list[Path]:
    """Copy what was measured; a sweep only once one of its runs has finished. Returns the copies."""
    copies = []
    for source in (path for pattern in SOURCES for path in sorted(home.glob(pattern))):
        if source.name == "sweep.csv" and not any(row["state"] == "finished" for row in paper_results.read(source)):
            continue
        copy = KEPT / source.relative_to(home)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        copies.append(copy)
    return copies


def filled(text: str) -> str:
    """The page with every table that it has a place for computed anew from what is kept."""
    for name, table in paper_results.tables(KEPT, ARMS).items():
        before, found, rest = text.partition(f"<!-- {name} -->\n")
        if found:
            _, end, after = rest.partition("<!-- end -->")
            text = f"{before}{found}{table}{end}{after}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=ROOT / "output" / "paper", help="what make paper wrote")
    copies = keep(parser.parse_args().output_dir)
    if not copies:
        print("Nothing measured there yet; make paper measures it.", file=sys.stderr)
        return 2
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    FIGURES.mkdir(parents=True, exist_ok=True)
    for path in (*copies, PAGE, *paper_results.draw(FIGURES, KEPT, ARMS)):
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
