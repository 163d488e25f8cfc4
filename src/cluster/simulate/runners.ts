import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { type Job, type Run, runnerOf, type Study } from "../../simulator/report/Study.ts"
import type { CliFailure } from "../cli/CliFailure.ts"
import { Shell } from "../cli/Shell.ts"
import { rawTrace, STANDARD_INPUT } from "../readTrace.ts"
import { settingOf, type SettingFlags } from "./setting.ts"
import { Showing } from "./showing.ts"
import { Thread } from "./Thread.ts"
import { checkReadAgain, tracesOf, trafficOf } from "./traffic.ts"
import { checkTenants } from "./weights.ts"

/** Does one job, when its turn comes. */
type Runner = (job: Job) => Effect.Effect<Run, CliFailure>

/** What does jobs in the thread that calls. */
export const runnerFor = Effect.fnUntraced(function* (
  flags: SettingFlags
): Effect.fn.Return<(job: Job) => Run, CliFailure, Shell> {
  const setting = yield* settingOf(flags)
  const traffic = yield* trafficOf(flags)
  yield* checkTenants(flags, () => traffic(flags.seed, 1))
  return runnerOf(setting, traffic)
})

/**
 * Does jobs in so many threads, in the order of asking; with one, in this thread, other fibers between them. Each thread reads or makes the
 * traffic itself, but for what comes from standard input. They end with the scope, whatever they are doing. A thread that ends before is a failure.
 */
const openRunner = Effect.fnUntraced(function* (
  flags: SettingFlags,
  threadCount: number
): Effect.fn.Return<Runner, CliFailure, Shell | Scope.Scope> {
  if (threadCount === 1) {
    const run = yield* runnerFor(flags)
    return (job) => Effect.map(Effect.yieldNow, () => run(job))
  }
  const { directory, err } = yield* Shell
  const input = tracesOf(flags).includes(STANDARD_INPUT) ? shared(yield* rawTrace(STANDARD_INPUT)) : undefined
  const open = Thread.open({ flags, directory, input })
  const threads = yield* Effect.all(
    Array.from({ length: threadCount }, () => open),
    { concurrency: "unbounded" }
  )
  err(threads[0]!.said)
  const idle = yield* Queue.bounded<Thread>(threadCount)
  yield* Queue.offerAll(idle, threads)
  return Effect.fnUntraced(function* (job) {
    const thread = yield* Queue.take(idle)
    const run = yield* thread.run(job)
    yield* Queue.offer(idle, thread)
    return run
  })
})

const shared = (bytes: Uint8Array): Uint8Array<SharedArrayBuffer> => {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length))
  copy.set(bytes)
  return copy
}

interface Concluding {
  /** Jobs that can be done at a time, at most. */
  readonly atOnce: number
  /** How many there will be, where that is known. */
  readonly total?: number
  /** What is wrong with what came of a job, which then ends all of them. */
  readonly refuse?: (run: Run) => CliFailure | undefined
}

/** Does the jobs of studies side by side, and shows how far they are. */
export const concludeAll = <Found>(
  flags: SettingFlags,
  studies: ReadonlyArray<Study<Found>>,
  { atOnce, refuse, total }: Concluding
): Effect.Effect<ReadonlyArray<Found>, CliFailure, Shell> =>
  Effect.gen(function* () {
    const threadCount = Math.min(flags.jobs, atOnce)
    if (threadCount > 1 || flags.report !== undefined) yield* checkReadAgain(flags)
    const runner = yield* openRunner(flags, threadCount)
    const showing = new Showing(yield* Shell, total)
    const shown: Runner = (job) =>
      Effect.tap(runner(job), (run) => refuse?.(run) ?? Effect.sync(() => showing.after(job, run)))
    const found = yield* Effect.forEach(studies, (study) => conclude(study, shown), {
      concurrency: "unbounded"
    })
    showing.end()
    return found
  }).pipe(Effect.scoped)

const conclude = Effect.fnUntraced(function* <Found>(
  study: Study<Found>,
  runner: Runner
): Effect.fn.Return<Found, CliFailure> {
  let asked = study.next([])
  while (asked.done !== true)
    asked = study.next(yield* Effect.forEach(asked.value, runner, { concurrency: "unbounded" }))
  return asked.value
})
