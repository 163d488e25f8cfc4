/** Lines of columns with `gap` between, the first `leftCount` to the left, the others to the right. Rows are equally long. */
export const aligned = (
  rows: ReadonlyArray<ReadonlyArray<string>>,
  gap = " ",
  leftCount = 1
): ReadonlyArray<string> => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) =>
    row
      .map((cell, i) => (i < leftCount ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join(gap)
      .trimEnd()
  )
}
