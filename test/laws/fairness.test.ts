import { afterAll, describe, test } from "bun:test"
import { type FairSubject, fairnessLaws } from "./fairnessLaws.ts"
import { fairSubjects } from "./fairSubjects.ts"

const subjects: ReadonlyArray<readonly [string, FairSubject]> = Object.entries(fairSubjects)
const tightness: Array<{ readonly policy: string; readonly law: string; readonly shareOfBound: string }> = []

describe.each(subjects)("%s", (policy, subject) => {
  const laws = fairnessLaws.filter(({ applies }) => applies?.(subject) ?? true)
  test.each(laws.map((law) => [law.id, law] as const))("%s", (id, law) => {
    const share = law.check(subject)
    if (share !== undefined) tightness.push({ policy, law: id, shareOfBound: share.toFixed(3) })
  })
})

afterAll(() => console.table(tightness))
