"""A tiny model that has learned two answers by heart: loaded, asked, talked with, exported."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, clean_env, make_documents
from peft import LoraConfig, get_peft_model
from small_tokenizers import KINDS, small_tokenizer
from tokenizers import AddedToken
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from sft.encode import Encoder
from trainyard import __main__ as entry
from trainyard.commands import chat, export
from trainyard.config import saved
from trainyard.config.compose import compose
from trainyard.config.schema import DataConfig
from trainyard.data.conversations.formats import Conversation
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import DataError
from trainyard.inference import generate as inference
from trainyard.inference import load
from trainyard.inference.generate import Sampling

ANSWERS = {"what is a yard?": "a place for 火车 🚂.", "what trains models, and of which kind are these?": "the yard."}
CHATML = (ROOT / "trainyard" / "data" / "conversations" / "templates" / "chatml.jinja").read_text()
QUESTION, ANSWER = next(iter(ANSWERS.items()))

Verb = Callable[..., int]


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's directory with a model that has overfitted ANSWERS, and answers nothing else."""
    directory = tmp_path_factory.mktemp("outputs") / "sft" / "learned"
    directory.mkdir(parents=True)
    tokenizers.train(iter([*make_documents(), *ANSWERS, *ANSWERS.values()]), 400, directory / "tokenizer")
    tokenizer = tokenizers.load(str(directory / "tokenizer"), chat_template=CHATML)
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer), max_position_embeddings=128, **size, **ids)
    model = AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = []
    for question, answer in ANSWERS.items():
        prompt = inference.encode(tokenizer, user(question))
        said = [*tokenizer(answer)["input_ids"], tokenizer.convert_tokens_to_ids("<|im_end|>")]
        rows.append((torch.tensor([prompt + said]), torch.tensor([[-100] * len(prompt) + said])))
    for _ in range(40):
        sum(model(ids, labels=labels).loss for ids, labels in rows).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")
    return directory


@pytest.fixture(scope="module")
def learned(run: Path) -> load.Loaded:
    return load.load(str(run), device="cpu", dtype=torch.float32)


