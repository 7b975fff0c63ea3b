"""What is wrong with a field, or worth knowing about it: sentences in both languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Text:
    """The same sentence in both languages; `{names}` are filled in."""

    en: str
    zh: str

    def format(self, **values: object) -> Text:
        """Filled in; a value that is a Text itself in its own language."""
        english = {name: value.en if isinstance(value, Text) else value for name, value in values.items()}
        chinese = {name: value.zh if isinstance(value, Text) else value for name, value in values.items()}
        return Text(self.en.format(**english), self.zh.format(**chinese))

    @classmethod
    def read(cls, said: Mapping[str, str]) -> Text:
        return cls(said["en"], said["zh"])

    def document(self) -> dict[str, str]:
        return {"en": self.en, "zh": self.zh}


@dataclass(frozen=True)
class Finding:
    """What is wrong with one field, or worth knowing about it."""

    field: str
    code: str
    cause: Text
    remedy: Text
    level: str = "error"  # "error", "warning" or "note"

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Finding:
        """The finding of a document."""
        return cls(said["field"], said["code"], Text.read(said["cause"]), Text.read(said["remedy"]), said["level"])

    def document(self) -> dict[str, Any]:
        return {
            "field": self.field,
            "code": self.code,
            "level": self.level,
            "cause": self.cause.document(),
            "remedy": self.remedy.document(),
        }


def passes(findings: Sequence[Finding]) -> bool:
    """Whether nothing that was found stands in the way."""
    return all(finding.level != "error" for finding in findings)
