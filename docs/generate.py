"""Writes docs/cli.md, the reference of commands and settings, from the code itself.

`make docs` runs it, and a test fails while the page differs from what it would write.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from patchscout import arguments
from patchscout.cli import COMMANDS
from patchscout.config import Config
from patchscout.limits import Limits
from patchscout.presets import PRESETS, preset_config, setting_names

PAGE = Path(__file__).with_name("cli.md")

HEAD = """\
<!-- Written by docs/generate.py from the code: edit that. -->

# Commands and settings

{commands}

`patchscout COMMAND --help` prints what a command takes, `patchscout --version` the version. What
follows `--` is a file, also one named `-x.png`. In names of options `_` and `-` are the same.
[How-tos](howto.md) show the commands at work, and say what files they read and write.
"""

SETTINGS_HEAD = """\
## Settings

Given to `train` as options, such as `--sampler.kind uniform`, or in a
[file](howto.md#settings-in-a-file). A setting that is on or off is given as
`--predictor.flip-tta` or `--predictor.no-flip-tta`. Several values stand one after the other, as
in `--data.image-size 256 512`. Settings of `decision` need no group: `--max-false-alarms 1%`. What
is `unset` is `None` on the command line and `null` in a file.
"""

LIMITS_HEAD = """\
## Limits

What a file may ask for, checked before the work. All commands that read files take these options;
from Python `patchscout.limits.set_limits` sets them. [Limits](howto.md#limits) says more.
"""


def page() -> str:
    """Return the text of the page."""
    usages = [(_usage(name), summary) for name, summary in COMMANDS.items()]
    width = max(len(usage) for usage, _ in usages) + 2
    listed = "\n".join(f"{usage:{width}}{summary}" for usage, summary in usages)
    parts = [HEAD.format(commands=f"```\n{listed}\n```")]
    parts += [_command(name) for name in COMMANDS]
    parts += [SETTINGS_HEAD, *_groups(Config), _presets()]
    parts += [LIMITS_HEAD, _table(_settings(Limits, prefix="--limits."), "option")]
    return "\n".join(parts)


def arguments_of(command: str) -> type:
    """Return the dataclass of what a command takes."""
    return getattr(arguments, f"{command.capitalize()}Arguments")


def _command(name: str) -> str:
    kind = arguments_of(name)
    rows, also = [], []
    for argument in _arguments(kind):
        if argument.field.name in ("settings", "limits"):
            also.append(f"[{argument.field.name}](#{argument.field.name})")
        else:
            rows.append((argument.shown, argument.default, argument.meaning))
    text = f"## {name}\n\n```\n{_usage(name)}\n```\n\n{inspect.getdoc(kind)}\n\n"
    text += _table(rows, "argument")
    if also:
        text += f"\nIt also takes {' and '.join(also)}.\n"
    return text


def _usage(name: str) -> str:
    words = ["patchscout", name]
    for one in _arguments(arguments_of(name)):
        if one.is_positional:
            words.append(one.shown if one.is_required else f"[{one.shown}]")
        elif one.is_required:
            words.append(f"{one.shown} {one.field.name.upper()}")
    return " ".join(words)


class _Argument(NamedTuple):
    """One argument of a command."""

    field: Field[Any]
    hint: Any
    meaning: str

    @property
    def is_positional(self) -> bool:
        return str(self.field.type).startswith("tyro.conf.Positional")

    @property
    def is_required(self) -> bool:
        has_none = self.field.default is self.field.default_factory is MISSING
        return has_none and "unset:" not in self.meaning

    @property
    def shown(self) -> str:
        """An option's name, or the placeholder of a positional argument."""
        if not self.is_positional:
            return f"--{self.field.name.replace('_', '-')}"
        metavars = (getattr(extra, "metavar", None) for extra in self.hint.__metadata__)
        name = next(filter(None, metavars), self.field.name.upper()).removesuffix("...")
        return f"{name}..." if "tuple" in str(self.field.type) else name

    @property
    def default(self) -> str:
        if self.is_required:
            return "required"
        if self.field.default is MISSING:
            return "`unset`"
        return "off" if self.field.default is False else f"`{_written(self.field.default)}`"


def _arguments(kind: type) -> Iterator[_Argument]:
    hints = get_type_hints(kind, include_extras=True)
    meanings = {
        name: text
        for base in reversed(kind.__mro__[:-1])
        for name, text in _attribute_docstrings(base).items()
    }
    for field in sorted(fields(kind), key=lambda field: field.name not in kind.__annotations__):
        hint, meaning = hints[field.name], meanings.get(field.name, "")
        if get_origin(hint) is Literal:
            meaning += f" *{_one_of(get_args(hint))}*"
        yield _Argument(field, hint, meaning)


def _attribute_docstrings(kind: type) -> dict[str, str]:
    """Return what stands under each attribute of a class."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for attribute, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(attribute, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(attribute.target)] = _one_line(ast.literal_eval(text.value))
    return found


Row = tuple[str, str, str]
"""Name, default and meaning, in Markdown."""


def _groups(model: type[BaseModel]) -> Iterator[str]:
    """Yield a section for the settings of no group, then one for each group."""
    yield f"### General\n\n{_table(_settings(model), 'setting')}"
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            about = inspect.getdoc(kind)
            yield f"### {name}\n\n{about}\n\n{_table(_settings(kind, f'{name}.'), 'setting')}"


def _settings(model: type[BaseModel], prefix: str = "") -> list[Row]:
    """Return the rows of a model's own fields, groups left out."""
    rows = []
    for name, schema in model.model_json_schema()["properties"].items():
        if "$ref" in schema:
            continue
        shown = (prefix + name).replace("_", "-") if prefix.startswith("--") else prefix + name
        values = _values(schema)
        meaning = _one_line(schema["description"]) + (f" *{values}*" if values else "")
        rows.append((shown, f"`{_written(schema['default'])}`", meaning))
    return rows


def _values(schema: dict[str, Any]) -> str:
    """Return in words which values a JSON schema lets pass; nothing if any of its type."""
    if "anyOf" in schema:
        (schema,) = [one for one in schema["anyOf"] if one.get("type") != "null"]
    if "enum" in schema:
        return _one_of(schema["enum"])
    if schema.get("type") == "array":
        return _values(schema.get("items") or schema["prefixItems"][0]).replace(
            "One of ", "Any of "
        )
    if schema.get("type") not in ("integer", "number"):
        return ""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    limits = [
        *([f"at least {low:g}"] if low is not None else []),
        *([f"above {above:g}"] if above is not None else []),
        *([f"at most {high:g}"] if high is not None else []),
        *([f"below {below:g}"] if below is not None and below < 2**31 else []),
        *([f"a multiple of {schema['multipleOf']:g}"] if "multipleOf" in schema else []),
    ]
    text = ", ".join(limits)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _one_of(values: Iterable[object]) -> str:
    return f"One of {', '.join(f'`{value}`' for value in values)}."


def _presets() -> str:
    """Return where the presets differ."""
    default = preset_config()
    lines = ["### Presets\n"]
    for preset in PRESETS:
        config = preset_config(preset)
        changed = [
            f"`{name}` is `{_written(_value(config, name))}`"
            for name in setting_names()
            if name != "preset" and _value(config, name) != _value(default, name)
        ]
        lines.append(f"- `{preset}`: {', '.join(changed) or 'the defaults above'}.")
    return "\n".join(lines) + "\n"


def _value(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _written(value: Any) -> str:
    """Return a value as it is typed."""
    if value in (None, [], ()):
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(rows: list[Row], name: str) -> str:
    lines = [f"| {name} | default | meaning |", "|---|---|---|"]
    lines += [f"| `{shown}` | {default} | {meaning} |" for shown, default, meaning in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
