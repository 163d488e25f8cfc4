import { describe, expect, test } from "bun:test"
import * as fc from "fast-check"
import { encodeFrame, pack } from "../../src/protocol/Codec.ts"
import { At, HEADER_OFFSET, readU32, Type, writeU32 } from "../../src/protocol/Header.ts"
import { Outbox } from "../../src/protocol/Outbox.ts"
import { cutFrames, readFrame, typeOf } from "./support/frames.ts"
import { KernelSocket } from "./support/KernelSocket.ts"
import { manualTurn } from "./support/manualTurn.ts"

const setUp = (limitBytes = 1 << 20, turn = manualTurn()) => {
  const socket = new KernelSocket()
  const clock = { nowMs: 0 }
  const overflows: Array<number> = []
  const outbox = new Outbox({
    socket,
    turn: turn.turn,
    limitBytes,
    nowMs: () => clock.nowMs,
    overflowed: () => overflows.push(clock.nowMs)
  })
  /** The kernel has room again. */
  const drain = (room: number): void => {
    socket.room = room
    outbox.drained()
  }
  /** What came in, from which frames are passed on; where it ends, and the size of a frame in it that is not. */
  const incoming = { bytes: Buffer.alloc(1 << 23), end: 0, gap: 9 }
  return { socket, clock, overflows, outbox, turn, drain, incoming }
}
type Bench = ReturnType<typeof setUp>

const dataFrame = (stream: number, bytes: number): Buffer =>
  encodeFrame(Type.token, { stream }, { payload: pack("x".repeat(bytes)) })
const controlFrame = (stream: number): Buffer => encodeFrame(Type.cancel, { stream })

/** What happens to an outbox. Numbers are payload bytes, or bytes the kernel has room for. */
type Step =
  | { readonly kind: "relay" | "pass" | "reserve" | "drain" | "room"; readonly bytes: number }
  | { readonly kind: "plain" | "control" | "turn" }
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constantFrom("relay", "pass", "pass", "pass", "reserve"),
      bytes: fc.oneof(fc.nat(60), fc.nat(60), fc.nat(100_000))
    }),
    fc.record({ kind: fc.constantFrom("plain", "plain", "control", "control", "turn", "turn") }),
    fc.record({
      kind: fc.constantFrom("drain", "room"),
      bytes: fc.oneof(fc.nat(30), fc.nat(3000), fc.nat(150_000))
    })
  ),
  { maxLength: 60 }
) as fc.Arbitrary<ReadonlyArray<Step>>

/** Performs one step, with `next` as stream id. Returns the frame that was appended, if the outbox took it. */
const perform = (bench: Bench, step: Step, next: number): Buffer | undefined => {
  const { outbox, socket, turn, drain, incoming } = bench
  switch (step.kind) {
    case "relay": {
      const frame = dataFrame(0, step.bytes)
      const at = outbox.relay(Buffer.concat([Buffer.alloc(3), frame]), 3, 3 + frame.length)
      if (at >= 0) writeU32(outbox.bytes, at + HEADER_OFFSET + At.stream, next)
      return dataFrame(next, step.bytes)
    }
    case "pass": {
      const frame = dataFrame(next, step.bytes)
      const start = incoming.end + (step.bytes % 5 === 0 ? incoming.gap : 0)
      incoming.end = start + frame.copy(incoming.bytes, start)
      outbox.pass(incoming.bytes, start, incoming.end)
      return frame
    }
    case "reserve": {
      const frame = dataFrame(next, step.bytes)
      const at = outbox.reserve(frame.length)
      if (at >= 0) frame.copy(outbox.bytes, at)
      return frame
    }
    case "plain":
      // As long as what is left out of what came: both sides are as far apart as if nothing lay between.
      incoming.gap = encodeFrame(Type.accepted, {}).length
      outbox.plain(Type.accepted, next, 7)
      return encodeFrame(Type.accepted, { stream: next, attempt: 7 })
    case "control": {
      const frame = controlFrame(next)
      outbox.control(frame)
      return frame
    }
    case "turn":
      turn.settle()
      // What was passed on is not read any more.
      incoming.bytes.fill(0xff, 0, incoming.end)
      return undefined
    case "drain":
      if (outbox.blockedSinceMs !== undefined) drain(step.bytes)
      return undefined
    case "room":
      socket.room = step.bytes
      return undefined
  }
}

const isControl = (frame: Buffer): boolean => typeOf(frame) === Type.cancel

