import { expect, test } from "bun:test"
import { TOTAL_MAX } from "../../src/structures/PrefixSum.ts"
import { SPEEDS_MAX, WaterLevel } from "../../src/structures/WaterLevel.ts"
import { exactEdges, exactQuotas } from "../support/batchOracles.ts"
import { type WorkerRow, workersOf } from "../support/batches.ts"

type Row = readonly [backlog: number, speed: number, headroom?: number]

const rowsOf = (rows: ReadonlyArray<Row>): ReadonlyArray<WorkerRow> =>
  rows.map(([backlog, speed, headroom = Number.POSITIVE_INFINITY]) => ({ backlog, speed, headroom }))

const fill = (total: number, rows: ReadonlyArray<Row>): WaterLevel => {
  const water = new WaterLevel()
  const { backlog, speed, headroom } = workersOf({ costs: [], rows: rowsOf(rows), order: [] })
  water.fill(total, { count: rows.length, backlog, speed, headroom })
  return water
}

const quotasOf = ({ edges }: WaterLevel, count: number): ReadonlyArray<number> =>
  [...edges.subarray(0, count)].map((edge, k) => (edge - (edges[k - 1] ?? 0)) / 2)

test.each<readonly [string, number, ReadonlyArray<Row>, number, ReadonlyArray<number>]>([
  [
    "equal and idle",
    12,
    [
      [0, 1],
      [0, 1],
      [0, 1]
    ],
    4,
    [4, 4, 4]
  ],
  [
    "by speed",
    12,
    [
      [0, 1],
      [0, 2],
      [0, 3]
    ],
    2,
    [2, 4, 6]
  ],
  [
    "up to one level",
    10,
    [
      [2, 1],
      [8, 1]
    ],
    10,
    [8, 2]
  ],
  [
    "nothing to who has more already",
    6,
    [
      [0, 1],
      [9, 1],
      [2, 1]
    ],
    4,
    [4, 0, 2]
  ],
  [
    "what the full leave goes to the others",
    12,
    [
      [0, 1, 2],
      [0, 1],
      [0, 1]
    ],
    5,
    [2, 5, 5]
  ],
  [
    "who was above the level of all gets something at the higher one",
    12,
    [
      [0, 1, 2],
      [0, 1, 3],
      [4, 1]
    ],
    11,
    [2, 3, 7]
  ],
  [
    "no room at all",
    5,
    [
      [0, 1, 0],
      [0, 1]
    ],
    5,
    [0, 5]
  ],
  [
    "all full",
    7,
    [
      [0, 1, 3],
      [9, 1, 4]
    ],
    13,
    [3, 4]
  ],
  [
    "halves",
    1,
    [
      [0, 1],
      [0, 1]
    ],
    0.5,
    [0.5, 0.5]
  ],
  [
    "nothing to share out",
    0,
    [
      [3, 1],
      [5, 1]
    ],
    3,
    [0, 0]
  ]
])("%s", (_, total, rows, level, quotas) => {
  const water = fill(total, rows)
  expect(quotasOf(water, rows.length)).toEqual([...quotas])
  if (quotas.every((quota, k) => quota < (rows[k]![2] ?? Infinity))) expect(water.level).toBe(level)
})

test("nobody gets nothing", () => {
  const water = new WaterLevel()
  const { backlog, speed, headroom } = workersOf({ costs: [], rows: [], order: [] })
  water.fill(0, { count: 0, backlog, speed, headroom })
  expect(() => water.fill(1, { count: 0, backlog, speed, headroom })).toThrow("headroom for the total")
})

test("backlogs that grow as factorials, which settle one worker a round", () => {
  const rows = Array.from({ length: 17 }, (_, k): Row => {
    let factorial = 1
    for (let factor = 2; factor <= k; factor++) factorial *= factor
    return [factorial, 1]
  })
  expect([...fill(3, rows).edges.subarray(0, rows.length)]).toEqual([
    ...exactEdges(exactQuotas(3, rowsOf(rows)))
  ])
})

test.each<readonly [string, number, ReadonlyArray<Row>, string]>([
  ["more than there is room for", 4, [[0, 1, 3]], "headroom for the total"],
  ["a total that is no number", Number.NaN, [[0, 1]], "whole"],
  ["a fraction of work", 1.5, [[0, 1]], "whole"],
  ["a backlog below 0", 1, [[-1, 1]], "whole"],
  ["a fraction of headroom", 1, [[0, 1, 1.5]], "whole"],
  ["a worker without speed", 1, [[0, 0]], "at least 1"],
  ["more than 2⁵² of work", 1, [[TOTAL_MAX, 1]], "2⁵²"],
  [
    "more than 2²⁶ of speed",
    1,
    [
      [0, SPEEDS_MAX],
      [0, 1]
    ],
    "2²⁶"
  ]
])("refuses %s", (_, total, rows, message) => {
  expect(() => fill(total, rows)).toThrow(message)
})
