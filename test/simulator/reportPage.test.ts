import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { presets } from "../../src/engines/simulated/CostModel.ts"
import { choiceOf, type PipelineChoice, pipelines } from "../../src/policies/pipelines.ts"
import { generateTraffic } from "../../src/simulator/replay/generate.ts"
import { faster, workloadOf } from "../../src/simulator/replay/Workload.ts"
import { compare } from "../../src/simulator/report/compare.ts"
import type { Contender, Setting } from "../../src/simulator/report/ground.ts"
import { measureNames } from "../../src/simulator/report/measures.ts"
import { comparisonCharts, DRAWN_MAX, sweepCharts } from "../../src/simulator/report/page/charts.ts"
import { escaped } from "../../src/simulator/report/page/html.ts"
import { comparisonPage, type Provenance, sweepPage } from "../../src/simulator/report/page/pages.ts"
import { runnerOf } from "../../src/simulator/report/Study.ts"
import { searches, sweepOf } from "../../src/simulator/report/sweep.ts"
import { sweepTableOf, type Table, tableOf, tableText, titleLines } from "../../src/simulator/report/table.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { conclude } from "../support/studies.ts"

/** Of what a trace may hold, the worst. */
const HOSTILE = `</script><script src="http://evil.example/x.js">alert('1')</script>&amp;\u0000\u202E\uD800<img onerror=x>]]>`
const targets = { ttftMs: 300, tpotMs: 20 }

const setting: Setting = { workers: 2, preset: presets["8b-h100"], targets, world: {}, warmUp: 0.1 }
const runner = runnerOf(setting, (seed, speed) => {
  const traffic = generateTraffic({
    seed,
    requests: 100,
    requestsPerSecond: 40,
    promptTokens: { mean: 1500, variation: 1 },
    outputTokens: { mean: 30, variation: 1 },
    tenants: { count: 3, skew: 1 },
    sharedPrefix: { count: 5, tokens: 1024, share: 0.5 }
  })
  const requests = traffic.requests.map((request) => ({ ...request, tenant: `${request.tenant} ${HOSTILE}` }))
  return faster(workloadOf([{ ...traffic, requests }]), speed)
})

const placed = (name: string, policy: string): Contender => ({
  name,
  pipeline: { ...choiceOf(pipelines.simple), placement: { policy, options: {} } } satisfies PipelineChoice
})
const contenders = [placed("random", "random"), placed(`turns ${HOSTILE}`, "round-robin")]
const reference: Contender = { ...placed("random", "random"), sharedCache: true }

const comparison = conclude(
  compare({ contenders, reference, seeds: [1, 2], speed: 1, plots: true, otherSpeeds: [0.5, 2] }),
  runner
)
const sweep = sweepOf(
  searches({ contenders, reference, seeds: [1], goal: 0.9 }).map((search) => conclude(search, runner))
)

const provenance: Provenance = {
  title: `${HOSTILE}.jsonl`,
  lead: [HOSTILE],
  sections: [{ title: "What was asked for", facts: [["trace", HOSTILE]] }],
  facts: { trace: HOSTILE, results: comparison.results.map(({ estimates }) => estimates) }
}

/** What is checked of each page: its text, its table, and what its charts are called. */
interface Printed {
  readonly page: string
  readonly table: Table
  readonly titles: ReadonlyArray<string>
}

const printed: ReadonlyArray<Printed> = [
  {
    page: await comparisonPage(comparison, targets, provenance),
    table: tableOf(comparison),
    titles: comparisonCharts(comparison, targets).map(({ title }) => title)
  },
  {
    page: await sweepPage(sweep, 0.9, 2, provenance),
    table: sweepTableOf(sweep, 2),
    titles: sweepCharts(sweep, 0.9).map(({ title }) => title)
  }
]

/** What the printer made of it. */
type Printer = (page: string) => string

const check = (printer: Printer, expectOf: (page: string, of: Printed) => void): void => {
  for (const one of printed) expectOf(printer(one.page), one)
}

