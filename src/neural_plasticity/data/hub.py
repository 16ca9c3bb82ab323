"""Data sets of the Hugging Face hub, as a corpus."""

from __future__ import annotations

from typing import Any

from neural_plasticity.data.corpus import Corpus, Document
from neural_plasticity.errors import CorpusError, first_line
from neural_plasticity.hub import hub_silence


def load_hub_corpus(dataset: str, dataset_config: str | None) -> Corpus:
    """Open a hub data set (or its local cache when the hub cannot be reached) by its ``text`` column.

    Its own train, validation and test splits are used; a missing one is a stretch at the end of ``train``, a tenth of
    it: rows are often lines of one text, and neighbours must not be divided between splits.

    Raises:
        CorpusError: it cannot be found or reached, or has no column of text.
    """
    import datasets

    # Without an answer the library would retry for half a minute; its cache is all there is then.
    silence = hub_silence()
    was_offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = was_offline or silence is not None
    label = dataset if dataset_config is None else f"{dataset} ({dataset_config})"
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        found = datasets.load_dataset(dataset, dataset_config)
    # The library raises a dozen kinds of error for "not there"; the user needs one line, and the cause stays chained.
    except Exception as error:
        missing = "is not on the hub" if silence is None else "not in the hub cache, and the hub cannot be reached"
        raise CorpusError(
            f"--dataset {label}: no such file or directory, and {missing} ({silence or first_line(error)}); "
            "give a text file, or leave --dataset out for python-stdlib."
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = was_offline
    rows = {name: _texts(label, found[name]) for name in found}
    if "train" not in rows:
        raise CorpusError(f"--dataset {label}: has no 'train' split, only {', '.join(rows)}; give another data set.")
    train = rows["train"]
    tenth = max(1, len(train) // 10)
    for name in ("test", "validation"):
        if not rows.get(name):
            train, rows[name] = train[:-tenth], train[-tenth:]
    if not (train and rows["validation"] and rows["test"]):
        raise CorpusError(f"--dataset {label}: too few rows of text to split into train, validation and test.")
    return Corpus(label, tuple(train), tuple(rows["validation"]), tuple(rows["test"]))


def _texts(label: str, split: Any) -> list[Document]:
    column = "text" if "text" in split.column_names else None
    if column is None:
        strings = [name for name, feature in split.features.items() if getattr(feature, "dtype", "") == "string"]
        if len(strings) != 1:
            raise CorpusError(
                f"--dataset {label}: expected a column named 'text', found {', '.join(split.column_names)}; "
                "export the text to a file and give that."
            )
        column = strings[0]
    return [Document(f"row {i}", text) for i, text in enumerate(split[column]) if text and text.strip()]
