import { describe, expect, test } from "bun:test"
import { compile } from "./support/compile.ts"
import { exists, type Source, sources } from "./support/repository.ts"
import manifest from "../package.json" with { type: "json" }

interface Block {
  /** Page and line of the fence. */
  readonly where: string
  readonly language: string
  readonly text: string
}

const pages = sources("", /^(README|CONTRIBUTING|docs\/[^/]+)\.md$|^docs\/[^/]+\.md$/)

test("TypeScript in the pages type-checks, and a wrong block is found", async () => {
  const planted = { where: "planted", language: "ts", text: "export const a: number = `b`" }
  const blocks = [...pages.flatMap(blocksOf).filter(({ language }) => language === "ts"), planted]
  // Without our own rules: a reader's code may print.
  const errors = await compile(
    blocks.map(({ text }) => text),
    { plugins: [], noUnusedLocals: false }
  )
  expect(errors.map(({ index, line, message }) => `${blocks[index]!.where}+${line}: ${message}`)).toEqual([
    expect.stringMatching(/^planted\+1: .*not assignable to type 'number'/)
  ])
})

describe("commands in the pages", () => {
  test("exist", () => {
    expect(pages.flatMap((page) => unknownCommands(page, Object.keys(manifest.scripts), exists))).toEqual([])
  })

  test("README sets up, runs and tests with two commands", () => {
    const readme = pages.find(({ path }) => path === "README.md")
    const shell = readme === undefined ? [] : blocksOf(readme).filter(({ language }) => language === "sh")
    const lines = shell.flatMap(({ text }) => text.split("\n"))
    expect(lines).toContain("npm install && npm run cluster")
    expect(lines).toContain("npm install && npm test")
  })

  test.each([
    ["`bun run balance`", "bun run balance"],
    ["npm run tset", "npm run tset"],
    ["```sh\nbun bench/gone.bench.ts --json\n```", "bun bench/gone.bench.ts"],
    ["```sh\nnpx eslint .\n```", "npx eslint"]
  ])("found: %j", (text, finding) => {
    const page = { path: "docs/a.md", text }
    expect(unknownCommands(page, ["test", "cluster"], () => false)).toEqual([`docs/a.md: ${finding}`])
  })

  test("passed: scripts, files and tools that exist", () => {
    const text = "`bun run cluster --json`\n```sh\n$ npm run test:all\nbun bench/hop.bench.ts\nnpx tsc\n```"
    const present = (path: string): boolean => ["bench/hop.bench.ts", "node_modules/.bin/tsc"].includes(path)
    expect(unknownCommands({ path: "docs/a.md", text }, ["cluster", "test:all"], present)).toEqual([])
  })
})

describe("codes of the HTTP listener", () => {
  test("are all in its page", () => {
    const page = pages.find(({ path }) => path === "docs/http.md")?.text ?? ""
    const gateway = sources("src/gateway", /\.ts$/)
    expect(codesOf(gateway)).toContain("foreign_origin")
    expect(codesOf(gateway).filter((code) => !page.includes(`\`${code}\``))).toEqual([])
  })

  test("are found in the source", () => {
    const text = 'httpError(404, "not_found", why)\nhttpError(\n  413,\n  "too_large"\n)'
    expect(codesOf([{ path: "src/gateway/A.ts", text }])).toEqual(["not_found", "too_large"])
  })
})

test("reasons of the command line are among those that are explained", () => {
  const operations = pages.find(({ path }) => path === "docs/operations.md")
  const reasons = sources("src/cluster/cli", /\.ts$/).flatMap(({ text }) =>
    [...text.matchAll(/\breason: "(\w+)"/g)].map((match) => match[1]!)
  )
  expect(reasons).not.toBeEmpty()
  expect(reasons.filter((reason) => operations?.text.includes(`| \`${reason}\``) !== true)).toEqual([])
})

test("blocks are read with their language and line", () => {
  const text = "a\n```ts\nconst b = 1\n```\n\n```sh\nc\n```\n"
  expect(blocksOf({ path: "p.md", text })).toEqual([
    { where: "p.md:2", language: "ts", text: "const b = 1\n" },
    { where: "p.md:6", language: "sh", text: "c\n" }
  ])
})

/** Codes of the errors that these files answer with. */
function codesOf(files: ReadonlyArray<Source>): ReadonlyArray<string> {
  return files.flatMap(({ text }) =>
    [...text.matchAll(/httpError\(\s*\d+,\s*"(\w+)"/g)].map((match) => match[1]!)
  )
}

function blocksOf({ path, text }: Source): ReadonlyArray<Block> {
  return [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].map((match) => ({
    where: `${path}:${text.slice(0, match.index).split("\n").length}`,
    language: match[1]!,
    text: match[2]!
  }))
}

/** Commands of the page that name no script of package.json, no file and no installed tool, as "page: command". */
function unknownCommands(
  page: Source,
  scripts: ReadonlyArray<string>,
  present: (path: string) => boolean
): ReadonlyArray<string> {
  const wrong = (pattern: RegExp, known: (name: string) => boolean): ReadonlyArray<string> =>
    [...page.text.matchAll(pattern)]
      .filter((match) => !known(match[1]!))
      .map((match) => `${page.path}: ${match[0]}`)
  return [
    ...wrong(/\b(?:bun|npm) run ([\w:-]+)(?![\w/.])/g, (name) => scripts.includes(name)),
    ...wrong(/\bbun (?:run )?([\w/.-]+\.ts)\b/g, present),
    ...wrong(/\b(?:npx|bunx) ([\w-]+)/g, (name) => present(`node_modules/.bin/${name}`))
  ]
}
