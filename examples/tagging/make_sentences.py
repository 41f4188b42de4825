"""Write the bundled sentences: persons, places and dates by rule, in invented names, so that nobody is meant.

    python examples/tagging/make_sentences.py

Makes train.conll, validation.conll and test.conll beside itself, the same ones each time. No name of one file is in another:
what a tagger can learn is how names look and where they stand.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

SENTENCES = {"train": 640, "validation": 120, "test": 200}

BEGINNINGS = (
    "Bar",
    "Del",
    "Fen",
    "Gri",
    "Hal",
    "Jor",
    "Kel",
    "Lan",
    "Mor",
    "Nev",
    "Os",
    "Per",
    "Quil",
    "Ros",
    "Tam",
    "Vel",
)
MIDDLES = ("a", "an", "ar", "e", "el", "en", "i", "il", "o", "or", "u", "ul")
OF_PERSONS = ("dis", "ka", "kin", "la", "ley", "na", "nick", "ra", "ren", "sa", "son", "ta", "ter", "vic")
OF_PLACES = (
    "berg",
    "burg",
    "dam",
    "dorf",
    "field",
    "ford",
    "ham",
    "holm",
    "mouth",
    "port",
    "stad",
    "ton",
    "vik",
    "wick",
)
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

TEMPLATES = """\
{person} was born in {place} on {date} .
On {date} {person} moved from {place} to {place} .
The museum in {place} opens at nine .
{person} and {person} met near {place} on {date} .
It rained in {place} until {date} .
The letter of {date} was signed by {person} .
Nobody from {place} has seen {person} since {date} .
Trains to {place} leave every hour .
After {date} the road to {place} was closed .
Doctor {person} lives in {place} .
They paid {number} crowns for two tickets .
{person} sold {number} copies in {place} , more than {person} .
{place} has {number} inhabitants .
The {name} Society meets in {place} on {date} .
" I was there , " said {person} .
A ship from {place} sank on {date} with {number} on board .
The {name} Company was founded by {person} .
In {place} the shops close early , except on {date} .
The results are due on {date} .
{person} has worked in {place} for {number} days .
The price fell by {number} percent .
Who has read the book by {person} ?"""
"""A name that a Society or Company bears is no entity: what it is must be seen from where it stands."""


def main() -> None:
    folder = Path(__file__).parent
    for name, made in sentences(SENTENCES).items():
        (folder / f"{name}.conll").write_text("\n".join(made), encoding="utf-8")


def sentences(counts: Mapping[str, int]) -> dict[str, list[str]]:
    """So many sentences for each part as CoNLL text; no two are the same, and each part has names of its own."""
    seen = set[str]()
    found: dict[str, list[str]] = {name: [] for name in counts}
    for part, name in enumerate(counts):
        drawn = random.Random(part)
        while len(found[name]) < counts[name]:
            sentence = _sentence(drawn, part, len(counts))
            if sentence not in seen:
                found[name].append(sentence)
                seen.add(sentence)
    return found


def _sentence(drawn: random.Random, part: int, parts: int) -> str:
    fillers: dict[str, Callable[[], list[str]]] = {
        "{person}": lambda: _person(drawn, part, parts),
        "{place}": lambda: _place(drawn, part, parts),
        "{date}": lambda: _date(drawn),
        "{name}": lambda: [_name(drawn, part, parts, OF_PERSONS)],
        "{number}": lambda: [str(drawn.randint(2, 90_000))],
    }
    rows = []
    for word in drawn.choice(TEMPLATES.splitlines()).split():
        words = fillers[word]() if word in fillers else [word]
        kind = word.strip("{}").upper() if word in ("{person}", "{place}", "{date}") else ""
        tags = [f"{'I' if place else 'B'}-{kind}" if kind else "O" for place in range(len(words))]
        rows += [f"{each}\t{tag}\n" for each, tag in zip(words, tags, strict=True)]
    return "".join(rows)


def _person(drawn: random.Random, part: int, parts: int) -> list[str]:
    names = [_name(drawn, part, parts, OF_PERSONS) for _ in range(drawn.choice((1, 2, 2, 2)))]
    return [names[0], f"{drawn.choice(BEGINNINGS)[0]}.", *names[1:]] if drawn.random() < 0.1 else names


def _place(drawn: random.Random, part: int, parts: int) -> list[str]:
    before = drawn.choice(("", "", "", "New", "Lake", "Port", "Upper"))
    return [*([before] if before else []), _name(drawn, part, parts, OF_PLACES)]


def _date(drawn: random.Random) -> list[str]:
    month, day, year = drawn.choice(MONTHS), str(drawn.randint(1, 28)), str(drawn.randint(1850, 2030))
    return drawn.choice(
        ([day, month, year], [month, day], [month, day, ",", year], [drawn.choice(DAYS)], [month, year])
    )


def _name(drawn: random.Random, part: int, parts: int, endings: tuple[str, ...]) -> str:
    """A name whose number, counted over all that can be made, falls to this part."""
    while True:
        places = [drawn.randrange(len(each)) for each in (BEGINNINGS, MIDDLES, endings)]
        number = (places[0] * len(MIDDLES) + places[1]) * len(endings) + places[2]
        if number * 7 % 101 % parts == part:
            return BEGINNINGS[places[0]] + MIDDLES[places[1]] + endings[places[2]]


if __name__ == "__main__":
    main()
