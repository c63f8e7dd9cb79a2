"""From raw documents to a served mixture-of-experts model whose training data can be explained claim by claim."""

__version__ = "0.1.0"
