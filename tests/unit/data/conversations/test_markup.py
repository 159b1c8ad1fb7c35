"""What a template writes around answers, as text that is compared."""

import re

from trainyard.data.conversations.markup import Markup

MARKUP = Markup(re.compile("<a>|<ab>|</s>"), " </r><a></s>")


def test_the_last_token_of_a_tail_ends_an_answer() -> None:
    assert MARKUP.end == "</s>"


def test_tokens_that_follow_one_another() -> None:
    assert MARKUP.run("x<a></s>\n</s>", 1) == len("x<a></s>")
    assert MARKUP.run("x<a>", 0) == 0


def test_a_common_beginning_ends_within_no_special_token() -> None:
    assert MARKUP.common("Hi<a>", "Hi<ab>") == 2
    assert MARKUP.common("Hi<b", "Hi<c") == 3
    assert MARKUP.common("same", "same") == 4
    assert MARKUP.common("same", "same and more") == 4
