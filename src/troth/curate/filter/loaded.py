"""Loaded and one-sided language: words that praise or blame where plain ones would do, and words that tell the reader
what to think of it.

The lexicon is ours, of the kinds that Recasens et al. 2013 (Linguistic Models for Analyzing and Detecting Biased
Language) describe: subjective intensifiers and one-sided terms. It knows English, and counts words, not what they mean
where they stand: its score is for reports, and drops a text only past a limit that somebody chose.
"""

from dataclasses import dataclass

from troth.curate.filter.finding import Finding
from troth.curate.filter.words import Words, among, hash_words

PRAISE = (
    "acclaimed admirable amazing astonishing awesome beloved bold brave breathtaking brilliant celebrated "
    "courageous dazzling delightful devoted dignified enlightened exceptional exemplary extraordinary fabulous "
    "fantastic fearless flawless genius glorious glory grand greatness hero heroes heroic heroically "
    "honourable honorable iconic ideal immortal impeccable incomparable incredible indomitable invincible legendary "
    "magnificent majestic marvel marvellous marvelous masterful masterpiece matchless noble outstanding patriot "
    "patriotic peerless perfect phenomenal pioneering prestigious proud righteous sacred sensational spectacular "
    "splendid stunning sublime superb superior terrific thrilling tireless triumph triumphant unparalleled unrivalled "
    "unsurpassed valiant virtuous visionary wonderful wondrous"
)
BLAME = (
    "abhorrent abomination absurd agenda alarmist antics appalling atrocious barbaric betray betrayal betrayed bigot "
    "bigoted bloodthirsty brainwashed brazen brute brutish bungling butcher callous catastrophic charlatan clique "
    "clown clowns collusion corrupt cowardly craven criminals cronies cruel cynical deceit deceitful degenerate "
    "delusional demonic despicable despot devious dictatorial disastrous disgrace disgraceful disgusting dishonest "
    "elitist evil extremist extremists failed fanatic fanatical fanatics farce fascist fascists fiasco filthy foolish "
    "fraud fraudulent ghastly goons greed greedy grotesque hateful heinous henchmen hideous horrendous horrible "
    "horrific hypocrisy hypocrite hypocrites hypocritical idiot idiotic idiots ignorant immoral incompetent "
    "indoctrination infamous insane insidious insulting liar liars lies ludicrous lunatic lunatics lying malicious "
    "menace mob monster monsters monstrous murderous mutilate nefarious nonsense notorious odious outrage outrageous "
    "pathetic perverse perverted plot plunder pompous preposterous propaganda puppet puppets radical regime reckless "
    "repugnant revolting rotten ruinous ruthless sadistic savage scandalous scapegoat scheming shambles shame shameful "
    "shameless sham sheeple shocking sinister slander sleazy smear spineless stupid stupidity swindle terrible thugs "
    "toxic traitor traitorous traitors treacherous treason tyrannical tyranny tyrant unamerican unconscionable vicious "
    "vile villain villainous warmonger warmongers wicked witless woke worthless wretched"
)
SUBJECTIVE = (
    "absolutely actually alas always arguably believe blatant blatantly certainly clearly completely definitely "
    "disturbingly doubtless downright enormously entirely everyone everybody evidently extremely feel fortunately "
    "frankly hopefully hugely i immensely incredibly indeed indisputable insanely literally luckily mere merely my "
    "naturally needless never nobody obvious obviously openly our ours outright plainly predictably purely "
    "really ridiculous ridiculously sadly seriously shamelessly shockingly simply surely surprisingly totally "
    "truly undeniable undeniably undoubtedly unfortunately unquestionably us utter utterly very we"
)
_PRAISE, _BLAME = (hash_words(words.split()) for words in (PRAISE, BLAME))
_SUBJECTIVE = hash_words(SUBJECTIVE.split())
_AT_LEAST = 100


@dataclass(frozen=True)
class Tone:
    """Shares of the words of a text (a short one counts as 100 words)."""

    praise: float
    blame: float
    subjective: float

    @property
    def one_sided(self) -> float:
        """From 0, praise and blame alike, to 1, only one of them."""
        both = self.praise + self.blame
        return abs(self.praise - self.blame) / both if both else 0.0

    @property
    def score(self) -> float:
        """Share of loaded words, half of it where both sides are heard alike, and a quarter of that of subjective ones
        where there are loaded words to lean on."""
        loaded = (self.praise + self.blame) * (1 + self.one_sided) / 2
        return loaded + min(loaded, self.subjective / 4)


def tone(words: Words) -> Tone:
    """How loaded and how subjective a text is."""
    plain = words.lower[words.is_word]
    count = max(_AT_LEAST, len(plain))
    praise, blame, subjective = (int(among(plain, known).sum()) / count for known in (_PRAISE, _BLAME, _SUBJECTIVE))
    return Tone(praise, blame, subjective)


def loaded(words: Words, limit: float) -> Finding:
    """The score of a text's tone."""
    return Finding("loaded_language", tone(words).score, limit)
