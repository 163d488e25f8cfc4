import { expect, test } from "bun:test"
import { manualTurn } from "./support/manualTurn.ts"

const task = (run: () => void) => ({ run })

test("work runs before flushes, each in the order asked for, in one turn", () => {
  const { turn, settle } = manualTurn()
  const log: Array<string> = []
  turn.flush(task(() => log.push("flush 1")))
  turn.soon(task(() => log.push("work 1")))
  turn.flush(task(() => log.push("flush 2")))
  turn.soon(task(() => log.push("work 2")))
  expect(log).toEqual([])
  expect(settle()).toBe(1)
  expect(log).toEqual(["work 1", "work 2", "flush 1", "flush 2"])
})

test("a flush asked for by work leaves in the same turn, with no turn more", () => {
  const { turn, settle } = manualTurn()
  const log: Array<string> = []
  turn.soon(task(() => turn.flush(task(() => log.push("flush")))))
  expect(settle()).toBe(1)
  expect(log).toEqual(["flush"])
})

test("work asked for by work or by a flush waits for the next turn, so that sockets are read in between", () => {
  const { turn, end } = manualTurn()
  const log: Array<string> = []
  turn.soon(
    task(() => {
      turn.soon(task(() => log.push("later")))
      log.push("first")
    })
  )
  turn.flush(task(() => turn.soon(task(() => log.push("from a flush")))))
  end()
  expect(log).toEqual(["first"])
  end()
  expect(log).toEqual(["first", "later", "from a flush"])
  expect(end()).toBe(false)
})

test("a task that throws stops no other, and its error comes out on its own", () => {
  const { turn, end } = manualTurn()
  const log: Array<string> = []
  turn.soon(
    task(() => {
      throw new Error("broken task")
    })
  )
  turn.soon(task(() => log.push("work")))
  turn.flush(task(() => log.push("flush")))
  end()
  expect(log).toEqual(["work", "flush"])
  expect(end).toThrow("broken task")
  turn.soon(task(() => log.push("again")))
  end()
  expect(log).toEqual(["work", "flush", "again"])
})

test("a turn goes on while sockets bring two chunks a look, up to 64 of them", () => {
  const { turn, end } = manualTurn()
  let isOver = false
  const finish = task(() => {
    isOver = true
  })
  for (const looks of [[1], [2, 30, 1], [2, 0], [40, 24], [64]]) {
    isOver = false
    turn.soon(finish)
    for (const [i, chunks] of looks.entries()) {
      for (let chunk = 0; chunk < chunks; chunk++) turn.heard()
      end()
      expect(isOver).toBe(i === looks.length - 1)
    }
  }
  expect(end()).toBe(false)
})
