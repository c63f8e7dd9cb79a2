"""Toxic text by the words that it uses, as C4's list of bad words did, but by their share: a text that quotes one or
explains one stays. The list is ours and short; it knows English."""

from troth.curate.filter.finding import Finding
from troth.curate.filter.words import Words, among, hash_words

_WORDS = (
    "arsehole arseholes asshole assholes bastard bastards bitch bitches bitching blowjob blowjobs bollocks "
    "bullshit cocksucker cocksuckers cumming cumshot cunt cunts dickhead dickheads dipshit douchebag douchebags "
    "dumbass dumbasses faggot faggots fags fuck fucked fucker fuckers fuckin fucking fucks gangbang goddamn gook "
    "gooks handjob jackass jerkoff jizz kike kikes milf milfs motherfucker motherfuckers motherfucking nigga "
    "niggas nigger niggers pornstar pussies pussy scumbag scumbags shit shits shitty shithead skank skanks slut "
    "sluts slutty titties tits tranny trannies twat twats wanker wankers wetback wetbacks whore whores xxx"
)
_HASHES = hash_words(_WORDS.split())
_AT_LEAST = 200
"""Shorter texts count as this many words, so that one word condemns none."""


def toxic(words: Words, limit: float) -> Finding:
    """Share of toxic words."""
    plain = words.lower[words.is_word]
    return Finding("toxic", int(among(plain, _HASHES).sum()) / max(_AT_LEAST, len(plain)), limit)
