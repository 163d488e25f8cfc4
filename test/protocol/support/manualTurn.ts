import { Turn } from "../../../src/protocol/Turn.ts"

/** A `Turn` whose turns end when told to. */
export const manualTurn = () => {
  const deferred: Array<() => void> = []
  const turn = new Turn((run) => deferred.push(run))
  /** Ends one turn. False when there was nothing to end. */
  const end = (): boolean => {
    const run = deferred.shift()
    run?.()
    return run !== undefined
  }
  /** Ends turns until nothing is asked for any more; returns how many. */
  const settle = (): number => {
    let turns = 0
    while (end()) turns++
    return turns
  }
  return { turn, end, settle }
}
