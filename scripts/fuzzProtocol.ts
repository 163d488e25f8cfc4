/*
 * Sends fuzzed frames to a live port and says whether it goes on serving.
 *
 * `bun run fuzz:protocol [--frames N] [--seed S]` · exit code 1 when it does not.
 */
import { parseArgs } from "node:util"
import { fuzzPort } from "../test/protocol/support/fuzzPort.ts"

const { values } = parseArgs({
  options: { frames: { type: "string", default: "1000000" }, seed: { type: "string", default: "1" } }
})
const frames = Number(values.frames)
const seed = Number(values.seed)
const report = await fuzzPort({ frames, seed })
const { bystander } = report
console.log(JSON.stringify({ seed, ...report, defects: report.defects.map(String) }, undefined, 2))
const serves =
  report.defects.length === 0 &&
  !bystander.broken &&
  bystander.pongs === bystander.pings &&
  report.connectionsLeft === 0
if (!serves) {
  console.log(`failed: bun run fuzz:protocol --frames ${frames} --seed ${seed}`)
  process.exit(1)
}
