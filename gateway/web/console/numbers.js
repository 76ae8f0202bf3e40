// How numbers and times are written. None of them is money: prices come as text and are shown as they come.

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const RATE = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

export const NOTHING = "–";

/** @param {number | null | undefined} value */
export const count = (value) => (value === null || value === undefined ? NOTHING : GROUPED.format(value));

/** So many a second. @param {number | null} value */
export const rate = (value) => (value === null ? NOTHING : value >= 100 ? GROUPED.format(value) : RATE.format(value));

/** @param {number} value */
export function bytes(value) {
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < BYTES.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toFixed(1)} ${BYTES[unit]}`;
}

/** Microseconds, in the unit that reads best. @param {number | null | undefined} us */
export function micros(us) {
  if (us === null || us === undefined) return NOTHING;
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1_000_000) return `${(us / 1000).toFixed(us < 10_000 ? 2 : us < 100_000 ? 1 : 0)} ms`;
  return `${(us / 1_000_000).toFixed(2)} s`;
}

/** How long, from seconds to days. @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  const whole = Math.floor(seconds);
  if (whole < 120) return `${whole} s`;
  const [minutes, hours, days] = [Math.floor(whole / 60), Math.floor(whole / 3600), Math.floor(whole / 86_400)];
  if (minutes < 120) return `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${days} d ${hours % 24} h`;
}

/** Prices side by side, with as many decimals as one of them needs: zeros at the end of all say nothing. @param {(string | null)[]} texts */
export function prices(texts) {
  const needed = Math.max(0, ...texts.map((text) => (text?.split(".")[1] ?? "").replace(/0+$/, "").length));
  return texts.map((text) => {
    if (text === null) return NOTHING;
    const [whole, part = ""] = text.split(".");
    return needed > 0 && part ? `${whole}.${part.slice(0, needed)}` : whole;
  });
}

/** How long a bar of a latency is, from 1 µs to 1 s, by its logarithm. @param {number} us */
export const latencyBar = (us) => percent(Math.log10(Math.max(us, 1)) / 6);

/** @param {number} part */
export const percent = (part) => `${(Math.min(Math.max(part, 0), 1) * 100).toFixed(1)}%`;
