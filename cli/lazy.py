"""Groups that list their commands without importing one, and import the one that is called."""

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

Commands = dict[str, tuple[str, str]]  # name: (module with a Typer app called `app`, one line of help)


def load(commands: Commands, name: str) -> Any:
    """Import the module of a command and return its command, a group where the app is one."""
    command = typer.main.get_command(importlib.import_module(commands[name][0]).app)
    command.name = name
    return command


def lazy_group(commands: Commands) -> type[TyperGroup]:
    """A Typer group class over ``commands``. Its `get_command` gives a name and a line of help only."""

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(commands)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return TyperCommand(cmd_name, help=commands[cmd_name][1]) if cmd_name in commands else None

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            name, command, rest = super().resolve_command(ctx, args)
            return name, load(commands, command.name) if command else command, rest

    LazyGroup.lazy_commands = commands
    return LazyGroup


def subcommands(command: Any) -> dict[str, Any]:
    """The commands below a group, each imported; none below a plain command."""
    lazy = getattr(command, "lazy_commands", None)
    if lazy is not None:
        return {name: load(lazy, name) for name in lazy}
    return getattr(command, "commands", {})
