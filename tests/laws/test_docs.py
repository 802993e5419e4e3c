"""What the pages say exists: commands, options, make targets, links, decisions."""

import re
from pathlib import Path
from typing import Any

from cli.lazy import load, subcommands
from cli.main import COMMANDS
from tests.laws.repository import PROJECT_DIR, text_of, tracked_files

README_LINES = 150


def pages() -> dict[Path, str]:
    return {file: text_of(file) for file in tracked_files() if file.suffix == ".md"}


def code(page: str) -> list[str]:
    """Lines of fenced and indented blocks, and code spans, of a Markdown page."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^(?: {4}|\t)(.*)$", rest, re.MULTILINE)
    return [line.strip() for line in lines + re.findall(r"`([^`\n]+)`", rest)]


def make_targets() -> set[str]:
    makefile = (PROJECT_DIR / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def command_error(words: list[str]) -> str | None:
    """What is wrong with ``tickhouse <words>``, or None. Values and arguments aren't looked at."""
    if not words or words[0].startswith("-"):
        return None
    name = words[0]
    if name not in COMMANDS:
        return f"no command {name}"
    command: Any = load(COMMANDS, name)
    rest = words[1:]
    while subs := subcommands(command):
        if not rest or rest[0].startswith("-"):
            return None
        if rest[0] not in subs:
            return f"{name} has no subcommand {rest[0]}"
        command, rest = subs[rest[0]], rest[1:]
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {
        "--help"
    }
    unknown = [word.partition("=")[0] for word in rest if word.startswith("--")]
    return next((f"{name} has no option {option}" for option in unknown if option not in known), None)


def leaves(command: Any) -> list[Any]:
    """The commands that do something: ``command`` itself, or what stands below it."""
    subs = subcommands(command)
    return [leaf for sub in subs.values() for leaf in leaves(sub)] if subs else [command]


def errors(line: str) -> list[str]:
    """Each call of make or tickhouse in ``line`` that names something that isn't there."""
    found = []
    for call in re.split(r"&&|\|\||[;|]", re.sub(r"\s#.*", "", line)):
        words = [word for word in call.split() if not re.fullmatch(r"\$|[A-Z_]+=\S*", word)]
        if words[:1] == ["make"]:
            found += [
                f"no make target {w}"
                for w in words[1:]
                if re.fullmatch("[a-z][a-z-]*", w) and w not in make_targets()
            ]
        elif words[:1] and words[0].rpartition("/")[2] == "tickhouse":
            names = re.fullmatch(r"\{(.*)\}", words[1]) if len(words) > 1 else None
            for name in names.group(1).split(",") if names else [None]:
                error = command_error([name, *words[2:]] if name else words[1:])
                found += [error] if error else []
    return found


def test_commands_in_pages_exist():
    found = [
        (str(file), line, e) for file, page in pages().items() for line in code(page) for e in errors(line)
    ]
    assert found == []


def test_wrong_commands_are_seen():
    block = "```sh\n$ make nosuch && LAKE_ROOT=x tickhouse status --nosuch\n```\n"
    page = f"Run `make demo`.\n{block}\n    tickhouse nosuch\n"
    found = [e for line in code(page) for e in errors(line)]
    assert found == ["no make target nosuch", "status has no option --nosuch", "no command nosuch"]
    assert errors("tickhouse status --json | head  # every dataset") == []
    assert errors("tickhouse ingest nosuch FILE") == ["ingest has no subcommand nosuch"]


def test_links_lead_to_files():
    broken = [
        (str(file), target)
        for file, page in pages().items()
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page)
        if "://" not in target and not (PROJECT_DIR / file.parent / target).exists()
    ]
    assert broken == []


def test_readme_is_short():
    assert len((PROJECT_DIR / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_decisions_have_numbers_of_their_own():
    numbers = [
        file.name[:4] for file in tracked_files() if file.parent == Path("docs/adr") and file.suffix == ".md"
    ]
    assert all(re.fullmatch(r"\d{4}", number) for number in numbers)
    assert len(numbers) == len(set(numbers))


def test_what_the_makefile_calls_exists():
    makefile = (PROJECT_DIR / "Makefile").read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m ([a-z_.]+)", makefile)) - {"pip", "pytest", "venv"}
    # a module is run as a file, a package by its __main__
    missing = [
        module
        for module in sorted(modules)
        if not (PROJECT_DIR / f"{module.replace('.', '/')}.py").is_file()
        and not (PROJECT_DIR / module.replace(".", "/") / "__main__.py").is_file()
    ]
    assert missing == []
    assert errors(" ".join(re.findall(r"tickhouse demo.*", makefile)[:1])) == []


def test_every_command_has_help_with_an_example():
    bare = []
    for name in COMMANDS:
        for sub in leaves(load(COMMANDS, name)):
            assert sub.help, sub.name
            text = f"{sub.help} {sub.epilog or ''}"
            if "Example" not in text or f"tickhouse {name}" not in text:
                bare.append(f"{name} {sub.name}")
    assert bare == []


def test_printed_output_can_be_json():
    deaf = []
    for name in COMMANDS:
        for sub in leaves(load(COMMANDS, name)):
            if not any("--json" in param.opts for param in sub.params):
                deaf.append(f"{name} {sub.name}")
    assert deaf == []
