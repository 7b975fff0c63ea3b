"""Texts that people give to things, and how they ask for them."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, BeforeValidator, Field

from headrace.control.problems import Text, Wrong
from headrace.printable import is_unshown, printable

_NAME_MAX = 63
_LINE_MAX = 255
# A name in a path may come decomposed: every letter as several.
_SOUGHT_MAX = 4 * _NAME_MAX
_ID_MAX = 26
# Letters that are seen as nothing (Default_Ignorable_Code_Point of Unicode), as ranges: names of them alone, or that differ by them, would
# look alike. Some are letters or marks by category.
_INVISIBLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F),
    (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip


def _wrong(en: str, zh: str, remedy_en: str, remedy_zh: str) -> Wrong:
    return Wrong(Text(en, zh), Text(remedy_en, remedy_zh))


def _line(text: str) -> str:
    """Text of one line: no control characters, no lone surrogates, nothing invisible around it."""
    # Composing may lengthen a text, so its length is looked at afterwards.
    text = unicodedata.normalize("NFC", text.strip())
    if all(letter.isspace() or _is_invisible(letter) for letter in text):
        raise _wrong("it is empty", "内容为空", "give a text", "请填写内容")
    if len(text) > _LINE_MAX:
        raise _wrong(f"it is longer than {_LINE_MAX} letters", f"超过 {_LINE_MAX} 个字符", "shorten it", "请缩短")
    if any(is_unshown(letter) for letter in text):
        raise _wrong("it holds a control character", "含有控制字符", "give one line of text", "请填写单行文本")
    return text


def _name(text: str) -> str:
    """A name that can stand in a command and in a path: letters and digits of any script, `-`, `_` and `.`."""
    text = unicodedata.normalize("NFC", text)
    if not 1 <= len(text) <= _NAME_MAX:
        raise _wrong(f"a name has 1 to {_NAME_MAX} letters", f"名称须为 1 至 {_NAME_MAX} 个字符", "choose another", "请换一个名称")
    if any(_is_invisible(letter) for letter in text) or not all(
        letter.isalnum() or letter in "-_." or unicodedata.category(letter).startswith("M") for letter in text
    ):
        raise _wrong(
            "a name has visible letters and digits of any script, -, _ and . only",
            "名称只能含任意文字的可见字母、数字以及 -、_ 和 .",
            "leave the others out",
            "请去掉其他字符",
        )
    if not text[0].isalnum():
        raise _wrong("a name begins with a letter or a digit", "名称须以字母或数字开头", "begin with one", "请以字母或数字开头")
    return text


def _sought(text: str) -> str:
    """A text to look something up by. The same name may come composed or not; none has a NUL, which PostgreSQL could not compare."""
    text = unicodedata.normalize("NFC", text)
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _wrong("it holds what no name has", "含有名称中不可能出现的字符", "write it as a list shows it", "请按列表所示填写")
    return text


def told(most: int) -> BeforeValidator:
    """What a node tells, to be shown: made fit for that instead of refused, for it may tell of a path or a server's answer with anything in it."""
    return BeforeValidator(lambda text: printable(text, most) if isinstance(text, str) else text)


def _is_invisible(letter: str) -> bool:
    number = ord(letter)
    return any(first <= number <= last for first, last in _INVISIBLE)


Line = Annotated[str, Field(max_length=_LINE_MAX), AfterValidator(_line)]
Name = Annotated[str, Field(min_length=1, max_length=_NAME_MAX), AfterValidator(_name)]
Sought = AfterValidator(_sought)
# In a query or a body; and in a path.
SoughtName = Annotated[str, Field(max_length=_SOUGHT_MAX), Sought]
SoughtId = Annotated[str, Field(max_length=_ID_MAX), Sought]
NamePath = Annotated[str, Path(max_length=_SOUGHT_MAX), Sought]
IdPath = Annotated[str, Path(max_length=_ID_MAX), Sought]
# A label's value: any text of a line, or none.
LabelValue = Annotated[str, Field(max_length=_LINE_MAX), Sought]
