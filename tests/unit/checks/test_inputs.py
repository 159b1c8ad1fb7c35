import json
from pathlib import Path

from trainyard.checks import inputs
from trainyard.config.compose import compose
from unit.checking import found, only


def test_block_longer_than_the_context(tmp_path: Path) -> None:
    assert "context is 1024 tokens" in only(tmp_path, "data.block_size=2000")
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 32}))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert "context is 32 tokens" in only(tmp_path, f"model.path={tmp_path}")


def test_missing_paths_are_named(tmp_path: Path) -> None:
    assert "nowhere.txt" in only(tmp_path, "data.sources=[{path: /nowhere.txt, format: text}]")
    assert "no file matches" in only(tmp_path, "data.sources=[{path: '/nowhere/*.txt', format: text}]")
    assert "no such directory" in found(tmp_path, "model.path=/nowhere/model")[0]
    assert "no such directory" in only(tmp_path, "tokenizer.path=/nowhere/tokenizer")
    assert "No such file" in only(tmp_path, "deepspeed.config=/nowhere.json")


def test_pretrained_weights_have_their_own_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert "model.init=scratch" in only(tmp_path, f"model.path={tmp_path}", "model.hidden_size=8")
    assert found(tmp_path, f"model.path={tmp_path}", "model.hidden_size=8", "model.init=scratch") == []


def test_a_variable_that_no_template_reads_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{% if enable_thinking %}{{ messages }}{% endif %}")

    def problems(*overrides: str) -> list[str]:
        config = compose("sft", [f"tokenizer.path={tmp_path}", *overrides])
        return list(inputs.template_variable_problems(config))

    own, mine = "data.chat_template=null", "data.chat_template='{{ messages }}{{ depth }}'"
    assert problems(own, "data.template_variables={enable_thinking: false}") == []
    (message,) = problems(own, "data.template_variables.enable_thinkin=false")
    assert message.endswith("enable_thinkin: the chat template reads no such variable. Did you mean enable_thinking?")
    assert problems(mine, "data.template_variables={depth: 1}") == []
    assert problems(mine, "data.template_variables={zzz: 1}")[0].endswith("reads no such variable. Leave it out")
    assert problems(own, "tokenizer.path=somebody/elsewhere", "data.template_variables={zzz: 1}") == []
