import dataclasses
import json
from pathlib import Path

import pytest

from trainyard.checkpoint.layout import PARAMETERS, layout_of
from trainyard.checkpoint.manifest import MANIFEST, Manifest, entries
from trainyard.checks import resume
from trainyard.checks.resolve import resolve
from trainyard.config import deepspeed, saved
from trainyard.config.compose import compose
from trainyard.config.schema import Config
from trainyard.control import controller
from trainyard.errors import ConfigError
from trainyard.machine.devices import CPU
from trainyard.rundir.directory import RunDir


def resolved(tmp_path: Path, *overrides: str) -> Config:
    config = compose("pretrain", [f"paths.outputs={tmp_path / 'out'}", *overrides])
    resolve(config, overrides, CPU, {})
    return config


def checkpoint_of(tmp_path: Path, *overrides: str, ranks: int = 2) -> RunDir:
    """A run directory with one complete checkpoint, written under the default settings or those given."""
    config = resolved(tmp_path, *overrides)
    run = RunDir(tmp_path / "out" / "pretrain" / "default")
    place = run.checkpoints / "checkpoint-5"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_text("w")
    layout = layout_of(config)
    files = entries(place)
    Manifest(step=5, world_size=ranks, zero_stage=layout.stage, layout=layout, files=files).write(place)
    saved.save(config, run.config)
    return run


CHANGED = ["run.seed=7", "trainer.learning_rate=1e-4", "trainer.lr_scheduler_type=linear", "model.hidden_size=128"]


def test_drift_lists_old_and_new(tmp_path: Path) -> None:
    before = resolved(tmp_path)
    messages = resume.drift(before, resolved(tmp_path, *CHANGED, "trainer.save_steps=1"))
    assert len(messages) == 4
    assert messages[0].startswith("run.seed: the run has 42, this command 7. Resume with the old value, allow it by ")
    assert "run.allow_changes=[run.seed]" in messages[0] and "run.resume=never" in messages[0]
    assert any(message.startswith("model.hidden_size: the run has") for message in messages)
    assert resume.drift(before, resolved(tmp_path)) == []


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("[run.seed]", ["trainer.learning_rate", "trainer.lr_scheduler_type", "model.hidden_size"]),
        ("[model, trainer.lr_scheduler]", ["run.seed", "trainer.learning_rate"]),
        ("[trainer, trainer.save_steps]", ["run.seed", "model.hidden_size"]),
        ("[trainer.learning_rate, trainer.lr_scheduler_type, model.hidden_size, run.seed]", []),
        ("[trainer.l]", ["run.seed", "trainer.learning_rate", "trainer.lr_scheduler_type", "model.hidden_size"]),
    ],
)
def test_what_is_allowed_may_change(tmp_path: Path, given: str, left: list[str]) -> None:
    now = resolved(tmp_path, *CHANGED, f"run.allow_changes={given}")
    found = [message.partition(":")[0] for message in resume.drift(resolved(tmp_path), now)]
    assert sorted(found) == sorted(left)


def test_a_name_that_is_no_setting_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    names = "[trainer.lerning_rate, data, model.config.rope_theta, trainer.warmup, run.seed, trainer.save_steps]"
    config = resolved(tmp_path, f"run.allow_changes={names}")
    (message,) = resume.unknown_names(config)
    assert message == (
        "run.allow_changes=[trainer.lerning_rate]: there is no setting trainer.lerning_rate. "
        "Did you mean trainer.learning_rate?"
    )
    problems = controller.check(config, [], CPU).problems
    assert problems == [message]


TAKEN_OVER = (
    "trainer.max_steps", "trainer.num_train_epochs", "trainer.logging_steps", "trainer.save_steps",
    "trainer.eval_steps", "trainer.save_total_limit", "trainer.per_device_train_batch_size",
    "trainer.per_device_eval_batch_size",
    "trainer.gradient_accumulation_steps", "trainer.gradient_checkpointing", "trainer.dataloader_num_workers",
    "trainer.bf16_full_eval", "tracking.backend", "tracking.samples", "launch.num_devices", "launch.max_restarts",
    "deepspeed.config", "run.name", "paths.outputs", "data.prepared",
)  # fmt: skip


def test_every_setting_is_either_exact_or_taken_over(tmp_path: Path) -> None:
    def other(value: object) -> object:
        return {"x": 1} if value == {} else ["x"] if isinstance(value, list) else f"{value}x"

    before = resolved(tmp_path)
    named: set[str] = set()
    for section in dataclasses.fields(before):
        if section.name == "stage":
            continue
        for field in dataclasses.fields(getattr(before, section.name)):
            now = resolved(tmp_path)
            part = getattr(now, section.name)
            setattr(part, field.name, other(getattr(part, field.name)))
            named |= {change.name for change in resume.changes(before, now)}
    assert not named & set(TAKEN_OVER)
    assert {"run.seed", "data.block_size", "tokenizer.vocab_size", "peft.r", "trainer.fp16", "model.config.x"} <= named
    unmatched = [exact for exact in resume.EXACT if not any(name.startswith(exact) for name in named)]
    assert unmatched == []  # an entry that names nothing would guard nothing


