import pytest

from trainyard.errors import ConfigError, DataError, Ended, RequestError, did_you_mean


@pytest.mark.parametrize("error", [ConfigError(["a", "b"]), DataError("a", "b")], ids=["config", "data"])
def test_a_wrong_request_names_every_problem(error):
    assert isinstance(error, RequestError) and isinstance(error, ValueError)
    assert error.problems == ["a", "b"]
    assert str(error) == "a\nb"


def test_a_config_without_its_wrong_overrides_goes_with_the_error():
    assert ConfigError(["a"], partial={"stage": "sft"}).partial == {"stage": "sft"}
    assert ConfigError(["a"]).partial is None


def test_the_end_of_a_run_has_a_code_and_last_words():
    with pytest.raises(Ended, match="stopped at step 3") as caught:
        raise Ended(75, "stopped at step 3")
    assert (caught.value.code, caught.value.message) == (75, "stopped at step 3")
    assert Ended(0).message == ""


def test_a_name_that_was_meant_is_hinted_at():
    known = {"learning_rate": 1, "block_size": 2}
    assert did_you_mean("lerning_rate", known, "Leave it out") == "Did you mean learning_rate?"
    assert did_you_mean("colour", known, "Leave it out") == "Leave it out"
    assert did_you_mean("learning", known, "none", cutoff=0.7) == "Did you mean learning_rate?"
    assert did_you_mean("learning", known, "none", cutoff=0.9) == "none"