describe("against any kernel, any mix of lanes", () => {
  test("each lane arrives whole, once and in order; no control frame stands inside a data frame", () => {
    fc.assert(
      fc.property(steps, (all) => {
        const bench = setUp(1 << 26)
        const sent: Array<Buffer> = []
        for (const step of all) {
          const frame = perform(bench, step, sent.length + 1)
          if (frame !== undefined) sent.push(frame)
        }
        bench.turn.settle()
        while (bench.outbox.pending > 0) bench.drain(70_000)
        // Content inside of content would not cut into the frames that were sent.
        const { frames, broken, rest } = cutFrames([bench.socket.received])
        expect([broken, rest]).toEqual([undefined, false])
        for (const lane of [true, false]) {
          expect(frames.filter((f) => isControl(f) === lane)).toEqual(
            sent.filter((f) => isControl(f) === lane)
          )
        }
      }),
      { numRuns: 300 }
    )
  })

  test("a control frame waits for no data frame but the one that was begun", () => {
    fc.assert(
      fc.property(steps, steps, (before, after) => {
        const bench = setUp(1 << 26)
        for (const step of before) perform(bench, step, 1)
        const takenBytes = bench.socket.received.length
        bench.outbox.control(controlFrame(99))
        for (const step of after) perform(bench, step, 1)
        bench.turn.settle()
        while (bench.outbox.pending > 0) bench.drain(70_000)
        let at = 0
        for (const frame of cutFrames([bench.socket.received]).frames) {
          if (isControl(frame) && readFrame(frame).stream === 99) return
          // It started before the control frame was written, or is itself control.
          expect(isControl(frame) || at < takenBytes).toBe(true)
          at += frame.length
        }
        throw new Error("the control frame never came")
      }),
      { numRuns: 300 }
    )
  })

  test("finish sends FIN once, after the last byte, and takes nothing more", () => {
    fc.assert(
      fc.property(steps, steps, (before, after) => {
        const bench = setUp(1 << 26)
        const { outbox, socket } = bench
        const sent: Array<Buffer> = []
        for (const step of before) {
          const frame = perform(bench, step, sent.length + 1)
          if (frame !== undefined) sent.push(frame)
        }
        const sentBytes = sent.reduce((total, frame) => total + frame.length, 0)
        outbox.finish()
        expect([
          outbox.relay(sent[0] ?? controlFrame(1), 0, 30),
          outbox.plain(1, 1, 1),
          outbox.reserve(9)
        ]).toEqual([-1, -1, -1])
        outbox.control(controlFrame(1))
        for (const step of after) {
          if (step.kind === "drain" || step.kind === "room" || step.kind === "turn") perform(bench, step, 1)
          expect(socket.acts.length > 0).toBe(socket.received.length === sentBytes)
        }
        while (outbox.pending > 0) bench.drain(70_000)
        bench.turn.settle()
        outbox.finish()
        outbox.drained()
        expect(socket.received.length).toBe(sentBytes)
        expect(socket.acts).toEqual(["shutdown"])
      }),
      { numRuns: 300 }
    )
  })

  test("it holds no more than its limit, and says once that there was more", () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 100, max: 200_000 }), (all, limitBytes) => {
        const bench = setUp(limitBytes)
        const { outbox, overflows } = bench
        bench.socket.room = 0
        for (const step of all) {
          perform(bench, step, 1)
          expect(outbox.pending).toBeLessThanOrEqual(2 * limitBytes)
          if (overflows.length > 0) expect(outbox.pending).toBe(0)
        }
        bench.socket.room = 0
        const frame = dataFrame(1, 1000)
        for (let i = 0; i < limitBytes / 1000; i++) outbox.relay(frame, 0, frame.length)
        expect(overflows.length).toBe(1)
        expect(outbox.relay(frame, 0, frame.length)).toBe(-1)
      }),
      { numRuns: 300 }
    )
  })

  test("two outboxes that share pages never mix", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.boolean(),
            steps.map((all) => all.slice(0, 4))
          ),
          { maxLength: 30 }
        ),
        (rounds) => {
          const turn = manualTurn()
          const benches = [setUp(1 << 26, turn), setUp(1 << 26, turn)] as const
          rounds.forEach(([first, all]) =>
            all.forEach((step) => perform(benches[first ? 0 : 1], step, first ? 1 : 2))
          )
          turn.settle()
          benches.forEach(({ outbox, socket, drain }, i) => {
            while (outbox.pending > 0) drain(70_000)
            for (const frame of cutFrames([socket.received]).frames)
              expect(readFrame(frame).stream).toBe(i + 1)
          })
        }
      )
    )
  })
})

