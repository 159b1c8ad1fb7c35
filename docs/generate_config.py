"""Writes docs/config.md: every setting with its type, its default and its meaning, and every file of conf/.

python docs/generate_config.py            writes the page
python docs/generate_config.py --check    exit code 1 when the page is not what this script would write

The names, types, defaults and docstrings come from trainyard/config/schema*.py, the values of a stage's default run and
of the groups from conf/. Nothing is composed, so the page does not depend on the machine.
"""

import ast
import dataclasses
import inspect
import itertools
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "config.md"
STAGES = ("pretrain", "sft")

if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from trainyard.config import schema  # noqa: E402
from trainyard.config.training_arguments import MANAGED  # noqa: E402

HEAD = """\
<!-- Written by docs/generate_config.py from trainyard/config/schema*.py and conf/. Change those, then run it again. -->
# Settings

`key=value` on the command line changes a setting, for example `data.block_size=512`. `group=name` takes a whole file,
for example `deepspeed=zero3` takes `conf/deepspeed/zero3.yaml`. The grammar is Hydra's: quote values that hold spaces,
brackets or braces, as in `data.sources='[{path: "corpus/*.jsonl", format: jsonl}]'`. `--help` lists all settings with
their values, `--cfg job` prints the composed config, and neither starts anything.

`conf/local.yaml`, which git ignores, holds settings of one machine, from the sections `paths`, `launch` and `tracking`.
It wins over the files of `conf/`, and the command line wins over it. Such settings never decide the name of a run. The
environment variable `TRAINYARD_LOCAL` names another file, also for an installed package.

    paths: {outputs: /scratch/me/outputs}
    launch: {hostfile: /etc/hostfile, grace_period_s: 50}
    tracking: {mode: offline}

`null` means "not set": the value is derived from other settings, or the library's own default holds. The last column of
each table shows what the default run of a stage has instead of the default, where `conf/` sets a value.
"""

TRAINER = """\
`trainer.*` takes every name of `transformers.TrainingArguments` of the installed version, with its type and choices:
`trainer.adam_beta2=0.95`, `trainer.label_smoothing_factor=0.1` and so on. The table has the names that trainyard adds
and those that have a default of their own here. The documentation of
[transformers](https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments) has all
others. A name that does not exist is an error, which shows the nearest name.
"""

MANAGED_HEAD = """\
## Names of TrainingArguments that are refused

trainyard decides these itself. The message says what to set instead.

| name | instead |
|---|---|
"""

GROUPS_HEAD = """\
## Groups

Each file is a choice of its group. `experiment`, `debug` and `sweep` choose nothing by default.
"""


