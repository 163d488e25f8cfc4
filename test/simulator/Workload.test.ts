import { describe, expect, test } from "bun:test"
import { limitOf, type Trace } from "../../src/domain/Trace.ts"
import { traceChain } from "../../src/domain/traceChain.ts"
import { faster, type Workload, workloadOf } from "../../src/simulator/replay/Workload.ts"
import { makeTrace } from "../fixtures/makeTrace.ts"
import { findsAll, keepsAll, type Planted } from "../support/planted.ts"
import { traceOf } from "../support/traceOf.ts"

const made = (traces: ReadonlyArray<Trace>, speed: number): Workload => faster(workloadOf(traces), speed)

type Maker = typeof made

const commonLength = (a: ArrayLike<unknown>, b: ArrayLike<unknown>): number => {
  let i = 0
  while (i < a.length && i < b.length && a[i] === b[i]) i++
  return i
}

/** Of every second request it is known how long its client thought, of the first not at all. */
const trace: Trace = (({ header, requests }) => ({
  header,
  requests: requests.map((request, i) => (i % 2 === 0 ? request : { ...request, thinkMs: i - 1 }))
}))(traceOf(makeTrace(150)))

/** Each request is known by the number of its prompt tokens and a mark, some by nothing. */
const marked = (name: string, mark: bigint): Trace => ({
  header: { ...trace.header, name },
  requests: trace.requests,
  ids: BigUint64Array.from(trace.requests, ({ promptTokens }, i) =>
    i % 5 === 0 ? 0n : (mark << 32n) + BigInt(promptTokens)
  )
})

const laws = [
  {
    id: "workload-chains",
    check: (make: Maker) => {
      const { requests, blockTokens } = make([trace], 1)
      const sent = trace.requests.map((request) =>
        new BigUint64Array(traceChain(request, trace.header.blockSize).buffer).slice()
      )
      expect(blockTokens).toBe(256)
      for (const [i, a] of trace.requests.entries()) {
        expect(requests[i]!.keys).toHaveLength(sent[i]!.length)
        for (const [j, b] of trace.requests.slice(0, i).entries())
          expect(commonLength(requests[i]!.keys, requests[j]!.keys)).toBe(
            a.tenant === b.tenant ? commonLength(sent[i]!, sent[j]!) : 0
          )
      }
    }
  },
  {
    id: "workload-requests",
    check: (make: Maker) => {
      const { requests, tenants } = make([trace], 4)
      expect(requests).toHaveLength(trace.requests.length)
      for (const [i, request] of trace.requests.entries()) {
        const planned = requests[i]!
        expect(planned.arrivalMs * 4).toBe(request.arrivalMs)
        expect(planned.thinkMs).toBe(request.thinkMs && request.thinkMs / 4)
        expect(tenants[planned.tenant]).toBe(request.tenant)
        expect(planned).toMatchObject({
          promptTokens: request.promptTokens,
          outputTokens: request.outputTokens,
          maxTokens: limitOf(request)
        })
      }
    }
  },
  {
    id: "workload-superposition",
    check: (make: Maker) => {
      // Whether they have a name of their own each, or not.
      for (const [given, called] of [
        ["b", "b"],
        ["a", "a#2"]
      ] as const) {
        const named = (name: string) => ({ ...trace, header: { ...trace.header, name } })
        const { requests, tenants } = make([named("a"), named(given)], 2)
        expect(requests).toHaveLength(2 * trace.requests.length)
        expect(requests.map((one) => one.arrivalMs)).toEqual(
          requests.map((one) => one.arrivalMs).toSorted((a, b) => a - b)
        )
        const own = (name: string) => requests.filter(({ tenant }) => tenants[tenant]!.startsWith(`${name}/`))
        const alone = make([trace], 2)
        for (const name of ["a", called])
          expect(own(name).map((one) => [one.arrivalMs, one.promptTokens, one.keys.length])).toEqual(
            alone.requests.map((one) => [one.arrivalMs, one.promptTokens, one.keys.length])
          )
        const keys = new Set(own("a").flatMap((one) => [...one.keys]))
        const sessions = new Set(own("a").map((one) => one.sessionLow))
        for (const one of own(called)) {
          expect([...one.keys].some((key) => keys.has(key))).toBe(false)
          expect(sessions.has(one.sessionLow)).toBe(false)
        }
      }
    }
  },
  {
    id: "workload-ids",
    check: (make: Maker) => {
      for (const traces of [
        [marked("a", 1n)],
        [marked("a", 1n), marked("b", 2n)],
        [trace, marked("b", 2n)],
        [marked("a", 1n), trace]
      ]) {
        const { ids, requests } = make(traces, 2)
        expect(ids).toHaveLength(requests.length)
        for (const [number, id] of ids!.entries())
          if (id !== 0n) expect(Number(id & 0xffff_ffffn)).toBe(requests[number]!.promptTokens)
        const given = traces.flatMap((each) => [...(each.ids ?? [])]).filter((id) => id !== 0n)
        const found = [...ids!].filter((id) => id !== 0n)
        expect(BigUint64Array.from(found).toSorted()).toEqual(BigUint64Array.from(given).toSorted())
        // They are names only.
        const nameless = traces.map(({ header, requests }) => ({ header, requests }))
        const { ids: _, ...rest } = make(traces, 2)
        expect(make(nameless, 2)).toStrictEqual(rest)
      }
    }
  }
]

