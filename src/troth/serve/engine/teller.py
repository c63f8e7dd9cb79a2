"""Which way an answer is told as text with calls in JSON, where its model writes another form."""

from troth.model.tokenizer import Tokenizer
from troth.serve.engine.channels import OneText
from troth.serve.engine.marked_calls import MarkedCalls
from troth.serve.engine.request import Request
from troth.serve.engine.xml_calls import XmlCalls

Teller = OneText | XmlCalls | MarkedCalls


def teller_of(request: Request, tokenizer: Tokenizer) -> Teller | None:
    """None where the answer is told as it is."""
    told, grammar, reasoning = request.params.told, request.params.grammar, request.params.reasoning
    if told is not None and told.form == "channels":
        return OneText(tokenizer, told, request.prompt)
    if told is None or grammar is None:
        return None
    if told.form == "xml":
        return XmlCalls(told, grammar, reasoning)
    return MarkedCalls(tokenizer, told, grammar, reasoning)
