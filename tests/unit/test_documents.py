"""What the documents name is there: files behind links, headings behind anchors, commands and their options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from streamkd_service import cli

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for place in ("README.md", "docs/**/*.md", "streamkd/assets/**/*.md", "tests/golden/*.md")
    for path in REPOSITORY.glob(place)
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"^(?:\w+=\S+\s+)*(?:\.venv/bin/)?streamkd\s")
INLINE = re.compile(r"`(?:\.venv/bin/)?streamkd ([a-z][^`]*)`")


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(document):
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        target, _, anchor = link.partition("#")
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{link}: there is no {path}"
        assert not anchor or anchor in anchors(path), f"{link}: no such heading"


def commands_in(document: Path) -> Iterator[list[str]]:
    """Every call of `streamkd` in a block of shell lines, without what follows a pipe, and those within a sentence."""
    for language, block in FENCE.findall(document.read_text(encoding="utf-8")):
        if language not in {"", "bash", "sh", "console"}:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if PROGRAM.match(line):
                words = re.split(r"\s#", line)[0].split()
                words = words[next(i for i, word in enumerate(words) if word.endswith("streamkd")) + 1 :]
                yield words[: next((i for i, word in enumerate(words) if word in {"|", ">", "&", "&&"}), len(words))]
    for said in INLINE.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        yield said.split()


def unknown_in(words: list[str]) -> str | None:
    """What of a call this version does not know: its command, or one of its options."""
    known = next((one for one in cli.COMMANDS if tuple(words[: len(one.words)]) == one.words), None)
    if known is None:
        return None if words[0] in cli.GROUPS and len(words) == 1 else " ".join(words[:2])
    command = typer.main.get_command(cli.build(list(known.words)))
    for word in known.words:
        command = command.commands[word]
    options = {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.strip("[]…").partition("=")[0] for word in words if word.startswith(("--", "[--"))}
    return next(iter(sorted(given - options - {"--help"})), None)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_exists_with_its_options(document):
    wrong = [f"streamkd {' '.join(words)}: {unknown_in(words)}" for words in commands_in(document) if unknown_in(words)]
    assert wrong == []


def test_the_readme_s_commands_are_found():
    assert len(list(commands_in(REPOSITORY / "README.md"))) >= 8


def test_every_target_of_make_in_the_readme_exists():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^make (\w[\w-]*)", text, re.MULTILINE)) | set(re.findall(r"`make (\w[\w-]*)", text))
    assert {"demo", "test"} <= named
    assert named <= set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))


def test_every_command_is_in_the_reference():
    page = (REPOSITORY / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert [" ".join(one.words) for one in cli.COMMANDS if one.words[-1] not in page] == []


def test_every_document_is_in_the_overview():
    overview = (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    listed = {str(Path(link)) for link in LINK.findall(overview)}
    wanted = [
        path for folder in ("how-to", "reference", "decisions") for path in (REPOSITORY / "docs" / folder).glob("*.md")
    ]
    assert [path.name for path in wanted if f"{path.parent.name}/{path.name}" not in listed] == []
