/*
 * Sends fuzzed frames to a live port and says whether it goes on serving.
 *
 * `bun run fuzz:protocol` · exit code 1 when it does not.
 */
import { readFlags, whole } from "../bench/flags.ts"
import { fuzzPort } from "../test/protocol/support/fuzzPort.ts"

const { frames, seed } = readFlags({
  frames: whole("frames that are sent", 1_000_000),
  seed: whole("seed of the frames", 1, 0)
})
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
