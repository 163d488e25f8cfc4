import { describe, expect } from "bun:test"
import * as fc from "fast-check"
import { Links } from "../../src/actors/Links.ts"
import { Reason } from "../../src/domain/Outcome.ts"
import type { RequestRecorder } from "../../src/observability/Recording.ts"
import { encodeFrame } from "../../src/protocol/Codec.ts"
import { Type } from "../../src/protocol/Header.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { heartbeat, type Peer, type Received, VirtualNode } from "./support/VirtualNode.ts"

/** How a node is told of the recorder. */
type Subject = (node: VirtualNode, recorder: RequestRecorder) => void

const step = fc.record({
  do: fc.constantFrom(
    "ask",
    "ask",
    "ask",
    "token",
    "done",
    "fail",
    "cancel",
    "wait",
    "crash",
    "leave",
    "kill"
  ),
  at: fc.nat(20)
})

interface Told {
  readonly promptTokens: number
  readonly blocks: number
  readonly reasons: Array<Reason>
}

/** What a recorder was told of each request, by its id, and how each ended for its client. */
const play = (tell: Subject, steps: ReadonlyArray<{ readonly do: string; readonly at: number }>) => {
  const node = new VirtualNode()
  const told = new Map<number, Told>()
  tell(node, {
    arrived: ({ chain, idLow, promptTokens }) => {
      expect(told.has(idLow)).toBe(false)
      told.set(idLow, { promptTokens, blocks: chain.count, reasons: [] })
    },
    ended: ({ idLow }, reason) => void told.get(idLow)!.reasons.push(reason)
  })
  let worker: Peer | undefined = node.worker("w0")
  const clients = [node.client("a"), node.client("b")]
  const gone = new Set<number>()
  let next = 1
  const assigned = (): ReadonlyArray<Received> => worker?.of(Type.assign) ?? []
  for (const { at, do: what } of steps) {
    const assign = assigned()[at % Math.max(1, assigned().length)]
    const client = clients[next % 2]!
    if (what === "ask") {
      const chain = Buffer.alloc(8 * (at % 3), 7)
      // Some are over the bound of a policy, or wrong.
      client.push(
        client.request({ stream: next, promptTokens: at, timeoutMs: at % 4 === 0 ? 500 : 0, chain })
      )
      next++
      node.settle()
    } else if (what === "token" && assign !== undefined) worker!.send(worker!.token(assign, 0))
    else if (what === "done" && assign !== undefined) worker!.send(worker!.about(assign, Type.done))
    else if (what === "fail" && assign !== undefined)
      worker!.send(worker!.about(assign, Type.error, { a: Reason.workerFailed }))
    else if (what === "cancel")
      for (const each of clients) each.send(encodeFrame(Type.cancel, { stream: 1 + (at % next) }))
    else if (what === "wait") {
      node.advance(200)
      worker?.send(heartbeat)
    } else if (what === "crash") {
      node.host.tellBalancer({ _tag: "Crash" })
      node.settle()
      node.startBalancer()
    } else if (what === "leave" && gone.size === 0) {
      gone.add(next % 2)
      clients[next % 2]!.drop()
    } else if (what === "kill") {
      worker?.drop()
      worker = at % 2 === 0 ? node.worker("w0", { incarnation: next + 1 }) : undefined
    }
  }
  node.advance(70_000)
  return { told, clients, gone, asked: next - 1 }
}

const laws = [
  {
    id: "recorder-hears-all",
    check: (tell: Subject) =>
      fc.assert(
        fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
          const { asked, clients, gone, told } = play(tell, steps)
          for (let id = 1; id <= asked; id++) {
            const heard = told.get(id)
            const client = clients[id % 2]!
            const ends = [Type.done, Type.error, Type.rejected].flatMap((type) =>
              client.of(type).filter(({ stream }) => stream === id)
            )
            if (heard === undefined) {
              // Refused at the door, as is a client that is gone.
              if (!gone.has(id % 2)) expect(ends.map(({ a }) => a)).toEqual([Reason.badRequest])
              continue
            }
            expect(heard.reasons).toHaveLength(1)
            if (gone.has(id % 2)) continue
            expect(ends).toHaveLength(1)
            const [end] = ends
            expect(heard.reasons).toEqual([end!.type === Type.done ? Reason.none : (end!.a as Reason)])
          }
        }),
        { numRuns: 150 }
      )
  },
  {
    id: "recorder-sees-chains",
    check: (tell: Subject) =>
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 8 }), (sizes) => {
          const { told } = play(
            tell,
            sizes.map((at) => ({ do: "ask", at }))
          )
          expect([...told.values()].map(({ blocks, promptTokens }) => [promptTokens, blocks])).toEqual(
            sizes.map((at) => [at, at % 3])
          )
        }),
        { numRuns: 50 }
      )
  }
]

const tell: Subject = (node, recorder) => {
  node.host.links.recorder = recorder
}

const defects: ReadonlyArray<Planted<Subject>> = [
  [
    "hears of answers only",
    "recorder-hears-all",
    (node, { arrived, ended }) =>
      tell(node, {
        arrived,
        ended: (request, reason) => {
          if (reason === Reason.none) ended(request, reason)
        }
      })
  ],
  [
    "takes every end for an answer",
    "recorder-hears-all",
    (node, { arrived, ended }) => tell(node, { arrived, ended: (request) => ended(request, Reason.none) })
  ],
  [
    "hears of a failed attempt as of an end",
    "recorder-hears-all",
    (node, recorder) => {
      tell(node, recorder)
      const { links } = node.host
      links.attemptFailed = (request, ...rest) => {
        recorder.ended(request, Reason.workerFailed)
        Links.prototype.attemptFailed.call(links, request, ...rest)
      }
    }
  ],
  [
    "loses the chain",
    "recorder-sees-chains",
    (node, { arrived, ended }) =>
      tell(node, {
        arrived: (request) =>
          arrived({ ...request, idLow: request.idLow, chain: { ...request.chain, count: 0 } }),
        ended
      })
  ]
]

describe("a recorder", () => keepsAll(laws, tell))
describe("planted defects", () => findsAll(laws, defects))
