"""Colours and layout of the report. Light or dark is the reader's own choice."""

STYLE = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#1d2321;--soft:#68726e;--rule:#dedbd2;--a:#0b6e5a;
  --b:#b4541a;--c:#5a6bb0;--good:#0b6e5a;--bad:#b3261e;--none:#8a6d1b}
@media (prefers-color-scheme:dark){:root{--paper:#14181a;--card:#1c2225;--ink:#e7eae6;--soft:#98a39e;
  --rule:#343c3f;--a:#4fc3a1;--b:#f0955a;--c:#93a5f0;--good:#4fc3a1;--bad:#ff8a80;--none:#e2c26a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:20px;margin:44px 0 6px}
h3{font-size:15px;margin:0 0 8px;font-weight:600}
p{margin:4px 0 12px;max-width:75ch}
.soft{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:16px;margin-top:12px}
.card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:16px;min-width:0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:13.5px}
th,td{padding:6px 10px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th{font-weight:600;color:var(--soft)}
th:first-child,td:first-child,td.text,th.text{text-align:left}
td.text{white-space:normal;min-width:16ch}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
svg text.row{fill:var(--ink);font-size:12px}
svg text.group{font-weight:600}
svg text.name{font-size:11.5px}
.grid{stroke:var(--rule)}
.zero{stroke:var(--soft);stroke-dasharray:3 3}
.line{fill:none;stroke-width:2}
.whisker{stroke-width:2.5}
.line.a,.whisker.a{stroke:var(--a)}
.line.b,.whisker.b{stroke:var(--b)}
.line.c,.whisker.c{stroke:var(--c)}
.line.ideal{stroke:var(--soft);stroke-dasharray:4 4;stroke-width:1.2}
.dot.a,.bar.a{fill:var(--a)}
.dot.b,.bar.b{fill:var(--b)}
.dot.c,.bar.c{fill:var(--c)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:12.5px;color:var(--soft);margin-top:6px}
.key::before{content:"";display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;
  vertical-align:middle;background:var(--soft)}
.key.a::before{background:var(--a)}
.key.b::before{background:var(--b)}
.key.c::before{background:var(--c)}
.good{color:var(--good)}
.bad{color:var(--bad)}
.none{color:var(--none)}
.notice{border-left:4px solid var(--none);background:var(--card);padding:10px 14px;margin:14px 0;
  border-radius:0 6px 6px 0}
code{font-size:12.5px}
"""
