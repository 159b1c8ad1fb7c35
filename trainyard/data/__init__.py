"""Text to training sequences: sources -> tokenizer -> token store -> plan -> dataset -> loader."""
