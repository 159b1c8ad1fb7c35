from trainyard.config.defaults import default_options


def test_the_options_of_a_command_without_overrides() -> None:
    assert default_options("sft") == {
        "model": "llama_tiny", "data": "stdlib_chat", "trainer": "tiny", "deepspeed": "zero2", "peft": "none",
        "tracking": "swanlab", "launch": "auto",
    }  # fmt: skip
