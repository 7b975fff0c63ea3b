"""The reference model: what must be seen through every door, whatever order things happen in.

`truth.py` says what is right and knows nothing of Headrace. `world.py` is a Headrace with an origin that can fail.
`handles.py` and `ways.py` are what programs hold open, and how they read it. `machine.py` has the operations, which
Hypothesis puts into sequences by seed, and shrinks when one ends wrong.
"""
