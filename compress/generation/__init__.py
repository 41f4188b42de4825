"""Language models that write: how their parts are exported, and how an answer is made of them."""

from compress.generation.parts import Part, Writing
from targets.generation import Generation

__all__ = ["Generation", "Part", "Writing"]
