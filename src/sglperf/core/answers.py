"""Whether two servers with the same weights gave the same answers, up to what rounding may decide.

A greedy token is the most likely one. Where another is as likely up to rounding, kernels that add in another order
may choose that, and all that follows is then another text. So an answer keeps, beside each token, all that were as
likely; it departs from another only where its token is none of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sglperf.core.prediction import Departure

# Share of the height of the most likely token over the twentieth within which rounding decides. Of 2,048 tokens of
# random weights in bf16 that height is 1.2 standard deviations of a logit. Its own rounding moves a logit by 0.03 of
# one, and that of the layers below adds to it: of four layers' sound answers (torch_native, flex_attention) one in four
# parts outside a share of 0.05, none outside 0.1.
TIE_SHARE = 0.1
LIKELIEST = 20


@dataclass(frozen=True)
class Answer:
    """What a server answered to one prompt.

    Attributes:
        tokens: generated, token ids.
        likely: beside each of them, the tokens that were as likely up to rounding, the one chosen included.
    """

    tokens: tuple[int, ...]
    likely: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Divergence:
    """Where two answers part.

    Attributes:
        position: of the first token that differs, from 0.
        reference, other: the tokens there; None where an answer has ended.
        tie: whether each is as likely as the other on its own server.
    """

    position: int
    reference: int | None
    other: int | None
    tie: bool


def as_likely(logprobs: Sequence[tuple[float, int]]) -> tuple[int, ...]:
    """Of the most likely tokens those between which rounding decides, the likeliest first.

    Args:
        logprobs: (log probability, token) of `LIKELIEST` tokens, at any temperature.
    """
    ranked = sorted(logprobs, reverse=True)
    top, least = ranked[0][0], ranked[-1][0]
    return tuple(token for logprob, token in ranked if top - logprob <= TIE_SHARE * (top - least))


def first_divergence(reference: Answer, other: Answer) -> Divergence | None:
    """Where the two part; None where they are the same."""
    for position in range(max(len(reference.tokens), len(other.tokens))):
        one, two = _token(reference, position), _token(other, position)
        if one != two:
            both = one is not None and two is not None
            tie = both and one in other.likely[position] and two in reference.likely[position]
            return Divergence(position, one, two, tie)
    return None


def _token(answer: Answer, position: int) -> int | None:
    return answer.tokens[position] if position < len(answer.tokens) else None


def compare_answers(
    references: Sequence[Answer], answers: Sequence[Answer], name: str
) -> tuple[int, Departure | None]:
    """How many answers depart, and the first that does.

    Both hold each prompt's answer twice: the first half cold, the second half from the prefix cache. Cold ones are
    compared with the reference's cold ones, cached ones with the server's own cold ones.

    Args:
        name: of the reference, for a person.
    """
    half = len(answers) // 2
    pairs = [
        *((one, two, f"that of {name}") for one, two in zip(references[:half], answers[:half], strict=True)),
        *(
            (one, two, "its own without the prefix cache")
            for one, two in zip(answers[:half], answers[half:], strict=True)
        ),
    ]
    found = [
        (index, divergence, of)
        for index, (one, two, of) in enumerate(pairs)
        if (divergence := first_divergence(one, two)) is not None and not divergence.tie
    ]
    if not found:
        return 0, None
    index, first, of = found[0]
    sentence = (
        f"{len(found)} of {len(pairs)} answers depart; request {index} from {of} at token {first.position}: "
        f"{first.other} instead of {first.reference}, which is no matter of rounding"
    )
    return len(found), Departure(True, "answers-differ", sentence)
