"""Conversations from the docstrings of a Python source."""

from trainyard.data.sources.docstrings import conversations

SOURCE = '''
def add(a, b=1):
    """Adds two numbers and returns their sum.

    The second paragraph is left out.
    """

class Yard:
    """A yard for trains, with a name of its own."""

    def _hidden(self):
        """Is not asked about, though it is documented."""

def bare():
    """Too short."""
'''


def test_functions_and_classes_that_are_documented() -> None:
    found = [(line, [message["content"] for message in talk.messages]) for line, talk in conversations("m", SOURCE)]
    assert found == [
        (
            2,
            ["What does `m.add` do?", "Adds two numbers and returns their sum.", "How is it called?", "`add(a, b=1)`"],
        ),
        (8, ["What does `m.Yard` do?", "A yard for trains, with a name of its own."]),
    ]
