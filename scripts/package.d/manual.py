"""Writes the manual's pages: `worker --experimental-dump-help | manual.py VERSION DATE FOLDER`.

The page worker.1 lists the commands, and each command has a page of its own, such as worker-run.1, with its subcommands.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HEADING = re.compile(r"^([A-Z][A-Z ]+):$")
# What the formatter takes for commands or for other signs.
ESCAPES = str.maketrans({"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"})
# In the commands' help, these are the same everywhere. They are on the page of the whole program.
COMMON_OPTIONS = {"version", "help"}


def escaped(text: str) -> str:
    """Text that the formatter prints as it is."""
    text = text.translate(ESCAPES)
    return "\\&" + text if text.startswith(".") else text


def paragraphs(text: str) -> list[str]:
    """A text of the help: paragraphs, examples (indented lines), and headings, which end with a colon."""
    out: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        heading = HEADING.match(lines[0])
        if heading:
            out.append(f'.SH "{heading[1]}"')
            lines = lines[1:]
        literal = False
        fresh = not heading
        for line in lines:
            if line.startswith("  "):
                if not literal:
                    out += [".PP", ".RS 4", ".nf"]
                out.append(escaped(line[2:]))
            else:
                if literal:
                    out += [".fi", ".RE"]
                if literal or fresh:
                    out.append(".PP")
                out.append(escaped(line))
            literal = line.startswith("  ")
            fresh = False
        if literal:
            out += [".fi", ".RE"]
    return out


def shown(items: list[dict]) -> list[dict]:
    return [item for item in items if item.get("shouldDisplay", True)]


def spelling(name: dict) -> str:
    return ("-" if name["kind"] == "short" else "--") + name["name"]


def placeholder(argument: dict) -> str:
    return f"\\fI{escaped(argument.get('valueName', 'value'))}\\fR" + ("..." if argument["isRepeating"] else "")


def label(argument: dict) -> str:
    """The argument as it is typed."""
    if argument["kind"] == "positional":
        return placeholder(argument)
    names = sorted(argument["names"], key=lambda name: name["kind"] != "short")
    text = ", ".join(f"\\fB{escaped(spelling(name))}\\fR" for name in names)
    return text if argument["kind"] == "flag" else f"{text} {placeholder(argument)}"


def synopsis(path: list[str], command: dict) -> list[str]:
    words = [f"\\fB{escaped(' '.join(path))}\\fR"]
    arguments = shown(command.get("arguments", []))
    if command.get("subcommands"):
        words.append("\\fIcommand\\fR")
    if any(argument["kind"] != "positional" for argument in arguments):
        words.append("[\\fIoptions\\fR]")
    for argument in arguments:
        if argument["kind"] == "positional":
            text = placeholder(argument)
            words.append(f"[{text}]" if argument["isOptional"] else text)
    return [".PP", " ".join(words)]


def options(command: dict, skipped: set[str]) -> list[str]:
    out: list[str] = []
    for argument in shown(command.get("arguments", [])):
        if skipped & {name["name"] for name in argument.get("names", [])}:
            continue
        text = argument.get("abstract", "")
        default = argument.get("defaultValue")
        if default and argument["kind"] != "flag":
            text += f" Defaults to {default}."
        out += [".TP", label(argument), escaped(text)]
    return out


def page(name: str, title: str, body: list[str], version: str, date: str) -> str:
    head = [f'.TH "{escaped(name).upper()}" "1" "{date}" "breakwater {version}" "Breakwater"', ".SH NAME"]
    lines = [*head, f"{escaped(name)} \\- {escaped(title)}", *body]
    # A heading begins a paragraph by itself.
    kept = [line for before, line in zip(["", *lines], lines) if line != ".PP" or before[:3] not in (".SH", ".SS")]
    return "\n".join(kept) + "\n"


def summary(command: dict) -> str:
    """The abstract as a line for `apropos`, which ends without a period."""
    return " ".join(command.get("abstract", "").split()).rstrip(".")


def command_page(path: list[str], command: dict) -> list[str]:
    out = [".SH SYNOPSIS", *synopsis(path, command), ".SH DESCRIPTION", ".PP", escaped(command.get("abstract", ""))]
    out += paragraphs(command.get("discussion", ""))
    listed = options(command, COMMON_OPTIONS)
    if listed:
        out += [".SH OPTIONS", *listed]
    subcommands = shown(command.get("subcommands", []))
    if subcommands:
        out.append(".SH COMMANDS")
    for subcommand in subcommands:
        default = " (default)" if subcommand["commandName"] == command.get("defaultSubcommand") else ""
        inner = [*path, subcommand["commandName"]]
        out += [f'.SS "{escaped(" ".join(inner))}{default}"', *synopsis(inner, subcommand)]
        out += [".PP", escaped(subcommand.get("abstract", "")), *paragraphs(subcommand.get("discussion", ""))]
        out += options(subcommand, COMMON_OPTIONS)
    return [*out, ".SH SEE ALSO", ".PP", f"\\fB{escaped(path[0])}\\fR(1)"]


def main_page(command: dict, commands: list[dict]) -> list[str]:
    name = command["commandName"]
    out = [".SH SYNOPSIS", *synopsis([name], command), ".SH DESCRIPTION"]
    out += paragraphs(command.get("discussion", ""))
    out.append(".SH COMMANDS")
    for entry in commands:
        out += [".TP", f"\\fB{escaped(entry['commandName'])}\\fR", escaped(entry.get("abstract", ""))]
    out += [".SH OPTIONS", *options(command, set()), ".SH SEE ALSO", ".PP"]
    pages = [f"\\fB{escaped(name + '-' + entry['commandName'])}\\fR(1)" for entry in commands]
    return [*out, ", ".join(pages)]


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 64
    version, date, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    command = json.load(sys.stdin)["command"]
    name = command["commandName"]
    commands = [entry for entry in shown(command["subcommands"]) if entry["commandName"] != "help"]
    folder.mkdir(parents=True, exist_ok=True)
    text = page(name, summary(command), main_page(command, commands), version, date)
    (folder / f"{name}.1").write_text(text, encoding="utf-8")
    for entry in commands:
        inner = f"{name}-{entry['commandName']}"
        body = command_page([name, entry["commandName"]], entry)
        (folder / f"{inner}.1").write_text(page(inner, summary(entry), body, version, date), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