test("frames that follow each other in what came are copied together", () => {
  const { outbox, socket, turn } = setUp()
  const frames = [1, 2, 3, 4].map((stream) => dataFrame(stream, 20))
  const incoming = Buffer.concat(frames)
  const copies: Array<number> = []
  const copy = incoming.copy.bind(incoming)
  incoming.copy = (target, targetStart, start = 0, end = 0) => {
    copies.push(end - start)
    return copy(target, targetStart, start, end)
  }
  const size = frames[0]!.length
  for (const at of [0, 1, 3]) outbox.pass(incoming, at * size, (at + 1) * size)
  turn.settle()
  expect(copies).toEqual([2 * size, size])
  expect(cutFrames([socket.received]).frames).toEqual([frames[0]!, frames[1]!, frames[3]!])
})

test("a turn's frames leave in one write, and an idle outbox holds no page", () => {
  const { outbox, socket, turn } = setUp()
  const writes: Array<number> = []
  const write = socket.write.bind(socket)
  socket.write = (bytes, from, length) => {
    writes.push(length)
    return write(bytes, from, length)
  }
  const frame = dataFrame(1, 20)
  for (let i = 0; i < 100; i++) outbox.relay(frame, 0, frame.length)
  expect(writes).toEqual([])
  turn.settle()
  expect(writes).toEqual([100 * frame.length])
  expect(outbox.bytes.length).toBe(0)
})

test("a full page leaves before the turn ends: a busy turn needs no large buffer", () => {
  const { outbox, turn, overflows } = setUp(100_000)
  const frame = dataFrame(1, 1000)
  for (let i = 0; i < 1000; i++) expect(outbox.relay(frame, 0, frame.length)).toBeGreaterThanOrEqual(0)
  turn.settle()
  expect(overflows).toEqual([])
})

test("blockedSinceMs is when the kernel last refused, until it takes everything", () => {
  const { outbox, socket, turn, clock, drain } = setUp()
  const frame = dataFrame(1, 1000)
  socket.room = 10
  clock.nowMs = 5
  outbox.relay(frame, 0, frame.length)
  turn.settle()
  clock.nowMs = 8
  expect(outbox.blockedSinceMs).toBe(5)
  drain(10)
  expect(outbox.blockedSinceMs).toBe(8)
  drain(Infinity)
  expect(outbox.blockedSinceMs).toBeUndefined()
})

test("a closed socket takes nothing and breaks nothing", () => {
  const { outbox, socket, turn } = setUp()
  const frame = dataFrame(1, 10)
  outbox.relay(frame, 0, frame.length)
  socket.terminate()
  turn.settle()
  expect(outbox.pending).toBe(frame.length)
  outbox.close()
  expect(outbox.pending).toBe(0)
  expect(outbox.plain(Type.accepted, 1, 0)).toBe(-1)
  expect(readU32(frame, 0)).toBe(frame.length - 4)
})

test("a full page of control frames leaves before the turn ends: ten thousand in one turn are no overflow", () => {
  const { outbox, turn, socket, overflows } = setUp()
  for (let i = 1; i <= 10_000; i++) outbox.control(controlFrame(i))
  turn.settle()
  expect(overflows).toEqual([])
  expect(cutFrames([socket.received]).frames.map((frame) => readFrame(frame).stream)).toEqual(
    Array.from({ length: 10_000 }, (_, i) => i + 1)
  )
})

test("a peer that reads nothing is left as many bytes of control frames as of data", () => {
  const frame = controlFrame(1)
  const { outbox, socket, overflows } = setUp(10 * frame.length)
  socket.room = 0
  for (let i = 0; i < 10; i++) outbox.control(frame)
  expect(overflows).toEqual([])
  outbox.control(frame)
  expect(overflows.length).toBe(1)
})

test("it is crowded when the kernel takes nothing and more than half of a lane is full", () => {
  const frame = controlFrame(1)
  for (const append of ["control", "relay"] as const) {
    const { outbox, socket, turn, drain } = setUp(10 * frame.length)
    const fill = (count: number): void => {
      for (let i = 0; i < count; i++) outbox[append](frame, 0, frame.length)
    }
    fill(6)
    expect(outbox.isCrowded).toBe(false)
    socket.room = frame.length
    turn.settle()
    expect(outbox.isCrowded).toBe(false)
    fill(1)
    expect(outbox.isCrowded).toBe(true)
    drain(frame.length)
    expect(outbox.isCrowded).toBe(false)
    drain(Infinity)
    expect(outbox.pending).toBe(0)
  }
})
