"""Many runs from one command: which they are, where each runs, what came of them."""