const laws = [
  {
    id: "page-well-formed",
    check: (printer: Printer) => check(printer, (page) => expect(malformed(page)).toEqual([]))
  },
  {
    id: "page-alone",
    check: (printer: Printer) =>
      check(printer, (page) => {
        const markup = tagsOf(page).join("")
        // Of attributes with an address or a program by their names, whatever others say.
        const loads = markup
          .replaceAll(/="[^"]*"/g, "=")
          .match(/\b(src|href|srcset|data|action|poster|background|on\w+)=/gi)
        expect([...(loads ?? []), ...(page.match(/@import|url\((?!#)/g) ?? [])]).toEqual([])
        const tags = new Set(tagsOf(page).map((tag) => /^<\/?([\w-]+)/.exec(tag)![1]))
        for (const tag of ["link", "img", "iframe", "object", "embed", "foreignObject", "image", "use", "a"])
          expect(tags).not.toContain(tag)
        expect([...page.matchAll(/<script\b[^>]*>/g)].map(([tag]) => tag)).toEqual([
          '<script type="application/json" id="figures">'
        ])
        expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`)
      })
  },
  {
    id: "page-escaped",
    check: (printer: Printer) =>
      check(printer, (page) => {
        expect(page).not.toMatch(/[^\P{Cc}\t\n]|[\u202E\p{Surrogate}]/u)
        expect(page).toContain(`<h1>${escaped(HOSTILE)}.jsonl</h1>`)
        expect(textOf(page)).toContain('</script><script src="http://evil.example/x.js">')
        expect(parsed(/<script [^>]*>(.*?)<\/script>/.exec(page)![1]!)).toMatchObject({ trace: HOSTILE })
      })
  },
  {
    id: "page-whole",
    check: (printer: Printer) =>
      check(printer, (page, { table, titles }) => {
        const rows = [...page.matchAll(/<tr>(.*)<\/tr>/g)].map(([, row]) =>
          [...row!.matchAll(/<t[hd]\b[^>]*>(.*?)<\/t[hd]>/g)].map(([, cell]) => textOf(cell!))
        )
        // The column of what was lost stands behind the names.
        expect(rows.map((row) => row.toSpliced(1, 1))).toEqual([
          [...table.head],
          ...[...table.policies, ...table.limits].map(({ cells, title }) => [
            clean(title),
            ...cells.map(({ mean, spread }) => `${mean}${spread}`)
          ])
        ])
        expect(page.match(/<strong>/g)?.length).toBe(
          table.policies.flatMap(({ cells }) => cells).filter(({ best }) => best).length
        )
        const svgs = [...page.matchAll(/<svg role="img" aria-label="([^"]*)"/g)].map(([, label]) => label!)
        expect(svgs.map((label) => titles.find((title) => label.startsWith(`${title}. `)))).toEqual([
          ...titles
        ])
        for (const title of titles) expect(page).toContain(`<h2>${title}</h2>`)
        for (const { title } of table.policies)
          expect(textOf(page.slice(page.indexOf("<svg"))).includes(clean(title).slice(0, 16))).toBe(true)
      })
  }
]

const defects: ReadonlyArray<Planted<Printer>> = [
  ["forgets to close", "page-well-formed", (page) => page.replace("</figcaption>", "")],
  ["has a bare ampersand", "page-well-formed", (page) => page.replace("&lt;", "& lt;")],
  ["gives two elements one id", "page-well-formed", (page) => page.replaceAll("<figure>", '<figure id="a">')],
  [
    "loads a library",
    "page-alone",
    (page) => page.replace("</head>", '<script src="https://cdn.example/vega.js"></script></head>')
  ],
  ["loads a font", "page-alone", (page) => page.replace("</head>", '<link rel="stylesheet"/></head>')],
  ["shows names as they came", "page-escaped", (page) => page.replaceAll(escaped(HOSTILE), HOSTILE)],
  [
    "ends its script early",
    "page-escaped",
    (page) => page.replaceAll("\\u003c", "<").replaceAll("\\u003e", ">")
  ],
  ["leaves out a policy", "page-whole", (page) => page.replace(/<tr><th scope="row">random.*<\/tr>/, "")],
  ["marks no best", "page-whole", (page) => page.replaceAll(/<\/?strong>/g, "")],
  ["has a drawing without a name", "page-whole", (page) => page.replace('role="img" ', "")],
  [
    "changes a figure",
    "page-whole",
    (page) => page.replace(/<td>(\d)/, "<td>7$1").replace(/<td><strong>/, "<td><strong>7")
  ]
]

describe("pages", () => keepsAll(laws, (page) => page))
describe("planted defects", () => findsAll(laws, defects))

test("both draw goodput against load; a comparison at one rate has none to draw", () => {
  const chart = "Goodput against load"
  expect(printed.map(({ titles }) => titles.includes(chart))).toEqual([true, true])
  const atOnce = comparison.trials.map((trials) =>
    trials.map((trial) => ({ ...trial, requestsPerSecond: Number.POSITIVE_INFINITY }))
  )
  for (const trials of [comparison.trials.map((each) => each.slice(0, 1)), atOnce])
    expect(comparisonCharts({ ...comparison, trials }, targets).map(({ title }) => title)).not.toContain(
      chart
    )
})

test("the same comparison gives the same page", async () => {
  expect(await comparisonPage(comparison, targets, provenance)).toBe(printed[0]!.page)
})

test("so many policies that lines could not be told apart are drawn up to the best, and all are in the table", async () => {
  const results = Array.from({ length: 20 }, (_, i) => {
    const one = comparison.results[0]!
    const goodput = { mean: i / 20, low: Number.NaN, high: Number.NaN }
    return { ...one, policy: `policy ${i}`, estimates: { ...one.estimates, goodput } }
  })
  const trials = [...results.map(() => comparison.trials[0]!), comparison.trials.at(-1)!]
  const page = await comparisonPage({ ...comparison, results, trials }, targets, provenance)
  expect(page).toContain(`Drawn are the ${DRAWN_MAX} of 20 policies`)
  expect(page).not.toContain("means over the seeds")
  expect(printed[0]!.page).toContain("means over the seeds")
  expect(page.match(/<th scope="row">policy \d+<\/th>/g)).toHaveLength(20)
  const drawn = page.slice(page.indexOf("<svg"))
  expect(drawn).toContain(">policy 13<")
  expect(drawn).not.toContain(">policy 12<")
})

test("long names go on below in the table, and are told apart by their line of it where they are drawn", async () => {
  const begin = "simple+queue-bounds:maxQueued=64"
  const named = (more: string) => ({ ...comparison.results[0]!, policy: `${begin}+kv-headroom${more}` })
  const results = [named("+hedge"), named("+steal")]
  const page = await comparisonPage({ ...comparison, results }, targets, provenance)
  for (const end of ["hedge", "steal"])
    expect(page).toContain(`<th scope="row">${begin}\n+kv-headroom+${end}</th>`)
  const sweeping = {
    ...sweep,
    results: sweep.results.map((one, i) => ({ ...one, found: { ...one.found, ...results[i] } }))
  }
  for (const drawn of [page.slice(page.indexOf("<svg")), JSON.stringify(sweepCharts(sweeping, 0.9))])
    for (const label of ["1: simple+queue-bounds", "2: simple+queue-bounds"]) expect(drawn).toContain(label)
  expect(tableText(tableOf({ ...comparison, results }))).toMatch(
    /^simple\+queue-bounds:maxQueued=64 +\d.*\n\+kv-headroom\+hedge +±.*\nsimple/m
  )
})

test("a title on lines is the title, of lines that are short or of one part", () => {
  const part = fc.stringMatching(/^[a-z:=.0-9-]{1,50}$/)
  fc.assert(
    fc.property(fc.array(part, { minLength: 1 }), (parts) => {
      const lines = titleLines(parts.join("+"))
      expect(lines.join("")).toBe(parts.join("+"))
      for (const line of lines) expect(line.length <= 40 || !/.\+\D/.test(line)).toBe(true)
    })
  )
})

test("requests that come all at once have no rate, and are not drawn", async () => {
  const [first] = sweep.results
  const trials = first!.trials.map((trial) => ({ ...trial, requestsPerSecond: Infinity }))
  const search = { ...first!, trials }
  const all = { results: [search], bounds: { bound: search, sharedCache: search } }
  expect(sweepCharts(all, 0.9)).toEqual([])
  expect(malformed(await sweepPage(all, 0.9, 2, provenance))).toEqual([])
})

test("tenants may be called as they like", async () => {
  const names = new Map<string, string>()
  const called = (tenant: string): string => {
    const name = names.get(tenant) ?? ["constructor", "toString", "__proto__"][names.size]!
    names.set(tenant, name)
    return name
  }
  const results = comparison.results.map((result) => ({
    ...result,
    plots: result.plots && {
      ...result.plots,
      tenants: result.plots.tenants.map((each) => ({ ...each, tenant: called(each.tenant) }))
    }
  }))
  const page = await comparisonPage({ ...comparison, results }, targets, provenance)
  for (const name of names.values()) expect(page.slice(0, page.indexOf("<script"))).toContain(`>${name}<`)
})

test("what nobody did is left out, and nothing breaks", async () => {
  const results = comparison.results.map(({ estimates, plots, policy }) => ({
    policy,
    estimates: Object.fromEntries(
      measureNames.map((name) => [name, { ...estimates[name], mean: Number.NaN }])
    ) as typeof estimates,
    plots: { ...plots!, ttftMs: [], tpotMs: [], tenants: [] }
  }))
  const page = await comparisonPage({ ...comparison, results }, targets, provenance)
  expect(malformed(page)).toEqual([])
  expect(page).not.toContain("Distribution of")
  expect(page.slice(0, page.indexOf("<script")).match(/.{20}(NaN|undefined|null).{20}/g)).toBeNull()
})

/** Of a page without its first line, what XML would not take. */
function malformed(page: string): ReadonlyArray<string> {
  const findings: Array<string> = []
  const open: Array<string> = []
  const ids = new Set<string>()
  if (!page.startsWith("<!doctype html>\n")) findings.push("no doctype")
  for (const [, name = "", attributes = "", text = ""] of page
    .slice("<!doctype html>\n".length)
    .matchAll(/<(\/?[\w:-]+)((?:\s+[\w:-]+="[^"<]*")*\s*\/?)>([^<]*)/g)) {
    if (name.startsWith("/")) {
      if (open.pop() !== name.slice(1)) findings.push(`${name} closes nothing`)
    } else if (!attributes.endsWith("/")) open.push(name)
    const id = / id="([^"]*)"/.exec(attributes)?.[1]
    if (id !== undefined && ids.has(id)) findings.push(`${id} twice`)
    if (id !== undefined) ids.add(id)
    if (name !== "style" && /&(?!(amp|lt|gt|quot|#\d+);)/.test(attributes + text))
      findings.push(`bare ampersand in ${name}`)
    if (text.includes("]]>")) findings.push(`end of CDATA in ${name}`)
  }
  const rest = page
    .replaceAll(/<\/?[\w:-]+(?:\s+[\w:-]+="[^"<]*")*\s*\/?>/g, "")
    .slice("<!doctype html>".length)
  if (/</.test(rest)) findings.push(`no tag: ${/<.{0,40}/.exec(rest)![0]}`)
  return open.length === 0 ? findings : [...findings, `${open.join(" ")} never closed`]
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}

function tagsOf(page: string): ReadonlyArray<string> {
  return page.match(/<\/?[a-z][^>]*>/gi) ?? []
}

/** As a reader sees it. */
function textOf(markup: string): string {
  return markup
    .replaceAll(/<\/?[\w:-]+[^>]*>/g, "")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&amp;", "&")
}

function clean(text: string): string {
  return textOf(escaped(text))
}
