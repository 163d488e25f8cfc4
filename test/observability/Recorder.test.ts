import { expect } from "bun:test"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import { Reason } from "../../src/domain/Outcome.ts"
import { logging } from "../../src/observability/Logging.ts"
import { startRecorder } from "../../src/observability/Recorder.ts"
import type { RecordDisk } from "../../src/observability/RecordFiles.ts"
import type { RequestRecorder } from "../../src/observability/Recording.ts"
import { it } from "../support/effectTest.ts"

/** A directory that can be switched: it works, it fails, or it never answers. */
const switchable = () => {
  const files = new Map<string, string>()
  const state: { is: "well" | "failing" | "stuck" } = { is: "well" }
  const answer = async <A>(value: A): Promise<A> => {
    if (state.is === "stuck") return Promise.withResolvers<A>().promise
    if (state.is === "failing") throw new Error("ENOSPC: no space left on device")
    return value
  }
  const disk: RecordDisk = {
    names: () => answer([...files.keys()]),
    create: async (name) => {
      await answer(name)
      files.set(name, "")
      return {
        isIntact: (bytes) => answer(files.get(name)?.length === bytes),
        append: async (text) => void files.set(name, files.get(name)! + (await answer(text))),
        cut: async (bytes) => void files.set(name, files.get(name)!.slice(0, bytes)),
        close: async () => undefined
      }
    },
    remove: async (name) => void files.delete(name)
  }
  return {
    disk,
    files,
    state,
    lines: () =>
      [...files.values()]
        .join("")
        .split("\n")
        .filter((line) => line.startsWith('{"t"'))
  }
}

/** Lets promises and fibers do what they can without time passing. */
const settle = Effect.repeat(
  Effect.andThen(
    Effect.promise(() => Promise.resolve()),
    Effect.yieldNow
  ),
  { times: 50 }
)

const begin = Effect.fnUntraced(function* (disk: RecordDisk) {
  const log: Array<string> = []
  const scope = yield* Scope.make()
  const logger = logging({ level: "info", format: "text", write: (line) => void log.push(line) })
  const recorder = yield* startRecorder({
    disk,
    directory: "recordings",
    name: "a",
    fileBytesMax: 1024 * 1024,
    filesMax: 4,
    blockTokens: 256,
    share: 1,
    saltHigh: 1,
    saltLow: 2
  }).pipe(Effect.provideService(Scope.Scope, scope), Effect.provide(logger))
  yield* settle
  const requests = recorder.begin({ tenant: () => undefined, model: () => "m" })
  return {
    requests,
    losses: recorder.losses,
    close: Scope.close(scope, Exit.void),
    /** What the log says, without time, level and fiber. */
    said: () => log.map((line) => /message="([^"]*)"/.exec(line)?.[1] ?? line)
  }
})

let next = 0
const serve = (requests: RequestRecorder, isEnded = true): void => {
  const chain = { count: 0, high: new Uint32Array(0), low: new Uint32Array(0) }
  const request = {
    slot: next,
    arrivedMs: next++,
    promptTokens: 9,
    outputTokens: 3,
    maxTokens: 8,
    chain,
    tenant: 0,
    model: 0
  }
  const whole = { ...request, sessionHigh: 0, sessionLow: 0, idHigh: 0, idLow: next }
  requests.arrived(whole)
  if (isEnded) requests.ended(whole, Reason.none)
}

const pass = (time: `${number} second${"s" | ""}`) => Effect.andThen(TestClock.adjust(time), settle)

it("writes within a second, and the rest at the end", () =>
  Effect.gen(function* () {
    const { disk, files, lines } = switchable()
    const { close, requests, said } = yield* begin(disk)
    serve(requests)
    expect(lines()).toHaveLength(0)
    yield* pass("1 second")
    expect(lines()).toHaveLength(1)
    serve(requests, false)
    serve(requests)
    yield* pass("1 second")
    // The second one has not ended, and the third has to wait for it.
    expect(lines()).toHaveLength(1)
    yield* close
    expect(lines()).toHaveLength(2)
    expect([...files.keys()]).toEqual(["a-19700101T000000Z-000001.jsonl"])
    expect(said()).toEqual([
      "requests are recorded in recordings",
      "recorded in recordings: 2 requests, 1 file; missing: 1"
    ])
  }))

