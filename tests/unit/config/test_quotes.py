import shlex
from pathlib import Path

import pytest

from trainyard.config.hydra import is_readable
from trainyard.config.quotes import for_shell, is_balanced, with_home, with_quotes

REFUSED = {
    "run.name=中文": 'run.name="中文"',
    "run.name=x(1)": 'run.name="x(1)"',
    "run.name=a#b": 'run.name="a#b"',
    "run.name=it's": 'run.name="it\'s"',
    "run.name=a~b": 'run.name="a~b"',
    "data.path=http://x/y?z=1&b": 'data.path="http://x/y?z=1&b"',
    "data.sources=[{path: 语料.jsonl, format: jsonl}]": 'data.sources=[{path: "语料.jsonl", format: jsonl}]',
    "data.sources=[{path: http://x?a=b, format: text}]": 'data.sources=[{path: "http://x?a=b", format: text}]',
    "data.sources=[{path: 'a b', format: text}, {path: x (1).txt}]": (
        "data.sources=[{path: 'a b', format: text}, {path: \"x (1).txt\"}]"
    ),
    "tokenizer.add_tokens=[<|a|>,{content: <|b|>, special: false}]": (
        'tokenizer.add_tokens=["<|a|>",{content: "<|b|>", special: false}]'
    ),
}


@pytest.mark.parametrize("override", REFUSED)
def test_quotes_stand_around_the_texts_that_need_them_and_no_others(override: str) -> None:
    assert not is_readable(override)
    mended = with_quotes(override, is_readable, several=False)
    assert mended == REFUSED[override] and is_readable(mended)
    assert shlex.split(for_shell(mended)) == [mended]


def test_a_comma_is_part_of_a_text_or_divides_the_values_of_a_sweep() -> None:
    assert with_quotes("run.name=a,中", is_readable, several=False) == 'run.name="a,中"'
    assert with_quotes("run.name=a,中", is_readable, several=True) == 'run.name=a,"中"'


def test_a_value_that_is_no_text_is_not_made_one() -> None:
    assert with_quotes("model.config={a=1}", is_readable, several=False) is None
    assert [is_balanced(value) for value in ("[{", "range(1", "[a, 'b]']", "x(1)")] == [False, False, True, True]


def test_the_home_directory_stands_for_a_tilde_outside_quotes() -> None:
    home = Path.home()
    assert with_home("paths.outputs=~/x y") == f'paths.outputs="{home}/x y"'
    assert with_home("data.sources=[{path: ~/a.jsonl, format: jsonl}]") == (
        f'data.sources=[{{path: "{home}/a.jsonl", format: jsonl}}]'
    )
    for untouched in ("paths.outputs='~/x'", "run.name=a~b", "~experiment", "trainer.max_steps=3"):
        assert with_home(untouched) == untouched
