import { expect, test } from "bun:test"
import * as fc from "fast-check"
import { lawRecord } from "./lawRecord.ts"

/** A plausible slip, the law that must find it, and what has it: so no law passes for want of trying. */
export type Planted<Subject> = readonly [defect: string, law: string, subject: Subject]

interface Law<Subject> {
  readonly id: string
  readonly check: (subject: Subject) => void
}

/** Each law as a test of one subject that has to keep them. */
export const keepsAll = <Subject>(laws: ReadonlyArray<Law<Subject>>, subject: Subject): void =>
  test.each(laws.map((law) => [law.id, law] as const))("%s", (_, law) => law.check(subject))

/** A defect that takes a rare case is missed by one search in five at most, so by all of them once in millions of runs. */
const SEARCHES_MAX = 10

/** Every defect is found by its law, by an expectation and not by an accident; and every law finds some defect. */
export const findsAll = <Subject>(
  laws: ReadonlyArray<Law<Subject>>,
  defects: ReadonlyArray<Planted<Subject>>
): void => {
  test.each(defects)("%s: %s finds it", (defect, id, subject) => {
    const law = laws.find((each) => each.id === id)!
    const search = () => violation(() => law.check(subject))
    let found = search()
    for (let i = 1; i < SEARCHES_MAX && found.cause === NOTHING; i++) found = search()
    expect(found.cause).toStartWith("expect(")
    lawRecord.tell({ defect, law: id, runs: found.runs })
  })

  test("every law finds some defect", () => {
    expect(laws.map((law) => law.id).filter((id) => !defects.some(([, finds]) => finds === id))).toEqual([])
  })
}

const NOTHING = "nothing"

/**
 * What broke, beneath the report of the property: an expectation, or an accident of the planted defect itself; and after how many runs.
 * Nobody looks for a smaller example: it would prove no more, and costs more than the search.
 */
const violation = (check: () => void): { readonly cause: string; readonly runs: number | null } => {
  const usual = fc.readConfigureGlobal()
  fc.configureGlobal({ ...usual, endOnFailure: true })
  try {
    check()
    return { cause: NOTHING, runs: null }
  } catch (error) {
    if (!(error instanceof Error)) return { cause: String(error), runs: null }
    const runs = /^Property failed after (\d+) tests/.exec(error.message)?.[1]
    const { message } = error.cause instanceof Error ? error.cause : error
    return { cause: message, runs: runs === undefined ? null : Number(runs) }
  } finally {
    fc.configureGlobal(usual)
  }
}
