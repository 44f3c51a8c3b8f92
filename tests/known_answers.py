"""Rows whose labels follow from their words, and trainings on them that take seconds."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from glossator.model.bundle import Bundle
from glossator.model.labelled.dataset import Dataset
from glossator.model.tasks import Task
from glossator.model.training.config import TrainingConfig
from glossator.model.training.train import train

MOOD = Task("mood", "single", ("bad", "good"), target_precision=0.95, limits="Made up.")
TOPICS = Task("topics", "multi", ("stock", "food", "car"))
STARS = Task("stars", "regression", sensitive=True)
TASKS = (MOOD, TOPICS, STARS)

DECIDING = {"bad": ("awful", "broken", "糟糕"), "good": ("lovely", "excellent", "很好")}
TOPIC_WORDS = {"stock": ("shares", "股票"), "food": ("soup", "noodles"), "car": ("engine", "wheel")}
FILLERS = ("the", "a", "was", "and", "then", "we", "saw", "it", "there", "again", "today", "very")

SETTINGS = TrainingConfig(
    vocabulary=330,
    max_tokens=64,
    embedding=16,
    hidden=16,
    attention=8,
    epochs=12,
    patience=4,
    batch=32,
    learning_rate=1.5e-2,
    dropout=0.1,
    embedding_dropout=0.0,
    ngrams=12,
    seed=5,
)


def generated(splits: dict[str, int], missing: float = 0.2, seed: int = 0) -> Dataset:
    """Texts of fillers, one deciding word, topic words, and as many stars as it has "star"."""
    chance = random.Random(seed)
    split = [name for name, count in splits.items() for _ in range(count)]
    texts, moods, topics, stars = [], [], [], []
    for _ in split:
        mood = chance.randrange(2)
        has = [chance.random() < 0.35 for _ in TOPICS.labels]
        count = chance.randrange(5)
        words = chance.choices(FILLERS, k=chance.randint(3, 8)) + ["star"] * count
        words.append(chance.choice(DECIDING[MOOD.labels[mood]]))
        for name, present in zip(TOPICS.labels, has, strict=True):
            words += [chance.choice(TOPIC_WORDS[name])] * present
        chance.shuffle(words)
        texts.append(" ".join(words))
        moods.append(mood if chance.random() >= missing else -1)
        topics.append(has if chance.random() >= missing else [np.nan] * 3)
        stars.append(10 + 2 * count if chance.random() >= missing else np.nan)
    return Dataset(
        texts=texts,
        labels={
            "mood": np.array(moods, np.int64),
            "topics": np.array(topics, np.float32),
            "stars": np.array(stars, np.float32),
        },
        split=np.array(split),
        lang=np.array([chance.choice(["en", "zh", ""]) for _ in split]),
        source=np.array([chance.choice(["shop", "forum"]) for _ in split]),
    )


DATA = generated({"train": 1200, "validation": 250, "test": 250})


def small(data: Dataset, rows: int = 260) -> Dataset:
    return data.select(np.random.default_rng(0).permutation(len(data))[:rows])


QUICK = replace(SETTINGS, epochs=2, ngrams=0)


def quick(
    data: Dataset, tasks: tuple[Task, ...] = TASKS, settings: TrainingConfig = QUICK
) -> Bundle:
    return train(data, tasks, settings, lambda line: None)
