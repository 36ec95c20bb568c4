"""The languages of a report, of its charts and of an export: English, and one catalogue for each other one.

A catalogue holds the form of every sentence under the English one, with the same names in braces. What it does not
hold appears in English; a test makes sure that it holds every form which templates and code name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import markupsafe

from detgraft.errors import ArgumentError, nearest
from detgraft.study.design.words import into, say
from detgraft.study.report.chinese import ZH

LANGUAGES = ("en", "zh")
CATALOGUES: Mapping[str, Mapping[str, str]] = {"en": {}, "zh": ZH}


class Words:
    """One language.

    Args:
        lang: One of :data:`LANGUAGES`.

    Raises:
        ArgumentError: Another one.
    """

    def __init__(self, lang: str) -> None:
        if lang not in LANGUAGES:
            raise ArgumentError(
                f"lang: expected {' or '.join(LANGUAGES)}, found {lang!r}.{nearest(str(lang), LANGUAGES)}"
            )
        self.lang = lang
        self._forms = CATALOGUES[lang]

    def __call__(self, form: str, /, **values: Any) -> str:
        """A sentence of this language by its English form; values are names, numbers, and what was said."""
        return into(say(form, **values), self._forms)

    def marked(self, form: str, /, **values: Any) -> markupsafe.Markup:
        """A sentence whose form holds HTML; what is put into it is escaped."""
        return markupsafe.Markup(self._forms.get(form, form)).format(**values)

    def into(self, sentence: str) -> str:
        """What was said, in this language; a name stays as it is."""
        return into(sentence, self._forms)

    def label(self, label: str) -> str:
        """The label of a run, such as ``carafe, seed 3``."""
        name, _, seed = label.rpartition(", seed ")
        return self("{run}, seed {seed}", run=name, seed=seed) if name else label
