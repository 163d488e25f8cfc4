import { afterAll } from "bun:test"
import * as fc from "fast-check"
import { type LawRecord, lawRecord } from "../test/support/lawRecord.ts"

/*
 * Loaded before the tests by `bun run laws`: writes down what they did, and prints it at the end in one line that begins with `records`.
 */

const records: Array<LawRecord> = []
let properties = 0
let runs = 0

const failure = (out: fc.RunDetails<unknown>): Error =>
  new Error(fc.defaultReportMessage(out) ?? "", { cause: out.errorInstance })

lawRecord.tell = (what) => void records.push(what)

fc.configureGlobal({
  reporter: (out) => {
    if (out.failed) throw failure(out)
    properties++
    runs += out.numRuns
  }
})

// Read by the script.
afterAll(() => console.log(`records ${JSON.stringify([...records, { properties, runs }])}`))
