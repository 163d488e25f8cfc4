import { type Down, isNormal, kill, type Process } from "./Process.ts"

/**
 * Ties two processes together: when one of them crashes, the other is killed. A normal end of either only dissolves the link.
 * Linking with something that has already crashed kills the other at once. Returns what dissolves the link.
 */
export const link = (a: Process, b: Process): (() => void) => {
  const watches: Array<() => void> = []
  const unlink = () => {
    for (const unwatch of watches) unwatch()
  }
  const fate = (other: Process) => (down: Down) => {
    unlink()
    if (!isNormal(down.exit)) kill(other)
  }
  watches.push(a.watch(fate(b)), b.watch(fate(a)))
  return unlink
}
