"""Text and conversations to batches, in five steps; each has a package, and the files between them are the interface.

Read preparation/prepare.py first: it takes the steps 1 to 4 in order. Then read batches/dataset.py for step 5.

1. sources, conversations: files become documents. In: the files behind data.sources. Out: a text, or a Conversation
   (messages, which of them to learn, tools), in order and in bounded memory; a bad document is a Rejected.
2. tokenization, conversations: documents become tokens. In: batches of documents. Out: Tokens, flat ids with lengths,
   and for conversations a loss mask and cut points. The stage's Encoder does it, handed in by the command.
3. store, preparation: tokens become a token store. In: Tokens, a part at a time, by any number of processes. Out:
   `prepared/<fingerprint>/`, Arrow files and arrays, published by one rename; the same inputs are found again.
4. sequences: a store becomes a plan. In: the documents' lengths, hashes and cut points. Out: index arrays, beside the
   store, that say which spans of it make a sequence. Another packing or block size is another plan, not new tokens.
5. batches: a plan becomes batches. In: a plan, the seed, the step and the rank. Out: input_ids, labels and position_ids
   of micro batches, in an order that is a pure function of (seed, epoch, global position).

Names: `loss_mask` is per token, 1 where the loss counts it; `is_learned` is the same for a stretch of text; `learn` is
what was asked for, by a message's flag or by the setting. `cut points` are places where a conversation may be cut, and
conversations that were cut are `shortened` (`cut` in plans.json and in the output of prepare, as in 0.1).
"""
