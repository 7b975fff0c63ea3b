"""What can go wrong with a request, declared once: a stable code, an HTTP status, and the cause and the remedy in both languages.

Answers are RFC 9457 problem documents (`application/problem+json`). `detail` is in the language that `Accept-Language` asks for;
`fields` names what is wrong in the request, with cause and remedy in both. The reference page is generated from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.checking.findings import Finding, Text
from headrace.printable import printable

__all__ = ["PROBLEMS", "Declared", "Finding", "Problem", "Text", "Wrong", "refused"]

# Of a text from a request that a sentence repeats.
_REPEATED_MAX = 100


@dataclass(frozen=True)
class Declared:
    """One kind of problem."""

    status: int
    cause: Text
    remedy: Text


PROBLEMS: dict[str, Declared] = {
    "unauthenticated": Declared(
        401,
        Text("the request carries no valid token", "请求没有有效的令牌"),
        Text("send `Authorization: Bearer TOKEN`; `headrace login` stores one", "请发送 `Authorization: Bearer 令牌`；`headrace login` 可保存令牌"),
    ),
    "forbidden": Declared(
        403,
        Text("this token may not do that: it lacks {needed}", "此令牌无权执行该操作：缺少 {needed}"),
        Text("ask an administrator for a token that has it", "请向管理员申请具有该权限的令牌"),
    ),
    "not-found": Declared(
        404,
        Text("there is no {noun} {name}, or it is not yours", "{noun} {name} 不存在，或不属于您"),
        Text("list what there is", "请先列出现有对象"),
    ),
    "no-such-route": Declared(404, Text("there is no such address", "没有这个地址"), Text("see /v1/openapi.json", "请查看 /v1/openapi.json")),
    "method-not-allowed": Declared(
        405, Text("this address does not take that method", "该地址不支持此方法"), Text("see /v1/openapi.json", "请查看 /v1/openapi.json")
    ),
    "invalid": Declared(422, Text("the request is not valid", "请求无效"), Text("correct the fields named", "请更正所列字段")),
    "too-large": Declared(
        413, Text("the body is larger than {most} bytes", "请求体超过 {most} 字节"), Text("send less at once", "请减少单次发送的内容")
    ),
    "name-taken": Declared(
        409, Text("there is a {noun} named {name} already", "已有名为 {name} 的{noun}"), Text("choose another name", "请换一个名称")
    ),
    "state-forbids": Declared(
        409,
        Text("{operation} is not possible now: {reason}", "当前不能执行 {operation}：{reason}"),
        Text("{remedy}", "{remedy}"),
    ),
    "tasks-mounted": Declared(
        409,
        Text("tasks mount {name}: {tasks}", "{name} 正被任务挂载：{tasks}"),
        Text("end them first, or force it: their mounts end with that", "请先结束这些任务，或强制释放（其挂载将随之失效）"),
    ),
    "stale-lease": Declared(
        409,
        Text("the lease of this task was taken over", "该任务的租约已被接管"),
        Text("leave it to whoever holds it now, or attach to the task again", "请交由当前持有者处理，或重新接管该任务"),
    ),
    "lease-ended": Declared(
        409,
        Text("the task has ended: {reason}", "任务已结束：{reason}"),
        Text("start another", "请重新启动任务"),
    ),
    "last-administrator": Declared(
        409,
        Text("it is the last token that can make tokens for administrators", "这是最后一个可以创建管理员令牌的令牌"),
        Text("make another one first", "请先创建另一个"),
    ),
    "precondition-required": Declared(
        428,
        Text("an edit must say which revision it edits", "编辑时必须说明所基于的版本"),
        Text("read it, and send its ETag as If-Match", "请先读取，并将其 ETag 作为 If-Match 发送"),
    ),
    "revision-changed": Declared(
        412,
        Text("somebody changed it since you read it", "在您读取之后它已被修改"),
        Text("read it again and repeat the edit", "请重新读取后再编辑"),
    ),
    "idempotency-mismatch": Declared(
        409,
        Text("this Idempotency-Key was used for another request", "该 Idempotency-Key 已用于另一请求"),
        Text("use a new key for a new request", "新请求请使用新的键"),
    ),
    "check-failed": Declared(
        422,
        Text("the connection check from {where} failed; nothing was stored", "从{where}进行的连接校验未通过，未保存任何内容"),
        Text("correct the fields named and try again", "请更正所列字段后重试"),
    ),
    "check-not-run": Declared(
        503,
        Text("no node of {region} ran the connection check: {reason}; nothing was stored", "{region} 没有节点完成连接校验：{reason}；未保存任何内容"),
        Text(
            "see `headrace node ls`, and let a node of the region join or come back; or check from elsewhere (check_region)",
            "请查看 `headrace node ls`，让该地域的节点加入或恢复；或从其他位置校验（check_region）",
        ),
    ),
    "stale-check": Declared(
        409,
        Text("this check is not asked of this node any more", "已不再要求该节点执行此校验"),
        Text("leave it, and ask what should be", "请放弃，并重新获取期望状态"),
    ),
    "no-nodes": Declared(
        409,
        Text("no node of {region} could hold it", "{region} 中没有可承载的节点"),
        Text("let nodes join, take drained ones back, or choose other labels", "请添加节点、恢复已排空的节点，或更换标签"),
    ),
    "stale-listing": Declared(
        409,
        Text("another listing was asked for meanwhile", "其间已要求重新列出"),
        Text("ask what should be, and begin again", "请重新获取期望状态后再开始"),
    ),
    "snapshot-incomplete": Declared(
        409,
        Text("{parts} of {of} parts of the snapshot are here", "快照的 {of} 个分片中只收到 {parts} 个"),
        Text("send the others", "请发送其余分片"),
    ),
    "snapshot-damaged": Declared(
        409,
        Text("the parts of the snapshot are not what its digest says", "快照分片与其摘要不符"),
        Text("they are forgotten; send them again", "这些分片已被丢弃，请重新发送"),
    ),
    "too-slow": Declared(
        408,
        Text("the body did not arrive within {seconds} seconds", "请求体未在 {seconds} 秒内到达"),
        Text("send it again, over a faster way or in smaller parts", "请通过更快的网络或以更小的分片重新发送"),
    ),
    "too-many-tasks": Declared(
        409,
        Text("you have {most} tasks that have not ended, as many as may be", "您未结束的任务已达上限 {most} 个"),
        Text("end some: `headrace task ls`, `headrace task end`", "请结束部分任务：`headrace task ls`、`headrace task end`"),
    ),
    "too-many-streams": Declared(
        503,
        Text("as many streams of events are open as may at once", "同时打开的事件流已达上限"),
        Text("ask for the document itself, or try again in a moment", "请直接查询该对象，或稍后重试"),
    ),
    "too-many-checks": Declared(
        503,
        Text("as many connection checks run as may at once", "同时运行的连接校验已达上限"),
        Text("try again in a moment", "请稍后重试"),
    ),
    # A connection that breaks while a change is committed does not say whether it was: none of these three claims to know.
    "database-away": Declared(
        503,
        Text("the database cannot be reached or is busy", "数据库不可用或繁忙"),
        Text(
            "try again in a moment; look first whether a change was made, or repeat it with the same Idempotency-Key",
            "请稍后重试；若为更改，请先查看是否已生效，或使用相同的 Idempotency-Key 重试",
        ),
    ),
    "database-full": Declared(
        507,
        Text("the disk under the database is full", "数据库所在磁盘已满"),
        Text("free space on it and try again", "请释放空间后重试"),
    ),
    "internal": Declared(
        500,
        Text("the control plane failed", "控制面出现内部错误"),
        Text("the log has the reason, under {request}", "日志中有原因，请求号 {request}"),
    ),
}


class Wrong(ValueError):
    """What a validator of a model raises: cause and remedy in both languages."""

    def __init__(self, cause: Text, remedy: Text) -> None:
        super().__init__(cause.en)
        self.cause, self.remedy = cause, remedy


@dataclass
class Problem(Exception):
    """A request that was refused; `values` fill the declared sentences."""

    code: str
    values: dict[str, object] = field(default_factory=dict)
    fields: Sequence[Finding] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.cause.en}"

    @property
    def status(self) -> int:
        return PROBLEMS[self.code].status

    @property
    def cause(self) -> Text:
        return PROBLEMS[self.code].cause.format(**self.values)

    @property
    def remedy(self) -> Text:
        return PROBLEMS[self.code].remedy.format(**self.values)

    def document(self, language: str = "en") -> dict[str, Any]:
        """The problem as a JSON object; `language` is that of `title` and `detail`."""
        cause, remedy = self.cause, self.remedy
        chinese = language.lower().startswith("zh")
        return {
            "type": f"urn:headrace:problem:{self.code}",
            "status": self.status,
            "code": self.code,
            "title": cause.zh if chinese else cause.en,
            "detail": f"{cause.zh}。{remedy.zh}" if chinese else f"{cause.en}; {remedy.en}",
            "cause": cause.document(),
            "remedy": remedy.document(),
            "fields": [finding.document() for finding in self.fields],
        }


def refused(code: str, fields: Sequence[Finding] = (), **values: object) -> Problem:
    """A problem to raise. What a request said is repeated in part only."""
    return Problem(code, {name: _repeated(value) for name, value in values.items()}, fields)


def _repeated(value: object) -> object:
    return printable(value, _REPEATED_MAX) if isinstance(value, str) else value
