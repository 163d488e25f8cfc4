import { Glob } from "bun"
import { describe, expect, test } from "bun:test"
import { readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path/posix"
import { compile } from "./support/compile.ts"
import { root, type Source, sources } from "./support/repository.ts"

const nouns = ["structures", "domain"]
const wire = [...nouns, "protocol"]
const observed = [...wire, "observability"]
const kernel = [...observed, "actors/runtime"]
const cores = [...kernel, "policies", "engines", "coordination"]

/** Every layer with the layers it may import. `.oxlintrc.json` repeats this for the editor; a test below compares them. */
const layers: Readonly<Record<string, ReadonlyArray<string>>> = {
  structures: [],
  domain: ["structures"],
  policies: nouns,
  protocol: nouns,
  observability: wire,
  engines: observed,
  "actors/runtime": observed,
  coordination: kernel,
  actors: cores,
  client: wire,
  gateway: [...observed, "client"],
  dashboard: [...nouns, "observability"],
  simulator: [...cores, "actors"],
  cluster: [...cores, "actors", "client", "gateway", "dashboard", "simulator"]
}

/** Packages that one layer alone may import. */
const owners: Readonly<Record<string, string>> = {
  msgpackr: "protocol",
  "prom-client": "observability",
  "effect/cluster": "coordination",
  "effect/rpc": "coordination"
}

/** Files that take time, randomness and everything from outside as arguments. */
const pureFile = /^src\/(structures|policies|engines\/simulated)\/|State\.ts$/
/** What domain may use of Effect: schemas and plain values, no runtime. */
const pureEffect = /^effect\/(Schema\w*|Duration|Option|Predicate|Redacted|Result)$/
const outside =
  /(?<![\w.])(Date|Math\.random|performance|setTimeout|setInterval|setImmediate|queueMicrotask|process|Bun|crypto|fetch|console)\s*[.(]/g

test("imports point downwards", () => {
  expect(upward(tree)).toEqual([])
})

test("pure files load nothing that is not pure, and use nothing from outside", () => {
  expect(impure(tree)).toEqual([])
})

test("packages of one layer go by the names under which they are installed", () => {
  for (const name of Object.keys(owners)) expect(() => Bun.resolveSync(name, root)).not.toThrow()
})

test("the test reads the real tree", () => {
  expect(tree.length).toBeGreaterThan(20)
  expect(tree.filter(({ path }) => pureFile.test(path)).length).toBeGreaterThan(2)
  expect(tree.flatMap(importsOf).length).toBeGreaterThan(20)
})

describe("planted violations are found", () => {
  const planted = (files: Readonly<Record<string, string>>) =>
    Object.entries(files).map(([path, text]) => ({ path, text }))

  test.each([
    ["src/structures/A.ts", 'import { b } from "../domain/B.ts"', "structures may not import domain"],
    ["src/domain/A.ts", 'import type { B } from "../actors/B.ts"', "domain may not import actors"],
    ["src/protocol/A.ts", 'export * from "../policies/B.ts"', "protocol may not import policies"],
    ["src/client/A.ts", 'const b = await import("../gateway/B.ts")', "client may not import gateway"],
    ["src/client/A.ts", 'import {\n  b,\n  c\n} from "../engines/B.ts"', "client may not import engines"],
    ["src/actors/runtime/A.ts", 'import { b } from "../B.ts"', "actors/runtime may not import actors"],
    ["src/gateway/A.ts", 'import { b } from "../dashboard/B.ts"', "gateway may not import dashboard"],
    ["src/cluster/A.ts", 'import { b } from "../../test/B.ts"', "imports ../../test/B.ts, outside src"],
    ["src/actors/A.ts", 'import { pack } from "msgpackr"', "only protocol imports msgpackr"],
    [
      "src/gateway/A.ts",
      'import { Sharding } from "effect/cluster"',
      "only coordination imports effect/cluster"
    ],
    ["src/actors/A.ts", 'import * as Rpc from "effect/rpc/Rpc"', "only coordination imports effect/rpc"],
    ["src/misc/A.ts", "export const a = 1", "src/misc is no layer"]
  ])("%s: %j", (path, text, message) => {
    expect(upward(planted({ [path]: text }))).toEqual([`${path}: ${message}`])
  })

  test.each([
    ["src/structures/A.ts", "export const a = () => Date.now()", "uses Date"],
    ["src/policies/A.ts", "setTimeout(() => {}, 1)", "uses setTimeout"],
    ["src/engines/simulated/A.ts", "export const a = Math.random()", "uses Math.random"],
    ["src/actors/AState.ts", "export const a = process.pid", "uses process"],
    ["src/policies/A.ts", 'import * as Effect from "effect/Effect"', "loads effect/Effect"],
    ["src/domain/A.ts", 'import * as Effect from "effect/Effect"', "loads effect/Effect"]
  ])("%s: %j", (path, text, message) => {
    expect(impure(planted({ [path]: text }))).toEqual([`${path}: ${message}`])
  })

  test("a package behind another module", () => {
    const files = {
      "src/actors/AState.ts": 'import { b } from "../protocol/B.ts"\nexport const a = b',
      "src/protocol/B.ts": 'import { c } from "./C.ts"\nexport const b = c',
      "src/protocol/C.ts": 'import { connect } from "bun"\nexport const c = connect'
    }
    expect(impure(planted(files))).toEqual(["src/actors/AState.ts: loads bun through src/protocol/C.ts"])
  })

  test("types, comments and schemas pass", () => {
    const files = {
      "src/policies/A.ts":
        '/** No Date.now() here. */\nimport type { B } from "../domain/B.ts"\nexport type A = B',
      "src/domain/B.ts": 'import * as Schema from "effect/Schema"\nexport const B = Schema.String',
      "src/actors/CState.ts": 'import type { D } from "../protocol/D.ts"\nexport type C = D',
      "src/protocol/D.ts": 'import { connect } from "bun"\nexport const D = connect'
    }
    expect([...upward(planted(files)), ...impure(planted(files))]).toEqual([])
  })
})

describe("the linter says the same", () => {
  const folders = Object.keys(layers)
  test.each(folders.filter((folder) => folder !== "cluster"))("%s", (from) => {
    for (const to of folders.filter((folder) => folder !== from)) {
      const file = `src/${from}/Planted.ts`
      const specifier = relative(dirname(file), `src/${to}/Other.ts`)
      const dotted = specifier.startsWith(".") ? specifier : `./${specifier}`
      expect([to, lintForbids(file, dotted)]).toEqual([to, !layers[from]!.includes(to)])
    }
  })

  test.each([
    "src/structures/A.ts",
    "src/policies/placement/a.ts",
    "src/engines/simulated/A.ts",
    "src/actors/AState.ts"
  ])("%s is pure", (file) => {
    for (const specifier of ["effect/Effect", "bun", "node:fs", "msgpackr"])
      expect(lintForbids(file, specifier)).toBe(true)
  })
})

test("the compiler applies Effect's rules: it was patched when packages were installed", async () => {
  const errors = await compile(["export const nowMs = Date.now()"])
  expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining("globalDate")])
})

