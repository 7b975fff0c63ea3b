"""The `headrace` command."""

from __future__ import annotations

import sys

from headrace.errors import Exit, HeadraceError

__all__ = ["main"]


def main() -> None:
    """The entry point; failures are one message and an exit code."""
    try:
        _run()
    except HeadraceError as failure:
        from headrace.cli import show

        show.error(failure)
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)


def _run() -> None:
    if sys.argv[1:3] == ["task", "run"]:
        from headrace.cli import task_line

        if (line := task_line.read(sys.argv[3:])) is not None:
            from headrace.cli.task_run import begin

            begin(line)
    from headrace.cli.app import app

    app()
