const MOMENT = /^(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d(?:\.\d+)?)(?:Z|([+-])(\d\d):(\d\d))?$/

/** Milliseconds from 1970 on of a date and a time as in `2023-11-16 18:17:03.9799600`, UTC where nothing is said; NaN of anything else. */
export const momentOf = (text: string): number => {
  const parts = MOMENT.exec(text)
  if (parts === null) return Number.NaN
  const [year, month, day, hours, minutes, seconds] = parts.slice(1, 7).map(Number)
  const away =
    parts[7] === undefined ? 0 : (parts[7] === "-" ? -1 : 1) * (60 * Number(parts[8]) + Number(parts[9]))
  const wholeMinutes = (daysFrom1970(year!, month!, day!) * 24 + hours!) * 60 + minutes! - away
  return isDate(year!, month!, day!) && hours! < 24 && minutes! < 60 && seconds! < 60
    ? wholeMinutes * 60_000 + seconds! * 1000
    : Number.NaN
}

const isDate = (year: number, month: number, day: number): boolean =>
  month >= 1 &&
  month <= 12 &&
  day >= 1 &&
  day <= daysFrom1970(year, month + 1, 1) - daysFrom1970(year, month, 1)

/** Of a date of the Gregorian calendar; month 13 is the next January. Source: Howard Hinnant, chrono-compatible low-level date algorithms, 2013. */
const daysFrom1970 = (year: number, month: number, day: number): number => {
  // Years begin in March, so that the leap day is the last.
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
  const leapDays = Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100)
  return era * 146_097 + yearOfEra * 365 + leapDays + dayOfYear - 719_468
}