it("says once that it cannot write, drops what comes meanwhile, and goes on when it can", () =>
  Effect.gen(function* () {
    const { disk, lines, state } = switchable()
    const { close, losses, requests, said } = yield* begin(disk)
    state.is = "failing"
    for (let i = 0; i < 4; i++) {
      serve(requests)
      yield* pass("1 second")
    }
    expect(said().slice(1)).toEqual([
      "requests are not recorded: recordings cannot be written (ENOSPC: no space left on device); tried again every 30 s",
      "1 requests are missing in the recording so far: 1 could not be written, 0 took too long to end, 0 came faster than they can be written"
    ])
    expect(losses()).toEqual({ unwritten: 4, overtaken: 0, crowded: 0 })
    state.is = "well"
    serve(requests)
    yield* pass("26 seconds")
    expect(lines()).toHaveLength(0)
    yield* pass("3 seconds")
    serve(requests)
    yield* pass("1 second")
    expect(lines()).toHaveLength(1)
    expect(losses()).toEqual({ unwritten: 5, overtaken: 0, crowded: 0 })
    yield* close
    expect(said().slice(3)).toEqual([
      "requests are recorded in recordings again",
      "recorded in recordings: 1 request, 1 file; missing: 5"
    ])
  }))

it("tries again after 30 s whatever becomes of the wall clock", () =>
  Effect.gen(function* () {
    const { disk, lines, state } = switchable()
    const clock = yield* Clock.Clock
    let aheadMs = 3_600_000
    const wall = {
      currentTimeMillis: Effect.sync(() => clock.currentTimeMillisUnsafe() + aheadMs),
      currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + aheadMs
    }
    const { requests } = yield* Effect.provideService(
      begin(disk),
      Clock.Clock,
      Object.assign(Object.create(clock) as Clock.Clock, wall)
    )
    state.is = "failing"
    serve(requests)
    yield* pass("1 second")
    state.is = "well"
    aheadMs = 0
    yield* pass("29 seconds")
    serve(requests)
    yield* pass("1 second")
    expect(lines()).toHaveLength(1)
  }))

it("starts where the directory cannot be written", () =>
  Effect.gen(function* () {
    const { disk, lines, state } = switchable()
    state.is = "failing"
    const { close, requests, said } = yield* begin(disk)
    expect(said()[0]).toStartWith("requests are not recorded: recordings cannot be written (ENOSPC")
    state.is = "well"
    serve(requests)
    yield* close
    expect(lines()).toHaveLength(1)
  }))

it("does not count as missing what is being written, and counts a request that never ended", () =>
  Effect.gen(function* () {
    const { disk, state } = switchable()
    const { close, losses, requests } = yield* begin(disk)
    serve(requests)
    state.is = "stuck"
    yield* pass("1 second")
    expect(losses()).toEqual({ unwritten: 0, overtaken: 0, crowded: 0 })
    serve(requests, false)
    const closing = yield* Effect.forkChild(close)
    yield* settle
    expect(losses()).toMatchObject({ overtaken: 1 })
    yield* TestClock.adjust("5 seconds")
    yield* settle
    expect(closing.pollUnsafe()).toEqual(Exit.void)
  }))

it("does not wait for ever for a disk that hangs", () =>
  Effect.gen(function* () {
    const { disk, state } = switchable()
    const { close, requests, said } = yield* begin(disk)
    serve(requests)
    state.is = "stuck"
    const closing = yield* Effect.forkChild(close)
    yield* settle
    yield* TestClock.adjust("5 seconds")
    yield* settle
    expect(closing.pollUnsafe()).toEqual(Exit.void)
    expect(said().at(-1)).toBe("recorded in recordings: 0 requests, 0 files; missing: 1")
  }))
