"""The networks of the contract suite, which many tests use."""

from compress.contract.networks import attention, convolutional, float_outputs, images, sentences, unknown

__all__ = ["attention", "convolutional", "float_outputs", "images", "sentences", "unknown"]
