import { Dispatcher } from "../../../src/actors/runtime/Dispatcher.ts"
import * as protocol from "../../protocol/support/manualTurn.ts"

/** A dispatcher whose turns of the event loop, and whose clock, are moved by hand. */
export const manualTurn = () => {
  const clock = { nowMs: 0 }
  const { end, settle, turn } = protocol.manualTurn()
  return {
    turn,
    clock,
    dispatcher: new Dispatcher(turn, () => clock.nowMs),
    /** Runs one turn. */
    step: end,
    /** Runs turns until nothing is left to do, and returns how many there were. */
    drain: settle
  }
}