def docstrings(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, on one line."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef))
    found = {}
    for field, below in itertools.pairwise(body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found


def annotations(config: type) -> dict[str, str]:
    """The type of each field as the source spells it."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: ast.unparse(field.annotation)
        for field in body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field; MISSING where it has none."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def spelled(value: Any) -> str:
    """A value as a user types it."""
    if value is dataclasses.MISSING:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        value = int(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {spelled(item)}" for key, item in value.items()) + "}"
    return str(value)


def code(text: str) -> str:
    return f"`{cell(text)}`" if text else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def prose(text: str) -> str:
    """A docstring for a cell: None as a user types it, nothing that Markdown takes for HTML."""
    return cell(re.sub(r"\bNone\b", "null", text).replace("<", "&lt;"))


def read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}


def default_run(stage: str) -> dict[str, dict[str, Any]]:
    """The values that conf/ gives to each section of a stage's default run."""
    top = read(ROOT / "conf" / f"{stage}.yaml")
    values: dict[str, dict[str, Any]] = {}
    for entry in top["defaults"]:
        if not isinstance(entry, dict):
            continue
        ((group, name),) = entry.items()
        group = group.removeprefix("optional ").strip("/ ")
        file = ROOT / "conf" / group / f"{name}.yaml"
        if not group.startswith("override") and name and file.is_file():
            values.setdefault(group, {}).update(read(file))
    for section, given in top.items():
        if isinstance(given, dict) and section != "hydra":
            values.setdefault(section, {}).update(given)
    return values


def in_runs(section: str, name: str, default: Any, runs: dict[str, dict[str, dict[str, Any]]]) -> str:
    """`600`, or `pretrain: concat, sft: best_fit` where the stages differ; empty where the default holds."""
    given = {stage: run.get(section, {}).get(name, default) for stage, run in runs.items()}
    if all(value == default for value in given.values()):
        return ""
    if isinstance(default, list) and section == "data":
        return "the standard library"
    texts = {stage: spelled(value) for stage, value in given.items()}
    if len(set(texts.values())) == 1:
        return code(texts[STAGES[0]])
    return ", ".join(f"{stage} {code(text)}" for stage, text in texts.items())


def table(section: str, config: type, runs: dict[str, dict[str, dict[str, Any]]], prefix: str) -> list[str]:
    meaning, types = docstrings(config), annotations(config)
    lines = ["| setting | type | default | default run | meaning |", "|---|---|---|---|---|"]
    for field in dataclasses.fields(config):
        default = default_of(field)
        cells = [
            code(prefix + field.name),
            code(types[field.name].replace("None", "null")),
            code(spelled(default)) or "required",
            in_runs(section, field.name, default, runs),
            prose(meaning.get(field.name, "")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def described(config: type) -> list[str]:
    """The class's own docstring, where somebody wrote one."""
    text = inspect.cleandoc(config.__doc__ or "")
    return [" ".join(text.split()), ""] if text and not text.startswith(f"{config.__name__}(") else []


def sections() -> list[str]:
    runs = {stage: default_run(stage) for stage in STAGES}
    lines: list[str] = []
    for field in dataclasses.fields(schema.Config):
        if not dataclasses.is_dataclass(field.type):
            continue
        config: Any = field.type
        lines += [f"## {field.name}", ""]
        lines += TRAINER.splitlines() if config is schema.TrainerConfig else described(config)
        lines += [""] if config is schema.TrainerConfig else []
        lines += [*table(field.name, config, runs, f"{field.name}."), ""]
        if config is schema.DataConfig:
            lines += ["### An entry of data.sources", ""]
            lines += [*table("", schema.SourceConfig, runs, ""), ""]
    return lines


def comment(file: Path) -> str:
    """The first comment of a file of conf/, up to the command or the end of its paragraph."""
    words: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("# "):
            break
        text = line.removeprefix("# ")
        if text.startswith("  "):
            break
        words.append(text.split(" bash launch/")[0])
        if text.rstrip().endswith(":") or " bash launch/" in text:
            break
    return " ".join(words).rstrip(":")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a file by their dotted names; mappings that are values themselves stay whole."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and not prefix and key not in ("params", "config") and not key.endswith("kwargs"):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + str(key)] = value
    return result


def groups() -> list[str]:
    lines: list[str] = []
    folders = sorted(path for path in (ROOT / "conf").iterdir() if path.is_dir() and path.name != "hydra")
    for folder in folders:
        lines += [f"### {folder.name}=", "", "| name | what it is | values |", "|---|---|---|"]
        for file in sorted(folder.glob("*.yaml")):
            values = read(file)
            chosen = [
                f"{key.removeprefix('override /')}={name}"
                for entry in values.pop("defaults", [])
                if isinstance(entry, dict)
                for key, name in entry.items()
            ]
            values.pop("sources", None)
            given = [f"{key}={spelled(value)}" for key, value in flat(values).items()]
            lines.append(f"| {code(file.stem)} | {prose(comment(file))} | {', '.join(map(code, [*chosen, *given]))} |")
        lines += [""]
    return lines


def page() -> str:
    managed = [f"| {code(name)} | {prose(instead)} |" for name, instead in sorted(MANAGED.items())]
    parts = [HEAD, *sections(), MANAGED_HEAD + "\n".join(managed), "", GROUPS_HEAD, *groups()]
    return "\n".join(parts).rstrip() + "\n"


def main() -> int:
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/config.md is not what the schema and conf/ say; run: python docs/generate_config.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
