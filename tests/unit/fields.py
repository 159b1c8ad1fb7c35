"""What the tests of the schema share."""

import ast
from collections.abc import Collection
from pathlib import Path


def undescribed(file: Path, exempt: Collection[str] = ()) -> tuple[int, list[str]]:
    """The number of fields of a file's classes, and the fields and classes without a docstring.

    Args:
        exempt: classes whose fields need none, since each field's class has one.
    """
    count, without = 0, []
    for each in ast.parse(file.read_text("utf-8")).body:
        if not isinstance(each, ast.ClassDef):
            continue
        without += [] if ast.get_docstring(each) else [each.name]
        for node, behind in zip(each.body, [*each.body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and each.name not in exempt:
                count += 1
                text = behind.value if isinstance(behind, ast.Expr) else None
                if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                    without.append(f"{each.name}.{node.target.id}")
    return count, without
