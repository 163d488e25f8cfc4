import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { parentPort } from "node:worker_threads"
import type { Job, Run } from "../../simulator/report/Study.ts"
import { assert } from "../../structures/assert.ts"
import { Shell } from "../cli/Shell.ts"
import { runnerFor } from "./runners.ts"
import type { ThreadAnswer, ThreadOptions } from "./Thread.ts"

/** The other side of a `Thread`. What is thrown here ends the thread, and is its owner's error. */
let run: ((job: Job) => Run) | undefined

const start = async ({ directory, flags, input }: ThreadOptions): Promise<ThreadAnswer> => {
  let said = ""
  const shell = {
    environment: {},
    directory,
    input: async () => new Uint8Array(input!),
    out: async () => true,
    err: (text: string) => void (said += text),
    errColumns: undefined
  }
  const made = await Effect.runPromise(Effect.result(Effect.provideService(runnerFor(flags), Shell, shell)))
  if (Result.isFailure(made)) {
    const { exitCode, message } = made.failure
    return { failure: { exitCode, message } }
  }
  run = made.success
  return { said }
}

const answer = async (question: ThreadOptions | Job): Promise<ThreadAnswer> => {
  if ("flags" in question) return start(question)
  assert(run !== undefined, "a thread is told what the traffic is before its first job")
  return { run: run(question) }
}

parentPort!.on("message", async (question: ThreadOptions | Job) => {
  parentPort!.postMessage(await answer(question), [])
})
