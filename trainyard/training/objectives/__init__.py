"""What a stage minimises: a function of the model and a micro batch that gives a loss and metrics.

The Trainer and the Evaluator know nothing else of a stage. Read objective.py first; causal.py is the first one.
"""
