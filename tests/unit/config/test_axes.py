import pytest

from trainyard.config.axes import Interval, axes
from trainyard.errors import ConfigError


def test_lists_and_intervals_are_axes_and_the_rest_is_the_same_for_all() -> None:
    rate = "trainer.learning_rate=tag(log, interval(1e-5, 1e-1))"
    same, swept = axes("pretrain", ["run.seed=1", "model.hidden_size=64,128", rate, "trainer.max_steps=interval(1,9)"])
    assert same == ["run.seed=1"]
    assert swept == {
        "model.hidden_size": ["64", "128"],
        "trainer.learning_rate": Interval(1e-5, 1e-1, whole=False, log=True),
        "trainer.max_steps": Interval(1, 9, whole=True, log=False),
    }


def test_every_override_that_does_not_parse_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        axes("pretrain", ["run.seed=range(1", "run.seed=1,2", "data.sources=[{"])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["run.seed=range(1", "data.sources=[{"]