def adapted(run: Path, directory: Path, **settings: Any) -> Path:
    """An adapter of random weights on the run's model, with its tokenizer."""
    torch.manual_seed(1)
    network = AutoModelForCausalLM.from_pretrained(run / "model")
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False, lora_dropout=0.5, **settings
    )
    get_peft_model(network, config).save_pretrained(directory)
    tokenizers.load(str(run / "model")).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def adapter(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapted(run, tmp_path_factory.mktemp("adapter") / "lora")


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Verb:
    """`python -m trainyard ...` in this process: verb("generate", ...) gives its exit code."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*words: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["trainyard", *map(str, words)])
        try:
            return entry.main()
        except SystemExit as stopped:  # argparse
            return int(str(stopped.code))

    return call


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(torch.arange(40).unsqueeze(0)).logits
    return result


def answer(loaded: load.Loaded, prompts: list[list[int]], **sampling: Any) -> list[inference.Answer]:
    ends = inference.end_ids(loaded.tokenizer)
    return inference.generate(loaded.model, loaded.tokenizer, prompts, ends, Sampling(**sampling))


# ---- prompts and answers ----


def test_it_answers_and_stops_by_itself(learned: load.Loaded) -> None:
    for question, wanted in ANSWERS.items():
        assert answer(learned, [inference.encode(learned.tokenizer, user(question))]) == [(wanted, True)]


def test_an_answer_that_is_cut_says_so(learned: load.Loaded) -> None:
    ((text, finished),) = answer(learned, [inference.encode(learned.tokenizer, user(QUESTION))], max_new_tokens=3)
    assert not finished
    assert text
    assert ANSWER.startswith(text)


def test_many_at_once_is_one_by_one(learned: load.Loaded) -> None:
    texts = [*ANSWERS, "x", "the yard trains 语言 and so on and on", QUESTION * 3]
    prompts = [inference.encode(learned.tokenizer, user(text)) for text in texts]
    assert len({len(prompt) for prompt in prompts}) > 3
    for count in (20, 90):  # with 90 the longest fills the context
        together = answer(learned, prompts, max_new_tokens=count)
        assert together == [answer(learned, [prompt], max_new_tokens=count)[0] for prompt in prompts]
        assert [given.text for given in together[:2]] == list(ANSWERS.values())


def test_it_is_what_the_model_generates(learned: load.Loaded) -> None:
    prompt = learned.tokenizer("models and the yard")["input_ids"]
    made = learned.model.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False, eos_token_id=None)
    ids = made[0, len(prompt) :].tolist()
    stops = [place for place, token in enumerate(ids) if token in inference.end_ids(learned.tokenizer)]
    wanted = learned.tokenizer.decode(ids[: stops[0] if stops else None])
    assert answer(learned, [prompt], max_new_tokens=30) == [(wanted, bool(stops))]


def test_the_settings_are_ours_and_the_models_own_are_left_alone(learned: load.Loaded) -> None:
    prompt = [inference.encode(learned.tokenizer, user(QUESTION))]
    own = learned.model.generation_config
    strange = GenerationConfig(do_sample=True, temperature=9.0, repetition_penalty=9.0, max_length=5)
    learned.model.generation_config = strange
    try:
        assert answer(learned, prompt) == [(ANSWER, True)]
        assert learned.model.generation_config is strange
    finally:
        learned.model.generation_config = own


def test_a_seed_decides_what_is_drawn(learned: load.Loaded) -> None:
    prompt = [inference.encode(learned.tokenizer, user("anything"))]
    settings = {"temperature": 5.0, "max_new_tokens": 20}
    state = torch.random.get_rng_state()
    first = answer(learned, prompt, seed=1, **settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert answer(learned, prompt, seed=1, **settings) == first
    assert answer(learned, prompt, seed=2, **settings) != first
    assert answer(learned, prompt, seed=2, top_p=1e-6, **settings) == answer(learned, prompt, max_new_tokens=20)


def test_the_context_limits_prompt_and_answer(learned: load.Loaded) -> None:
    (cut,) = answer(learned, [list(range(10, 130))])
    assert len(learned.tokenizer(cut.text)["input_ids"]) <= 8
    with pytest.raises(DataError, match="a prompt of 128 tokens: the model's context is 128"):
        answer(learned, [[10] * 128])


@pytest.mark.parametrize("spells", [False, True])
def test_the_prompt_is_that_of_the_training(learned: load.Loaded, spells: bool) -> None:
    tokenizer = learned.tokenizer
    said = [*user("hi <|im_end|>" * spells + " there\n"), {"role": "assistant", "content": "a yard."}, *user("x")]
    conversation = Conversation([*said, {"role": "assistant", "content": "end"}], [None] * 4)
    trained = Encoder(tokenizer, [conversation], DataConfig(sources=[]))([conversation]).ids.tolist()
    prompt = inference.encode(tokenizer, said)
    assert trained[: len(prompt)] == prompt
    assert tokenizer.decode(trained[len(prompt) :]) == "end<|im_end|>\n"
    theirs = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
    assert tokenizer.decode(prompt) == tokenizer.decode(theirs)
    assert (prompt == theirs) is not spells
    assert prompt.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 3


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


TALKS = {
    "single": [*user("Hi"), assistant("Hello.")],
    "multi": [
        *user("Hi 语言 🚂"),
        assistant("Hello."),
        *user("Bye"),
        assistant("See you."),
        *user("x\n"),
        assistant("\ny"),
    ],
    "system": [
        {"role": "system", "content": "Be brief."},
        *user("Hi"),
        assistant("语"),
        *user("Bye"),
        assistant("🚂 yard"),
    ],
    "spells": [*user("Hi</s> <|im_end|>"), assistant("A</s>"), *user("<s>Bye"), assistant("<|im_end|>See you.")],
}
TEMPLATES = {path.stem: path.read_text() for path in sorted((ROOT / "tests" / "data" / "templates").glob("*.jinja"))}
TEMPLATES["our plain"] = (ROOT / "trainyard" / "data" / "conversations" / "templates" / "plain.jinja").read_text()


def prompts_in(tokenizer: Any, messages: list[dict[str, Any]]) -> list[int]:
    """The answers to which the conversation, as rendered, leads as a prompt at inference does."""
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    how = {"tokenize": False, "add_generation_prompt": True}
    return [n for n in answers if whole.startswith(tokenizer.apply_chat_template(messages[:n], **how))]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_have_the_ids_of_the_training_with_any_template(kind: str) -> None:
    tokenizer = small_tokenizer(kind)
    conversations = [Conversation(messages, [None] * len(messages)) for messages in TALKS.values()]
    checked = refused = 0
    for template in TEMPLATES.values():
        tokenizer.chat_template = template
        tokens = Encoder(tokenizer, conversations, DataConfig(sources=[]))(conversations)
        refused += len(tokens.refused)
        kept = [talk.messages for number, talk in enumerate(conversations) if number not in tokens.refused]
        masks = np.split(tokens.loss_mask, np.cumsum(tokens.lengths)[:-1])
        for messages, trained, mask in zip(kept, tokens.documents(), masks, strict=True):
            for number in prompts_in(tokenizer, messages):
                prompt = inference.encode(tokenizer, messages[:number])
                assert trained[: len(prompt)].tolist() == prompt
                assert mask[len(prompt) - 1 : len(prompt) + 1].tolist() == [0, 1]
                checked += 1
    assert (len(TEMPLATES), checked, refused) == (14, 102, 4)


@pytest.mark.parametrize("how", ["last", "everything", "by flag"])
@pytest.mark.parametrize("kind", ["byte_level", "llama", "prepend"])
def test_prompts_have_the_ids_of_the_training_whatever_is_learned(kind: str, how: str) -> None:
    """The plain template is the hard one: "Assistant: " ends within the first token of "Assistant: Hello."."""
    tokenizer = small_tokenizer(kind)
    settings = {"last": {"learn": "last"}, "everything": {"train_on_prompt": True}, "by flag": {}}[how]
    checked = 0
    for name in ("our plain", "inst_no_system", "chatml", "chatml_empty_reasoning"):
        tokenizer.chat_template = TEMPLATES[name]
        for messages in TALKS.values():
            answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
            flags = [False if how == "by flag" and n in answers[:-1] else None for n in range(len(messages))]
            conversation = Conversation(messages, flags)
            tokens = Encoder(tokenizer, [conversation], DataConfig(sources=[], **settings))([conversation])
            if tokens.refused:
                continue
            for number in prompts_in(tokenizer, messages):
                prompt = inference.encode(tokenizer, messages[:number])
                assert tokens.ids[: len(prompt)].tolist() == prompt
                checked += 1
    assert checked == 26


def test_ids_are_the_tokenizers_own_unless_an_answer_begins_within_a_token() -> None:
    same = straddled = 0
    for kind in KINDS:
        tokenizer = small_tokenizer(kind)
        for template in TEMPLATES.values():
            tokenizer.chat_template = template
            for name in ("single", "multi"):
                *asked, _ = TALKS[name]
                ids = inference.encode(tokenizer, asked)
                settings = {"add_generation_prompt": True, "return_dict": False}
                whole = tokenizer.apply_chat_template(asked, **settings)
                begun = [tokenizer.apply_chat_template(asked[:n], **settings) for n in range(1, len(asked), 2)]
                if all(whole[: len(prompt)] == prompt for prompt in begun):
                    assert ids == whole
                    same += 1
                else:
                    assert tokenizer.decode(ids).split() == tokenizer.decode(whole).split()
                    straddled += 1
    assert (same, straddled) == (176, 20)


def test_a_tokenizer_that_no_training_takes_does_what_it_wants() -> None:
    tokenizer = small_tokenizer("llama")
    tokenizer.add_tokens([AddedToken("<turn>", special=True, single_word=True)])
    tokenizer.chat_template = "{% for m in messages %}<turn>{{ m.content }}</s>{% endfor %}"
    assert (
        inference.encode(tokenizer, user("yard")) == tokenizer("<turn>yard</s>", add_special_tokens=False)["input_ids"]
    )


def test_tokens_that_are_added_later_are_known(run: Path) -> None:
    tokenizer = tokenizers.load(str(run / "model"))
    inference.encode(tokenizer, user("x"))
    tokenizer.add_tokens(["<|new|>"], special_tokens=True)
    tokenizer.chat_template = "{% for m in messages %}<|new|>{{ m.content }}<|im_end|>{% endfor %}"
    assert inference.encode(tokenizer, user("x"))[0] == tokenizer.convert_tokens_to_ids("<|new|>")


def test_plain_text_and_its_end(run: Path) -> None:
    plain = tokenizers.load(str(run / "tokenizer"))
    assert plain.chat_template is None
    assert inference.end_ids(plain) == [plain.eos_token_id]
    assert inference.encode(plain, "the yard") == plain("the yard")["input_ids"]
    with pytest.raises(DataError, match="the prompt is empty"):
        inference.encode(plain, "")


def test_a_template_that_refuses(learned: load.Loaded, run: Path) -> None:
    tokenizer = tokenizers.load(
        str(run / "model"), chat_template=CHATML + "{{ raise_exception('no user') if not messages[1:] }}"
    )
    with pytest.raises(DataError, match="does not take the conversation: no user"):
        inference.encode(tokenizer, user("x"))


# ---- loading ----


def test_a_run_brings_its_template_variables(run: Path) -> None:
    config = compose("sft", [])
    config.data.template_variables = {"enable_thinking": False}
    saved.save(config, run / "config.yaml")
    (run / "status.json").write_text("{}")
    try:
        for path in (run, run / "model"):
            assert load.load(str(path)).variables == {"enable_thinking": False}
    finally:
        (run / "config.yaml").unlink()
    assert load.load(str(run)).variables == {}


def test_an_adapter_is_loaded_on_its_base(run: Path, adapter: Path, learned: load.Loaded) -> None:
    loaded = load.load(str(adapter))
    assert not loaded.model.training
    assert loaded.tokenizer.chat_template == CHATML
    changed = logits(loaded.model)
    assert torch.equal(changed, logits(loaded.model))  # its dropout is off
    assert (changed - logits(learned.model)).abs().max() > 0.1
    with loaded.model.disable_adapter():
        assert torch.equal(logits(loaded.model), logits(learned.model))
    prompt = inference.encode(loaded.tokenizer, user(QUESTION))
    assert answer(loaded, [prompt], max_new_tokens=10) != answer(learned, [prompt], max_new_tokens=10)


def broken(run: Path, adapter: Path, tmp_path: Path, what: str) -> Path:
    """A directory that cannot be loaded."""
    path = tmp_path / what
    path.mkdir()
    if what == "unfinished":
        (path / "config.yaml").write_text("stage: sft")
    if what in ("unknown", "untokenized"):
        kind = {"model_type": "abacus"} if what == "unknown" else {}
        (path / "config.json").write_text(json.dumps(json.loads((run / "model/config.json").read_text()) | kind))
    if what == "untokenized":
        (path / "model.safetensors").write_bytes((run / "model/model.safetensors").read_bytes())
    if what == "baseless":
        config = json.loads((adapter / "adapter_config.json").read_text())
        (path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "./gone"}))
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty", "holds neither config.json nor adapter_config.json. Give the directory of a finished run"),
        ("unfinished", "this run has left no model yet"),
        ("unknown", "it cannot be loaded: .*abacus"),
        ("untokenized", "holds no tokenizer; save it there with save_pretrained"),
        ("baseless", "its base model ./gone is not there; put it back"),
    ],
)
def test_what_cannot_be_loaded(
    run: Path, adapter: Path, tmp_path: Path, what: str, message: str, verb: Verb, capsys: Any
) -> None:
    path = broken(run, adapter, tmp_path, what)
    assert verb("generate", path, "x") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"error: .*{what}.*{message}", error)


# ---- python -m trainyard generate ----


def test_a_prompt_is_answered_on_standard_output(run: Path, verb: Verb, capsys: Any) -> None:
    assert verb("generate", run, "--max-new-tokens", "50", QUESTION) == 0
    assert capsys.readouterr() == (f"{ANSWER}\n", "")


def test_json_lines_are_answered_into_a_file(run: Path, tmp_path: Path, verb: Verb) -> None:
    first, second = ANSWERS
    asked = [{"prompt": first, "id": 7}, {"messages": user(second)}, {"prompt": "x"}]
    source, target = tmp_path / "asked.jsonl", tmp_path / "answered.jsonl"
    source.write_text("\n\n".join(json.dumps(row) for row in asked))
    assert verb("generate", run, "--prompts", source, "--output", target, "--batch-size", 2) == 0
    answered = [json.loads(line) for line in target.read_text().splitlines()]
    assert answered[:2] == [
        {**asked[0], "response": ANSWERS[first], "finished": True},
        {**asked[1], "response": ANSWERS[second], "finished": True},
    ]
    assert answered[2].keys() == {"prompt", "response", "finished"}
    before = target.read_bytes()
    assert verb("generate", run, "--prompts", source, "--output", target) == 2
    assert target.read_bytes() == before


def test_lines_of_text_are_answered_on_standard_output(run: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    source = tmp_path / "asked.txt"
    source.write_text("\n".join(ANSWERS))
    assert verb("generate", run, "--prompts", source) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [{"prompt": key, "response": value, "finished": True} for key, value in ANSWERS.items()]


def test_a_system_message_and_plain_text_are_other_prompts(run: Path, verb: Verb, capsys: Any) -> None:
    seen = []
    for options in ([], ["--system", "be brief"], ["--plain"]):
        assert verb("generate", run, "the yard", "--max-new-tokens", 8, *options) == 0
        seen.append(capsys.readouterr().out)
    assert len(set(seen)) == 3
    assert verb("generate", run, "the yard", "--plain", "--system", "x") == 2
    assert "--system x: --plain goes on from text" in capsys.readouterr().err


def test_bad_lines_are_named_together(run: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    source, target = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    said = [*user("x"), {"role": "assistant", "content": "y"}]
    rows = [
        {"prompt": "fine"},
        {"text": "x"},
        {"prompt": 3},
        {"messages": []},
        {"messages": said},
        {"prompt": "\ud800"},
    ]
    source.write_text("\n".join(map(json.dumps, rows)) + "\n{\n" + json.dumps({"messages": [{"role": "boss"}]}))
    assert verb("generate", run, "--prompts", source, "--output", target) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [re.search(r"jsonl:(\d): ", line)[1] for line in errors] == list("2345678")  # type: ignore[index]
    for line, wanted in zip(
        errors, ("must be", "must be text", "list", "leave it out", "half", "", "boss"), strict=True
    ):
        assert wanted in line
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give a prompt or --prompts FILE"),
        (["x", "--prompts", "f"], "give a prompt or --prompts FILE"),
        (["two", "words"], "2 prompts: give one, in quotes"),
        ([""], "the prompt is empty"),
        (["x", "--max-new-tokens", "0"], "--max-new-tokens 0: must be 1 or more"),
        (["x", "--temperature", "-1"], "--temperature -1.0: must be 0"),
        (["x", "--top-p", "0"], "--top-p 0.0: must be above 0"),
        (["x", "--top-p", "0.5"], "of no effect at --temperature 0; set --temperature"),
        (["x", "--seed", "-3"], "--seed -3: must be 0 or more"),
        (["x", "--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        (["x", "--output", "no/where/f.jsonl"], "there is no directory"),
        (["--prompts", "nowhere.txt"], "--prompts nowhere.txt: it cannot be read"),
        (["--prompts", "/dev/null"], "there is no prompt in it"),
        (["x", "--unheard-of"], "unrecognized arguments"),
    ],
)
def test_mistakes_are_named_before_anything_is_loaded(
    words: list[str], message: str, verb: Verb, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "load", lambda *_, **__: pytest.fail("it was loaded"))
    assert verb("generate", "model", *words) == 2
    out, err = capsys.readouterr()
    assert "error: " in err
    assert message in err
    assert not out


# ---- python -m trainyard chat ----


def test_a_conversation_through_a_pipe(run: Path) -> None:
    first, second = ANSWERS
    said = f"{first}\n\n/reset\n{second}\n{'x' * 500}\n/exit\n{first}\n".encode()
    done = subprocess.run(
        [sys.executable, "-m", "trainyard", "chat", str(run)],
        input=said,
        capture_output=True,
        cwd=ROOT,
        env=clean_env(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"{ANSWERS[first]}\n{ANSWERS[second]}\n"
    assert "a new conversation" in done.stderr.decode()
    assert "the model's context is 128; shorten it; /reset begins anew" in done.stderr.decode()


def test_turns_follow_one_another_and_ctrl_c_ends_an_answer(
    run: Path, verb: Verb, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["one", "two", KeyboardInterrupt, "three", "/reset", "four"])
    asked: list[list[dict[str, Any]]] = []

    def typed(_: str) -> str:
        line = next(lines, EOFError)
        if isinstance(line, str):
            return line
        raise line

    def generate(model: Any, tokenizer: Any, prompts: Any, *_: Any, streamer: Any) -> list[inference.Answer]:
        streamer.put(torch.tensor(prompts))
        for token in tokenizer("so 🚂")["input_ids"]:
            streamer.put(torch.tensor([token]))
        if len(asked) == 2:
            raise KeyboardInterrupt
        streamer.end()
        return [inference.Answer("so 🚂", len(asked) != 3)]

    def encode(tokenizer: Any, messages: Any, **_: Any) -> list[int]:
        asked.append([message["content"] for message in messages])
        return [1]

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(inference, "generate", generate)
    monkeypatch.setattr(inference, "encode", encode)
    assert verb("chat", run, "--system", "be brief") == 0
    assert asked == [
        ["be brief", "one"],
        ["be brief", "one", "so 🚂", "two"],
        ["be brief", "one", "so 🚂", "two", "so 🚂", "three"],
        ["be brief", "four"],
    ]
    out, err = capsys.readouterr()
    assert out == "so 🚂\n" * 4
    assert err.count("ended by Ctrl-C") == err.count("cut at 512 tokens") == 1


def test_characters_are_shown_whole_and_the_end_is_not(learned: load.Loaded) -> None:
    shown: list[str] = []
    ends = inference.end_ids(learned.tokenizer)
    printer = chat.Printer(learned.tokenizer, ends, shown.append)
    ids = learned.tokenizer("ab é🤖")["input_ids"]
    printer.put(torch.tensor([[1, 2, 3]]))
    for token in [*ids, ends[-1]]:
        printer.put(torch.tensor([token]))
    printer.end()
    assert len(ids) > 5
    assert "".join(shown) == printer.text == "ab é🤖"
    assert "\ufffd" not in "".join(shown)


def test_a_model_without_turns_cannot_chat(run: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    bare = tmp_path / "bare"
    AutoModelForCausalLM.from_pretrained(run / "model").save_pretrained(bare)
    tokenizers.load(str(run / "tokenizer")).save_pretrained(bare)
    assert verb("chat", bare) == 2
    assert "has no chat template, so it knows no turns; `python -m trainyard generate" in capsys.readouterr().err
    assert verb("generate", bare, "the yard", "--max-new-tokens", 4) == 0


# ---- python -m trainyard export ----


def test_the_merged_model_is_the_adapted_one(adapter: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    target = tmp_path / "new" / "merged"
    assert verb("export", adapter, target) == 0
    assert f"{target}: float32" in capsys.readouterr().out
    merged, loaded = AutoModelForCausalLM.from_pretrained(target), load.load(str(adapter))
    torch.testing.assert_close(logits(merged), logits(loaded.model), rtol=1e-4, atol=1e-4)
    assert tokenizers.load(str(target)).chat_template == CHATML
    assert [path.name for path in target.parent.iterdir()] == ["merged"]
    assert not (target / "adapter_config.json").exists()
    prompt = [inference.encode(loaded.tokenizer, user("anything"))]
    assert answer(load.load(str(target)), prompt, max_new_tokens=9) == answer(loaded, prompt, max_new_tokens=9)


def test_tokens_that_were_added_are_exported_too(run: Path, tmp_path: Path, verb: Verb) -> None:
    """As fine-tuning leaves them: embeddings of the adapter's own, larger than the base model's."""
    tokenizer = tokenizers.load(str(run / "model"))
    rows = len(tokenizer)
    tokenizer.add_tokens(["<a>", "<b>"], special_tokens=True)
    network = AutoModelForCausalLM.from_pretrained(run / "model")
    network.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False)
    config.trainable_token_indices = {"embed_tokens": [rows, rows + 1], "lm_head": [rows, rows + 1]}
    trained = get_peft_model(network, config).eval()
    for directory in (tmp_path / "own",):
        trained.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    ids = torch.tensor([[5, rows, 6, rows + 1]])
    with torch.no_grad():
        wanted = trained(ids).logits
        torch.testing.assert_close(load.load(str(tmp_path / "own")).model(ids).logits, wanted)
        assert verb("export", tmp_path / "own", tmp_path / "merged") == 0
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(merged(ids).logits, wanted, rtol=1e-4, atol=1e-4)
    assert merged.config.vocab_size == rows + 2


def test_export_refuses(run: Path, adapter: Path, tmp_path: Path, verb: Verb, capsys: Any) -> None:
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "kept").touch()
    file.touch()
    for source, target, message in (
        (run, tmp_path / "x", f"{run}: holds no adapter; export merges one into its base model"),
        (adapter, full, f"{full}: it is not empty, and nothing is overwritten; give a new directory"),
        (adapter, file, f"{file}: it is a file"),
        (tmp_path / "gone", tmp_path / "x", "there is no such directory"),
        (adapter, file / "below", "it cannot be written"),
    ):
        assert verb("export", source, target) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    assert [path.name for path in full.iterdir()] == ["kept"]


def test_a_merge_that_changes_the_logits_is_not_saved(
    adapter: Path, tmp_path: Path, verb: Verb, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    (tmp_path / "empty").mkdir()
    assert verb("export", adapter, tmp_path / "empty") == 2
    assert "merging changed the logits" in capsys.readouterr().err
    assert not list((tmp_path / "empty").iterdir())
    monkeypatch.undo()
