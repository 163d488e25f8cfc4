import { encodeFrame, locate, pack, parts, unpack } from "../../../src/protocol/Codec.ts"
import type { Connection } from "../../../src/protocol/Connection.ts"
import { type Gate, guarded, openGate } from "../../../src/protocol/credentials.ts"
import { At, HEADER_OFFSET, readU16, readU32, Type } from "../../../src/protocol/Header.ts"
import { defaultLimits } from "../../../src/protocol/Limits.ts"
import type { GoodbyeCode, Hello } from "../../../src/protocol/Message.ts"
import { serve, type Server } from "../../../src/protocol/Server.ts"
import type { Timers } from "../../../src/protocol/Timers.ts"
import type { Transport } from "../../../src/protocol/Transport.ts"
import type { Turn } from "../../../src/protocol/Turn.ts"

/** A frame of a worker, read. */
export interface Told {
  readonly type: number
  readonly stream: number
  readonly attempt: number
  readonly epoch: number
  readonly a: number
  readonly b: number
  readonly c: number
  readonly payload: unknown
}

/** One stream as a balancer would know it from the frames that came. */
export interface Answer {
  text: string
  tokens: number
  /** TOKEN frames, each with its count. */
  readonly frames: Array<number>
  readonly ends: Array<Told>
}

export interface StubBalancerOptions {
  readonly transport: Transport
  readonly timers: Timers
  readonly turn: Turn
  readonly refuse?: GoodbyeCode
  readonly gate?: Gate
  readonly told?: (frame: Told, balancer: StubBalancer) => void
}

export const EPOCH = 77

/** A balancer that writes down what its workers say, and says what the test wants it to. */
export class StubBalancer {
  readonly hellos: Array<Hello> = []
  /** Everything but tokens and heartbeats. */
  readonly frames: Array<Told> = []
  readonly heartbeats: Array<unknown> = []
  readonly answers = new Map<string, Answer>()
  readonly violations: Array<string> = []
  readonly goodbyes: Array<string> = []
  /** The newest connection. */
  connection: Connection | undefined
  readonly server: Server

  constructor(options: StubBalancerOptions) {
    const { transport, timers, turn } = options
    this.server = serve({
      transport,
      context: {
        turn,
        timers,
        limits: defaultLimits,
        violation: (kind, hint) => this.violations.push(`${kind}: ${hint}`)
      },
      host: "127.0.0.1",
      port: 0,
      connectionsMax: 16,
      greet: (connection, hello) => {
        this.hellos.push(hello)
        if (options.refuse !== undefined) return { refuse: options.refuse, message: "no" }
        return guarded(options.gate ?? openGate, hello, () => {
          this.connection = connection
          return {
            welcome: {
              major: 1,
              minor: 0,
              identity: "stub",
              incarnation: 1,
              frameBytes: defaultLimits.frameBytes,
              models: []
            },
            handler: {
              frame: (_, bytes, start, end) => {
                const frame = readFrame(bytes, start, end)
                this.note(frame)
                options.told?.(frame, this)
              },
              closed: (why) => {
                this.goodbyes.push(why)
                if (this.connection === connection) this.connection = undefined
              }
            }
          }
        })
      }
    })
  }

  answer(stream: number, attempt = 1): Answer {
    const key = `${stream}/${attempt}`
    const known = this.answers.get(key)
    if (known !== undefined) return known
    const fresh = { text: "", tokens: 0, frames: [], ends: [] }
    this.answers.set(key, fresh)
    return fresh
  }

  assign(
    stream: number,
    over: {
      readonly attempt?: number
      readonly epoch?: number
      readonly flags?: number
      /** Tokens of the KV cache that is kept elsewhere. */
      readonly kvTokens?: number
      readonly model?: number
      readonly promptTokens?: number
      readonly maxTokens?: number
      readonly chain?: Buffer
      readonly payload?: unknown
    } = {}
  ): void {
    const routing = {
      idHigh: 0,
      idLow: stream,
      model: over.model ?? 0,
      promptTokens: over.promptTokens ?? 10,
      maxTokens: over.maxTokens ?? 5
    }
    const { attempt = 1, epoch = EPOCH, flags = 0, kvTokens = 0 } = over
    const fields = { stream, attempt, epoch, flags, a: kvTokens }
    const body = { chain: over.chain, payload: pack(over.payload ?? { prompt: "hello" }) }
    this.connection!.send(encodeFrame(Type.assign, fields, body, routing))
  }

  cancel(stream: number, attempt = 1): void {
    this.connection!.outbox.control(encodeFrame(Type.cancel, { stream, attempt }))
  }

  /** Left out, the bytes are more than any answer has. */
  credit(stream: number, upTo: number, upToBytes = 0xffff_ffff, attempt = 1): void {
    this.connection!.outbox.control(encodeFrame(Type.credit, { stream, attempt, a: upTo, b: upToBytes }))
  }

  drain(): void {
    this.connection!.send(encodeFrame(Type.drain, {}))
  }

  private note(frame: Told): void {
    if (frame.type === Type.heartbeat) this.heartbeats.push(frame.payload)
    else if (frame.type !== Type.token) this.frames.push(frame)
    const answer = this.answer(frame.stream, frame.attempt)
    if (frame.type === Type.token) {
      if (frame.a !== answer.tokens) this.violations.push(`token ${frame.a} after ${answer.tokens}`)
      answer.tokens += frame.b
      answer.text += frame.payload as string
      answer.frames.push(frame.b)
      if (answer.ends.length > 0) this.violations.push("a token after the end")
    } else if (frame.type === Type.done || frame.type === Type.error) answer.ends.push(frame)
  }
}

const readFrame = (bytes: Buffer, start: number, end: number): Told => {
  const header = start + HEADER_OFFSET
  const well = locate(bytes, start, end, defaultLimits)
  return {
    type: bytes[header + At.type]!,
    stream: readU32(bytes, header + At.stream),
    attempt: readU16(bytes, header + At.attempt),
    epoch: readU32(bytes, header + At.epoch),
    a: readU32(bytes, header + At.a),
    b: readU32(bytes, header + At.b),
    c: readU32(bytes, header + At.c),
    payload: well ? unpack(bytes, parts.payloadStart, parts.payloadEnd, defaultLimits) : undefined
  }
}
