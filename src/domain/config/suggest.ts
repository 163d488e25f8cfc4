/** Edits (insert, delete, replace, swap of neighbours) between two words. Cost O(a·b). Source: optimal string alignment distance. */
const distance = (a: string, b: string): number => {
  let older: ReadonlyArray<number> = []
  let above: ReadonlyArray<number> = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replace = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      row.push(Math.min(replace, above[j]! + 1, row[j - 1]! + 1, swapped ? older[j - 2]! + 1 : Infinity))
    }
    older = above
    above = row
  }
  return above[b.length]!
}

/** The known word that is most likely meant: at most a third of its letters differ, case aside. `undefined` when none is near. */
export const suggest = (word: string, known: Iterable<string>): string | undefined => {
  let best: string | undefined
  let bestDistance = Infinity
  for (const candidate of known) {
    const edits = distance(word.slice(0, 64).toLowerCase(), candidate.toLowerCase())
    if (edits < bestDistance && edits * 3 <= Math.max(candidate.length, 3)) {
      best = candidate
      bestDistance = edits
    }
  }
  return best
}
