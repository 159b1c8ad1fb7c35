"""docs/config.md is what its generator writes, and has every setting."""

import dataclasses
import subprocess
import sys

from conftest import ROOT

from trainyard.config import schema

PAGE = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_generator_writes() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate_config.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_it_has_every_setting_and_every_file_of_conf() -> None:
    settings = [
        f"{section.name}.{field.name}"
        for section in dataclasses.fields(schema.Config)
        if dataclasses.is_dataclass(section.type)
        for field in dataclasses.fields(section.type)
    ]
    assert len(settings) > 90
    assert [name for name in settings if f"| `{name}` |" not in PAGE] == []
    groups = [file.stem for file in (ROOT / "conf").glob("*/*.yaml") if file.parent.name != "hydra"]
    assert len(groups) > 30
    assert [name for name in groups if f"| `{name}` |" not in PAGE] == []