@pytest.mark.parametrize(
    ("before", "ranks", "after", "fits"),
    [
        ([], 2, [], True),
        ([], 1, [], False),
        ([], 2, ["deepspeed=zero3"], False),
        ([], 2, ["deepspeed=none"], False),
        ([], 2, ["trainer.bf16=true"], False),
        ([], 2, ["trainer.per_device_train_batch_size=1"], True),
        (["deepspeed=none"], 1, ["deepspeed=none"], True),
        (["deepspeed=none"], 1, ["deepspeed=none", "trainer.bf16=true"], True),
        (["deepspeed=none"], 2, [], False),
    ],
)
def test_what_can_be_loaded_as_it_is(
    tmp_path: Path, before: list[str], ranks: int, after: list[str], fits: bool
) -> None:
    run = checkpoint_of(tmp_path, *before, ranks=ranks)
    manifest = Manifest.read(run.checkpoints / "checkpoint-5")
    assert manifest is not None and resume.fits(resolved(tmp_path, *after), manifest) is fits
    assert resume.problems(resolved(tmp_path, *after, "run.allow_changes=[trainer.bf16]"), run) == []


def test_states_that_cannot_be_converted_are_named_before_the_launch(tmp_path: Path) -> None:
    run = checkpoint_of(tmp_path)
    values = deepspeed.read("zero2")
    swapped = tmp_path / "nvme.json"
    swapped.write_text(json.dumps(values | {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}))
    lamb = tmp_path / "lamb.json"
    lamb.write_text(json.dumps(values | {"optimizer": {"type": "Lamb"}, "scheduler": {"type": "WarmupLR"}}))
    (message,) = resume.problems(resolved(tmp_path, f"deepspeed.config={swapped}"), run)
    assert message.startswith(
        "deepspeed.config, launch.num_devices: checkpoint-5 was written by 2 ranks under ZeRO-2, this command has "
        "2 ranks under ZeRO-3, and what is offloaded to NVMe is not in the checkpoint's files."
    )
    messages = resume.problems(resolved(tmp_path, f"deepspeed.config={lamb}"), run)
    assert ["optimizer Lamb" in messages[0], '"scheduler" in the JSON' in messages[1]] == [True, True]
    shrunk = ["launch.num_devices=1", "trainer.optim=adafactor", "run.allow_changes=[trainer.optim]"]
    (message,) = resume.problems(resolved(tmp_path, *shrunk), run)
    assert "1 rank under ZeRO-2, and the states of trainer.optim=adafactor cannot be converted" in message
    assert resume.problems(resolved(tmp_path, *shrunk, "run.resume=never"), run) == []


@pytest.mark.parametrize(("architecture", "is_saved_renamed"), [("Llama", False), ("Mixtral", True)])
def test_weights_that_ddp_saved_under_other_names_are_told_before_the_launch(
    tmp_path: Path, architecture: str, is_saved_renamed: bool
) -> None:
    import transformers

    sizes = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = getattr(transformers, f"{architecture}Config")(**sizes, **heads)
    model = getattr(transformers, f"{architecture}ForCausalLM")(config)
    run = checkpoint_of(tmp_path, "deepspeed=none")
    place = run.checkpoints / "checkpoint-5"
    model.save_pretrained(place)
    names = [name for name, _ in model.named_parameters()]
    (place / PARAMETERS).write_text(json.dumps({"names": names}))
    reasons = resume.inconvertible(resolved(tmp_path, "deepspeed=zero2"), place)
    assert ["under another name" in reason for reason in reasons] == [True] * is_saved_renamed
    assert resume.inconvertible(resolved(tmp_path, "deepspeed=none"), place) == []


def test_a_batch_given_per_rank_stays_the_runs(tmp_path: Path) -> None:
    free = ["trainer.global_batch_size=null", "trainer.per_device_train_batch_size=2"]
    run = checkpoint_of(tmp_path, *free, "trainer.gradient_accumulation_steps=3")
    assert saved.load(run.config).trainer.global_batch_size == 12
    where = [f"paths.outputs={tmp_path / 'out'}", "run.name=default", *free, "trainer.gradient_accumulation_steps=3"]
    for ranks, accumulated, fits in ((1, 6, True), (2, 3, True), (3, 2, True), (4, 1, False)):
        config = compose("pretrain", [*where, f"launch.num_devices={ranks}"])
        problems = controller.check(config, where, CPU).problems
        assert config.trainer.global_batch_size == 12
        if fits:
            assert (problems, config.trainer.gradient_accumulation_steps) == ([], accumulated)
            saved.save(config, run.config)  # as the run does, which is preempted and given the same command again
            again = compose("pretrain", [*where, f"launch.num_devices={ranks}"])
            assert controller.check(again, where, CPU).problems == []
        else:
            assert "trainer.global_batch_size=12: must be a multiple of 8" in problems[0]
            assert "launch.num_devices for one of 1, 2, 3, 6 ranks" in problems[0]


