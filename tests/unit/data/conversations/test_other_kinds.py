"""Rows of pictures and of preferences are refused by name, in every format, and rows that only look so are not."""

from typing import Any

import pytest

from trainyard.data.conversations.formats import COLUMNS, FORMATS, parse
from trainyard.data.conversations.other_kinds import require_conversation
from trainyard.errors import ConversationError

TALK = [{"role": "user", "content": "<image>Who?"}, {"role": "assistant", "content": "Kane."}]
ROWS: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "<image>Who?", "output": "Kane."},
    "sharegpt": {"conversations": [{"from": "human", "value": "<image>Who?"}, {"from": "gpt", "value": "Kane."}]},
    "messages": {"messages": TALK},
    "prompt_completion": {"prompt": "<image>Who?", "completion": "Kane."},
}


def named(form: str, **columns: str) -> dict[str, str]:
    return {name: name for name in COLUMNS[form]} | columns


def reason(form: str, **more: Any) -> str:
    with pytest.raises(ConversationError) as caught:
        parse(ROWS[form] | more, form, named(form))
    return str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_rows_of_other_kinds_are_refused_in_every_format(form: str) -> None:
    for name in ("images", "image", "videos", "video", "audios", "audio"):
        wanted = f"{name}: this conversation is about {name}, and only text is trained; leave such rows out"
        for value in (["1.jpg"], "1.jpg", {"bytes": b"", "path": "1.jpg"}):
            assert reason(form, **{name: value}) == wanted
    for pair in ({"chosen": TALK, "rejected": TALK}, {"rejected": "Nobody."}, {"rejected_response": "Nobody."}):
        assert reason(form, **pair).startswith(f"{' and '.join(pair)}: a row of preferences (DPO), and fine-tuning lea")
    for name in ("label", "kto_tag"):
        assert reason(form, **{name: False}) == (
            f"{name}=False: an answer that is not wanted (KTO), and fine-tuning would learn it; leave such rows "
            f"out, or the column"
        )


@pytest.mark.parametrize("form", FORMATS)
def test_rows_of_conversations_that_look_like_another_kind_are_read(form: str) -> None:
    plain = parse(ROWS[form], form, named(form))
    for more in (
        {"images": [], "videos": None, "audio": ""},
        {"label": True, "kto_tag": None},
        {"label": 0},
        {"chosen": None},
    ):
        assert parse(ROWS[form] | more, form, named(form)) == plain


def test_a_column_that_the_user_names_is_read_as_it_is() -> None:
    row = {"prompt": "Who?", "chosen": "Kane.", "rejected": "Nobody."}
    columns = named("prompt_completion", completion="chosen")
    assert parse(row, "prompt_completion", columns).messages[1]["content"] == "Kane."
    require_conversation({"label": False, "image": "x"}, ["label", "image"])
    spam = {"instruction": "Spam?", "label": "false"}
    assert parse(spam, "alpaca", named("alpaca", output="label")).messages[1]["content"] == "false"


def test_preferences_without_a_conversation_are_named_as_such() -> None:
    with pytest.raises(ConversationError, match=r"^chosen and rejected: a row of preferences"):
        parse({"chosen": "a", "rejected": "b"}, "messages", named("messages"))