const changed =
  (change: (workload: Workload) => Workload): Maker =>
  (traces, speed) =>
    change(made(traces, speed))

const defects: ReadonlyArray<Planted<Maker>> = [
  [
    "takes the trace's own blocks",
    "workload-chains",
    changed((workload) => ({
      ...workload,
      requests: workload.requests.map((request, i) => ({
        ...request,
        keys: Float64Array.from(trace.requests[i]!.blocks)
      }))
    }))
  ],
  [
    "lets tenants share blocks",
    "workload-chains",
    (traces, speed) =>
      made(
        traces.map(({ header, requests }) => ({
          header,
          requests: requests.map((request) => ({ ...request, tenant: undefined }))
        })),
        speed
      )
  ],
  [
    "tells the balancer how long the answer is",
    "workload-requests",
    changed((workload) => ({
      ...workload,
      requests: workload.requests.map((request) => ({ ...request, maxTokens: request.outputTokens }))
    }))
  ],
  [
    "lays traces one after the other",
    "workload-superposition",
    changed((workload) => ({
      ...workload,
      requests: workload.requests.toSorted((a, b) => a.tenant - b.tenant)
    }))
  ],
  [
    "leaves ids where they were",
    "workload-ids",
    (traces, speed) => ({
      ...made(traces, speed),
      ids: BigUint64Array.from(traces.flatMap(({ ids, requests }) => [...(ids ?? requests.map(() => 0n))]))
    })
  ],
  [
    "mixes up what belongs to different traces",
    "workload-superposition",
    (traces, speed) => {
      const one = made(traces.slice(0, 1), speed)
      return { ...one, requests: one.requests.flatMap((request) => [request, request]) }
    }
  ]
]

describe("a workload", () => keepsAll(laws, made))
describe("planted defects", () => findsAll(laws, defects))

test("a trace without blocks has no chains", () => {
  const { requests } = workloadOf([{ ...trace, header: { ...trace.header, blockSize: null } }])
  expect(requests.every(({ keys }) => keys.length === 0)).toBe(true)
})

test.each([[["a", "a", "a#2"]], [["a#2", "a", "a"]], [["x", "x/y"]]])(
  "traces that are called %p share neither tenants nor sessions",
  (names) => {
    const request = { ...trace.requests[0]!, arrivalMs: 0, blocks: [] }
    const traces = names.map((name) => ({
      header: { ...trace.header, name },
      requests: ["z", "y/z"].map((label) => ({ ...request, tenant: label, session: label }))
    }))
    const { requests, tenants } = workloadOf(traces)
    const count = 2 * names.length
    expect(new Set(requests.map(({ tenant }) => tenants[tenant])).size).toBe(count)
    expect(new Set(requests.map((one) => `${one.sessionHigh}/${one.sessionLow}`)).size).toBe(count)
  }
)
