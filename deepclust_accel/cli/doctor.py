"""``dcaccel doctor``: what is installed and whether it works here."""

from __future__ import annotations

from typing import Any

import typer

from deepclust_accel.cli.output import Debug, Json, emit, table


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Say what is installed, what each operator runs on here, and whether it agrees with its reference; exit 1 if not."""
    from deepclust_accel.doctor import examine

    findings = examine()
    emit("doctor", findings, as_json, _text(findings))
    if not findings["healthy"]:
        raise typer.Exit(1)


def _text(findings: dict[str, Any]) -> str:
    parts = [
        table(("package", "version"), list(findings["versions"].items())),
        table(("machine", ""), list(findings["machine"].items())),
        table(
            ("operator", "runs on", "why", "largest error", "agrees"),
            [
                (
                    o["operator"],
                    o["runs_on"],
                    o["why"],
                    "-" if o["error"] is None else f"{o['error']:.1e}",
                    "yes" if o["agrees"] else "NO",
                )
                for o in findings["operators"]
            ],
        ),
        table(
            ("method", "from", "state"),
            [(m["name"], m["distribution"], m["problem"] or "ok") for m in findings["methods"]],
        ),
    ]
    problems = "\n".join(f"problem: {p}" for p in findings["problems"]) or "everything works"
    return "\n\n".join([*parts, problems])
