"""What is wrong with a request, field by field, in both languages: pydantic has causes in English only, and no remedies.

What was sent is not repeated: it may be a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.control.problems import Finding, Text, Wrong
from headrace.printable import printable

_FINDINGS_MAX = 100
_FIELD_MAX = 200
_CORRECT_IT = Text("correct it", "请更正")
_SHORTEN_IT = Text("shorten it", "请缩短")
_GIVE_MORE = Text("give more", "请补充")
_WRITE_IT_SO = Text("write it so", "请按此填写")
_LIKE_A_TIME = Text("write it like 2026-01-31T08:00:00Z", "请按 2026-01-31T08:00:00Z 的格式填写")

# By pydantic's kinds of error; `{names}` are what pydantic tells with them.
_KINDS: dict[str, tuple[Text, Text]] = {
    "missing": (Text("it is missing", "缺少此项"), Text("give it", "请填写")),
    "extra_forbidden": (Text("there is no such field", "没有这个字段"), Text("leave it out", "请去掉")),
    "json_invalid": (Text("the body is not JSON: {error}", "请求体不是有效的 JSON：{error}"), Text("send JSON", "请发送 JSON")),
    "string_too_long": (Text("it is longer than {max_length} letters", "超过 {max_length} 个字符"), _SHORTEN_IT),
    "string_too_short": (Text("it has fewer than {min_length} letters", "少于 {min_length} 个字符"), _GIVE_MORE),
    "too_long": (Text("it has more than {max_length} entries", "超过 {max_length} 项"), _SHORTEN_IT),
    "too_short": (Text("it has fewer than {min_length} entries", "少于 {min_length} 项"), _GIVE_MORE),
    "string_pattern_mismatch": (Text("it does not match {pattern}", "不符合格式 {pattern}"), _WRITE_IT_SO),
    "greater_than_equal": (Text("it is less than {ge}", "小于 {ge}"), Text("give {ge} or more", "请填写不小于 {ge} 的数")),
    "less_than_equal": (Text("it is more than {le}", "大于 {le}"), Text("give {le} or less", "请填写不大于 {le} 的数")),
    "less_than": (Text("it is not less than {lt}", "不小于 {lt}"), Text("give less than {lt}", "请填写小于 {lt} 的数")),
    "literal_error": (Text("it is none of {expected}", "不是 {expected} 之一"), Text("give one of these", "请从中选择")),
    "string_type": (Text("it is not a text", "不是文本"), _WRITE_IT_SO),
    "string_unicode": (Text("it is not valid Unicode", "不是有效的 Unicode 文本"), _CORRECT_IT),
    "int_type": (Text("it is not a whole number", "不是整数"), _WRITE_IT_SO),
    "int_parsing": (Text("it is not a whole number", "不是整数"), _WRITE_IT_SO),
    "int_parsing_size": (Text("it has too many digits", "数字位数过多"), _SHORTEN_IT),
    "int_from_float": (Text("it is not a whole number", "不是整数"), _WRITE_IT_SO),
    "float_type": (Text("it is not a number", "不是数字"), _WRITE_IT_SO),
    "float_parsing": (Text("it is not a number", "不是数字"), _WRITE_IT_SO),
    "finite_number": (Text("it is not a finite number", "不是有限的数"), _WRITE_IT_SO),
    "bool_type": (Text("it is neither true nor false", "既不是 true 也不是 false"), _WRITE_IT_SO),
    "bool_parsing": (Text("it is neither true nor false", "既不是 true 也不是 false"), _WRITE_IT_SO),
    "timezone_aware": (Text("it does not say its time zone", "未指明时区"), Text("end it with Z or like +08:00", "请以 Z 或 +08:00 等结尾")),
    "datetime_from_date_parsing": (Text("it is not a time: {error}", "不是有效的时间：{error}"), _LIKE_A_TIME),
    "datetime_parsing": (Text("it is not a time: {error}", "不是有效的时间：{error}"), _LIKE_A_TIME),
    "datetime_object_invalid": (Text("it is not a time: {error}", "不是有效的时间：{error}"), _LIKE_A_TIME),
    "list_type": (Text("it is not a list", "不是列表"), _WRITE_IT_SO),
    "dict_type": (Text("it is not an object", "不是对象"), _WRITE_IT_SO),
    "model_attributes_type": (Text("it is not an object", "不是对象"), _WRITE_IT_SO),
}


def findings_of(errors: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """A finding for each error that pydantic tells, up to a hundred."""
    return [Finding(_field(error["loc"]), "invalid", *_sentences(error)) for error in errors[:_FINDINGS_MAX]]


def _sentences(error: Mapping[str, Any]) -> tuple[Text, Text]:
    told = error.get("ctx") or {}
    if isinstance(reason := told.get("error"), Wrong):
        return reason.cause, reason.remedy
    if error["type"] in _KINDS:
        cause, remedy = _KINDS[error["type"]]
        values = {name: printable(str(value), _FIELD_MAX) for name, value in told.items()}
        return cause.format(**values), remedy.format(**values)
    sentence = printable(str(error["msg"]), _FIELD_MAX)
    return Text(sentence, sentence), _CORRECT_IT


def _field(where: tuple[Any, ...]) -> str:
    parts = [str(part) for part in where]
    return printable(".".join(parts[1:] if len(parts) > 1 else parts), _FIELD_MAX)
