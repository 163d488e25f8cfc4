import { expect, test } from "bun:test"

/** A plausible slip, the law that must find it, and what has it: so no law passes for want of trying. */
export type Planted<Subject> = readonly [defect: string, law: string, subject: Subject]

interface Law<Subject> {
  readonly id: string
  readonly check: (subject: Subject) => void
}

/** Each law as a test of one subject that has to keep them. */
export const keepsAll = <Subject>(laws: ReadonlyArray<Law<Subject>>, subject: Subject): void =>
  test.each(laws.map((law) => [law.id, law] as const))("%s", (_, law) => law.check(subject))

/** Every defect is found by its law, by an expectation and not by an accident; and every law finds some defect. */
export const findsAll = <Subject>(
  laws: ReadonlyArray<Law<Subject>>,
  defects: ReadonlyArray<Planted<Subject>>
): void => {
  test.each(defects)("%s: %s finds it", (_, id, subject) => {
    const law = laws.find((each) => each.id === id)!
    expect(violation(() => law.check(subject))).toStartWith("expect(")
  })

  test("every law finds some defect", () => {
    expect(laws.map((law) => law.id).filter((id) => !defects.some(([, finds]) => finds === id))).toEqual([])
  })
}

/** What broke, beneath the report of the property: an expectation, or an accident of the planted defect itself. */
const violation = (check: () => void): string => {
  try {
    check()
    return "nothing"
  } catch (error) {
    if (!(error instanceof Error)) return String(error)
    return error.cause instanceof Error ? error.cause.message : error.message
  }
}
