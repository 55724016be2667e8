"""The report's style: light and dark, narrow and wide, on paper. No script, nothing from elsewhere."""

from __future__ import annotations

from typing import Final

__all__ = ("STYLE",)

STYLE: Final = """
:root { color-scheme: light dark; --page: #fff; --text: #1b2126; --faint: #59636d; --line: #d5dbe0;
  --panel: #f4f6f8; --link: #0b5cad; --good: #1a7f4b; --bad: #c3242c; --open: #8a5a00;
  --critical: #8e1b3c; --high: #d1352b; --medium: #d98a00; --low: #4a86c5; --info: #8a949e;
  --births: #4a86c5; --hole: #d1352b; --cpu: #9cc3e6; --most: #2b6cb0; --memory: #b4541a; --mark: #1b2126; }
@media (prefers-color-scheme: dark) { :root { --page: #14181c; --text: #e4e8ec; --faint: #9aa5af;
  --line: #343c44; --panel: #1d2329; --link: #7ab8f5; --good: #5cc98c; --bad: #ff7b76; --open: #e6b455;
  --critical: #e0567f; --high: #f0645b; --medium: #e6a23c; --low: #6ea8de; --info: #8a949e;
  --births: #6ea8de; --hole: #f0645b; --cpu: #35587a; --most: #7ab8f5; --memory: #f0a060; --mark: #e4e8ec; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .5rem; border-top: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
h1, h2, h3, td, p, li, dd { overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 48rem; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .75rem 0; }
code, .mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .87em; }
.faint { color: var(--faint); }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.open { color: var(--open); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .6rem;
  margin: 1rem 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem;
  padding: .6rem .8rem; }
.card b { display: block; font-size: 1.4rem; line-height: 1.3; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; padding-right: 1rem; }
td.time { white-space: nowrap; font-variant-numeric: tabular-nums; }
.kept, td .good, td .bad, td .open, td code[title], td a[title] { white-space: nowrap; }
tr:target, section:target > h3 { background: var(--panel); outline: 2px solid var(--link); }
svg { display: block; width: 100%; margin-top: .6rem; background: var(--panel); }
svg.bars { height: 8rem; } svg.levels { height: 11rem; } svg.levels rect { shape-rendering: crispEdges; } svg.strip { height: 1.6rem; }
.axis { stroke: var(--line); stroke-width: 2; }
.ends { display: flex; justify-content: space-between; gap: 1rem; color: var(--faint);
  font-size: .8rem; font-variant-numeric: tabular-nums; }
.ends span:last-child { text-align: right; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; margin: .3rem 0; }
.key { display: inline-block; width: .75rem; height: .75rem; margin-right: .35rem;
  border: 1px solid var(--line); }
.fill-critical { fill: var(--critical); background: var(--critical); }
.fill-high { fill: var(--high); background: var(--high); }
.fill-medium { fill: var(--medium); background: var(--medium); }
.fill-low { fill: var(--low); background: var(--low); }
.fill-info { fill: var(--info); background: var(--info); }
.fill-births { fill: var(--births); background: var(--births); }
.fill-watched { fill: var(--good); background: var(--good); }
.fill-hole { fill: var(--hole); background: var(--hole); }
.fill-cpu { fill: var(--cpu); background: var(--cpu); }
.fill-most { background: var(--most); } .fill-memory { background: var(--memory); }
.fill-mark { background: var(--mark); }
.gap { fill: var(--hole); opacity: .22; } .fill-gap { background: var(--hole); opacity: .22; }
.line { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.line-most { stroke: var(--most); } .line-memory { stroke: var(--memory); }
.mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 4 3; vector-effect: non-scaling-stroke; }
section.part { break-inside: avoid; }
@media screen and (min-width: 56.01rem) { td:not(.number) > div { min-width: 5.5rem; } }
@media screen and (max-width: 56rem) {
  body { padding: .75rem; }
  thead { display: none; }
  table, tbody, tr, td { display: block; width: 100%; }
  tr { border: 1px solid var(--line); border-radius: .4rem; padding: .35rem .6rem; margin: .5rem 0; }
  td, td.number { display: flex; gap: .75rem; text-align: left; border: 0; padding: .12rem 0; }
  td.time { white-space: normal; }
  td:empty { display: none; }
  td::before { content: attr(data-label); flex: 0 0 6.5rem; color: var(--faint); }
  td > div { min-width: 0; flex: 1; }
}
@media screen and (max-width: 30rem) { .cards { grid-template-columns: 1fr 1fr; } }
@media print {
  :root { color-scheme: light; --page: #fff; --text: #000; --faint: #444; --line: #bbb; --panel: #f4f4f4;
    --link: #000; --good: #11592f; --bad: #a3141b; --open: #6b4600; }
  body { max-width: none; padding: 0; font-size: 9pt; }
  table { font-size: 8pt; }
  td.time { white-space: normal; }
  .kept { white-space: normal; }
  nav { display: none; }
  a { text-decoration: none; }
  svg, .key { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  tr, .card { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
