import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Worker } from "node:worker_threads"
import type { Job, Run } from "../../simulator/report/Study.ts"
import { CliFailure, failed } from "../cli/CliFailure.ts"
import type { SettingFlags } from "./setting.ts"

/** What a thread is told first. */
export interface ThreadOptions {
  readonly flags: SettingFlags
  /** Working directory, absolute. */
  readonly directory: string
  /** Standard input, where the traffic is of it: it can be read but once. Shared, since what is copied for each thread must be smaller. */
  readonly input: Uint8Array<SharedArrayBuffer> | undefined
}

/** What it answers: to the options that it has the traffic, and what is to be said of it; to a job what came of it. */
export type ThreadAnswer =
  | { readonly said: string }
  | { readonly run: Run }
  | { readonly failure: Pick<CliFailure, "message" | "exitCode"> }

type Resume = (answer: Effect.Effect<ThreadAnswer, CliFailure>) => void

/** What runs in it. */
const PROGRAM = new URL("threadMain.ts", import.meta.url)

/** A thread that does jobs, one at a time. */
export class Thread {
  /** What is to be said of the traffic. */
  said = ""
  private readonly worker: Worker
  /** Who waits for an answer. */
  private resume: Resume | undefined
  private ended: Effect.Effect<never, CliFailure> | undefined

  private constructor(program: URL) {
    this.worker = new Worker(program)
    this.worker.on("message", (answer: ThreadAnswer) =>
      this.resume?.("failure" in answer ? new CliFailure(answer.failure) : Effect.succeed(answer))
    )
    this.worker.on("error", (error) => this.end(Effect.die(error)))
    this.worker.on("exit", (code) =>
      this.end(failed(`A thread that replays ended on its own, with exit code ${code}.`))
    )
  }

  /** Starts one, and waits until it has the traffic. It is ended with the scope. */
  static readonly open = Effect.fnUntraced(function* (
    options: ThreadOptions,
    program: URL = PROGRAM
  ): Effect.fn.Return<Thread, CliFailure, Scope.Scope> {
    const thread = yield* Effect.acquireRelease(
      Effect.sync(() => new Thread(program)),
      ({ worker }) => Effect.promise(() => worker.terminate())
    )
    const answer = yield* thread.ask(options)
    if ("said" in answer) thread.said = answer.said
    return thread
  })

  readonly run = (job: Job): Effect.Effect<Run, CliFailure> =>
    Effect.flatMap(this.ask(job), (answer) =>
      "run" in answer ? Effect.succeed(answer.run) : Effect.die("a job is answered by what came of it")
    )

  private ask(question: ThreadOptions | Job): Effect.Effect<ThreadAnswer, CliFailure> {
    return Effect.callback((resume) => {
      if (this.ended !== undefined) return resume(this.ended)
      this.resume = resume
      this.worker.postMessage(question, [])
    })
  }

  private end(why: Effect.Effect<never, CliFailure>): void {
    this.ended ??= why
    this.resume?.(this.ended)
  }
}
