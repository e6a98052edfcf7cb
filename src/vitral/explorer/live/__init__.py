"""The explorer's live hosts: nothing is stored, and the model computes the weights of any query or key when asked.

`weights` computes them, `source` is what a host shows and answers, `server` is the local page, `widget` the notebook's.
"""
