"""The list of mutants: checks it, makes one change at a time, and says what came of them. For scripts/mutants."""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

LIST = Path(__file__).resolve().parent / "list"
FIELDS = ("name", "file", "breaks", "tests", "equivalent")
# The verdicts that say that some test noticed the change.
KILLED = ("killed", "hung")


@dataclass
class Change:
    old: str
    new: str


@dataclass
class Mutant:
    line: int
    fields: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.fields.get("name", f"the entry in line {self.line}")

    @property
    def file(self) -> str:
        return self.fields.get("file", "")

    @property
    def tests(self) -> list[str]:
        return [test.strip() for test in self.fields.get("tests", "").split(",") if test.strip()]

    @property
    def kind(self) -> str:
        return "sql" if self.file.startswith("sql/") else "swift"

    @property
    def hash(self) -> str:
        """Differs whenever the change, or what is to notice it, does. Words about it do not count."""
        parts = [self.file, ",".join(self.tests)]
        parts += [text for change in self.changes for text in (change.old, change.new)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]

    def mutated(self, text: str) -> str:
        for change in self.changes:
            text = text.replace(change.old, change.new)
        return text


def read(path: Path) -> tuple[list[Mutant], list[str]]:
    """The entries of a list, and what is wrong with its lines."""
    mutants: list[Mutant] = []
    problems: list[str] = []
    entry: Mutant | None = None
    # The sign of the line before, if it belongs to a change.
    last = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            entry, last = None, ""
            continue
        if line.startswith("#"):
            continue
        if entry is None:
            entry = Mutant(number)
            mutants.append(entry)
        sign, text = line[0], line[2:]
        if sign in "-+" and line[1:2] in ("", " "):
            if sign == "-" and last != "-":
                entry.changes.append(Change(text, ""))
            elif sign == "-":
                entry.changes[-1].old += "\n" + text
            elif not entry.changes:
                problems.append(f"line {number}: a line with + has no line with - before it")
            else:
                change = entry.changes[-1]
                change.new = text if last == "-" else change.new + "\n" + text
            last = sign
            continue
        key, colon, value = line.partition(": ")
        if not colon or key not in FIELDS:
            problems.append(f"line {number}: write one of {', '.join(FIELDS)} and a value, or a line with - or +")
        elif key in entry.fields:
            problems.append(f"line {number}: {entry.name} has two of {key}")
        else:
            entry.fields[key] = value.strip()
    return mutants, problems


class Suites:
    """The test suites of a tree: for each name, the modules that have it and the files that declare it."""

    def __init__(self, root: Path):
        self.files: dict[str, list[tuple[str, str]]] = {}
        for file in sorted((root / "Tests").glob("*/**/*.swift")):
            text = file.read_text()
            module = file.relative_to(root / "Tests").parts[0]
            for suite in re.findall(r"\b(?:struct|class|actor|enum)\s+(\w+Tests)\b", text):
                self.files.setdefault(suite, []).append((module, text))

    def resolve(self, test: str) -> tuple[str, str]:
        """The pattern of the ids of a test or suite, or else what is wrong with its name."""
        match = re.fullmatch(r"(?:(\w+)\.)?(\w+)(?:/(\w+))?", test)
        if not match:
            return "", f"{test!r} is no name of a test: write Suite, Suite/function or Module.Suite/function"
        module, suite, function = match.groups()
        found = [(of, text) for of, text in self.files.get(suite, []) if module in (None, of)]
        if not found:
            return "", f"there is no test suite {module + '.' if module else ''}{suite}"
        modules = sorted({of for of, _ in found})
        if len(modules) > 1:
            return "", f"{suite} is in {' and '.join(modules)}: write which, such as {modules[0]}.{suite}"
        if function and not any(re.search(rf"\bfunc {function}\b", text) for _, text in found):
            return "", f"{suite} has no test {function}"
        return rf"{modules[0]}\.{suite}/" + (rf"{function}\(" if function else ""), ""