def test_changed_text_and_a_changed_tokenizer_are_told_apart(tmp_path: Path) -> None:
    run = checkpoint_of(tmp_path)
    before = resolved(tmp_path)
    before.data.prepared, before.tokenizer.path = "/a/prepared/one", "/a/tokenizers/one"
    saved.save(before, run.config)

    def changed(store: str, tokenizer: str, *overrides: str) -> list[str]:
        now = resolved(tmp_path, *overrides)
        now.data.prepared, now.tokenizer.path = f"/b/prepared/{store}", f"/b/tokenizers/{tokenizer}"
        return resume.changed_data(now, run)

    assert changed("one", "one") == []
    assert changed("two", "one")[0].startswith("data.sources: the text has changed since the run's last checkpoint.")
    assert changed("two", "one", "run.allow_changes=[data]") == []
    (message,) = changed("two", "two", "run.allow_changes=[data]")
    assert "Keep the run's, /a/tokenizers/one, allow it by run.allow_changes=[tokenizer.path]" in message
    assert changed("two", "two", "run.allow_changes=[data, tokenizer]") == []


def test_a_checkpoint_from_elsewhere_is_verified_and_only_the_beginning(tmp_path: Path) -> None:
    named = checkpoint_of(tmp_path).checkpoints / "checkpoint-5"
    config = resolved(tmp_path, f"run.resume={named}", "run.name=mine")
    run = RunDir(tmp_path / "out" / "pretrain" / "mine")
    assert resume.problems(config, run) == []
    assert resume.begun_from(config, run) == named
    own = run.checkpoints / "checkpoint-9"
    own.mkdir(parents=True)
    (own / "model.safetensors").write_text("w")
    Manifest(step=9, world_size=2, files=entries(own)).write(own)
    assert resume.begun_from(config, run) is None  # it goes on with its own
    (own / MANIFEST).unlink()
    (named / "model.safetensors").write_text("x")
    assert "checksum" in resume.problems(config, run)[0]


def test_a_run_of_another_version_is_refused_with_the_way_on(tmp_path: Path) -> None:
    run = checkpoint_of(tmp_path)
    with run.config.open("a") as stream:
        stream.write("future: {x: 1}\n")
    with pytest.raises(ConfigError, match=r"config.yaml: this version has no setting future. Use the version of "):
        controller.check(resolved(tmp_path), [], CPU)
    assert controller.check(resolved(tmp_path, "run.resume=never"), [], CPU).problems == []


def test_a_run_of_one_s_own_text_keeps_the_values_it_was_begun_with(tmp_path: Path) -> None:
    """As in a run of 0.1, whose command meant the example's block size, steps and learning rate."""
    (tmp_path / "a.txt").write_text("text")
    source = f"data.sources=[{{path: '{tmp_path / 'a.txt'}', format: text}}]"
    given = [f"paths.outputs={tmp_path / 'out'}", "run.name=default", source]
    run = checkpoint_of(tmp_path, *given[1:], "trainer=tiny", "data=stdlib")
    before = saved.load(run.config)
    assert (before.data.block_size, before.trainer.max_steps, before.trainer.learning_rate) == (256, 600, 1.5e-3)

    def check(*more: str) -> tuple[Config, controller.Checked]:
        overrides = [*given, *more]
        config = compose("pretrain", overrides)
        return config, controller.check(config, overrides, CPU)

    config, checked = check()
    assert resume.drift(before, config) == []
    assert (config.trainer.max_steps, config.trainer.global_batch_size) == (600, 8)
    begun = {each.key for each in checked.filled_in if each.reason == resume.AS_BEGUN}
    assert {"data.block_size", "trainer.learning_rate", "trainer.max_steps", "trainer.warmup_steps"} <= begun
    config, checked = check("data.block_size=128")
    assert [problem.partition(":")[0] for problem in checked.problems] == ["data.block_size"]
    config, _ = check("trainer.num_train_epochs=2", "trainer.max_steps=-1")
    assert (config.trainer.num_train_epochs, config.trainer.max_steps) == (2, -1)
    config, _ = check("run.resume=never")
    assert (config.data.block_size, config.trainer.max_steps) == (1024, -1)
