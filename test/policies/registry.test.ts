import { describe, expect, test } from "bun:test"
import { choiceOf, makePipeline, pipelines } from "../../src/policies/pipelines.ts"
import type { OptionSpec } from "../../src/domain/config/pipeline.ts"
import { optionProblem } from "../../src/policies/Policy.ts"
import {
  decisionPoints,
  findAdmission,
  findOrdering,
  findPlacement,
  findScaling
} from "../../src/policies/registry.ts"
import { makeRng } from "../../src/structures/Rng.ts"

const entries = decisionPoints.flatMap(({ entries }) => entries.map((entry) => [entry.name, entry] as const))

describe.each(entries)("%s", (name, entry) => {
  test("says what it is", () => {
    expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/)
    for (const text of [entry.summary, entry.definition]) expect(text).toMatch(/^[A-Z][^\n]+\.$/)
    expect(entry.source).not.toBe("")
  })

  test("has options with defaults inside their bounds, and a summary of what they are and do", () => {
    for (const [option, spec] of Object.entries<OptionSpec>(entry.options)) {
      expect(option).toMatch(/^[a-z][a-zA-Z]*$/)
      expect(optionProblem(spec, spec.default)).toBeNull()
      expect(spec.summary).toMatch(/^[A-Z][^\n]+[.:;] [^\n]+\.$/)
      if (spec.kind === "duration") expect(spec.unit).toBe("ms")
    }
  })

  test("is made from its defaults, and refuses an option it does not have", () => {
    entry.make({}, makeRng(1))
    expect(() => entry.make({ colour: 1 }, makeRng(1))).toThrow(`${name} has an option colour`)
  })
})

test.each(decisionPoints.map(({ name, entries }) => [name, entries] as const))(
  "%s policies have different names",
  (_, list) => expect(new Set(list.map(({ name }) => name)).size).toBe(list.length)
)

test("a policy is found by its name and no other", () => {
  expect(findPlacement("power-of-two").name).toBe("power-of-two")
  for (const find of [findAdmission, findOrdering, findPlacement])
    for (const name of ["fifo", ""]) expect(() => find(name)).toThrow(`there is a policy ${name}`)
})

test.each(Object.entries(pipelines))("pipeline %s names policies of the registry", (_, preset) => {
  makePipeline(choiceOf(preset), makeRng(1))
  expect(findScaling(preset.scaling).name).toBe(preset.scaling)
})

describe("option values", () => {
  const count: OptionSpec = { kind: "integer", default: 2, minimum: 1, maximum: 16, summary: "" }
  const share: OptionSpec = { kind: "number", default: 0.5, summary: "" }
  const on: OptionSpec = { kind: "boolean", default: true, summary: "" }
  const mode: OptionSpec = { kind: "choice", default: "a", choices: ["a", "b"], summary: "" }

  test.each([
    [count, 16, null],
    [count, 17, "must be at most 16"],
    [count, 0, "must be at least 1"],
    [count, 1.5, "must be a whole number"],
    [count, "2", "must be a finite number"],
    [share, -1e9, null],
    [share, Number.NaN, "must be a finite number"],
    [share, Number.POSITIVE_INFINITY, "must be a finite number"],
    [on, false, null],
    [on, 0, "must be true or false"],
    [mode, "b", null],
    [mode, "c", "must be one of a, b"]
  ])("%j with %j", (spec, value, problem) => {
    expect(optionProblem(spec, value)).toBe(problem)
  })

  test("a value outside its range makes no policy", () => {
    const make = (options: Readonly<Record<string, number>>) => () =>
      findPlacement("power-of-two").make(options, makeRng(1))
    expect(make({ d: 0 })).toThrow("option d of power-of-two must be at least 1")
    expect(make({ d: 3 })).not.toThrow()
  })
})
