import type { Config } from "../domain/Config.ts"

/** Time that passes faster brings them no closer together: they would soon be taken for a flood. */
const APART_MS = 40

/** Time between two heartbeats on the clock: where time passes faster they come faster, but not slower. */
export const heartbeatMsOf = ({ cluster: { timeScale }, failure: { heartbeatMs } }: Config): number =>
  Math.min(heartbeatMs, Math.max(APART_MS, heartbeatMs / timeScale))
