"""The one shape of a conversation: its length, and its bytes for measuring and hashing."""

import pytest

from trainyard.data.conversations.conversation import Conversation


def test_its_length_is_that_of_the_contents_in_characters() -> None:
    messages = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hi", "reasoning_content": "So."}]
    assert len(Conversation(messages, [None, True])) == 4
    assert len(Conversation([], [])) == 0


def test_everything_in_it_is_serialized() -> None:
    messages = [{"role": "user", "content": "你"}]
    assert Conversation(messages, [None]).serialized == '[[{"role": "user", "content": "你"}], [null], null]'.encode()
    assert Conversation(messages, [True], [{"name": "f"}]).serialized == (
        '[[{"role": "user", "content": "你"}], [true], [{"name": "f"}]]'.encode()
    )


def test_half_of_a_surrogate_pair_cannot_be_serialized() -> None:
    with pytest.raises(UnicodeEncodeError):
        _ = Conversation([{"role": "user", "content": "\ud800"}], [None]).serialized
