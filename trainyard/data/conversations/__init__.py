"""Conversations to tokens with a loss mask: what the assistant says is learned, the rest is not.

A row becomes a Conversation (formats.py, fields.py), the chat template renders it, and the rendered text is cut into
fragments that are learned or not (template.py, which lists the modules of each step); encode.py gives them ids. Read
template.py first.
"""
