"""Conversations from Python sources: questions about what a function or class does and how it is called."""

import ast
from collections.abc import Iterator

from trainyard.data.conversations.conversation import Conversation

_MOST = 600
"""Characters of a docstring's first paragraph, at most; a longer paragraph makes no good answer."""


def conversations(module: str, source: str) -> Iterator[tuple[int, Conversation]]:
    """A conversation for each documented public function and class of a module, with its line, from 1.

    Functions with parameters get a second exchange, about the signature.

    Raises:
        SyntaxError: the source is not Python of this version.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        summary = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        if not 20 <= len(summary) <= _MOST:
            continue
        name = f"{module}.{node.name}"
        said = [f"What does `{name}` do?", summary]
        if not isinstance(node, ast.ClassDef) and node.args.args:
            said += ["How is it called?", f"`{node.name}({ast.unparse(node.args)})`"]
        roles = ["user", "assistant"] * (len(said) // 2)
        messages = [{"role": role, "content": content} for role, content in zip(roles, said, strict=True)]
        yield node.lineno, Conversation(messages, [None] * len(messages))
