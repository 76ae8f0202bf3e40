// Prices and quantities: decimal strings outside, BigInts of 10^-18ths inside. Number is for pixels, ids and times.

const SCALE = 18;
/** One, scaled. */
export const ONE = 10n ** BigInt(SCALE);

/** "12.5" scaled. @param {string} text @returns {bigint} */
export function parseDecimal(text) {
  const [whole, fraction = ""] = text.split(".");
  const digits = BigInt((whole.replace("-", "") || "0") + fraction.padEnd(SCALE, "0").slice(0, SCALE));
  return whole.startsWith("-") ? -digits : digits;
}

/** Whether it is a decimal that `parseDecimal` takes, above zero or not. @param {string} text */
export function isDecimal(text) {
  return /^(\d{1,20}(\.\d{0,18})?|\.\d{1,18})$/.test(text);
}

/** With `digits` decimals, cut, not rounded; without grouping, as the API takes it. @param {bigint} value @param {number} digits */
export function plainDecimal(value, digits) {
  const text = (value < 0n ? -value : value).toString().padStart(SCALE + 1, "0");
  const sign = value < 0n ? "-" : "";
  return digits === 0 ? sign + text.slice(0, -SCALE) : `${sign}${text.slice(0, -SCALE)}.${text.slice(-SCALE).slice(0, digits)}`;
}

/** The same with grouped thousands, for people. @param {bigint} value @param {number} digits */
export function formatDecimal(value, digits) {
  const [whole, fraction] = plainDecimal(value, digits).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

/** The text without zeros at its end. @param {string} text */
export function shortDecimal(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** How many decimals a step such as "0.01000000" asks for; 8 where the step is switched off. @param {string} step */
export function decimalsOf(step) {
  const [whole, fraction = ""] = step.split(".");
  const kept = fraction.replace(/0+$/, "").length;
  return kept === 0 && /^0*$/.test(whole) ? 8 : kept;
}

/** The product of two scaled values. @param {bigint} a @param {bigint} b */
export const times = (a, b) => (a * b) / ONE;
/** The quotient of two scaled values. @param {bigint} a @param {bigint} b */
export const per = (a, b) => (a * ONE) / b;
/** The next multiple of `step` towards zero. @param {bigint} value @param {bigint} step */
export const floorTo = (value, step) => (step > 0n ? value - (value % step) : value);
