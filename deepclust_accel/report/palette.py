"""One hundred colors for clusters, told apart by people with any color vision as far as that is possible.

Found once by a greedy search: after six colors of Okabe and Ito, each next color is the one whose smallest OKLab
distance to all earlier ones, as seen with full, deuteranope and protanope vision (Machado 2009), is largest, among
colors that stand out from a white page. So the first n colors are a good palette of n for every n. The second table
was found the same way for a dark page, each color near the hue of its partner. Beyond twenty no palette can be read
from a legend, which is why the maps also write the numbers on the clusters.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["DARK", "LIGHT", "color_class", "color_rules"]

LIGHT = tuple(
    """
    0072b2 d55e00 009e73 cc79a7 e69f00 56b4e9 7e164d 4b17af 9668fb 814d05 1ad796 b3338d 4f50dd 12734f 464071 6489d7
    bd3949 82af81 7c260d 75c8c5 adc364 ff7ef6 78496d b29749 792b8f cc72fe 9e6274 33a2bb a67a4e 3d52ac 616296 a25b08
    706bdc 8e76b9 fe7030 1242c6 39c2a2 ca7a6d 9b133b c15b94 db85d4 9e50b5 22542f 1b647f 85820b db9669 de5fd6 1c4c90
    6752c1 811870 5da389 368c8f 9024ac ff768c b41b0d 457e5b 626f37 ee9bb5 60365c 4a64ef 8759c8 a39f0a 883052 b06dec
    63b863 af8abb 417e9f d598cf ca3365 8e8fe4 9ba8fe 4a904b 2d6414 743b33 6b1a80 c15bcb cb6977 a12c72 5a1a9b c7af49
    dfab82 eb93e3 ec6ac2 195d9e 2d8dec a90682 d240a7 45ac49 6c9060 aac634 eb7f53 2ca6a3 7d449d bd6d33 c54535 63b2a3
    634481 65c1ff 5b3e9c f15d95
""".split()
)

DARK = tuple(
    """
    3d98db ef7a2e 2fb98a ec96c5 f0b23c 8fd3f7 b65189 8257e9 a8a6fd a46c32 34fcac e758c0 667efd 9ace8f 7785ab 81b8e0
    f0415f cdf118 ad7d82 34fbfd e5dc76 ae42c5 fdbbd3 be9665 a985f9 9761ac e5918b 62b5b2 cb7310 8375d8 a082c6 ed9b5f
    84a4e6 c8aff7 d9481d 2588e6 468c5b fab185 d25b9e fa79ae fdb4fa af98cf 3be2b9 358796 c5d815 fed7a1 ac61c9 4c71fb
    d1bae1 b2657e bcebd1 9dd8d4 f9d0ed b56954 fb775f 4db334 c0c662 c1839a d8a1dd 7167d8 b67cd9 e1d194 e55f77 ce8ce8
    97c4aa b86eae 2a9ef9 c8469b ce4b6d 9f6bec 5083bc 73d434 b3cea7 d46942 ee7ccc e6a9c7 e17d7e db899d a94fd8 bdb375
    f58d1a ca48bd ce6ecc 5b91ea 5fb3f3 d990bb ce7fbc 76ea5b d0ee63 89d478 d9884c 35aca9 f2bee9 db9d49 da4245 63efb7
    9f88ad 6ec3ee 818cd1 c66467
""".split()
)


def color_class(index: int) -> str:
    """Return the CSS class that carries the color of a cluster; after the last color they start again."""
    return f"c{index % len(LIGHT)}"


def color_rules(indices: Iterable[int]) -> str:
    """Return the CSS that gives these colors to ``--k`` on a light and on a dark page."""
    used = sorted({index % len(LIGHT) for index in indices})
    light = "".join(f".c{i}{{--k:#{LIGHT[i]}}}" for i in used)
    dark = "".join(f".c{i}{{--k:#{DARK[i]}}}" for i in used)
    return f"{light}\n@media (prefers-color-scheme:dark){{{dark}}}\n@media print{{{light}}}"
