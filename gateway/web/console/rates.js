// What only differences of counters tell: how much a second, how busy. From the two newest overviews of one run of the node.

/** @typedef {import("./door.js").Overview} Overview */

/** How much each second it grew; nothing where that cannot be known.
 *  @param {Overview} now @param {Overview | null} before @param {(overview: Overview) => number | undefined} read */
export function perSecond(now, before, read) {
  const elapsed = elapsedMs(now, before);
  if (elapsed === null || before === null) return null;
  const [newer, older] = [read(now), read(before)];
  if (newer === undefined || older === undefined || newer < older) return null;
  return ((newer - older) * 1000) / elapsed;
}

/** How much it grew. @param {Overview} now @param {Overview | null} before @param {(overview: Overview) => number} read */
export function growth(now, before, read) {
  if (before === null || elapsedMs(now, before) === null) return null;
  const grown = read(now) - read(before);
  return grown < 0 ? null : grown;
}

/** A node that was started in between counts from zero again. @param {Overview} now @param {Overview | null} before */
function elapsedMs(now, before) {
  if (before === null || now.node !== before.node || now.uptimeSeconds < before.uptimeSeconds) return null;
  const elapsed = now.time - before.time;
  return elapsed > 0 ? elapsed : null;
}