def problems_of(mutant: Mutant, root: Path, suites: Suites) -> list[str]:
    """What keeps a mutant from being made."""
    problems = [f"it has no {key}" for key in ("name", "file", "breaks", "tests") if not mutant.fields.get(key)]
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mutant.fields.get("name", "a")):
        problems.append("its name is not of lower-case words with hyphens")
    if not mutant.fields.get("breaks", ".").endswith("."):
        problems.append("what it breaks is not a sentence: it has no full stop")
    problems += [problem for test in mutant.tests if (problem := suites.resolve(test)[1])]
    if not mutant.changes:
        problems.append("it changes nothing")
    path = root / mutant.file
    if not mutant.file or not path.is_file():
        return problems + ([f"there is no file {mutant.file}"] if mutant.file else [])
    text = path.read_text()
    spans = []
    for change in mutant.changes:
        shown = change.old.strip().split("\n")[0]
        count = text.count(change.old) if change.old.strip() else 0
        if count != 1:
            problems.append(f"{mutant.file} has this text {count} times, and it must be there once: {shown}")
        else:
            start = text.index(change.old)
            spans.append((start, start + len(change.old)))
        if change.old == change.new:
            problems.append(f"the new text is the old one: {shown}")
    spans.sort()
    if any(end > start for (_, end), (start, _) in zip(spans, spans[1:])):
        problems.append("two of its changes overlap")
    return problems


def chosen(arguments: argparse.Namespace) -> list[Mutant]:
    mutants, _ = read(LIST)
    return [mutant for mutant in mutants if re.search(arguments.only, mutant.name)]


def check(arguments: argparse.Namespace) -> int:
    mutants, problems = read(LIST)
    suites = Suites(arguments.root)
    for name, count in Counter(mutant.name for mutant in mutants).items():
        if count > 1:
            problems.append(f"{name}: {count} entries have this name")
    wanted = [mutant for mutant in mutants if re.search(arguments.only, mutant.name)]
    for mutant in wanted:
        for problem in problems_of(mutant, arguments.root, suites):
            problems.append(f"line {mutant.line}: {mutant.name}: {problem}")
    for problem in problems:
        print(f"scripts/mutants.d/list: {problem}", file=sys.stderr)
    if not problems:
        kinds = Counter(mutant.kind for mutant in wanted)
        print(f"mutants that can be made: {kinds['sql']} of the SQL, {kinds['swift']} of the Swift sources")
    return 1 if problems else 0


def filter_of(mutant: Mutant, suites: Suites) -> str:
    return "^(" + "|".join(suites.resolve(test)[0] for test in mutant.tests) + ")"


def plan(arguments: argparse.Namespace) -> int:
    """For the script: name, kind, hash, file and filter of each mutant, one a line, with tabs between them."""
    suites = Suites(arguments.root)
    for mutant in chosen(arguments):
        print(mutant.name, mutant.kind, mutant.hash, mutant.file, filter_of(mutant, suites), sep="\t")
    return 0


def apply(arguments: argparse.Namespace) -> int:
    mutants, _ = read(LIST)
    mutant = next(mutant for mutant in mutants if mutant.name == arguments.name)
    path = arguments.root / mutant.file
    text = path.read_text()
    # The working tree may have changed since the list was checked, and the copy with it.
    for change in mutant.changes:
        if text.count(change.old) != 1:
            print(f"{path} has this text {text.count(change.old)} times: {change.old}", file=sys.stderr)
            return 1
    path.write_text(mutant.mutated(text))
    return 0


