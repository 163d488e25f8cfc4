import { describe, expect, test } from "bun:test"
import { dirname, join } from "node:path/posix"
import lock from "../package-lock.json" with { type: "json" }
import manifest from "../package.json" with { type: "json" }
import { exists, type Source, sources } from "./support/repository.ts"

/** A text that must not occur in certain files, and what to write in its place. */
interface Ban {
  readonly name: string
  readonly files: RegExp
  /** Global; the whole match is shown to who wrote it. */
  readonly text: RegExp
  readonly instead: string
  readonly bad: ReadonlyArray<string>
  readonly good: ReadonlyArray<string>
}

const prose = /\.(ts|md)$/
const any = /./

/** Words of the glossary's «avoid» column that have no second meaning here. */
const terms: Readonly<Record<string, string>> = {
  replica: "worker",
  healthy: "ready, live or suspect",
  slave: "standby",
  tbt: "ITL",
  util: "the name of the thing",
  helper: "the name of the thing"
}

const bans: ReadonlyArray<Ban> = [
  {
    name: "unfinished work",
    files: any,
    text: /\b(TODO|FIXME|XXX|HACK)\b/g,
    instead: "finish it, or open an issue",
    bad: ["// TODO: later", "<!-- FIXME -->"],
    good: ["const todos = 1"]
  },
  {
    name: "a test left out",
    files: /^(test|bench)\/.*\.ts$/,
    text: /\b(test|describe|it|live)\.(only|skip|todo|failing)\b/g,
    instead: "run it, or delete it (skipIf with a printed reason for what a machine may lack)",
    bad: ['test.only("a", f)', 'describe.skip("a", f)', "it.only.each(rows)"],
    good: ["test.skipIf(!exists(traces))", "stream.skip(3)"]
  },
  {
    name: "a path of one machine",
    files: any,
    text: /(?<![\w./:~}-])\/(work|home|root|tmp|Users|private)\/[\w.-]+|\b[A-Z]:\\+Users/g,
    instead: "a path from the repository root, or a directory from mkdtemp",
    bad: ['readFile("/tmp/x")', "see /home/me/notes", 'open("C:\\\\Users")'],
    good: ["https://example.org/home/x", "join(root, tmp)", "../shared/traces", "src/opt/x"]
  },
  {
    name: "closing a socket by end()",
    files: /^src\/(protocol|client|actors)\//,
    text: /\b\w*(?:socket|connection)\??\.end\(/gi,
    instead: "shutdown(), wait for the peer's FIN, terminate(): end() drops bytes already taken",
    bad: ["socket.end()", "this.socket.end(bytes)"],
    good: ["request.end(answer)", "socket.shutdown()"]
  },
  {
    name: "a name that names nothing",
    files: /^(src|bench|scripts)\/.*\.ts$/,
    text: /^export (?:abstract )?(?:const|function|class|interface|type) \w*(?:(?<!Pool)Manager|Processor|Service|Controller|Impl|Base|Info|Item|Data)\b/gm,
    instead: "the thing's noun",
    bad: ["export class QueueManager {", "export interface RequestInfo {", "export const frameProcessor = 1"],
    good: ["export class PoolManager {", "export const startPoolManager = 1", "export const database = 1"]
  },
  {
    name: "a word outside the glossary",
    files: prose,
    text: new RegExp(Object.keys(terms).flatMap(asWordPart).join("|"), "g"),
    instead: Object.entries(terms)
      .map(([word, instead]) => `${word} → ${instead}`)
      .join(", "),
    bad: [
      "const replicaCount = 1",
      "an unhealthy worker, a healthy one",
      "pickReplica()",
      "helpers",
      "tbtMs"
    ],
    good: ["const utilization = 1", "helpersome", "replication", 'from "node:util"']
  },
  {
    name: "a slogan",
    files: prose,
    text: /\b(robust|seamless|comprehensive|effortless|blazing|cutting-edge|world-class|battle-tested|leverag(e|es|ing))(ly|ness)?\b/gi,
    instead: "a number, or nothing",
    bad: ["a robust design", "Seamlessly integrates", "leverages Effect"],
    good: ["robusta coffee"]
  },
  {
    name: "history",
    files: /^(?!CHANGELOG|changelog\.d).*\.(ts|md)$/,
    text: /\b(previously|formerly|used to be|legacy|issue #?\d+)\b/gi,
    instead: "the present; commits tell the past",
    bad: ["// previously a Map", "see issue 12", "fixed in issue #3"],
    good: ["// a Map: ids are dense", "open an issue"]
  }
]

describe.each(bans)("$name", (ban) => {
  test("is nowhere", () => {
    expect(
      tree.filter(({ path }) => path !== self && ban.files.test(path)).flatMap((file) => banned(ban, file))
    ).toEqual([])
  })

  test.each(ban.bad)("found: %s", (text) => {
    expect(banned(ban, { path: "a", text }).length).toBeGreaterThan(0)
  })

  test.each(ban.good)("passed: %s", (text) => {
    expect(banned(ban, { path: "a", text })).toEqual([])
  })
})

describe("file names", () => {
  test("say what is inside", () => {
    expect(vague(tree.map(({ path }) => path))).toEqual([])
  })

  test.each(["src/actors/utils.ts", "src/common/Queue.ts", "test/support/helpers.ts", "src/misc.ts"])(
    "found: %s",
    (path) => {
      expect(vague([path])).toEqual([path])
    }
  )

  test("passed", () => {
    expect(vague(["src/protocol/Codec.ts", "src/structures/Ewma.ts"])).toEqual([])
  })
})

describe("relative links of pages", () => {
  const pages = () => tree.filter(({ path }) => path.endsWith(".md"))

  test("lead somewhere", () => {
    expect(pages().flatMap((page) => deadLinks(page, pages(), exists))).toEqual([])
  })

  test("found: a missing file, a missing heading", () => {
    const page = { path: "docs/a.md", text: "[a](../b.md) [b](c.md#other) [c](#here) ![d](d.svg)\n# Here" }
    const other = { path: "docs/c.md", text: "# The `one` heading: yes" }
    expect(deadLinks(page, [page, other], (path) => path === "docs/c.md")).toEqual([
      "docs/a.md: ../b.md",
      "docs/a.md: c.md#other",
      "docs/a.md: d.svg"
    ])
  })

  test("passed: an existing heading, the web, code", () => {
    const page = {
      path: "docs/a.md",
      text: "[a](c.md#the-one-heading-yes) [w](https://x.org/y) `[x](y)`\n```\n[x](y)\n```"
    }
    const other = { path: "docs/c.md", text: "# The `one` heading: yes" }
    expect(deadLinks(page, [page, other], (path) => path === "docs/c.md")).toEqual([])
  })

  test("reach every page of docs from docs/README.md", () => {
    expect(unlinked(pages())).toEqual([])
  })

  test("found: a page of docs that docs/README.md does not name", () => {
    const page = (path: string, text = "") => ({ path, text })
    const found = unlinked([
      page("docs/README.md", "[a](a.md) [b](b.md#part) [c](../c.md) `[d](d.md)`"),
      page("docs/a.md", "[d](d.md)"),
      page("docs/b.md"),
      page("c.md"),
      page("docs/d.md")
    ])
    expect(found).toEqual(["docs/d.md"])
  })
})

describe("docs/invariants.md", () => {
  const table = (...rows: ReadonlyArray<string>): string =>
    ["| id | what always holds | test |", "| --- | --- | --- |", ...rows].join("\n")
  const row = "| A1 | holds | `test/a.test.ts` |"

  test("names a test that exists for every invariant, and every law", () => {
    const page = tree.find(({ path }) => path === "docs/invariants.md")?.text ?? ""
    expect(rowsOf(page).length).toBeGreaterThan(0)
    expect(invariantFindings(page, laws(tree), exists)).toEqual([])
  })

  test.each([
    [table("| A1 | holds | `test/gone.test.ts` |"), "A1: test/gone.test.ts does not exist"],
    [table("| A1 | holds | soon |"), "A1: names no test"],
    [table("| A1 |  | `test/a.test.ts` |"), "A1: says nothing"],
    [table(row, row), "A1: stands twice"],
    [table(row, "| P1 | is asked | `A1`, `gone` |"), "P1: gone is not listed"]
  ])("found: %j", (page, finding) => {
    expect(invariantFindings(page, [], (path) => path === "test/a.test.ts")).toEqual([finding])
  })

  test("found: laws that are not listed, by file and by id", () => {
    const files = [
      { path: "test/laws/b.test.ts", text: "" },
      { path: "test/laws/bLaws.ts", text: '  {\n    id: "b-holds",\n' },
      { path: "test/c.test.ts", text: '    id: "c"' }
    ]
    const findings = ["test/laws/b.test.ts is not listed", "b-holds is not listed"]
    expect(invariantFindings(table(row), laws(files), () => true)).toEqual(findings)
    expect(
      invariantFindings(table(row, "| b-holds | x | `test/laws/b.test.ts` |"), laws(files), () => true)
    ).toEqual([])
  })
})

describe("install scripts", () => {
  const allowed: Readonly<Record<string, boolean>> = manifest.allowScripts

  test("of packages are allowed or refused by name, so that npm neither asks nor leaves Bun half installed", () => {
    expect(withScripts(lock.packages).filter((name) => !(name in allowed))).toEqual([])
    expect(allowed["bun"]).toBe(true)
  })

  test("found: packages that have one, wherever they lie", () => {
    const packages = {
      "": {},
      "node_modules/a": {},
      "node_modules/a/node_modules/@b/c": { hasInstallScript: true }
    }
    expect(withScripts(packages)).toEqual(["@b/c"])
  })
})

const self = "test/tidy.test.ts"
const tree = sources("", /\.(ts|md|json|ya?ml|toml|sh|html|css)$|^\.ci\//)

/** Names of the packages of a lock file that have a script to run when they are installed. */
function withScripts(packages: Readonly<Record<string, object>>): ReadonlyArray<string> {
  return Object.entries(packages)
    .filter(([, entry]) => "hasInstallScript" in entry)
    .map(([path]) => path.split("node_modules/").at(-1)!)
}

/** Where the ban is broken, as "path:line: what; what to write". */
function banned(ban: Ban, { path, text }: Source): ReadonlyArray<string> {
  return [...text.matchAll(ban.text)].map((match) => {
    const line = text.slice(0, match.index).split("\n").length
    return `${path}:${line}: «${match[0].trim()}»; write ${ban.instead}`
  })
}

/** Patterns for a word on its own and as a part of a camelCase name, with or without a plural. */
function asWordPart(word: string): ReadonlyArray<string> {
  const capital = word[0]!.toUpperCase() + word.slice(1)
  return [`(?<![A-Za-z]|node:)(?:un)?(?:${word}|${capital})s?(?![a-z])`, `(?<=[a-z])${capital}s?(?![a-z])`]
}

function vague(paths: ReadonlyArray<string>): ReadonlyArray<string> {
  return paths.filter((path) => /(^|\/)(utils?|helpers?|common|misc|shared|lib)(\/|\.ts$)/i.test(path))
}

/** Targets of a page's links that do not lead to the web. */
function linksOf(text: string): ReadonlyArray<string> {
  return [...withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)]
    .map((match) => match[1]!)
    .filter((target) => !/^[a-z]+:/.test(target))
}

function deadLinks(
  page: Source,
  pages: ReadonlyArray<Source>,
  present: (path: string) => boolean
): ReadonlyArray<string> {
  return linksOf(page.text)
    .filter((target) => {
      const [file = "", heading] = target.split("#")
      const path = file === "" ? page.path : join(dirname(page.path), file)
      if (file !== "" && !present(path)) return true
      return (
        heading !== undefined &&
        !headingsOf(pages.find((other) => other.path === path)?.text ?? "").has(heading)
      )
    })
    .map((target) => `${page.path}: ${target}`)
}

/** Pages of docs to which docs/README.md has no link. */
function unlinked(pages: ReadonlyArray<Source>): ReadonlyArray<string> {
  const text = pages.find(({ path }) => path === "docs/README.md")?.text ?? ""
  const linked = new Set(linksOf(text).map((link) => join("docs", link.split("#")[0]!)))
  return pages
    .map(({ path }) => path)
    .filter((path) => /^docs\/(?!README)[^/]*$/.test(path) && !linked.has(path))
}

function withoutCode(text: string): string {
  return text.replace(/^```[^]*?^```/gm, "").replace(/`[^`\n]*`/g, "")
}

/** Anchors as GitHub makes them: lower case, punctuation dropped, spaces to hyphens. */
function headingsOf(text: string): ReadonlySet<string> {
  const headings = text.replace(/^```[^]*?^```/gm, "").matchAll(/^#+ +(.+)$/gm)
  return new Set(
    [...headings].map((match) =>
      match[1]!
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-")
    )
  )
}

/** The cells of every row but the heads of the tables. */
function rowsOf(page: string): ReadonlyArray<ReadonlyArray<string>> {
  const lines = page.split("\n")
  return lines
    .filter(
      (line, index) =>
        line.startsWith("|") && !/^\|[\s:|-]+$/.test(line) && !/^\|[\s:|-]+$/.test(lines[index + 1] ?? "")
    )
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim())
    )
}

/** What must be listed: the test files of laws, and the ids of the laws. */
function laws(files: ReadonlyArray<Source>): ReadonlyArray<string> {
  return files
    .filter(({ path }) => path.startsWith("test/laws/"))
    .flatMap(({ path, text }) =>
      path.endsWith(".test.ts") ? [path] : [...text.matchAll(/^ +id: "([\w-]+)"/gm)].map((match) => match[1]!)
    )
}

function invariantFindings(
  page: string,
  listed: ReadonlyArray<string>,
  present: (path: string) => boolean
): ReadonlyArray<string> {
  const rows = rowsOf(page)
  const ids = new Set(rows.map(([id]) => id))
  const seen = new Set<string>()
  const findings = rows.flatMap(([id = "", statement = "", shown = ""]) => {
    if (seen.has(id)) return [`${id}: stands twice`]
    seen.add(id)
    if (statement === "") return [`${id}: says nothing`]
    const tests = shown.match(/test\/[\w./-]+\.test\.ts/g) ?? []
    const others = [...shown.matchAll(/`([\w-]+)`/g)].map((match) => match[1]!)
    if (tests.length + others.length === 0) return [`${id}: names no test`]
    const unlisted = others.filter((other) => !ids.has(other)).map((other) => `${id}: ${other} is not listed`)
    if (unlisted.length > 0) return unlisted
    return tests.filter((path) => !present(path)).map((path) => `${id}: ${path} does not exist`)
  })
  const missing = listed.filter((law) => !seen.has(law) && !page.includes(`\`${law}\``))
  return [...findings, ...missing.map((law) => `${law} is not listed`)]
}
