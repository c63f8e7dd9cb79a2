"""Words as verifiers compare them: bare of inflection, with denial apart, and what is known of their meanings."""

import re
from dataclasses import dataclass

from troth.curate.memory import remembered
from troth.curate.validate.values import NUMBER_WORDS

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*(?:st|nd|rd|th|s)?|[^\W\d_]+(?:[-'’][^\W\d_]+)*|%|°")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


SMALL = _set("""
    a an the of in on at by to for from with as and or but is are was were be been being am it its he she they
    his her their him them this that these those there which who whom whose what when where while than then so
    such into onto over under after before during about between through up down out off again also both each own
    same very can could will would shall should may might must do does did done has have had having i you we me
    my your our us if because until against above below here how why more other s t just now one
""")
DENIALS = _set("""
    not no never none nobody nothing neither nor without cannot nowhere n't hardly barely rarely seldom fail
    failed fails lack lacks lacked unable refuse refused refuses denied deny denies instead false untrue
    incorrect
""")
QUANTIFIERS = _set("""
    all every always only entire entirely whole exclusively solely first last most least any some few several
    many never none both either single multiple once twice
""")
_OPPOSITES = """
accept reject; acquit convict; active inactive; add remove; adult child; after before; agree disagree; alive dead;
allow forbid; ally enemy; always never; ancient modern; appear disappear; appoint dismiss; arrive depart; attack
defend; before after; begin end; best worst; big small; birth death; black white; born die; bottom top; boy girl;
broad narrow; brother sister; build destroy; buy sell; cheap expensive; close open; cold hot; cold warm; comedy
tragedy; common rare; construct demolish; contract expand; correct wrong; create destroy; daughter son; day night;
decline grow; decrease increase; deep shallow; defeat victory; defend attack; difficult easy; die survive; different
same; dry wet; early late; east west; eastern western; empty full; enter leave; enemy friend; even odd; exclude
include; export import; external internal; fail succeed; fall rise; false true; far near; fast slow; father mother;
female male; few many; finish start; first last; foreign domestic; found dissolve; forward backward; friend enemy;
front back; gain lose; guilty innocent; happy sad; hard soft; heavy light; hero villain; high low; husband wife;
ignore notice; illegal legal; inner outer; inside outside; join leave; king queen; large small; largest smallest;
least most; leader follower; left right; less more; lend borrow; life death; long short; longest shortest; loss win;
lose win; loss profit; love hate; lower raise; lower upper; major minor; majority minority; man woman; married
divorced; maximum minimum; maternal paternal; negative positive; new old; north south; northern southern; nothing
everything; older younger; oldest youngest; oppose support; parent child; past future; peace war; permanent temporary;
poor rich; popular unpopular; positive negative; praise criticize; predator prey; private public; protagonist
antagonist; pull push; quiet loud; rarely often; reject approve; rural urban; simple complex; single married; solo
group; strong weak; student teacher; success failure; sunrise sunset; tall short; thick thin; uncle aunt; unite
divide; vertical horizontal; victory loss; virtual physical; voluntary forced; win lose; wide narrow; winner loser;
winter summer; work retire; young old
"""
_ALIKE = """
movie film picture feature; begin start commence launch open; end finish conclude; author writer novelist write wrote
written pen; kill murder slay assassinate; die died death dead pass deceased; marry married marriage wife husband
spouse wed; win won victory champion triumph; big large huge great enormous; small little tiny; band group; singer
vocalist musician sing; actor actress star act role portray play cast; song track single tune; album record lp; build
built construct erect; make made create produce; child son daughter kid children; father dad; mother mom; begin began
begun; job work career profession occupation; buy bought purchase acquire; get got receive obtain; show series
program; movie cinema; city town; country nation state; begin debut premiere; release issue publish; doctor physician;
found establish create start; leader head chief president; lead led; war conflict; battle fight fought; school college
university academy; award prize honor honour; team club side; game match; player athlete; home house residence; money
fund financial; near close; rich wealthy; also too; lot many numerous several; fast quick rapid; director direct helm;
know known famous renown; award nominate; big major; kid child; young youth; old age; begin initial original first;
born birth native; live lived reside dwell; travel journey trip voyage; attack raid assault; army military troop
soldier; king monarch ruler reign; church religious religion; attorney lawyer legal; crime criminal; jail prison
imprison; use used utilize employ; help aid assist; name call title known; half 50; decade 10; century 100; dozen 12;
car vehicle automobile; ship vessel boat; plane aircraft airplane; animal creature; plant flora; area region
territory; about approximately around nearly; america american usa u.s; britain british uk english england; france
french; germany german; spain spanish; italy italian; china chinese; japan japanese; russia russian soviet; canada
canadian; india indian; australia australian; mexico mexican; ireland irish; scotland scottish; greece greek; egypt
egyptian; brazil brazilian
"""
_IRREGULAR = dict(
    pair.split(":")
    for pair in _set("""
    wrote:write written:write won:win made:make built:build bought:buy got:get led:lead fought:fight
    began:begin begun:begin born:birth died:die dead:die death:die lost:lose sold:sell left:leave grew:grow
    grown:grow fell:fall fallen:fall rose:rise risen:rise sang:sing sung:sing ran:run went:go gone:go gave:give
    given:give took:take taken:take held:hold met:meet said:say saw:see seen:see knew:know known:know
    became:become came:come taught:teach thought:think brought:bring caught:catch chose:choose chosen:choose
    spoke:speak spoken:speak broke:break broken:break drew:draw drawn:draw flew:fly flown:fly hid:hide
    hidden:hide kept:keep shot:shoot slept:sleep spent:spend stood:stand struck:strike swam:swim threw:throw
    thrown:throw wore:wear worn:wear men:man women:woman children:child feet:foot people:person wives:wife
    lives:life better:good best:good worse:bad worst:bad larger:large largest:large
""")
)
_PREFIXES = ("dis", "un", "non", "il", "im", "ir")
_MONTHS = _set("""
    january february march april may june july august september october november december
""")


@dataclass(frozen=True)
class Word:
    """A token: its bare form, whether it names something, its number if it has one, and whether it denies."""

    text: str
    stem: str
    name: bool
    number: float | None
    denies: bool

    @property
    def small(self) -> bool:
        """Whether it says little by itself."""
        return self.stem in SMALL or self.text.lower() in SMALL

    @property
    def kind(self) -> str:
        """What it is, coarsely."""
        if self.number is not None:
            return "year" if 1000 <= self.number <= 2100 and self.number % 1 == 0 else "number"
        return "month" if self.stem in _MONTHS else "name" if self.name else "word"


def words(text: str) -> list[Word]:
    """The words of a sentence, left to right; contracted denials apart."""
    found = []
    first = True
    for token in _TOKEN.findall(text.replace("’", "'")):
        low = token.lower()
        if low.endswith("n't"):
            found.append(Word("n't", "n't", False, None, True))
            low = token = low[:-3]
        low = low.removesuffix("'s")
        found.append(Word(token, stem(low), token[0].isupper() and not first, _number(low), low in DENIALS))
        first = False
    return found


def _number(low: str) -> float | None:
    if low[0].isdigit():
        digits = re.sub(r"(?:st|nd|rd|th|s)$", "", low).replace(",", "")
        return float(digits) if digits.count(".") < 2 else None
    return float(NUMBER_WORDS[low]) if low in NUMBER_WORDS else None


@remembered(1 << 16)
def stem(word: str) -> str:
    """A word in small letters without the endings of inflection (a light form of Porter's rules, 1980)."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if not word.isalpha() or len(word) < 4:
        return word
    for ending, instead in (
        ("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("ied", "y"), ("ings", ""),
        ("ing", ""), ("edly", ""), ("ed", ""), ("ly", ""), ("ment", ""), ("ness", ""), ("s", ""),
    ):  # fmt: skip
        if word.endswith(ending) and not word.endswith(("ss", "us", "is")):
            left = word[: -len(ending)] + instead
            if len(left) >= 3 and re.search("[aeiouy]", left):
                word = left
                if ending in ("ing", "ed", "ings") and len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
                    word = word[:-1]
                break
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def _table(text: str) -> list[list[str]]:
    return [[stem(word) for word in line.split()] for line in text.replace("\n", " ").split(";") if line.strip()]


_OPPOSITE: dict[str, set[str]] = {}
for _a, _b in (_pair for _pair in _table(_OPPOSITES)):
    _OPPOSITE.setdefault(_a, set()).add(_b)
    _OPPOSITE.setdefault(_b, set()).add(_a)
_GROUP: dict[str, set[int]] = {}
for _i, _group in enumerate(_table(_ALIKE)):
    for _word in _group:
        _GROUP.setdefault(_word, set()).add(_i)


def opposite(a: str, b: str) -> bool:
    """Whether two stems mean the opposite of each other, by the list or by a prefix such as "dis-"."""
    if b in _OPPOSITE.get(a, ()):
        return True
    longer, shorter = (a, b) if len(a) > len(b) else (b, a)
    return len(shorter) > 3 and any(longer == prefix + shorter for prefix in _PREFIXES)


def opposites(a: str) -> set[str]:
    """The stems that the list has for the opposite."""
    return _OPPOSITE.get(a, set())


def alike(a: str, b: str) -> bool:
    """Whether two stems speak of one thing: the same, listed together, or with one beginning of five letters or more
    that is most of both."""
    if a == b or _GROUP.get(a, set()) & _GROUP.get(b, set()):
        return True
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return shared >= 5 and shared >= 0.65 * max(len(a), len(b))
