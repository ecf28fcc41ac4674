"""Checks the links of the repository's Markdown files, without a build and without the network.

Checked are relative links and images, their anchors, and the links between the pages of the documentation catalogue
(`<doc:Page>`). Every page of the catalogue must be reachable from its start page. Prints one line for each fault, and
exits with 1 if there is one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

CATALOGUE = Path("Sources/Breakwater/Breakwater.docc")
START = "Breakwater"
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)", re.DOTALL)
ATTRIBUTE = re.compile(r"\b(?:src|srcset|href)=\"([^\"]+)\"")
PAGE_LINK = re.compile(r"<doc:([^>#]+)(#[^>]*)?>")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def main() -> int:
    """Checks the files that git knows, or would add, and returns the exit status."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True,
        check=True,
        text=True,
    )
    files = [Path(line) for line in listed.stdout.splitlines() if Path(line).exists()]
    pages = {file.stem: file for file in files if CATALOGUE in file.parents}
    faults: list[str] = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        in_catalogue = CATALOGUE in file.parents
        for target, line in targets_in(text):
            faults += [f"{file}:{line}: {fault}" for fault in faults_of(target, file, in_catalogue)]
        for match in PAGE_LINK.finditer(without_code(text)):
            line = text.count("\n", 0, match.start()) + 1
            if not in_catalogue:
                faults.append(f"{file}:{line}: {match[0]} works in the catalogue only")
            elif match[1] not in pages:
                faults.append(f"{file}:{line}: there is no page {match[1]}")
            elif match[2] and not has_anchor(pages[match[1]], match[2][1:]):
                faults.append(f"{file}:{line}: {match[1]} has no heading {match[2][1:]}")
    unreachable = sorted(pages.keys() - reachable(pages))
    faults += [f"{pages[page]}:1: no page that the start page leads to links to it" for page in unreachable]
    for fault in faults:
        print(fault)
    print(f"{len(files)} files, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


def without_code(text: str) -> str:
    """Blanks out code, in which nothing is a link. Every character keeps its place."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    return CODE_SPAN.sub(blank, FENCE.sub(blank, text))


def targets_in(text: str) -> list[tuple[str, int]]:
    """The targets of links and images, each with its line."""
    plain = without_code(text)
    # The text of a link may be code, as in [`sql/`](sql).
    matches = [match for pattern in (LINK, ATTRIBUTE) for match in pattern.finditer(plain)]
    return [(match[1], plain.count("\n", 0, match.start(1)) + 1) for match in matches]


def faults_of(target: str, file: Path, in_catalogue: bool) -> list[str]:
    """What is wrong with the target of a link in a file."""
    if re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
        return []
    path, _, anchor = unquote(target).partition("#")
    if in_catalogue and path:
        # The catalogue is built without the files around it. Its pictures go by their names.
        pictures = CATALOGUE.glob(f"Resources/{Path(path).stem}.*")
        return [] if any(pictures) else [f"{target} is no picture of the catalogue: link to a page with <doc:…>"]
    linked = file.parent / path if path else file
    if not linked.exists():
        return [f"there is no {target}"]
    if anchor and linked.suffix == ".md" and not has_anchor(linked, anchor):
        return [f"{linked} has no heading #{anchor}"]
    return []


def has_anchor(file: Path, anchor: str) -> bool:
    """Whether a file has the heading that an anchor names, in the form of GitHub or in that of DocC."""
    wanted = slug(anchor)
    text = FENCE.sub("", file.read_text(encoding="utf-8"))
    return any(slug(heading[1]) == wanted for heading in HEADING.finditer(text))


def slug(heading: str) -> str:
    """The anchor of a heading: lower case, with hyphens for spaces."""
    return re.sub(r"[^\w-]", "", heading.strip().lower().replace(" ", "-"))


def reachable(pages: dict[str, Path]) -> set[str]:
    """The pages to which links lead from the start page."""
    found: set[str] = set()
    left = [START]
    while left:
        page = left.pop()
        if page in found or page not in pages:
            continue
        found.add(page)
        text = without_code(pages[page].read_text(encoding="utf-8"))
        left += [match[1] for match in PAGE_LINK.finditer(text)]
    return found


if __name__ == "__main__":
    sys.exit(main())
