"""How the page looks, and the little it does: copy the command, show single groups on a map."""

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f8;--card:#fff;--ink:#1b2026;--soft:#5a6470;--line:#dfe3e7;
--accent:#2e78c4;--warm:#d97725;--alert:#b3261e;--alert-back:#fdecea;--note-back:#eef4fb;--changed:#fff6db;
--inverse:#fff;
--band0:#f1f3f5;--band1:#e6eaee;--track:#e4e8ec}
@media (prefers-color-scheme:dark){:root{--page:#0f1216;--card:#171b21;--ink:#e8ebee;--soft:#9aa5b1;--line:#2b323b;
--accent:#6aaef2;--warm:#f2a057;--alert:#ff8a80;--alert-back:#3a1d1b;--note-back:#18242f;--changed:#332c14;
--inverse:#10141a;
--band0:#1d222a;--band1:#252b34;--track:#2c343d}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums;overflow-wrap:break-word}
header,main,footer{max-width:1360px;margin:0 auto;padding:0 28px}
header{padding-top:30px}
h1{font-size:2rem;line-height:1.2;margin:0;font-weight:650;letter-spacing:-.01em}
h1 span{color:var(--soft);font-weight:400}
h2{font-size:1.2rem;margin:0;font-weight:650}
h3{font-size:.95rem;margin:0 0 .4rem;font-weight:600}
p{margin:.4rem 0}
a{color:var(--accent)}
.over{margin:0 0 .2rem;color:var(--soft);font-size:.85rem}
.lead{color:var(--soft);margin:.3rem 0 0}
.facts{display:flex;flex-wrap:wrap;gap:.5rem 2.2rem;margin:1.1rem 0 0}
.facts div{min-width:4rem}
dt{color:var(--soft);font-size:.8rem}
dd{margin:0;font-size:1.05rem}
.scores{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:14px;margin:1.4rem 0 0}
.score{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 18px}
.score b{display:block;font-size:2rem;line-height:1.15;font-weight:650;letter-spacing:-.02em}
.score strong{font-size:.85rem;font-weight:600}
.score small{display:block;color:var(--soft);font-size:.82rem;line-height:1.35}
.meter{display:block;height:5px;border-radius:3px;background:var(--track);margin:.5rem 0;overflow:hidden}
.meter i{display:block;height:100%;background:var(--accent)}
.remarks{list-style:none;margin:1.2rem 0 0;padding:0;display:grid;gap:8px}
.remarks li{border-radius:8px;padding:9px 14px;background:var(--note-back);border-left:4px solid var(--accent)}
.remarks li.serious{background:var(--alert-back);border-left-color:var(--alert)}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:1.4rem 0 .4rem;padding:.6rem 0;
border-top:1px solid var(--line);font-size:.92rem}
nav a{text-decoration:none}
nav a:hover{text-decoration:underline}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 24px 22px;
margin:0 0 20px;min-width:0}
.reads{color:var(--soft);font-size:.9rem;max-width:95ch;margin:.25rem 0 1rem}
.reads b{font-weight:600;color:var(--ink)}
.duo{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:0 20px;align-items:start}
.duo>section{height:calc(100% - 20px)}
.maps{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:22px 28px}
.maps.one{max-width:860px}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:18px 26px}
.split{display:grid;grid-template-columns:minmax(0,3fr) minmax(260px,2fr);gap:16px 34px}
.split.turned{grid-template-columns:minmax(260px,2fr) minmax(0,3fr)}
figure{margin:0;min-width:0}
figcaption{display:flex;justify-content:space-between;gap:1rem;font-size:.95rem;font-weight:600;margin:0 0 .3rem}
figcaption span{font-weight:400;color:var(--soft);font-size:.85rem;text-align:right}
.scroll{overflow-x:auto;max-width:100%}
svg{display:block;width:100%;height:auto;font-family:inherit}
svg text{font-size:11px;fill:var(--soft)}
svg .mid{text-anchor:middle}
svg .end{text-anchor:end}
svg .grid{stroke:#8894a0;stroke-opacity:.22}
svg .halo{stroke:var(--card);stroke-width:5px;stroke-linejoin:round;paint-order:stroke}
.chart text{font-size:12.5px}
svg .axis{stroke:var(--soft);stroke-width:1;opacity:.6}
svg .mark{stroke:var(--soft);stroke-width:1;stroke-dasharray:4 3}
svg .box{fill:none;stroke:var(--line)}
svg .line{fill:none;stroke:var(--accent);stroke-width:1.7;stroke-linejoin:round}
svg .line-dot{fill:var(--accent)}
svg .band0{fill:var(--band0)}
svg .band1{fill:var(--band1)}
svg .broken{fill:var(--alert)}
svg .bar,svg .spot{fill:var(--k)}
svg .empty{fill:var(--alert);font-weight:700}
svg .hit{fill:var(--accent)}
svg .miss{fill:var(--warm)}
svg .count{font-size:11px;fill:var(--ink)}
svg .share{font-size:8px;fill:var(--ink);opacity:.8}
svg .inverse{fill:var(--inverse)}
.pixels{image-rendering:pixelated}
.map .dots{fill:none;stroke-linecap:round;stroke-opacity:.72}
@media (prefers-color-scheme:dark){.map .dots{stroke-opacity:.88}}
.map .dots path{stroke:var(--k)}
.map .dots .cx{stroke:var(--soft)}
.map text{font-size:20px}
.map .name{font-size:27px;font-weight:700;fill:var(--ink);stroke:var(--card);stroke-width:6px;stroke-linejoin:round;
paint-order:stroke;pointer-events:none}
.map .small{font-size:20px;stroke-width:5px}
.map .dim{opacity:.06}
.chips{display:flex;flex-wrap:wrap;gap:6px;margin:.6rem 0 0;align-items:center;font-size:.85rem;color:var(--soft)}
.chips button{font:inherit;color:var(--ink);background:none;border:1px solid var(--line);border-radius:99px;
padding:2px 10px 2px 7px;cursor:pointer}
.chips button[aria-pressed=true]{border-color:var(--ink);box-shadow:inset 0 0 0 1px var(--ink)}
.chips .none{opacity:.5;text-decoration:line-through}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:50%;background:var(--k);margin-right:.45em;
vertical-align:-.06em}
.stages{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.6rem;margin:0 0 1rem;padding:0;font-size:.9rem}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:16px 24px}
.card{border-top:3px solid var(--k);padding-top:8px;break-inside:avoid;min-width:0}
.card p{margin:0 0 .4rem;font-size:.82rem;color:var(--soft)}
.tiles{display:grid;gap:4px;max-width:400px}
.tiles img{width:100%;height:auto;border-radius:3px;display:block;background:var(--track)}
table{border-collapse:collapse;font-size:.88rem;width:100%}
th,td{text-align:left;padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
.blocks td{overflow-wrap:anywhere}
.blocks th{white-space:nowrap}
.features td:last-child{min-width:9rem}
thead th{color:var(--soft);font-weight:500;font-size:.8rem}
tbody th{font-weight:500}
.figures td,.figures thead th+th{text-align:right}
.changed{background:var(--changed)}
.changed th{font-weight:700;box-shadow:inset 3px 0 0 var(--warm);padding-left:10px}
.tag{display:inline-block;white-space:nowrap;border:1px solid var(--line);border-radius:5px;padding:0 6px;
margin:0 6px 4px 0}
.tag b{font-weight:600}
.up{color:var(--accent)}
.down{color:var(--warm)}
.blocks{columns:440px 2;column-gap:36px}
.block{break-inside:avoid;margin:0 0 24px}
td .meter{min-width:110px}
td:has(.meter){width:50%}
details{margin:.9rem 0 0;font-size:.92rem}
summary{cursor:pointer;color:var(--accent)}
details[open]>summary{margin-bottom:.6rem}
.command{position:relative}
pre{background:var(--band0);border-radius:8px;padding:14px 16px;margin:.5rem 0 0;white-space:pre-wrap;
overflow-wrap:anywhere;
font:.88rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.copy{font:inherit;font-size:.82rem;color:var(--ink);background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:3px 12px;cursor:pointer;
position:absolute;top:8px;right:8px}
.command pre{padding-right:90px}
:is(a,button,summary):focus-visible{outline:2px solid var(--accent);outline-offset:2px}
footer{color:var(--soft);font-size:.85rem;padding-bottom:30px}
@media (max-width:640px){header,main,footer{padding-left:14px;padding-right:14px}section{padding:16px 14px}
h1{font-size:1.6rem}
.scores{grid-template-columns:1fr 1fr;gap:10px}.score{padding:10px 12px}.score b{font-size:1.6rem}
.split,.split.turned{grid-template-columns:minmax(0,1fr)}
.chart text{font-size:16px}.map text{font-size:32px}.map .tick{display:none}.map .name{font-size:40px;
stroke-width:9px}.map .small{font-size:25px}
.features thead{display:none}.features tr{display:block;padding:8px 0;border-bottom:1px solid var(--line)}
.features th,.features td{display:inline;border:0;padding:0 10px 0 0}
.features td:nth-last-child(2){display:block;padding:6px 0 2px}.features td:last-child{color:var(--soft)}
.features td:last-child:not(:empty)::before{content:"rows "}.facts{gap:.5rem 1.5rem}
.chips button{padding:5px 12px 5px 9px}}
@media print{:root{--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#ccc;--accent:#2e78c4;--warm:#d97725;
--inverse:#fff;
--band0:#f3f3f3;--band1:#e8e8e8;--changed:#fff6db}body{font-size:11pt}nav,.copy,.chips span{display:none}
section{border:0;padding:0 0 12px;border-radius:0}figure,.score,.remarks li,tr{break-inside:avoid}
h2,.reads{break-after:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}.scroll{overflow:visible}
.reads{break-inside:avoid}.duo{display:block}.duo>section{height:auto}.duo svg{max-width:420px!important}
.maps{grid-template-columns:1fr 1fr}.maps.one{grid-template-columns:1fr;max-width:500px}}
"""

SCRIPT = """
"use strict";
for (const button of document.querySelectorAll(".chips button")) button.addEventListener("click", () => {
  const figure = button.closest("figure");
  button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  const chosen = new Set([...figure.querySelectorAll(".chips [aria-pressed=true]")].map(b => b.dataset.g));
  for (const part of figure.querySelectorAll("svg [data-g]"))
    part.classList.toggle("dim", chosen.size > 0 && !chosen.has(part.dataset.g));
});
for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = button.parentElement.querySelector("pre");
    try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(source); button.textContent = "Selected"; }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
"""
