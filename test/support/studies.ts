import type { Job, Run, Study } from "../../src/simulator/report/Study.ts"

/** Runs a study to its end, one replay after another, in the order in which it asks or another one. */
export const conclude = <Found>(
  study: Study<Found>,
  runner: (job: Job) => Run,
  order: (jobs: ReadonlyArray<Job>) => ReadonlyArray<Job> = (jobs) => jobs
): Found => {
  let asked = study.next([])
  while (asked.done !== true) {
    const runs = new Map(order(asked.value).map((job) => [job, runner(job)]))
    asked = study.next(asked.value.map((job) => runs.get(job)!))
  }
  return asked.value
}