const tree = sources("src", /\.ts$/)

interface Import {
  readonly specifier: string
  /** Gone after compilation: nothing is loaded. */
  readonly typeOnly: boolean
}

const statement =
  /^(?:import|export)\s+(type\s)?[^"';]*?from\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"/gm

const importsOf = ({ text }: Source): ReadonlyArray<Import> =>
  [...text.matchAll(statement)].map((match) => ({
    specifier: (match[2] ?? match[3] ?? match[4])!,
    typeOnly: match[1] !== undefined
  }))

const layerOf = (path: string): string =>
  path.startsWith("src/actors/runtime/") ? "actors/runtime" : path.split("/")[1]!

const resolve = (from: string, specifier: string): string => join(dirname(from), specifier)

/** Imports that break the order of the layers, as "file: what is wrong". */
const upward = (files: ReadonlyArray<Source>): ReadonlyArray<string> =>
  files.flatMap((file) => {
    const from = layerOf(file.path)
    const allowed = layers[from]
    if (allowed === undefined) return [`${file.path}: src/${from} is no layer`]
    return importsOf(file).flatMap(({ specifier }) => {
      if (!specifier.startsWith(".")) {
        const owned = Object.keys(owners).find(
          (name) => specifier === name || specifier.startsWith(`${name}/`)
        )
        return owned === undefined || owners[owned] === from
          ? []
          : [`${file.path}: only ${owners[owned]} imports ${owned}`]
      }
      const target = resolve(file.path, specifier)
      if (target === "package.json" && from === "cluster") return []
      if (!target.startsWith("src/")) return [`${file.path}: imports ${specifier}, outside src`]
      const to = layerOf(target)
      return to === from || allowed.includes(to) ? [] : [`${file.path}: ${from} may not import ${to}`]
    })
  })

/** What pure files and domain load or use that is not pure, as "file: what is wrong". */
const impure = (files: ReadonlyArray<Source>): ReadonlyArray<string> => {
  const byPath = new Map(files.map((file) => [file.path, file]))
  return files
    .filter(({ path }) => pureFile.test(path) || layerOf(path) === "domain")
    .flatMap((file) => [
      ...[...codeOf(file).matchAll(outside)].map((match) => `${file.path}: uses ${match[1]}`),
      ...loadedBy(file.path, byPath).map((loaded) => `${file.path}: loads ${loaded}`)
    ])
}

/** Packages other than domain's schemas that importing this file loads, directly or through other files. */
const loadedBy = (start: string, byPath: ReadonlyMap<string, Source>): ReadonlyArray<string> => {
  const seen = new Set([start])
  const loaded: Array<string> = []
  for (const path of seen) {
    const file = byPath.get(path)
    if (file === undefined) continue
    for (const { specifier, typeOnly } of importsOf(file)) {
      if (typeOnly) continue
      if (specifier.startsWith(".")) seen.add(resolve(path, specifier))
      else if (!(layerOf(path) === "domain" && pureEffect.test(specifier))) {
        loaded.push(path === start ? specifier : `${specifier} through ${path}`)
      }
    }
  }
  return loaded
}

const transpiler = new Bun.Transpiler({ loader: "ts" })

/** The file without types and comments. */
const codeOf = ({ text }: Source): string => transpiler.transformSync(text)

interface LintConfig {
  readonly overrides: ReadonlyArray<{
    readonly files: ReadonlyArray<string>
    readonly rules: Readonly<
      Record<string, readonly ["error", { readonly patterns: ReadonlyArray<{ readonly regex: string }> }]>
    >
  }>
}

const lint: LintConfig = JSON.parse(readFileSync(join(root, ".oxlintrc.json"), "utf8"))

const importRule = "eslint/no-restricted-imports"

/** Whether the last override that matches the file refuses this import. */
const lintForbids = (file: string, specifier: string): boolean => {
  const override = lint.overrides.findLast(
    ({ files, rules }) => importRule in rules && files.some((glob) => new Glob(glob).match(file))
  )
  return (
    override?.rules[importRule]?.[1].patterns.some(({ regex }) => new RegExp(regex).test(specifier)) ?? false
  )
}
