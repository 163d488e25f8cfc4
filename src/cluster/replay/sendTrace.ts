import * as Effect from "effect/Effect"
import type { Client } from "../../client/index.ts"
import { limitOf, type Trace } from "../../domain/Trace.ts"
import { systemTimers } from "../../protocol/Timers.ts"
import type { Surroundings } from "../cli/Shell.ts"
import type { Journal } from "./Journal.ts"
import { openLoop } from "./openLoop.ts"
import { progressLine } from "./progress.ts"
import type { Tally } from "./Tally.ts"
import { traceChain } from "../../domain/traceChain.ts"

/** Between two progress lines, on a terminal and elsewhere. */
const REDRAW_MS = 200
const LINE_MS = 5_000

export interface SendOptions {
  readonly client: Client
  readonly trace: Trace
  /** Model a request is sent to, by the one it was recorded with. */
  readonly modelOf: (recorded: string | undefined) => string
  /** How many times closer together requests leave than they were recorded. */
  readonly compression: number
  readonly tally: Tally
  /** Written where it is wanted. */
  readonly journal?: Journal | undefined
  readonly shell: Surroundings
}

/** Sends a whole trace of at least one request, tells the tally, and ends when every request has. Interrupted, it sends nothing more. */
export const sendTrace = (options: SendOptions): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    const { trace, compression, tally, shell } = options
    const { requests } = trace
    const stopShowing = showProgress(shell, tally, requests.length)
    let open = requests.length
    const ended = (): void => {
      if (--open > 0) return
      stopShowing()
      resume(Effect.void)
    }
    const offsetsMs = requests.map(({ arrivalMs }) => arrivalMs / compression)
    const stopSending = openLoop(systemTimers, offsetsMs, (index, dueMs) => {
      tally.send(dueMs, systemTimers.nowMs())
      send(options, index, ended)
    })
    return Effect.sync(() => {
      stopSending()
      stopShowing()
    })
  })

const send = (
  { client, trace, modelOf, tally, journal }: SendOptions,
  index: number,
  ended: () => void
): void => {
  const request = trace.requests[index]!
  const sentMs = systemTimers.nowMs()
  let firstMs = -1
  let lastMs = -1
  const { id } = client.start(
    {
      model: modelOf(request.model),
      prompt: null,
      promptTokens: request.promptTokens,
      maxTokens: limitOf(request),
      outputTokens: request.outputTokens,
      chain: traceChain(request, trace.header.blockSize),
      session: request.session,
      tenant: request.tenant
    },
    {
      text: false,
      token: (_, count) => {
        const nowMs = systemTimers.nowMs()
        tally.tokens(count, lastMs === -1 ? -1 : nowMs - lastMs)
        if (firstMs === -1) firstMs = nowMs
        lastMs = nowMs
      },
      ended: (ending) => {
        tally.end(request, ending, lastMs - firstMs, systemTimers.nowMs())
        journal?.ended(index, request, ending, lastMs - firstMs)
        ended()
      }
    }
  )
  journal?.left(index, id, sentMs)
}

/** Shows how far it is until the returned function is called: one line redrawn on a terminal, else a line now and then. */
const showProgress = ({ err, errColumns }: Surroundings, tally: Tally, total: number): (() => void) => {
  const line = (columns: number): string => progressLine({ total, ...tally.counts }, columns)
  if (errColumns === undefined) return systemTimers.every(LINE_MS, () => err(`${line(100)}\n`))
  const width = errColumns - 1
  const stop = systemTimers.every(REDRAW_MS, () => err(`\r${line(width).padEnd(width)}`))
  return () => {
    stop()
    err(`\r${" ".repeat(width)}\r`)
  }
}
