"""Needles in 133,120 tokens: what stands anywhere in a prompt of all positions reaches the answer.

The network is a copier built by hand, an induction head (Olsson et al., 2209.11895) in weights of the native family.
So the way through the stack is tested, and not what a network learns to look for: rotary positions that far out, masks
of sliding and full layers, a prompt that is prefilled in chunks into a paged cache and shared between questions, one
softmax over all positions.

What makes the test fair: distractors, questions and answers are drawn from the same tokens, and nothing marks a needle.
A needle is a name, two words that all needles share (think of "Lisbon's number is"), and an answer of four tokens; a
question is the name with the two words. All eleven lie in one haystack. There the last token of a question stands
hundreds of times, and the last two precede eleven different answers: only three tokens together tell one needle from
the others, and each further token of the answer must be looked up anew.
"""

import os
from collections.abc import Callable, Iterator

import pytest
import torch

from troth.model.config import ModelConfig
from troth.model.decoder import Decoder
from troth.model.initialise import initialise
from troth.model.rope import rotary_angles, rotate
from troth.model.tokenizer import Tokenizer
from troth.serve.engine.engine import Engine
from troth.serve.engine.request import Request
from troth.serve.engine.sampling_params import SamplingParams
from troth.system import ServeTable

POSITIONS = 133_120
DEPTHS = 11  # at 0%, 10%, ..., 100% of the haystack
QUESTION, ANSWER = 3, 4  # tokens
SEED = 3  # of ten haystacks of all positions, about one repeats three tokens of a needle elsewhere; this one does not
THREADS = os.cpu_count() or 1  # other tests run on one

# Where in the hidden state the copier keeps what: codes of the token itself, of the tokens one, two and three places
# back, and of the token to come; and a channel that is always one, for what depends on no token.
CODE = 16
NOW, ONE, TWO, THREE, NEXT = (slice(CODE * place, CODE * (place + 1)) for place in range(5))
ALWAYS = 5 * CODE


def codes(vocabulary: int) -> torch.Tensor:
    """16 signs for each of up to 2,048 tokens, rows any two of which differ in at least four: the Reed-Muller code
    RM(2, 4), whose words are the quadratic polynomials of four bits, evaluated everywhere."""
    x = torch.arange(CODE) >> torch.arange(4)[:, None] & 1
    monomials = [torch.ones(CODE, dtype=torch.long), *x, *(x[a] * x[b] for a in range(4) for b in range(a))]
    coefficients = torch.arange(vocabulary)[:, None] >> torch.arange(len(monomials)) & 1
    return 1.0 - 2 * (coefficients @ torch.stack(monomials) % 2)


@torch.no_grad()
def copier(vocabulary: int, positions: int) -> Decoder:
    """A network that goes on as the text did where its last three tokens stood before.

    Three sliding layers look one place back, where each finds what the one before it wrote: so a place comes to know
    the three tokens before it. The full layer compares the last three tokens with the three before each place, and
    copies the token of the place where all of them agree. Feed-forward parts, one dense and three of experts, are
    random and add some noise.
    """
    config = ModelConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=4,
        num_dense_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=3 * CODE,
        num_experts=4,
        num_experts_per_tok=2,
        num_shared_experts=1,
        sliding_window=128,
        global_attn_every_n_layers=4,
        max_position_embeddings=positions,
        initializer_range=0.2,
    )
    random = torch.Generator().manual_seed(0)
    model = initialise(Decoder(config), 0).eval()
    for moe in model.moe_layers():
        moe.router.gate.weight.normal_(generator=random)
    model.embed_tokens.weight.zero_()
    model.embed_tokens.weight[:, NOW] = codes(vocabulary) / config.hidden_size**0.5
    model.embed_tokens.weight[:, ALWAYS] = config.hidden_size**-0.5
    model.lm_head.weight.zero_()
    model.lm_head.weight[:, NEXT] = codes(vocabulary)
    # The fast rotations tell neighbours apart, and several of them together all places of the window.
    here = torch.zeros(config.head_dim)
    here[:5] = 1
    one_back = rotate(here[None, None, None], *rotary_angles(torch.tensor([[-1]]), config)).flatten()
    for number, (source, target) in enumerate(((NOW, ONE), (ONE, TWO), (TWO, THREE), (NOW, NEXT))):
        layer = model.layers[str(number)]
        attention = layer.self_attn
        for matrix in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, attention.gate_proj):
            matrix.weight.zero_()
        if config.layer_type(number) == "sliding_attention":
            attention.q_proj.weight[:, ALWAYS] = one_back
            attention.k_proj.weight[:, ALWAYS] = here
        else:
            attention.q_proj.weight[:, NOW.start : TWO.stop] = torch.eye(config.head_dim)
            attention.k_proj.weight[:, ONE.start : THREE.stop] = torch.eye(config.head_dim)
        attention.v_proj.weight[:CODE, source] = torch.eye(CODE)
        attention.o_proj.weight[target, :CODE] = torch.eye(CODE)
        attention.gate_proj.weight[:, ALWAYS] = 5
        # Scores go up to 4 * 4 * sqrt(48) = 111. They are lower by about 18 or more where one of three tokens is
        # another, and in the window at places other than one back: the right place outweighs all others together.
        attention.q_norm.weight.fill_(4)
        attention.k_norm.weight.fill_(4)
        # What was written has the size of what was there.
        layer.post_attention_layernorm.weight.fill_((CODE / config.hidden_size) ** 0.5)
        layer.post_mlp_layernorm.weight.fill_(0.05)
    return model


