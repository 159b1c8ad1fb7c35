"""Overrides: what they imply, how a value is spelled, and the name that follows from them."""

from hypothesis import given
from hypothesis import strategies as st

from trainyard.config.compose import compose
from trainyard.config.overrides import command, default_name, spelled, with_implied


def test_a_model_path_alone_brings_no_architecture_of_the_default() -> None:
    config = compose("pretrain", ["model.path=some/model"])
    assert config.model.path == "some/model"
    assert config.model.hidden_size is None
    assert compose("pretrain", []).model.hidden_size is not None


def test_epochs_alone_mean_epochs() -> None:
    assert compose("pretrain", []).trainer.max_steps > 0
    assert compose("pretrain", ["trainer.num_train_epochs=3"]).trainer.max_steps == -1
    both = compose("pretrain", ["trainer.num_train_epochs=3", "trainer.max_steps=7"])
    assert both.trainer.max_steps == 7


def test_variables_of_a_template_have_any_name() -> None:
    for override in (
        "data.template_variables={enable_thinking: false}",
        "data.template_variables.enable_thinking=false",
    ):
        assert compose("sft", [override]).data.template_variables == {"enable_thinking": False}


def test_what_is_implied_is_implied_once() -> None:
    once = with_implied(["model.path=x", "trainer.num_train_epochs=2", "model.config.rope_theta=1e6"])
    assert once == [
        "model=from_path", "model.path=x", "trainer.num_train_epochs=2", "++model.config.rope_theta=1e6",
        "trainer.max_steps=-1",
    ]  # fmt: skip
    assert with_implied(once) == once


def test_a_value_is_spelled_without_the_entries_that_are_none() -> None:
    assert spelled({"a": [1, 2.5, True, None], "b": None, "c": "x"}) == "{a: [1, 2.5, true, null], c: x}"


def test_a_command_is_ready_for_a_shell_and_hides_secrets() -> None:
    assert command("sft", ["run.name=a b", "data.template_variables.api_key=sk-1"]) == (
        "bash launch/sft.sh 'run.name=a b' 'data.template_variables.api_key=***'"
    )


def test_the_default_name_is_stable_and_tells_settings_apart() -> None:
    assert default_name([]) == "default"
    assert default_name(["paths.outputs=x", "launch.num_devices=1", "tracking=none", "run.resume=never"]) == "default"
    one = default_name(["trainer.max_steps=5", "deepspeed=zero3"])
    assert one == default_name(["deepspeed=zero3", "trainer.max_steps=5"])
    assert one.startswith("default-")
    assert one != default_name(["trainer.max_steps=6", "deepspeed=zero3"])
    assert default_name(["experiment=qwen"]) == "qwen"
    assert default_name(["run.seed=1"]) != default_name(["run.seed=2"])


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), inner),
    max_leaves=8,
)


def without_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_hydra_reads_what_is_spelled(value: object) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_override(f"key={spelled(value)}").value()
    assert repr(_plain(read)) == repr(without_none(value))


def _plain(value: object) -> object:
    """A parsed value as plain Python: Hydra wraps a text to remember its quotes."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return getattr(value, "text", value)