def sync(arguments: argparse.Namespace) -> int:
    """Makes a copy of a working tree: what git knows or would add. Prints how many files it changed.

    Files that are the same stay untouched, so that a build of the copy goes on from what there is.
    """
    # Git ignores it, and it says which dependencies both are built with. Without one, the copy's build makes its own.
    resolved = "Package.resolved"
    command = ["git", "-C", str(arguments.source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    names = {name for name in [*listed, resolved] if name and (arguments.source / name).is_file()}
    changed = 0
    for name in sorted(names):
        source, copy = arguments.source / name, arguments.copy / name
        if copy.is_file() and copy.read_bytes() == source.read_bytes():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
        changed += 1
    for folder, folders, files in os.walk(arguments.copy):
        if Path(folder) == arguments.copy:
            folders[:] = [name for name in folders if name != ".build"]
        for name in files:
            copy = Path(folder, name)
            if str(copy.relative_to(arguments.copy)) not in names | {resolved}:
                copy.unlink()
                changed += 1
    print(changed)
    return 0


@dataclass
class Result:
    verdict: str
    seconds: str
    note: str


def results(path: Path) -> dict[tuple[str, str], Result]:
    """The last verdict on each entry, by its name and hash."""
    last: dict[tuple[str, str], Result] = {}
    if path.is_file():
        for line in path.read_text().splitlines():
            name, verdict, seconds, digest, note = (line.split("\t") + [""] * 5)[:5]
            last[name, digest] = Result(verdict, seconds, note)
    return last


def show(arguments: argparse.Namespace) -> int:
    """Lists the mutants with what they break and the last verdict on each."""
    last = results(arguments.results)
    for mutant in chosen(arguments):
        result = last.get((mutant.name, mutant.hash))
        print(f"{mutant.name}  ({mutant.file}; {result.verdict if result else 'not judged'})")
        print(f"    {mutant.fields.get('breaks', '')}")
    return 0


def judged(arguments: argparse.Namespace) -> int:
    """For the script: the names of the mutants that need not be tried again, one a line."""
    last = results(arguments.results)
    for mutant in chosen(arguments):
        result = last.get((mutant.name, mutant.hash))
        if result and result.verdict != "invalid":
            print(mutant.name)
    return 0


def report(arguments: argparse.Namespace) -> int:
    last = results(arguments.results)
    groups: dict[str, list[tuple[Mutant, Result]]] = {}
    accepted, open_ones = [], []
    for mutant in chosen(arguments):
        result = last.get((mutant.name, mutant.hash))
        if result is None:
            open_ones.append(mutant)
        elif result.verdict == "survived" and "equivalent" in mutant.fields:
            accepted.append(mutant)
        else:
            groups.setdefault(result.verdict, []).append((mutant, result))
    killed = sum(len(groups.get(verdict, [])) for verdict in KILLED)
    total = killed + len(groups.get("survived", [])) + len(accepted)
    share = f" ({100 * killed // total} %)" if total else ""
    by_time = len(groups.get("hung", []))
    print(f"killed: {killed} of {total}{share}" + (f", {by_time} of them by the time limit" if by_time else ""))
    for mutant, _ in groups.get("survived", []):
        print(f"survived: {mutant.name} ({mutant.file})\n    {mutant.fields['breaks']}")
    for mutant in accepted:
        print(f"survived, and is accepted: {mutant.name}\n    {mutant.fields['equivalent']}")
    for mutant, result in groups.get("invalid", []):
        print(f"could not be tried: {mutant.name} ({mutant.file})\n    {result.note}")
    for mutant in chosen(arguments):
        result = last.get((mutant.name, mutant.hash))
        if result and result.verdict in KILLED and "equivalent" in mutant.fields:
            print(f"killed although it says `equivalent`: {mutant.name}; take that line out of the list")
    if open_ones:
        print(f"not judged: {len(open_ones)}")
    return 1 if groups.get("survived") or groups.get("invalid") or open_ones else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(function, *arguments: str) -> None:
        sub = commands.add_parser(function.__name__)
        sub.set_defaults(run=function)
        for argument in arguments:
            sub.add_argument(argument, type=str if argument in ("name", "--only") else Path, default="")

    command(check, "root", "--only")
    command(plan, "root", "--only")
    command(apply, "root", "name")
    command(sync, "source", "copy")
    command(show, "results", "--only")
    command(judged, "results", "--only")
    command(report, "results", "--only")
    arguments = parser.parse_args()
    try:
        re.compile(getattr(arguments, "only", ""))
    except re.error as error:
        print(f"the pattern {arguments.only!r} is no regular expression: {error}", file=sys.stderr)
        return 64
    return arguments.run(arguments)


sys.exit(main())