def starts(length: int) -> list[int]:
    """Where the needles stand: the first begins with the haystack, the last ends with it."""
    return [(length - QUESTION - ANSWER) * depth // (DEPTHS - 1) for depth in range(DEPTHS)]


def haystack(length: int, words: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`length` tokens below `words`, and the needles planted in them, [depth, question and answer]."""
    random = torch.Generator().manual_seed(SEED)
    hay_T = torch.randint(words, (length,), generator=random)
    needles_DN = torch.randint(words, (DEPTHS, QUESTION + ANSWER), generator=random)
    needles_DN[:, 0] = torch.randperm(words, generator=random)[:DEPTHS]
    needles_DN[:, 1:QUESTION] = needles_DN[0, 1:QUESTION].clone()
    for start, needle_N in zip(starts(length), needles_DN, strict=True):
        hay_T[start : start + len(needle_N)] = needle_N
    threes_S3 = needles_DN[:, :-1].unfold(1, 3, 1).flatten(0, 1)
    stands_ST = (hay_T.unfold(0, 3, 1) == threes_S3[:, None]).all(-1)
    assert (stands_ST.sum(1) == 1).all(), "another seed is needed: the question has more than one answer"
    return hay_T, needles_DN


def answers(engine: Engine, hay_T: torch.Tensor, needles_DN: torch.Tensor) -> list[list[int]]:
    """What follows each question, asked at the end of the haystack, up to the last position there is."""
    to_the_end = SamplingParams(temperature=0, ignore_eos=True)
    hay = hay_T.tolist()
    prompts = [(*hay, *question) for question in needles_DN[:, :QUESTION].tolist()]
    found = engine.generate(Request(prompt, to_the_end) for prompt in prompts)
    for outputs in found:
        assert outputs[-1].finish_reason == "length"
        assert outputs[-1].prompt_tokens + outputs[-1].output_tokens == engine.context
    return [[token.id for output in outputs for token in output.tokens] for outputs in found]


@pytest.fixture
def with_threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads torch uses, for this test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("positions", "threads", "removed"),
    [
        pytest.param(2_000, 1, 0, id="2,000 positions"),
        # What precedes the removed needles is in the cache; to prefill everything again would take as long once more.
        pytest.param(POSITIONS, THREADS, 9, id="133,120 positions", marks=pytest.mark.slow),
    ],
)
def test_a_needle_is_found_at_every_depth(
    tokenizer: Tokenizer, with_threads: Callable[[int], None], positions: int, threads: int, removed: int
):
    """All positions are in use: the haystack, a question of three tokens and an answer of four. `removed` is the first
    needle that gives way to distractors in the control."""
    with_threads(threads)
    model = copier(tokenizer.vocab_size, positions)
    engine = Engine(model, tokenizer, ServeTable(cache_tokens=positions))
    words = len(tokenizer.ranks)
    hay_T, needles_DN = haystack(positions - QUESTION - ANSWER, words)
    expected = needles_DN[:, QUESTION:].tolist()
    assert answers(engine, hay_T, needles_DN) == expected

    without_T = hay_T.clone()
    for start in starts(len(hay_T))[removed:]:
        without_T[start : start + QUESTION + ANSWER] = torch.randint(
            words, (QUESTION + ANSWER,), generator=torch.Generator().manual_seed(start)
        )
    found = answers(engine, without_T, needles_DN)
    assert [answer == right for answer, right in zip(found, expected, strict=True)] == [
        depth < removed for depth in range(DEPTHS)
    ]


def test_there_is_no_position_after_the_last(tokenizer: Tokenizer):
    """A prompt of all positions leaves none for the answer (longer ones: see test_long_prompt.py)."""
    engine = Engine(copier(tokenizer.vocab_size, POSITIONS), tokenizer, ServeTable(cache_tokens=POSITIONS))
    engine.check(Request((0,) * (POSITIONS - 1)))
    with pytest.raises(ValueError, match=r"has 133120 tokens, but at most 133119 fit: the model has 133120 positions"):
        engine.check(Request((0,) * POSITIONS))
