/**
 * Answers of an HTTP listener since the start of the process, by path and status. Both are of the program's own choosing: no client may
 * make up more of them.
 */
export class HttpResponses {
  private readonly counts = new Map<string, Map<number, number>>()

  add(path: string, status: number): void {
    const ofPath = this.counts.get(path)
    if (ofPath === undefined) this.counts.set(path, new Map([[status, 1]]))
    else ofPath.set(status, (ofPath.get(status) ?? 0) + 1)
  }

  *all(): Iterable<readonly [path: string, status: number, count: number]> {
    for (const [path, ofPath] of this.counts)
      for (const [status, count] of ofPath) yield [path, status, count]
  }
}
