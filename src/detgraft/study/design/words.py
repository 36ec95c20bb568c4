"""Sentences that know how they were made: English wherever a text is asked for, another language where one is.

The judge writes its sentences once, with their figures in place. A report in another language puts the same figures
into that language's form of the sentence, which its catalogue holds under the English form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Said(str):
    """A sentence, or several in a row, as an English text.

    Attributes:
        form: The sentence with places for its values, as :meth:`str.format` writes them; empty for several in a row.
        values: What stands in those places; may be such sentences themselves.
        parts: The sentences of which it is made; itself alone for a single one.
    """

    form: str
    values: Mapping[str, Any]
    parts: tuple[Said, ...]

    def __new__(cls, form: str, values: Mapping[str, Any], parts: tuple[Said, ...] = ()) -> Said:
        """See :func:`say` and :func:`in_a_row`."""
        text = "".join(parts) if parts else form.format(**values)
        self = super().__new__(cls, text)
        self.form, self.values, self.parts = form, values, parts or (self,)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Said, (self.form, self.values, () if self.parts == (self,) else self.parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> Said:
        return self  # nothing in it changes


def say(form: str, /, **values: Any) -> Said:
    """A sentence of a form and the values in it.

    Args:
        form: English, with a name in braces for each value.
        **values: Names, sentences, and numbers already written as texts.
    """
    return Said(form, values)


NOTHING = say("")
"""No sentence."""


def in_a_row(*sentences: Said) -> Said:
    """Several sentences as one text; empty ones are left out."""
    parts = tuple(part for sentence in sentences for part in sentence.parts if part)
    return Said("", {}, parts) if len(parts) != 1 else parts[0]


def listed(sentences: Iterable[Said], between: str) -> Said:
    """Several sentences as one, with something between each two.

    Args:
        sentences: The sentences.
        between: For example a comma; a catalogue may have another form of it.
    """
    return in_a_row(*[part for one in sentences for part in (say(between), one)][1:])


def into(sentence: str, forms: Mapping[str, str], between: str = "") -> str:
    """A sentence in the language of a catalogue; what the catalogue does not hold, and any other text, as it is.

    Args:
        sentence: What was said.
        forms: The language's form of a sentence by the English one.
        between: Stands between several sentences in a row.
    """
    if not isinstance(sentence, Said):
        return sentence
    if sentence.parts != (sentence,):
        return between.join(into(part, forms, between) for part in sentence.parts)
    # A name is a plain text and stays as it is, even where it reads like a sentence of the catalogue.
    values = {name: into(value, forms) if isinstance(value, Said) else value for name, value in sentence.values.items()}
    return forms.get(sentence.form, sentence.form).format(**values)
