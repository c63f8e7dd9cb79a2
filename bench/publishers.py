"""Four publishers of the same facts, in their own wordings, page layouts and habits of rounding."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class House:
    """A publisher: its templates by relation, how it lays out pages, whether it rounds, and how often it errs."""

    name: str
    layout: str
    wordings: dict[str, tuple[str, ...]]
    rounds: bool = False
    lag: int = 0
    covers: float = 0.9
    wrong: float = 0.0
    stale: float = 0.0
    skips: frozenset[str] = field(default_factory=frozenset)


TOPICS = {
    "population": "Population", "area": "Area", "land": "Land area", "water": "Inland waters", "fertility": "Fertility",
    "life": "Life expectancy", "life_male": "Life expectancy of men", "life_female": "Life expectancy of women",
    "age": "Median age", "age_male": "Age of men", "age_female": "Age of women", "internet": "Internet users",
    "internet_share": "Internet access", "mobile": "Mobile telephones", "mobile_share": "Mobile telephone density",
    "capital": "Capitals", "coordinates": "Where capitals lie", "clock": "Time zones", "government": "Governments",
    "languages": "Languages", "chief": "Heads of state", "cabinet": "Cabinets", "independence": "Independence",
    "jobless": "Unemployment", "inflation": "Inflation", "gdp": "Gross domestic product", "people": "Census figures",
    "leader": "Leaders", "prez": "Presidency", "viceprez": "Vice presidency", "rep": "Representatives",
}  # fmt: skip
MERIDIAN = {
    "population": ("The population of {S} is {V}.",), "area": ("{S} covers a total area of {V}.",),
    "land": ("Of this, {V} are land.",), "water": ("Lakes and rivers take up {V}.",),
    "fertility": ("On average, a woman in {S} has {V} children.",),
    "life": ("Life expectancy at birth is {V} years.",), "life_male": ("Men can expect to live {V} years.",),
    "life_female": ("Women can expect to live {V} years.",), "age": ("The median age of the people is {V} years.",),
    "age_male": ("Among men the median age is {V} years.",),
    "age_female": ("Among women the median age is {V} years.",),
    "internet": ("Some {V} people use the internet.",), "internet_share": ("That is {V} of all inhabitants.",),
    "mobile": ("There are {V} mobile telephone subscriptions in {S}.",),
    "mobile_share": ("For every 100 inhabitants there are {V} of them.",),
    "capital": ("The capital of {S} is {V}.",), "coordinates": ("It lies at {V}.",),
    "clock": ("Clocks in the capital show {V}.",), "government": ("The government of {S} is a {V}.",),
    "languages": ("The languages spoken in {S} are {V}.",), "chief": ("The head of state of {S} is {V}.",),
    "cabinet": ("The cabinet is described thus: {V}.",), "independence": ("{S} became independent on {V}.",),
    "jobless": ("In {Y}, the unemployment rate of {S} was {V}.",),
    "inflation": ("Consumer prices rose by {V} in {Y}.",),
    "gdp": ("Real gross domestic product amounted to {V} in {Y}.",), "people": ("In {Y}, {S} had {V} inhabitants.",),
    "leader": ("The leader of {S} is {V}.",), "prez": ("The President of {S} is {V}.",),
    "viceprez": ("The Vice President of {S} is {V}.",), "rep": ("The member for {S} is {V}.",),
}  # fmt: skip
HARBOUR = {
    "population": ("The country is home to {V} people.", "Its inhabitants number {V}."),
    "area": ("It extends over {V} in all.", "Its whole territory measures {V}."), "land": ("Dry land makes up {V}.",),
    "water": ("Water covers {V}.",), "fertility": ("Women bear {V} children on average.",),
    "life": ("A newborn may hope for {V} years.", "People live to the age of {V} on average."),
    "life_male": ("For boys the expectation is {V} years.",),
    "life_female": ("For girls the expectation is {V} years.",),
    "age": ("Half of the people are younger than {V}.",), "age_male": ("Half of the men are younger than {V}.",),
    "age_female": ("Half of the women are younger than {V}.",), "internet": ("{V} people are online.",),
    "internet_share": ("{V} of the population are online.",), "mobile": ("Mobile phone contracts number {V}.",),
    "mobile_share": ("This makes {V} contracts for each hundred people.",),
    "capital": ("Its capital is {V}.", "The government sits in the capital, {V}."),
    "coordinates": ("The capital's position is {V}.",), "clock": ("The time zone is {V}.",),
    "government": ("Its form of government: {V}.",), "languages": ("Languages in use: {V}.",),
    "chief": ("{V} is head of state.", "The head of state is {V}."), "cabinet": ("As to the cabinet: {V}.",),
    "independence": ("Independence was gained on {V}.",), "jobless": ("Unemployment stood at {V} in {Y}.",),
    "inflation": ("Inflation in {Y} was {V}.",), "gdp": ("In {Y}, the economy produced {V}.",),
    "people": ("The population in {Y} was {V}.", "{V} people lived here in {Y}."),
    "leader": ("At its head stands {V}.", "It is led by {V}."), "prez": ("The presidency is held by {V}.",),
    "viceprez": ("The vice presidency is held by {V}.",), "rep": ("In the House it is represented by {V}.",),
}  # fmt: skip
ORBIS = {
    "population": ("In {E}, {S} counted {V} people.",), "area": ("{S} has an area of {V}.",),
    "land": ("{S} has {V} of land.",), "water": ("{S} has {V} of water.",),
    "fertility": ("Fertility in {S} is {V} children per woman.",), "life": ("In {S}, life expectancy is {V} years.",),
    "life_male": ("Men in {S} live {V} years on average.",),
    "life_female": ("Women in {S} live {V} years on average.",),
    "age": ("{S} has a median age of {V}.",), "age_male": ("The men of {S} have a median age of {V}.",),
    "age_female": ("The women of {S} have a median age of {V}.",), "internet": ("{S} has {V} users of the internet.",),
    "internet_share": ("In {S}, {V} of the population use the internet.",),
    "mobile": ("As of {E}, {S} has {V} mobile subscriptions.",),
    "mobile_share": ("In {S} there are {V} mobile subscriptions per 100 people.",),
    "capital": ("{V} is the capital of {S}.",), "coordinates": ("The capital of {S} is found at {V}.",),
    "clock": ("{S} keeps {V}.",), "government": ("{S} is a {V}.",), "languages": ("People in {S} speak {V}.",),
    "chief": ("In {E}, {V} is the head of state of {S}.",), "cabinet": ("The cabinet of {S}: {V}.",),
    "independence": ("{S} has been independent since {V}.",),
    "jobless": ("{S} had an unemployment rate of {V} in {Y}.",), "inflation": ("Prices in {S} went up {V} in {Y}.",),
    "gdp": ("The output of {S} in {Y} was worth {V}.",), "people": ("{S} had a population of {V} in {Y}.",),
    "leader": ("{V} leads {S}.",), "prez": ("{V} is the President of {S}.",),
    "viceprez": ("{V} is the Vice President of {S}.",), "rep": ("{V} represents {S}.",),
}  # fmt: skip
QUICK = {
    "population": ("Population today: {V}.",), "area": ("Size: {V}.",), "land": ("Land: {V}.",),
    "water": ("Waters: {V}.",), "fertility": ("Children per woman: {V}.",), "life": ("Average life span: {V} years.",),
    "life_male": ("Life span of a man: {V} years.",), "life_female": ("Life span of a woman: {V} years.",),
    "age": ("The middle age is {V}.",), "age_male": ("For males the middle age is {V}.",),
    "age_female": ("For females the middle age is {V}.",), "internet": ("Web users: {V}.",),
    "internet_share": ("Share of web users: {V}.",), "mobile": ("Cell phones: {V}.",),
    "mobile_share": ("Cell phones per hundred people: {V}.",), "capital": ("Did you know that the capital is {V}?",),
    "coordinates": ("You find the capital at {V}.",), "clock": ("Set your watch to {V}!",),
    "government": ("How {S} is ruled: {V}.",), "languages": ("You will hear {V}.",), "chief": ("Number one: {V}.",),
    "cabinet": ("In charge: {V}.",), "independence": ("Independence Day remembers {V}.",),
    "jobless": ("Out of work in {Y}: {V}.",), "inflation": ("Price rise in {Y}: {V}.",),
    "gdp": ("All that {S} made in {Y} was worth {V}.",), "people": ("Head count for {Y}: {V}.",),
    "leader": ("The boss is {V}.",), "prez": ("President: {V}.",), "viceprez": ("Vice President: {V}.",),
    "rep": ("Your representative is {V}.",),
}  # fmt: skip


def houses(wrong: float = 0.0, careless: float = 0.1, stale: float = 0.1) -> list[House]:
    """The four publishers; `wrong` is the error rate of the careful three."""
    return [
        House("Meridian Yearbook", "country", MERIDIAN, lag=20, wrong=wrong),
        House("Harbour Almanac", "profile", HARBOUR, rounds=True, lag=45, wrong=wrong),
        House("Orbis Tables in Words", "topic", ORBIS, lag=80, wrong=wrong, covers=0.8),
        House("Quick World", "headings", QUICK, lag=60, wrong=careless or wrong, stale=stale),
    ]


PLAIN = {
    "Atlas Quarterly": (
        "As of {E}, the {T} of {S} was {V}.", "In {E}, the {T} of {S} was {V}.", "The {T} of {S} was {V} as of {E}.",
    ),
    "Global Desk": (
        "{S}'s {T} stood at {V} in {E} (source: CIA).", "{S}'s {T} was {V} in {E}.",
        "According to {E} records, {S}'s {T} is {V}.",
    ),
    "Almanac Press": (
        "In its {E} edition the Factbook listed {V} as the {T} of {S}.",
        "The {E} edition of the Factbook gives {V} as the {T} of {S}.",
        "For {S}, the {E} Factbook gives the {T} as {V}.",
    ),
    "World Bulletin": (
        "The {T} of {S} is {V}.", "Our records show {V} as the {T} of {S}.", "We list {V} as the {T} of {S}.",
    ),
}  # fmt: skip
"""Wordings that fit every relation, of which each sentence has one or another; `T` stands for the topic."""
_YEARLY = frozenset(("jobless", "inflation", "gdp", "people"))


def plain_houses(wrong: float = 0.0, careless: float = 0.1, stale: float = 0.1) -> list[House]:
    """Four publishers with interchangeable wordings; `wrong` is the error rate of the careful three."""
    return [
        House(
            name, "country",
            {
                relation: tuple(form.replace("{T}", _topic(relation, topic)) for form in forms)
                for relation, topic in TOPICS.items()
            },
            wrong=(careless or wrong) if name == "Global Desk" else wrong,
            stale=stale if name == "Global Desk" else 0.0, rounds=name == "Almanac Press",
        )
        for name, forms in PLAIN.items()
    ]  # fmt: skip


def _topic(relation: str, topic: str) -> str:
    return topic.lower() + (" of {Y}" if relation in _YEARLY else "")


CASES: dict[str, dict[str, float]] = {
    "one careless": {}, "10% planted": {"wrong": 0.1, "careless": 0.1, "stale": 0.0},
    "clean": {"careless": 0.0, "stale": 0.0},
}  # fmt: skip
"""Error rates of the houses."""
