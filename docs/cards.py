"""Writes a card for every built-in method from its docstring and its settings, so that none is typed twice.

python docs/cards.py            # write docs/methods/
python docs/cards.py --check    # exit 1 if anything would change
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from deepclust_accel.config import describe
from deepclust_accel.methods import registry

FOLDER = Path(__file__).parent / "methods"
HEADER = "<!-- written by docs/cards.py -->\n"


def card(name: str) -> str:
    """The card of a method: what it minimises, its paper, cost, assumptions, failures, and every setting."""
    cls = registry.load(name)
    text = _text(inspect.cleandoc(cls.__doc__))
    rows = [
        f"| `{row['name']}` | {_text(_short(row['default']))} | {_text(_type(row))} | {_text(row['help'])} |"
        for row in describe(cls.Params)
    ]
    settings = "\n".join(["| setting | default | type | what it is |", "|---" * 4 + "|", *rows])
    head = f"# {name}\n\n{cls.info.summary} ({cls.info.paper})\n\n"
    return f"{HEADER}{head}{text}\n\n## Settings\n\n{settings}\n"


def pages() -> dict[str, str]:
    """File name → text, the index among them."""
    names = [entry.name for entry in registry.entries() if entry.distribution == registry.BUILT_IN]
    infos = {name: registry.load(name).info for name in names}
    many = {name: "any number" if info.distributed else "one" for name, info in infos.items()}
    rows = [f"| [{n}]({n}.md) | {infos[n].paper} | {infos[n].summary} | {many[n]} |" for n in names]
    index = "\n".join([f"{HEADER}# Methods\n", "| name | paper | what it is | processes |", "|---" * 4 + "|", *rows])
    return {f"{name}.md": card(name) for name in names} | {"README.md": index + "\n"}


def _type(row: dict) -> str:
    bounds = [
        f"{sign} {row[key]:g}" for key, sign in (("low", "≥"), ("above", ">"), ("high", "≤")) if row[key] is not None
    ]
    return ", ".join(filter(None, (row["type"], row["unit"], *bounds)))


def _short(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _text(text: str) -> str:
    """Markdown that shows the text as it is; what stands between backticks stays as it is."""
    parts = text.replace("``", "`").split("`")
    return "`".join(part if number % 2 else re.sub(r"([|*<_])", r"\\\1", part) for number, part in enumerate(parts))


def main() -> None:
    """Write or check the cards."""
    wanted = pages()
    present = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    if "--check" in sys.argv:
        sys.exit(present != wanted)
    for name in present.keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
