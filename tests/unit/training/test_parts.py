"""The parts of a Trainer name the objects that it owns; test_trainer.py builds a Trainer of them."""

import dataclasses

from trainyard.training.parts import TrainerParts


def test_a_trainer_cannot_be_built_without_one_of_them() -> None:
    fields = dataclasses.fields(TrainerParts)
    assert {field.name for field in fields} >= {"rank", "saver", "restorer", "best", "kept"}
    assert all(field.default is dataclasses.MISSING for field in fields)
