import { expect, test } from "bun:test"
import { roles } from "../../src/protocol/Roles.ts"
import { makeRng } from "../../src/structures/Rng.ts"
import { fuzzedFrame } from "./support/frameFuzzer.ts"
import { fuzzPort } from "./support/fuzzPort.ts"

test("100 000 fuzzed frames leave a live port serving (bun run fuzz:protocol repeats it with other seeds)", async () => {
  const { bystander, ...report } = await fuzzPort({ frames: 100_000, seed: 1 })
  expect(report.defects).toEqual([])
  expect(bystander).toMatchObject({ broken: false, pongs: bystander.pings, pings: 300 })
  expect(report.connectionsLeft).toBe(0)
  expect(report.rssGrowthBytes).toBeLessThan(128 * 1024 * 1024)
  // Otherwise nothing much was tried.
  expect(report.handled).toBeGreaterThan(50_000)
  expect(report.violations).toBeGreaterThan(report.connections / 2)
  expect(bystander.relayed).toBeGreaterThan(1000)
}, 20_000)

test("same seed, same bytes", () => {
  const frames = () => {
    const rng = makeRng(7)
    return Buffer.concat(Array.from({ length: 500 }, () => fuzzedFrame(roles[rng.int(roles.length)]!, rng)))
  }
  expect(frames().equals(frames())).toBe(true)
})
