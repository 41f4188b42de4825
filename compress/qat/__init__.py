"""Quantization-aware training on the Q/DQ graph that a target's scheme made, whoever quantized it.

The graph itself is run in torch, so that what is trained is what the target will run: `network.py` is the graph as a module,
`operators.py` what its nodes compute, `fake_quantize.py` the gradient through a quantization, `trained.py` which constants are
trained and how they go back, `fine_tune.py` the training.
"""
