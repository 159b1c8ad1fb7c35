"""Prompts and answers of a tiny model that has learned two answers by heart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from small_tokenizers import KINDS, small_tokenizer
from tokenizers import AddedToken
from transformers import GenerationConfig

from sft.encode import Encoder
from trainyard.config.schema import DataConfig
from trainyard.data.conversations.conversation import Conversation
from trainyard.data.tokenization import tokenizer as tokenizers
from trainyard.errors import DataError
from trainyard.inference import generate as inference
from trainyard.inference import load
from unit.learned import ANSWER, ANSWERS, CHATML, QUESTION, answer, user


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


def test_tokens_that_are_added_later_are_known(learned_run: Path) -> None:
    tokenizer = tokenizers.load(str(learned_run / "model"))
    inference.encode(tokenizer, user("x"))
    tokenizer.add_tokens(["<|new|>"], special_tokens=True)
    tokenizer.chat_template = "{% for m in messages %}<|new|>{{ m.content }}<|im_end|>{% endfor %}"
    assert inference.encode(tokenizer, user("x"))[0] == tokenizer.convert_tokens_to_ids("<|new|>")


def test_plain_text_and_its_end(learned_run: Path) -> None:
    plain = tokenizers.load(str(learned_run / "tokenizer"))
    assert plain.chat_template is None
    assert inference.end_ids(plain) == [plain.eos_token_id]
    assert inference.encode(plain, "the yard") == plain("the yard")["input_ids"]
    with pytest.raises(DataError, match="the prompt is empty"):
        inference.encode(plain, "")


@pytest.mark.parametrize(("known", "kept"), [(None, []), (7, [7]), ([9, 7], [7, 9])])
def test_a_model_stops_where_its_base_did_and_where_the_template_ends_turns(
    learned: load.Loaded, known: Any, kept: list[int]
) -> None:
    own = learned.model.generation_config
    template = inference.end_ids(learned.tokenizer)
    assert learned.tokenizer.convert_tokens_to_ids("<|im_end|>") in template
    learned.model.generation_config = GenerationConfig(eos_token_id=known)
    try:
        ends = inference.end_ids(learned.tokenizer, None, learned.model)
        assert ends == sorted({*template, *kept})
        inference.stop_at(learned.model, ends)
        assert learned.model.generation_config.eos_token_id == ends
        assert inference.end_ids(learned.tokenizer, None, learned.model) == ends
    finally:
        learned.model.generation_config = own


def test_a_template_that_refuses(learned: load.Loaded, learned_run: Path) -> None:
    tokenizer = tokenizers.load(
        str(learned_run / "model"), chat_template=CHATML + "{{ raise_exception('no user') if not messages[1:] }}"
    )
    with pytest.raises(DataError, match="does not take the conversation: no user"):
        inference.encode(tokenizer, user("x"))
