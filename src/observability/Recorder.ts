import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { counted } from "../structures/counted.ts"
import { messageOf } from "../structures/messageOf.ts"
import { type RecordDisk, RecordFiles, stampOf } from "./RecordFiles.ts"
import { type RecordLabels, Recording, type RequestRecorder } from "./Recording.ts"

export interface RecorderOptions {
  readonly disk: RecordDisk
  /** How the log calls it. */
  readonly directory: string
  /** Whose recording it is: a name of letters, digits, dots, dashes and underscores. */
  readonly name: string
  readonly fileBytesMax: number
  readonly filesMax: number
  /** As `RecordingOptions` has them. */
  readonly blockTokens: number
  readonly share: number
  readonly saltHigh: number
  readonly saltLow: number
}

/** Requests that are missing in a recording, by what kept them out: the disk, the bounds of what waits, and those of what is ready. */
export interface RecordingLosses {
  readonly unwritten: number
  readonly overtaken: number
  readonly crowded: number
}

/** A recorder that writes what it is told. `begin` is called once, by who knows the labels. */
export interface Recorder {
  readonly begin: (labels: RecordLabels) => RequestRecorder
  /** So far; none becomes less. */
  readonly losses: () => RecordingLosses
  /** As `RecordFiles.nameAt`. */
  readonly recordedIn: (arrivedMs: number) => string | undefined
}

const FLUSH_MS = 1_000
/** After a failure, until the next try. What comes meanwhile is dropped. */
const RETRY_MS = 30_000
/** Between two complaints about requests that were left out. */
const QUIET_MS = 60_000
/** The last lines may take so long: a disk that hangs does not keep the process from stopping. */
const LAST_FLUSH_MS = 5_000
const NEVER_MS = Number.NEGATIVE_INFINITY

/**
 * Writes a recording until the scope ends, which writes what is left. Nothing of it fails or holds up who is recorded: a directory that
 * cannot be written is a line in the log, and tried again.
 */
export const startRecorder = Effect.fnUntraced(function* (
  options: RecorderOptions
): Effect.fn.Return<Recorder, never, Scope.Scope> {
  const { blockTokens, directory, disk, saltHigh, saltLow, share } = options
  const files = new RecordFiles({
    disk,
    family: options.name,
    stamp: stampOf(yield* DateTime.now),
    fileBytesMax: options.fileBytesMax,
    filesMax: options.filesMax,
    header: {
      kind: "real",
      source: "recorded by Parallax",
      blockSize: blockTokens,
      partialTail: false,
      ...(share < 1 ? { thinning: share } : {}),
      notes:
        "A request with `end` was not answered in full, for that reason: its `out` is borrowed from an earlier one, unless the client gave it up."
    }
  })
  let recording: Recording | undefined
  /** Lines that were to be written; and those of them that were not and will not be, as of the last flush. */
  let taken = 0
  let unwritten = 0
  /** Nothing is tried before. Unless it is never, nothing was written since something failed. */
  let retryMs = NEVER_MS
  let saidMs = NEVER_MS
  let said = 0
  const missing = (): number => taken - files.lines + (recording?.overtaken ?? 0) + (recording?.crowded ?? 0)

  const failed = Effect.fnUntraced(function* (cause: unknown, nowMs: number) {
    if (retryMs === NEVER_MS)
      yield* Effect.logError(
        `requests are not recorded: ${directory} cannot be written (${messageOf(cause)}); tried again every ${RETRY_MS / 1000} s`
      )
    retryMs = nowMs + RETRY_MS
  })
  const complain = Effect.fnUntraced(function* (nowMs: number) {
    if (missing() === said || nowMs - saidMs < QUIET_MS) return
    said = missing()
    saidMs = nowMs
    const { crowded, overtaken } = recording!
    yield* Effect.logWarning(
      `${said} requests are missing in the recording so far: ${taken - files.lines} could not be written, ${overtaken} took too long to end, ${crowded} came faster than they can be written`
    )
  })
  const flush = Effect.gen(function* () {
    const nowMs = yield* monotonicMs
    const lines = recording?.take() ?? []
    taken += lines.length
    if (lines.length > 0 && nowMs >= retryMs) {
      const failure = yield* Effect.promise(() => files.write(lines))
      if (failure !== undefined) yield* failed(failure, nowMs)
      else if (retryMs !== NEVER_MS) {
        retryMs = NEVER_MS
        yield* Effect.logInfo(`requests are recorded in ${directory} again`)
      }
    }
    unwritten = taken - files.lines
    return nowMs
  })
  const finish = Effect.gen(function* () {
    recording?.giveUpOpen()
    retryMs = Math.min(retryMs, 0)
    yield* flush
    yield* Effect.promise(() => files.close())
  })

  yield* Effect.addFinalizer(() =>
    finish.pipe(
      Effect.timeoutOption(LAST_FLUSH_MS),
      Effect.andThen(
        Effect.suspend(() =>
          Effect.logInfo(
            `recorded in ${directory}: ${counted(files.lines, "request")}, ${counted(files.parts, "file")}; missing: ${missing()}`
          )
        )
      )
    )
  )
  const look = Effect.tryPromise(() => disk.names()).pipe(
    Effect.matchEffect({
      onSuccess: () => Effect.logInfo(`requests are recorded in ${directory}`),
      onFailure: ({ cause }) => Effect.flatMap(monotonicMs, (nowMs) => failed(cause, nowMs))
    })
  )
  const loop = Effect.forever(Effect.andThen(Effect.sleep(FLUSH_MS), Effect.flatMap(flush, complain)))
  yield* Effect.forkScoped(Effect.andThen(look, loop))
  return {
    begin: (labels) => (recording = new Recording({ labels, blockTokens, share, saltHigh, saltLow })),
    losses: () => ({
      unwritten,
      overtaken: recording?.overtaken ?? 0,
      crowded: recording?.crowded ?? 0
    }),
    recordedIn: (arrivedMs) => files.nameAt(arrivedMs)
  }
})

/** Never goes back, as the wall clock may: waits are measured by it. */
const monotonicMs = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)
