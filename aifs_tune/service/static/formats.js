// Formats of numbers and times.

/** Format with four significant digits; a missing value is a dash. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value === 0 || (Number.isInteger(value) && Math.abs(value) < 1e9)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e4 && size < 1e9) return value.toFixed(0);
  return size >= 1e9 || size < 1e-4 ? value.toExponential(3) : String(Number(value.toPrecision(4)));
}

/** Format the value of a parameter; null and lists are values, undefined is none. */
export function parameterValue(value) {
  return value === null || Array.isArray(value) ? JSON.stringify(value) : number(value);
}

/** Format seconds as `45 s`, `3 min 20 s` or `2 h 05 min`. */
export function duration(seconds) {
  if (seconds > 0 && seconds < 1) return "under 1 s";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [seconds60, minutes60] = [whole % 60, Math.floor((whole % 3600) / 60)].map((n) => String(n).padStart(2, "0"));
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${seconds60} s` : ""}`;
  return `${Math.floor(whole / 3600)} h${whole % 3600 < 60 ? "" : ` ${minutes60} min`}`;
}

export function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** Format a date and time in the reader's time zone. */
export function moment(text) {
  return text === null ? "–" : new Date(text).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
}

export function plural(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

/** Format a size in bytes as `640 B`, `12 kB` or `3.4 MB`. */
export function size(nBytes) {
  if (nBytes < 1000) return `${nBytes} B`;
  return nBytes < 1e6 ? `${(nBytes / 1e3).toFixed(0)} kB` : `${(nBytes / 1e6).toFixed(1)} MB`;
}
