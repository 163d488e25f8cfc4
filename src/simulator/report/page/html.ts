/** What a page cannot hold, and what would change the order of the letters around it. */
const UNPRINTABLE = /[^\P{Cc}\t\n]|[\p{Surrogate}\p{Noncharacter_Code_Point}\p{Bidi_Control}\u2028\u2029]/gu

/** A text with a question mark in a rhombus for whatever cannot be printed. */
export const printable = (text: string): string => text.replaceAll(UNPRINTABLE, "\uFFFD")

/** A text as it stands in a page or an attribute. */
export const escaped = (text: string): string =>
  printable(text)
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")

/** One cell of a table. */
export interface HtmlCell {
  readonly text: string
  /** Below the text, smaller. */
  readonly small?: string
  readonly best?: boolean
}

/** A table with a name for each column and row. */
export interface HtmlTable {
  readonly caption: string
  readonly head: ReadonlyArray<string>
  /** Groups of rows, each with its title first. */
  readonly groups: ReadonlyArray<ReadonlyArray<readonly [title: string, ...cells: ReadonlyArray<HtmlCell>]>>
}

/** Names and what is said of them. */
export type Definitions = ReadonlyArray<readonly [name: string, text: string]>

export interface Page {
  readonly title: string
  readonly lead: ReadonlyArray<string>
  readonly table: HtmlTable
  /** Of the columns. */
  readonly meanings: Definitions
  /** Each with its SVG element. */
  readonly charts: ReadonlyArray<{ readonly title: string; readonly caption: string; readonly svg: string }>
  /** How it was made. */
  readonly sections: ReadonlyArray<{ readonly title: string; readonly facts: Definitions }>
  /** All of it for programs. */
  readonly document: unknown
}

/** A page by itself: it loads nothing, runs nothing, and is well-formed XML behind its first line. */
export const pageOf = ({ charts, document, lead, meanings, sections, table, title }: Page): string =>
  `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${escaped(title)}</h1>
${lead.map((text) => `<p>${escaped(text)}</p>`).join("\n")}
<h2>Figures</h2>
${tableHtml(table)}
<details>
<summary>What the columns mean</summary>
${definitions(meanings)}
</details>
<div class="charts">
${charts.map(figure).join("\n")}
</div>
${sections.map((section) => `<h2>${escaped(section.title)}</h2>\n${definitions(section.facts)}`).join("\n")}
</main>
<script type="application/json" id="figures">${inScript(document)}</script>
</body>
</html>
`

const STYLE = `
:root { color-scheme: light dark; --line: #8886; --soft: #8882 }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }
main { max-width: 1400px; margin: 0 auto; padding: 1rem 1.5rem 3rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p, dd, td, th, figcaption { overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
caption { text-align: left; padding: .2rem 0 .4rem }
th, td { padding: .25rem .5rem; text-align: right; white-space: nowrap; vertical-align: top; overflow-wrap: normal }
thead th { border-bottom: 2px solid var(--line) }
tbody th, thead th:first-child { text-align: left; font-weight: 600; white-space: pre }
tbody tr { border-bottom: 1px solid var(--soft) }
tbody + tbody { border-top: 2px solid var(--line) }
td small { display: block }
td strong::after { content: " *" }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)); gap: 0 2rem }
.charts section { min-width: 0 }
figure { margin: 0 }
figcaption { max-width: 70ch }
svg { display: block; max-width: 100%; height: auto; margin-top: .5rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: 13px }
dt { font-weight: 600 }
dd { margin: 0 }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #16181c } }
`

const tableHtml = ({ caption, groups, head }: HtmlTable): string => {
  const row = ([title, ...cells]: HtmlTable["groups"][number][number]): string =>
    `<tr><th scope="row">${escaped(title)}</th>${cells.map((cell) => `<td>${cellHtml(cell)}</td>`).join("")}</tr>`
  return `<div class="wide" tabindex="0">
<table>
<caption>${escaped(caption)}</caption>
<thead><tr>${head.map((name) => `<th scope="col">${escaped(name)}</th>`).join("")}</tr></thead>
${groups.map((rows) => `<tbody>\n${rows.map(row).join("\n")}\n</tbody>`).join("\n")}
</table>
</div>`
}

const cellHtml = ({ best = false, small = "", text }: HtmlCell): string =>
  `${best ? `<strong>${escaped(text)}</strong>` : escaped(text)}${small === "" ? "" : `<small>${escaped(small)}</small>`}`

const figure = ({ caption, svg, title }: Page["charts"][number]): string =>
  `<section>\n<h2>${escaped(title)}</h2>\n<figure>\n<figcaption>${escaped(caption)}</figcaption>\n${svg}\n</figure>\n</section>`

const definitions = (facts: Definitions): string =>
  `<dl>\n${facts.map(([name, text]) => `<dt>${escaped(name)}</dt><dd>${escaped(text)}</dd>`).join("\n")}\n</dl>`

/** JSON whose text ends no element and begins none, in HTML and in XML. */
const inScript = (document: unknown): string =>
  JSON.stringify(document).replaceAll(/[<>&]/g, codes).replaceAll(UNPRINTABLE, codes)

const codes = (characters: string): string =>
  Array.from(
    { length: characters.length },
    (_, i) => `\\u${characters.charCodeAt(i).toString(16).padStart(4, "0")}`
  ).join("")
